//! How fast callbacks are taken, in ratios within one run: `cargo bench --bench accept`; behind `--`, `--help` lists what
//! can be asked for.
//!
//! This process is the load; the servers are its children, on a core of their own where there are two. Nothing leaves
//! loopback, and what is written is removed at the end, but for the report. It measures and tells; no figure makes it
//! fail.

mod bare;
mod cases;
mod child;
mod event;
mod load;
mod machine;
mod numbers;
mod outlets;
mod plot;
#[path = "../it/handlers/process.rs"]
#[allow(dead_code, reason = "what is started depends on the features")]
#[expect(clippy::unwrap_used, reason = "a run ends where another server does not start")]
mod process;
mod report;
mod sink;
mod slow;
mod stores;

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use futures_util::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};

use self::cases::{Bench, Plan};
use self::child::Role;
use self::load::Numbers;
use self::machine::Cores;
use self::report::Report;
use self::stores::Stores;

/// Measures livehook against a bare axum route, in turn, and draws latency against offered rate
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[command(name = "cargo bench --bench accept --", max_term_width = 100)]
struct Arguments {
    /// Every figure within half a minute, none of them precise
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// Also fill a store with so many events (as 500k, 5m), and measure again
    #[arg(long, value_name = "COUNT", value_parser = count)]
    grow: Option<u64>,
    /// The same as --grow 5m: takes 10 GB of disk
    #[arg(long)]
    long: bool,
    /// Where the stores lie while they are measured; otherwise in the target directory
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Where events are kept: sqlite, postgres (a server on this machine), or the URL of a database on another one, whose
    /// user may make databases. Removed at the end
    #[arg(long, value_name = "STORE", default_value = "sqlite")]
    store: String,
    /// Another build of livehook to compare with
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Where the report goes; otherwise into the target directory
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the picture goes, likewise
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Show the report in both READMEs, and the picture beside this program's source
    #[arg(long, conflicts_with_all = ["quick", "only", "store"])]
    publish: bool,
    /// What Cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    /// One of the servers, as started by this program itself
    #[command(subcommand)]
    role: Option<Role>,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Saturated, against the bare route
    Throughput,
    /// At 1,000/s and 5,000/s, and memory
    Latency,
    /// At rising rates, for the picture
    Rates,
    /// While every event is also delivered
    Delivery,
    /// On a disk whose syncs take long
    Slow,
    /// From the start to the first answer, and what a kill costs
    Start,
    /// Of the program
    Size,
    /// With many events stored: 500k, or as --grow or --long say
    Growth,
    /// Of events and deliveries, with many stored: 500k, or as --grow or --long say
    Lists,
    /// With another build: needs --against
    Compare,
    /// One to three, on a PostgreSQL: needs --store
    Replicas,
    /// Each type of handler, with a server of its own where it needs one: only when asked for
    Brokers,
}

const LONG: u64 = 5_000_000;
const MEDIUM: u64 = 500_000;
/// However it goes, it ends after this.
const RUN_MAX: Duration = Duration::from_mins(20);
const GROW_MAX: Duration = Duration::from_hours(2);

fn main() -> io::Result<()> {
    let asked = Arguments::parse();
    if let Some(role) = &asked.role {
        return role.play();
    }
    machine::raise_file_limit();
    let target = target_directory()?;
    let reports = target.join("bench");
    std::fs::create_dir_all(&reports)?;
    let dir = asked.dir.clone().unwrap_or(target);
    std::fs::create_dir_all(&dir)?;
    let dir = tempfile::Builder::new().prefix("bench-accept-").tempdir_in(dir)?;
    let cores = Cores::divide();
    let grown = [Part::Growth, Part::Lists].iter().any(|part| asked.only.contains(part)).then_some(MEDIUM);
    let stored = asked.grow.or(asked.long.then_some(LONG)).or(grown);
    let mut bench = Bench {
        report: Report::new(machine::facts(dir.path(), &cores)),
        cores,
        dir: dir.path().to_owned(),
        against: asked.against.clone(),
        plan: if asked.quick { Plan::QUICK } else { Plan::USUAL },
        stored: stored.unwrap_or_default(),
        numbers: Numbers::default(),
        stores: Arc::new(Stores::read(&asked.store)?),
    };
    bench.report.fact("command", asked.command());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut ended = signal(SignalKind::terminate())?;
        let outcome = tokio::select! {
            outcome = AssertUnwindSafe(measure(&mut bench, &asked.only)).catch_unwind() => {
                outcome.unwrap_or_else(|_| Err(io::Error::other("it panicked")))
            }
            () = tokio::time::sleep(if stored.is_some() { GROW_MAX } else { RUN_MAX }) => {
                Err(io::Error::other("took too long and was ended"))
            }
            _ = tokio::signal::ctrl_c() => Err(io::ErrorKind::Interrupted.into()),
            _ = ended.recv() => Err(io::ErrorKind::Interrupted.into()),
        };
        bench.stores.remove().await.and(outcome)
    });
    let json = asked.json.unwrap_or_else(|| reports.join("accept.json"));
    let svg = asked.svg.unwrap_or_else(|| reports.join("accept.svg"));
    bench.report.write(&json, &svg)?;
    outcome?;
    if asked.publish {
        std::fs::copy(&json, published("numbers.json"))?;
        report::publish(&json, &published("latency.svg"))?;
    }
    Ok(())
}

