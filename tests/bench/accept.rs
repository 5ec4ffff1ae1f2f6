//! How fast callbacks are taken, in ratios within one run: `cargo bench --bench accept`.
//!
//! This process is the load; the servers are its children, on a core of their own where there are two. Nothing leaves
//! loopback, and what is written is removed at the end. It measures and tells; no figure makes it fail.
//!
//! ```text
//! --quick         about 20 seconds instead of two minutes
//! --long          also with five million events stored, about 8 GB (--stored N: with N)
//! --dir PATH      where the stores lie; otherwise under the target directory
//! --against PATH  also compares with another build of livehook
//! --only NAME     one of throughput, latency, delivery, start, size, growth, compare
//! ```

mod bare;
mod cases;
mod child;
mod event;
mod load;
mod machine;
mod report;
mod sink;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::cases::{Bench, Plan};
use self::load::Numbers;
use self::machine::Cores;
use self::report::Report;

/// What was asked for.
struct Arguments {
    plan: Plan,
    dir: PathBuf,
    against: Option<PathBuf>,
    only: Option<String>,
}

const USUAL: Plan = Plan {
    window: Duration::from_secs(3),
    rounds: 4,
    slices: 4,
    sync: Duration::from_millis(400),
    starts: 7,
    kills: 3,
    stored: 0,
};
const QUICK: Plan = Plan {
    window: Duration::from_millis(700),
    rounds: 2,
    slices: 1,
    sync: Duration::from_millis(300),
    starts: 2,
    kills: 1,
    stored: 0,
};
const LONG_STORED: u64 = 5_000_000;
/// However it goes, it ends after this.
const RUN_MAX: Duration = Duration::from_mins(10);
const LONG_RUN_MAX: Duration = Duration::from_hours(2);

fn main() -> io::Result<()> {
    if std::env::args().any(|argument| argument == "--serve-bare") {
        return bare::serve();
    }
    let target = target_directory()?;
    let Arguments { plan, dir, against, only } = arguments(&target)?;
    let cores = Cores::divide();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::fs::create_dir_all(&dir)?;
    let dir = tempfile::Builder::new().prefix("bench-accept-").tempdir_in(dir)?;
    let report = Report::new(machine::facts(dir.path(), &cores));
    let mut bench = Bench { cores, dir: dir.path().to_owned(), against, plan, numbers: Numbers::default(), report };
    let outcome = runtime.block_on(async {
        let run_max = if plan.stored > 0 { LONG_RUN_MAX } else { RUN_MAX };
        tokio::select! {
            outcome = measure(&mut bench, only.as_deref()) => outcome,
            () = tokio::time::sleep(run_max) => Err(io::Error::other("took too long and was ended")),
            _ = tokio::signal::ctrl_c() => Err(io::ErrorKind::Interrupted.into()),
        }
    });
    bench.report.write(&target.join("bench-accept.json"))?;
    outcome
}

async fn measure(bench: &mut Bench, only: Option<&str>) -> io::Result<()> {
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    if wanted("throughput") {
        bench.throughput().await?;
    }
    if wanted("latency") {
        bench.latency().await?;
    }
    if wanted("delivery") {
        bench.delivery().await?;
    }
    if wanted("start") {
        bench.start().await?;
    }
    if wanted("size") {
        bench.size()?;
    }
    if wanted("growth") && bench.plan.stored > 0 {
        bench.growth().await?;
    }
    if wanted("compare") {
        bench.compare().await?;
    }
    Ok(())
}

fn arguments(target: &Path) -> io::Result<Arguments> {
    let mut asked = Arguments { plan: USUAL, dir: target.to_owned(), against: None, only: None };
    let mut stored = 0;
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or_else(|| usage(&format!("{argument} needs a value")));
        match argument.as_str() {
            // Cargo says so.
            "--bench" => {}
            "--quick" => asked.plan = QUICK,
            "--long" => stored = LONG_STORED,
            "--stored" => stored = value()?.parse().map_err(|_| usage("--stored takes a number"))?,
            "--dir" => asked.dir = value()?.into(),
            "--against" => asked.against = Some(value()?.into()),
            "--only" => asked.only = Some(value()?),
            other => return Err(usage(&format!("{other} is not known"))),
        }
    }
    asked.plan.stored = stored;
    Ok(asked)
}

fn usage(fault: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{fault}; see the head of tests/bench/accept.rs"))
}

/// `target`, from `target/release/deps/accept-…`, where Cargo has put this program.
fn target_directory() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    program.ancestors().nth(3).map(Path::to_owned).ok_or_else(|| io::Error::other("this program lies nowhere"))
}
