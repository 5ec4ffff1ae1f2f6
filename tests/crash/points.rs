//! Each moment at which a kill may come, on the way of one callback, by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Semaphore;

use crate::audit::Audit;
use crate::disk::{Disk, Index, Stall};
use crate::http::{Connection, request};
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::letter::{Letters, Sort, digest};
use crate::program::{FILE_HANDLER, Place, Program, http_handler};
use crate::report::Faults;
use crate::sink::{Act, Sink};
use crate::traffic::{Plan, Traffic};
use crate::{DEADLINE, a_moment, eventually, rounds, seed, tell};

/// An event that is large enough to be sent in parts.
fn event(number: u64) -> String {
    Letters::load().body(number, Sort::Event, 0)
}

async fn events(program: &Program) -> Vec<Value> {
    program.get("/api/v1/events?limit=1000").await["events"].as_array().unwrap().clone()
}

/// Whether the bytes at this address are these.
async fn is_served(program: &Program, target: &str, body: &str) -> bool {
    program.try_get(target).await.is_some_and(|answer| answer.body == body.as_bytes())
}

#[tokio::test]
async fn killed_before_the_body_was_complete_nothing_is_kept_of_it() {
    let place = Place::with(FILE_HANDLER);
    let program = Program::start(&place).await;
    let body = event(1);
    let bytes = request("POST", "/callbacks", &[], body.as_bytes());
    let mut connection = Connection::open(program.callbacks).await;
    connection.send(&bytes[..bytes.len() - 1]).await;
    // Whatever the listener accepts after this one, it has accepted this one.
    assert_eq!(program.post(event(2)).await, Some(200));
    program.kill();
    assert!(connection.response().await.is_none());

    let program = Program::start(&place).await;
    assert_eq!(events(&program).await.len(), 1);
    assert!(program.get("/api/v1/quarantine").await["items"].as_array().unwrap().is_empty());
    assert_eq!(program.post(&body).await, Some(200));
    assert_eq!(events(&program).await.len(), 2);
}

#[tokio::test]
async fn killed_before_the_sync_it_has_not_answered_and_the_copy_is_the_first() {
    let place = Place::new();
    place.configure("ack.deadline = \"4s\"\nack.unstored = \"refuse\"\n", FILE_HANDLER);
    let program = Program::start(&place).await;
    let stall = Stall::begin(&place);
    let body = event(1);
    let mut connection = Connection::open(program.callbacks).await;
    connection.send(&request("POST", "/callbacks", &[], body.as_bytes())).await;
    // A write has been waiting, and there is only this one.
    eventually("it waits for the store", async || {
        let ready = program.try_get("/readyz").await.unwrap();
        (ready.status == 503).then_some(())
    })
    .await;
    program.kill();
    // On a machine that is very slow it may have refused it meanwhile.
    assert!(connection.response().await.is_none_or(|answer| answer.status == 503));
    drop(stall);

    let program = Program::start(&place).await;
    assert_eq!(events(&program).await.len(), 0);
    assert_eq!(program.post(&body).await, Some(200));
    let stored = events(&program).await;
    assert_eq!((stored.len(), &stored[0]["duplicates"]), (1, &0.into()));
}

#[tokio::test]
async fn killed_after_the_sync_and_before_the_answer_was_read_the_copy_is_recognised() {
    let place = Place::with(FILE_HANDLER);
    let program = Program::start(&place).await;
    let body = event(1);
    let mut connection = Connection::open(program.callbacks).await;
    connection.send(&request("POST", "/callbacks", &[], body.as_bytes())).await;
    eventually("it is stored", async || (events(&program).await.len() == 1).then_some(())).await;
    program.kill();

    let program = Program::start(&place).await;
    assert_eq!(program.post(Letters::load().body(1, Sort::Event, 1)).await, Some(200));
    let stored = events(&program).await;
    assert_eq!((stored.len(), &stored[0]["duplicates"]), (1, &1.into()));
    let id = stored[0]["id"].as_str().unwrap();
    assert!(is_served(&program, &format!("/api/v1/events/{id}/body"), &body).await, "as it came first");
    program.drained(&["file"]).await;
    program.stop().await;
    let journal = Journal::read(&place);
    assert_eq!((journal.by_id.len(), journal.torn.len()), (1, 0));
}

#[tokio::test]
async fn killed_before_the_delivery_it_delivers_after_the_start() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let act = move || if is_well.load(Ordering::Relaxed) { Act::Accept } else { Act::Fail };
    let sink = Sink::start(act).await;
    let place = Place::with(&http_handler(sink.address));
    let program = Program::start(&place).await;
    for number in 0..5 {
        assert_eq!(program.post(event(number)).await, Some(200));
    }
    program.kill();
    assert!(sink.received().by_id.values().all(|receipt| !receipt.accepted));
    well.store(true, Ordering::Relaxed);

    let program = Program::start(&place).await;
    program.drained(&["hook"]).await;
    let received = sink.received();
    assert_eq!(received.by_id.values().filter(|receipt| receipt.accepted).count(), 5);
}