impl Part {
    /// Why it cannot be measured with what was asked for.
    fn obstacle(self, bench: &Bench) -> Option<&'static str> {
        let embedded = matches!(*bench.stores, Stores::Sqlite);
        match self {
            Self::Slow if !embedded => Some("what is made slow is the disk under SQLite"),
            Self::Growth | Self::Lists if bench.stored == 0 => Some("it needs --grow or --long"),
            Self::Compare if bench.against.is_none() => Some("it needs --against"),
            Self::Replicas if embedded => Some("it needs --store postgres, or the URL of one"),
            _ => None,
        }
    }
}

impl Arguments {
    /// How others ask for the same, on a disk of their own.
    fn command(&self) -> String {
        let mut options = String::new();
        if self.quick {
            options.push_str(" --quick");
        }
        match self.store.as_str() {
            "sqlite" => {}
            "postgres" => options.push_str(" --store postgres"),
            // It may hold a password.
            _ => options.push_str(" --store postgres://…"),
        }
        for part in self.only.iter().filter_map(Part::to_possible_value) {
            options.extend([" --only ", part.get_name()]);
        }
        match self.grow.or(self.long.then_some(LONG)) {
            Some(LONG) => options.push_str(" --long"),
            Some(count) => options.extend([" --grow ", &count.to_string()]),
            None => {}
        }
        let dashes = if options.is_empty() { "" } else { " --" };
        format!("cargo bench --bench accept{dashes}{options}")
    }
}

/// Where a file lies that is part of the repository.
fn published(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench").join(name)
}

async fn measure(bench: &mut Bench, only: &[Part]) -> io::Result<()> {
    let asked = |part: &Part| if only.is_empty() { *part != Part::Brokers } else { only.contains(part) };
    for part in Part::value_variants().iter().filter(|part| asked(part)) {
        if let Some(reason) = part.obstacle(bench) {
            let value = part.to_possible_value();
            report::aside(&format!("{} left out: {reason}", value.as_ref().map_or("a part", |value| value.get_name())));
            continue;
        }
        match part {
            Part::Throughput => bench.throughput().await?,
            Part::Latency => bench.latency().await?,
            Part::Rates => bench.rates().await?,
            Part::Delivery => bench.delivery().await?,
            Part::Slow => bench.slow().await?,
            Part::Start => bench.start().await?,
            Part::Size => bench.size()?,
            Part::Growth => bench.growth().await?,
            Part::Lists => bench.lists().await?,
            Part::Compare => bench.compare().await?,
            Part::Replicas => bench.replicas().await?,
            Part::Brokers => bench.brokers().await?,
        }
    }
    Ok(())
}

/// `500k` and `5m` as well as digits.
fn count(text: &str) -> Result<u64, String> {
    let (digits, times) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let digits: u64 = digits.parse().map_err(|error| format!("{error}"))?;
    digits.checked_mul(times).ok_or_else(|| "too many".to_owned())
}

/// `target`, from `target/release/deps/accept-…`, where Cargo has put this program.
fn target_directory() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    program.ancestors().nth(3).map(Path::to_owned).ok_or_else(|| io::Error::other("this program lies nowhere"))
}
