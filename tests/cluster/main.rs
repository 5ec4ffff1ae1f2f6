//! Several replicas of the real program over one PostgreSQL server of the tests' own, which is restarted, slowed down and
//! taken away; and what is asked of them: nothing lost, nothing out of order, nothing twice where nothing crashed.
//!
//! The server's programs (`initdb`, `postgres`) are looked for where packages put them; `LIVEHOOK_TEST_POSTGRES_BIN` names
//! another folder. Without them the tests are skipped, and say so; with `CI` set that is a failure.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../it/handlers/certificates.rs"]
mod certificates;
mod commands;
mod failover;
#[path = "../it/http.rs"]
#[expect(dead_code, reason = "it has more than is needed here")]
mod http;
mod lease;
#[path = "../crash/letter.rs"]
#[expect(dead_code, reason = "it has more than is needed here")]
mod letter;
mod load;
#[path = "../it/handlers/process.rs"]
#[expect(dead_code, reason = "it has more than is needed here")]
mod process;
#[path = "../crash/program.rs"]
#[expect(dead_code, reason = "it has more than is needed here")]
mod program;
mod proxy;
mod reach;
mod replicas;
mod server;
mod sink;
mod storm;
mod together;
mod trouble;

use std::time::{Duration, Instant};

/// What does not come about in this time never will. It is longer than a lease, on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(90);

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
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
