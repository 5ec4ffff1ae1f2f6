//! Pulls the plug on the real program, again and again, and holds what was answered 200 against what is stored and what
//! arrived.
//!
//! Without more words this is a short version. The long one kills as often as it is told, tells how far it is, and ends
//! with a table:
//!
//! ```text
//! LIVEHOOK_KILLS=1000 cargo test --release --locked --test crash -- --nocapture
//! ```
//!
//! `LIVEHOOK_SEED` has the choices of an earlier run made again. The moments are the machine's, so what a run has found
//! is not always found by its seed; the directory of a run that failed is kept, and named.
//!
//! A process that is killed loses what it has not written, and a machine that loses its power also what it has not
//! synced. The first is done here as it is. The second is done to copies of the files: `power` makes them out of what a
//! witness has seen written and synced, as they may be at any moment of a run; `tear` spoils what a kill has left, behind
//! what was synced and, as a disk does that lies, within it.
//!
//! `storm` kills at most of these moments, under load, over one store that grows. The others take one at a time:
//!
//! | killed | then | shown in |
//! |---|---|---|
//! | before the body was complete | nothing is kept; CSS has no answer and repeats it | `points` |
//! | before the sync | nothing is kept; CSS has no answer and repeats it | `points` |
//! | after the sync, before the answer | it is kept and delivered; what CSS repeats is recognised | `points` |
//! | after the answer, before the delivery | it is kept and delivered | `points` |
//! | after the delivery, before it is recorded | it is delivered again, under the same id | `points` |
//! | after a refused callback was answered | it is in quarantine | `points` |
//! | during a checkpoint | nothing is lost | `points` |
//! | during the first start | the next start makes the store | `points` |
//! | during a stop | what was answered meanwhile is kept | `points` |
//! | while old events are forgotten | all that was forgotten had arrived, and its copies are recognised | `prune` |
//! | after a spill was answered | the line on standard error brings it back | `import` |
//! | during an import | the next import finishes it, and nothing comes twice | `import` |
//! | at any of these, by a power cut | nothing that was answered is lost | `power`, `tear` |
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod audit;
mod disk;
#[path = "../it/http.rs"]
#[expect(dead_code, reason = "it has more than is needed here")]
mod http;
mod import;
mod journal;
mod ledger;
mod letter;
mod log;
mod person;
mod points;
mod power;
mod program;
mod prune;
mod report;
mod sink;
mod storm;
mod tear;
mod traffic;

use std::time::{Duration, Instant};

/// What does not come about in this time never will.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often something is done: `short` times, and more often where more kills are wanted than in the short version.
fn rounds(short: usize) -> usize {
    short.max(short * kills() / (4 * KILLS))
}

/// Kills of the short version.
const KILLS: usize = 12;

/// Kills that are wanted.
fn kills() -> usize {
    number("LIVEHOOK_KILLS").map_or(KILLS, |kills| usize::try_from(kills).unwrap())
}

/// What all choices follow from: given, or drawn, and told either way.
fn seed(of: &str) -> u64 {
    let seed = number("LIVEHOOK_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    tell(&format!("{of}: LIVEHOOK_SEED={seed}"));
    seed
}

#[expect(clippy::disallowed_methods, reason = "a test that is told how long to go on")]
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// Whether what is absent here must not be.
#[expect(clippy::disallowed_methods, reason = "nobody passes it on")]
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Tells whoever runs this with `--nocapture`, and whoever reads why it failed.
#[expect(clippy::print_stdout, reason = "the harness shows it, or keeps it for when it is wanted")]
fn tell(line: &str) {
    println!("{line}");
}

/// Asks again and again until there is something.
async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < until, "never came about: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A part of a second, drawn anew each time: not to wait for something, but to break in somewhere.
async fn a_moment(dice: &mut fastrand::Rng, at_most: Duration) {
    let micros = u64::try_from(at_most.as_micros()).unwrap();
    tokio::time::sleep(Duration::from_micros(dice.u64(0..=micros))).await;
}