#[tokio::test]
async fn killed_before_it_has_recorded_a_delivery_it_delivers_again_under_the_same_id() {
    let permits = Arc::new(Semaphore::new(0));
    let theirs = Arc::clone(&permits);
    let sink = Sink::start(move || Act::AcceptWith(Arc::clone(&theirs))).await;
    let place = Place::with(&http_handler(sink.address));
    let program = Program::start(&place).await;
    let body = event(1);
    assert_eq!(program.post(&body).await, Some(200));
    let receipt = || sink.received().by_id.values().next().copied();
    eventually("an attempt", async || receipt()).await;
    let stall = Stall::begin(&place);
    permits.add_permits(1);
    eventually("it is accepted", async || receipt().filter(|receipt| receipt.accepted)).await;
    program.kill();
    drop(stall);

    let program = Program::start(&place).await;
    permits.add_permits(1);
    program.drained(&["hook"]).await;
    let received = sink.received();
    let receipts: Vec<_> = received.by_id.values().collect();
    assert_eq!((receipts.len(), receipts[0].times, receipts[0].body), (1, 2, digest(body.as_bytes())));
    assert!(received.torn.is_empty());
}

#[tokio::test]
async fn killed_after_its_answer_a_refused_callback_is_in_quarantine() {
    let place = Place::with(FILE_HANDLER);
    let letters = Letters::load();
    for number in 0..rounds(3) as u64 * 3 {
        let sort = [Sort::Forged, Sort::Garbage, Sort::Nameless][usize::try_from(number % 3).unwrap()];
        let program = Program::start(&place).await;
        let body = letters.body(number, sort, 0);
        assert_eq!(program.post(&body).await, Some(200));
        program.kill();
        let program = Program::start(&place).await;
        let refused = program.get("/api/v1/quarantine?limit=1").await;
        let id = refused["items"][0]["id"].as_str().unwrap().to_owned();
        assert!(is_served(&program, &format!("/api/v1/quarantine/{id}/body"), &body).await, "{sort:?}");
    }
}

#[tokio::test]
async fn killed_while_stopping_what_was_answered_meanwhile_is_kept() {
    let place = Place::new();
    place.configure("server.drain_delay = \"15s\"\n", FILE_HANDLER);
    let program = Program::start(&place).await;
    program.terminate();
    eventually("it is stopping", async || {
        let ready = program.try_get("/readyz").await.unwrap();
        (ready.status == 503).then_some(())
    })
    .await;
    assert_eq!(program.post(event(1)).await, Some(200));
    program.kill();

    place.configure("", FILE_HANDLER);
    let program = Program::start(&place).await;
    assert_eq!(events(&program).await.len(), 1);
    program.drained(&["file"]).await;
    program.stop().await;
    assert_eq!(Journal::read(&place).by_id.len(), 1);
}

#[tokio::test]
async fn killed_while_it_makes_its_store_it_makes_it_at_the_next_start() {
    let mut dice = fastrand::Rng::with_seed(seed("first start"));
    let mut usual = Duration::from_millis(60);
    for number in 0..rounds(8) as u64 {
        let place = Place::with(FILE_HANDLER);
        for _ in 0..3 {
            let program = Program::spawn(&place);
            a_moment(&mut dice, usual).await;
            program.kill();
        }
        let program = Program::start(&place).await;
        usual = program.begun.elapsed();
        assert_eq!(program.post(event(number)).await, Some(200));
        assert_eq!(events(&program).await.len(), 1);
        let ended = program.stop().await;
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.said));
        assert_eq!(Disk::open(&place).damage(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_checkpoint_it_loses_nothing() {
    /// Enough for a checkpoint that takes its time.
    const PLAN: Plan = Plan { connections: 16, callbacks: 400 };
    let mut dice = fastrand::Rng::with_seed(seed("checkpoint"));
    let place = Place::with(FILE_HANDLER);
    let (letters, ledger) = (Arc::new(Letters::load()), Arc::<Ledger>::default());
    let (mut audit, mut faults) = (Audit::default(), Faults::default());
    let (wanted, mut met, mut tried) = (rounds(2), 0, 0);
    while met < wanted {
        tried += 1;
        assert!(tried < wanted * 20 + 20, "{met} of {tried} kills met a checkpoint");
        let program = Program::start(&place).await;
        // Opened first and closed last: see there.
        let index = Index::open(&place).unwrap();
        // As long as somebody reads what was here before, the log grows and cannot be moved.
        let reader = Disk::open(&place).hold();
        let traffic = Traffic::begin(program.callbacks, PLAN, (&letters, &ledger), &mut dice);
        traffic.finished().await;
        let moved = index.backfill().1;
        drop(reader);
        tokio::task::block_in_place(|| await_checkpoint(&index, moved));
        program.kill();
        met += usize::from(index.is_checkpoint_under_way());
        drop(index);
        let disk = Disk::open(&place);
        audit.read(&disk, &ledger, &mut faults);
        audit.check_fresh(&ledger, &mut faults);
        assert_eq!(disk.damage(), None);
        faults.assert_none();
    }
    tell(&format!("checkpoint: {met} of {tried} kills met one"));
    let program = Program::start(&place).await;
    program.drained(&["file"]).await;
    program.stop().await;
    let mut all = Audit::default();
    all.read(&Disk::open(&place), &ledger, &mut faults);
    all.check_all(&ledger, &mut faults);
    all.check_journal(&Journal::read(&place), &Sink::start(|| Act::Accept).await.received(), &mut faults);
    faults.assert_none();
}

/// Waits until a checkpoint begins, and looks as often as it can: on a busy machine it may still see only that there was
/// one, since more than `moved` frames are in the database.
fn await_checkpoint(index: &Index, moved: u32) {
    let until = Instant::now() + DEADLINE;
    while !index.is_checkpoint_under_way() && index.backfill().1 == moved {
        assert!(Instant::now() < until, "no checkpoint began");
    }
}
