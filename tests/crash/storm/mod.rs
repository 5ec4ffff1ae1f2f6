//! Kill after kill of one program over one store that grows, in the middle of everything at once.

mod aftermath;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::audit::Audit;
use crate::disk::{Index, Stall};
use crate::ledger::Ledger;
use crate::letter::Letters;
use crate::person::{self, Decisions};
use crate::program::{Ended, FILE_HANDLER, Place, Program, http_handler};
use crate::report::{Fault, Faults, Spans};
use crate::sink::{Act, Sink};
use crate::traffic::{Plan, Traffic};
use crate::{a_moment, kills, seed};

/// What the program is in the middle of when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// Taking callbacks and delivering.
    Load,
    /// Starting.
    Start,
    /// Stopping, with callbacks still coming.
    Stop,
    /// Waiting for a store that does not take anything, and spilling.
    Stall,
    /// Nothing: all is delivered.
    Rest,
}

/// A dozen kills; each dozen is shuffled.
const MOMENTS: [Moment; 12] = {
    use Moment::{Load, Rest, Stall, Start, Stop};
    [Load, Load, Load, Load, Load, Load, Start, Start, Stop, Stop, Stall, Rest]
};
/// A kill comes at most so long after the first answer.
const LIFE_MAX: Duration = Duration::from_millis(400);
/// Callbacks one program gets: it must be able to deliver them some time.
const CALLBACKS_MAX: usize = 2500;
/// Beyond so many events that are not delivered, the next program is left to deliver them.
const BEHIND_MAX: usize = 15_000;
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
const HANDLERS: [&str; 2] = ["file", "hook"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_stored_unaltered_and_arrives_whenever_the_program_is_killed() {
    let mut storm = Storm::begin().await;
    let mut moments = Vec::new();
    while storm.killed() < kills() {
        if moments.is_empty() {
            moments = MOMENTS.to_vec();
            storm.dice.shuffle(&mut moments);
        }
        let moment = moments.pop().unwrap();
        storm.live(moment).await;
        storm.progress();
    }
    storm.end().await;
}

struct Storm {
    place: Place,
    sink: Sink,
    letters: Arc<Letters>,
    ledger: Arc<Ledger>,
    decisions: Arc<Decisions>,
    audit: Audit,
    faults: Faults,
    dice: fastrand::Rng,
    seed: u64,
    begun: Instant,
    told: Instant,
    tally: Tally,
}

/// What is counted on the way.
struct Tally {
    kills: BTreeMap<Moment, usize>,
    checkpoints: u64,
    stops: u64,
    spilled: u64,
    imports_killed: u64,
    starts: Spans,
}

impl Storm {
    async fn begin() -> Self {
        let seed = seed("storm");
        let sink = Sink::start(misbehave).await;
        let now = Instant::now();
        let tally = Tally {
            kills: BTreeMap::new(),
            checkpoints: 0,
            stops: 0,
            spilled: 0,
            imports_killed: 0,
            starts: Spans::new(),
        };
        let storm = Self {
            place: Place::new(),
            sink,
            letters: Arc::new(Letters::load()),
            ledger: Arc::default(),
            decisions: Arc::default(),
            audit: Audit::default(),
            faults: Faults::default(),
            dice: fastrand::Rng::with_seed(seed),
            seed,
            begun: now,
            told: now,
            tally,
        };
        // The first start, which makes the store, has tests of its own.
        storm.configure("");
        let ended = Program::start(&storm.place).await.kill();
        assert!(!ended.status.success());
        storm
    }

    fn killed(&self) -> usize {
        self.tally.kills.values().sum()
    }

    /// One life of the program, from its start to its end, and what is there after it.
    async fn live(&mut self, moment: Moment) {
        let behind = self.audit.rows.len().saturating_sub(self.sink.received().by_id.len());
        let moment = if behind > BEHIND_MAX { Moment::Rest } else { moment };
        let ended = match moment {
            Moment::Load => self.load().await,
            Moment::Start => self.start().await,
            Moment::Stop => self.stop().await,
            Moment::Stall => self.stall().await,
            Moment::Rest => self.rest().await,
        };
        if ended.status.code().is_some() {
            self.tally.stops += 1;
        } else {
            *self.tally.kills.entry(moment).or_default() += 1;
            self.tally.checkpoints += u64::from(Index::open(&self.place).is_some_and(|i| i.is_checkpoint_under_way()));
            self.damage();
        }
        self.recover(&ended).await;
        self.faults.assert_none();
    }

    async fn load(&mut self) -> Ended {
        self.configure("");
        let (program, traffic) = self.under_load().await;
        a_moment(&mut self.dice, LIFE_MAX).await;
        self.kill(program, traffic).await
    }

    async fn start(&mut self) -> Ended {
        self.configure("");
        let program = Program::spawn(&self.place);
        let usual = self.tally.starts.median().max(Duration::from_millis(20));
        a_moment(&mut self.dice, usual * 3 / 2).await;
        program.kill()
    }

    async fn stop(&mut self) -> Ended {
        let drain = Duration::from_millis(*self.dice.choice(&[0, 100, 300]).unwrap());
        self.configure(&format!("server.drain_delay = \"{}ms\"\n", drain.as_millis()));
        let (mut program, traffic) = self.under_load().await;
        a_moment(&mut self.dice, LIFE_MAX / 2).await;
        program.terminate();
        a_moment(&mut self.dice, drain + LIFE_MAX / 2).await;
        if program.is_running() {
            return self.kill(program, traffic).await;
        }
        let ended = program.ended();
        traffic.end().await;
        if !ended.status.success() {
            self.faults.note(Fault::End, || format!("a stop ended with {}", ended.status));
        }
        ended
    }

    async fn stall(&mut self) -> Ended {
        self.configure("ack.deadline = \"100ms\"\n");
        let program = Program::start(&self.place).await;
        let stall = Stall::begin(&self.place);
        let mut traffic = self.traffic(&program);
        traffic.first_answer().await;
        a_moment(&mut self.dice, LIFE_MAX / 2).await;
        if self.dice.bool() {
            // What was spilled may be stored after all.
            drop(stall);
            a_moment(&mut self.dice, LIFE_MAX / 8).await;
            return self.kill(program, traffic).await;
        }
        let ended = self.kill(program, traffic).await;
        drop(stall);
        ended
    }

    /// Waits until all is delivered, and looks at how it arrived.
    async fn rest(&mut self) -> Ended {
        self.configure("");
        let program = Program::start(&self.place).await;
        program.drained(&HANDLERS).await;
        self.audit.check_delivered(&self.sink.received(), &self.decisions.lock(), &mut self.faults);
        a_moment(&mut self.dice, LIFE_MAX / 2).await;
        program.kill()
    }

    /// A program that takes callbacks and has answered one. Half of the time somebody makes decisions meanwhile.
    async fn under_load(&mut self) -> (Program, Traffic) {
        let program = Program::start(&self.place).await;
        let mut traffic = self.traffic(&program);
        let first = traffic.first_answer().await.expect("it answers");
        self.tally.starts.note(first - program.begun);
        (program, traffic)
    }

    fn traffic(&mut self, program: &Program) -> Traffic {
        let connections = *self.dice.choice(&[1, 8, 32, 32, 32]).unwrap();
        let plan = Plan { connections, callbacks: CALLBACKS_MAX };
        let mut traffic = Traffic::begin(program.callbacks, plan, (&self.letters, &self.ledger), &mut self.dice);
        if self.dice.bool() {
            let deciding = person::decide(program.admin, Arc::clone(&self.ledger), Arc::clone(&self.decisions));
            traffic.beside(deciding);
        }
        traffic
    }

    async fn kill(&self, program: Program, traffic: Traffic) -> Ended {
        let ended = program.kill();
        traffic.end().await;
        ended
    }

    fn configure(&self, keys: &str) {
        let keys = format!("quarantine.max_count = 100000000\nquarantine.max_bytes = \"1TiB\"\n{keys}");
        self.place.configure(&keys, &format!("{FILE_HANDLER}{}", http_handler(self.sink.address)));
    }
}

/// A system that is mostly well. Asked from several tasks, so it has no dice that could be cast again.
fn misbehave() -> Act {
    match fastrand::u8(..100) {
        0..3 => Act::Fail,
        3..5 => Act::HangUp,
        5..7 => Act::AcceptAfter(Duration::from_millis(fastrand::u64(..100))),
        _ => Act::Accept,
    }
}
