//! Kills while old events are forgotten.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::disk::Disk;
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::letter::{Letters, Sort, digest};
use crate::program::{FILE_HANDLER, Place, Program, http_handler};
use crate::sink::{Act, Sink};
use crate::traffic::{Plan, Traffic};
use crate::{DEADLINE, a_moment, rounds, seed, tell};

/// Several times what one step forgets.
const PLAN: Plan = Plan { connections: 16, callbacks: 1200 };
const HANDLERS: [&str; 2] = ["file", "hook"];
/// Copies that are sent after a kill.
const COPIES: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_forgets_it_has_forgotten_only_what_had_arrived_and_knows_the_copies() {
    let mut dice = fastrand::Rng::with_seed(seed("prune"));
    let sink = Sink::start(|| Act::Accept).await;
    let place = Place::new();
    let handlers = format!("{FILE_HANDLER}{}", http_handler(sink.address));
    let (letters, ledger) = (Arc::new(Letters::load()), Arc::<Ledger>::default());
    for _ in 0..rounds(1) {
        place.configure("", &handlers);
        let program = Program::start(&place).await;
        let traffic = Traffic::begin(program.callbacks, PLAN, (&letters, &ledger), &mut dice);
        traffic.finished().await;
        if dice.bool() {
            // Otherwise some of it is still owed when forgetting begins.
            program.drained(&HANDLERS).await;
        }
        program.kill();
        // It begins to forget a second after its start.
        place.configure("store.max_bytes = \"300KiB\"\n", &handlers);
        let program = Program::start(&place).await;
        let before = stored(&place).len();
        await_forgetting(&place);
        a_moment(&mut dice, Duration::from_millis(5)).await;
        program.kill();
        let after = stored(&place).len();
        tell(&format!("prune: killed with {after} of {before} events left"));

        let copies = copies_of_some(&ledger, &mut dice);
        let program = Program::start(&place).await;
        for number in copies {
            let copy = ledger.lock().of(number).posted;
            let body = letters.body(number, Sort::Event, copy);
            ledger.lock().post(number, digest(body.as_bytes()));
            assert_eq!(program.post(&body).await, Some(200));
        }
        program.drained(&HANDLERS).await;
        program.stop().await;
        check(&place, &sink, &ledger);
    }
}

/// The ids of what is stored, with their bodies.
fn stored(place: &Place) -> Vec<(Uuid, Vec<u8>)> {
    let mut stored = Vec::new();
    Disk::open(place).events(0, |event| stored.push((event.id, event.body)));
    stored
}

fn await_forgetting(place: &Place) {
    let disk = Disk::open(place);
    let until = Instant::now() + DEADLINE;
    let first = disk.first();
    while disk.first() == first {
        assert!(Instant::now() < until, "it does not forget");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn copies_of_some(ledger: &Ledger, dice: &mut fastrand::Rng) -> Vec<u64> {
    let entries = ledger.lock();
    let numbered = (0..).zip(&entries.callbacks);
    let answered: Vec<u64> =
        numbered.filter(|(_, c)| c.sort == Sort::Event && c.answered > 0).map(|(number, _)| number).collect();
    dice.choose_multiple(answered, COPIES)
}

/// With nothing owed any more: every answered event has arrived at both handlers, under one id, whether it is still
/// stored or not.
fn check(place: &Place, sink: &Sink, ledger: &Ledger) {
    let (received, journal, entries) = (sink.received(), Journal::read(place), ledger.lock());
    assert!(journal.torn.is_empty(), "{:?}", journal.torn);
    let mut ids = HashMap::<u64, HashSet<Uuid>>::new();
    let arrived = received.by_id.iter().map(|(id, receipt)| (*id, receipt.body));
    let stored = stored(place).into_iter().map(|(id, body)| (id, digest(&body)));
    for (id, body) in arrived.chain(stored) {
        let number = entries.with_body(&body).expect("somebody sent it");
        ids.entry(number).or_default().insert(id);
    }
    for (number, callback) in (0..).zip(&entries.callbacks) {
        if callback.sort != Sort::Event || callback.answered == 0 {
            continue;
        }
        let ids: Vec<_> = ids.get(&number).into_iter().flatten().collect();
        assert_eq!(ids.len(), 1, "callback {number} has become the events {ids:?}: {callback:?}");
        assert!(received.by_id.get(ids[0]).is_some_and(|receipt| receipt.accepted), "{number} did not reach the sink");
        assert!(journal.by_id.contains_key(ids[0]), "{number} is not in the file");
    }
}
