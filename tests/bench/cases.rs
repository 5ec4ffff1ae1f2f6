//! What is measured, a function each.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rusqlite::{Connection, OpenFlags};

use crate::child::{Handler, Memory, Server};
use crate::event::{self, Spread};
use crate::load::{self, Numbers, Span, Target};
use crate::machine::{self, Cores};
use crate::report::{Bound, Report};
use crate::sink::Sink;

/// How long and how often.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// One load at saturation.
    pub(crate) window: Duration,
    /// Pairs that are compared.
    pub(crate) rounds: u32,
    /// Slices of load at a given rate.
    pub(crate) slices: u32,
    /// Measuring what a sync costs, each time.
    pub(crate) sync: Duration,
    /// Starts on an empty store.
    pub(crate) starts: u32,
    /// Kills under load.
    pub(crate) kills: u32,
    /// Events stored before throughput is compared with that of an empty store; 0: not compared.
    pub(crate) stored: u64,
}

/// A run.
pub(crate) struct Bench {
    pub(crate) cores: Cores,
    pub(crate) dir: PathBuf,
    /// Another livehook to compare with.
    pub(crate) against: Option<PathBuf>,
    pub(crate) plan: Plan,
    pub(crate) numbers: Numbers,
    pub(crate) report: Report,
}

/// What a server at saturation gave and took.
#[derive(Clone, Copy)]
struct Cost {
    /// Answers a second.
    rate: f64,
    /// Processor time of an answer, in microseconds.
    micros: f64,
    /// Of a core, kept busy by the server.
    share: f64,
    /// Of a core, kept busy by the load.
    load_share: f64,
    /// Bytes of pages handed to the disk for an answer.
    written: f64,
}

/// The livehook that is measured.
const PROGRAM: &str = env!("CARGO_BIN_EXE_livehook");
/// Before a first measurement of a server.
const WARM_UP: Duration = Duration::from_millis(400);
/// One load at a given rate.
const SLICE: Duration = Duration::from_secs(2);
/// One load of those that fill a store.
const FILL: Duration = Duration::from_secs(10);
/// Until a server that was just started has settled.
const SETTLE: Duration = Duration::from_millis(800);
/// A backlog may take this long to be delivered between two rounds.
const DRAIN_MAX: Duration = Duration::from_secs(8);

impl Bench {
    /// Durable accept against a bare route.
    pub(crate) async fn throughput(&mut self) -> io::Result<()> {
        let bare = Server::bare(&self.cores)?;
        let ours = self.livehook("throughput", Handler::Idle)?;
        let targets = (self.target(&bare, Spread::Many), self.target(&ours, Spread::Many));
        let pairs = self.pairs((&bare, &targets.0), (&ours, &targets.1)).await?;
        self.report.tell("bare route", median(pairs.iter().map(|pair| pair.0.rate)), "/s");
        self.report.tell("durable accept", median(pairs.iter().map(|pair| pair.1.rate)), "/s");
        let (rates, note) = ratio(&pairs, |cost| cost.rate, 0);
        let bound = Bound::AtLeast { must: 0.15, want: 0.30 };
        self.report.add("durable accept / bare route", rates, "", bound, note);
        self.costs(&pairs, ["bare route", "durable accept"]);
        Ok(())
    }

    /// Latency at given rates in units of a sync, and memory on the way.
    pub(crate) async fn latency(&mut self) -> io::Result<()> {
        let server = self.livehook("latency", Handler::Idle)?;
        tokio::time::sleep(SETTLE).await;
        self.memory("memory idle", server.memory(), (20.0, 10.0));
        let target = self.target(&server, Spread::Many);
        let mut sync = load::histogram();
        let slow = self.paced(&target, 1000, &mut sync).await?;
        let fast = self.paced(&target, 5000, &mut sync).await?;
        self.memory("memory at 5,000/s", server.memory(), (64.0, 32.0));
        load::saturate(&target, span(self.plan.window)).await?;
        self.memory("memory at saturation", server.memory(), (160.0, 96.0));

        let unit = sync.value_at_quantile(0.99);
        let note = format!("p50 {} µs, max {} µs, {} syncs", sync.value_at_quantile(0.5), sync.max(), sync.len());
        self.report.add("4 KiB append + fdatasync, p99", float(unit), " µs", Bound::None, note);
        for (rate, outcome, must, want) in [("1,000/s", slow, 20.0, 8.0), ("5,000/s", fast, 40.0, 15.0)] {
            let p99 = outcome.value_at_quantile(0.99);
            let ratio = float(p99) / float(unit.max(1));
            let note = told(&outcome);
            self.report.add(format!("answer at {rate}, p99"), float(p99), " µs", Bound::None, note);
            self.report.add(format!("answer at {rate}, p99 / sync p99"), ratio, "", Bound::AtMost { must, want }, "");
        }
        Ok(())
    }

    /// Latency at a rate, in slices with syncs measured in between, so that both see the same times of the machine.
    async fn paced(&self, target: &Target, rate: u32, sync: &mut Histogram<u64>) -> io::Result<Histogram<u64>> {
        let mut latency = load::histogram();
        for _ in 0..self.plan.slices {
            add(sync, &machine::sync_latency(&self.dir, self.plan.sync)?);
            add(&mut latency, &load::pace(target, rate, span(SLICE)).await?.latency);
        }
        Ok(latency)
    }

    /// Accept while every event is also delivered, against accept alone.
    pub(crate) async fn delivery(&mut self) -> io::Result<()> {
        let sink = Sink::start()?;
        for (name, handler) in [("file", Handler::File), ("http", Handler::Http(sink.address))] {
            for (streams, spread) in [("1,000 streams", Spread::Many), ("one stream", Spread::One)] {
                self.deliver(&format!("{name}, {streams}"), handler, spread).await?;
            }
        }
        Ok(())
    }

    async fn deliver(&mut self, name: &str, handler: Handler, spread: Spread) -> io::Result<()> {
        let alone = self.livehook("alone", Handler::Idle)?;
        let delivering = self.livehook("delivering", handler)?;
        let (alone_target, target) = (self.target(&alone, spread), self.target(&delivering, spread));
        // Deliveries of one stream go one by one: a backlog would take too long to go.
        let rounds = if spread == Spread::One { 1 } else { self.plan.rounds.div_ceil(2) };
        let (mut rates, mut shares, mut delivered_rates) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            load::saturate(&alone_target, span(WARM_UP)).await?;
            let before = load::saturate(&alone_target, span(self.plan.window)).await?;
            load::saturate(&target, span(WARM_UP)).await?;
            drain(&delivering, spread).await?;
            let done = delivering.metric(DONE).await?;
            let with = load::saturate(&target, span(self.plan.window)).await?;
            let done = delivering.metric(DONE).await? - done;
            rates.push((before.rate(), with.rate()));
            shares.push(done / float(with.answered.max(1)));
            delivered_rates.push(done / with.took.as_secs_f64());
            drain(&delivering, spread).await?;
        }
        let (ratio, note) = ratio(&rates, |rate| *rate, 0);
        let bound = Bound::AtLeast { must: 0.4, want: 0.7 };
        self.report.add(format!("accept delivering / alone ({name})"), ratio, "", bound, note);
        self.report.tell(format!("delivered meanwhile ({name})"), median(delivered_rates.into_iter()), "/s");
        self.report.tell(format!("delivered meanwhile / accepted ({name})"), median(shares.into_iter()), "");
        Ok(())
    }

    /// From starting the process to the first durable answer, and what a kill costs.
    pub(crate) async fn start(&mut self) -> io::Result<()> {
        let mut empty = Vec::new();
        for number in 0..self.plan.starts {
            empty.push(self.first_answer(&format!("empty-{number}"), Spread::Many).await?.0);
        }
        let bound = Bound::AtMost { must: 100.0, want: 25.0 };
        self.report.add("start to first durable 200, empty", median(empty.into_iter()), " ms", bound, "");
        let (mut after, mut lost, mut acknowledged) = (Vec::new(), 0, 0);
        for number in 0..self.plan.kills {
            let name = format!("killed-{number}");
            let sent = self.killed(&name).await?;
            let (took, _server) = self.first_answer(&name, Spread::Many).await?;
            after.push(took);
            acknowledged += sent.len();
            let stored = stored(&self.dir.join(&name))?;
            lost += sent.iter().filter(|number| !stored.contains(&event::sequence(**number).to_string())).count();
        }
        let bound = Bound::AtMost { must: 1000.0, want: 250.0 };
        self.report.add("start to first durable 200, killed", median(after.into_iter()), " ms", bound, "");
        let note = format!("{acknowledged} acknowledged, {} kills", self.plan.kills);
        let bound = Bound::AtMost { must: 0.0, want: 0.0 };
        self.report.add("acknowledged events lost", float(lost as u64), "", bound, note);
        Ok(())
    }

    /// The program on disk.
    pub(crate) fn size(&mut self) -> io::Result<()> {
        let bytes = std::fs::metadata(PROGRAM)?.len();
        let bound = Bound::AtMost { must: 20.0, want: 12.0 };
        self.report.add("program, stripped", float(bytes) / 1e6, " MB", bound, "");
        Ok(())
    }

    /// Throughput with many events stored, against empty.
    pub(crate) async fn growth(&mut self) -> io::Result<()> {
        let full = self.livehook("full", Handler::Idle)?;
        let target = self.target(&full, Spread::Many);
        let mut stored = 0;
        while stored < self.plan.stored {
            stored += load::saturate(&target, span(FILL)).await?.answered;
        }
        let empty = self.livehook("empty", Handler::Idle)?;
        let pairs = self.pairs((&empty, &self.target(&empty, Spread::Many)), (&full, &target)).await?;
        let (rates, note) = ratio(&pairs, |cost| cost.rate, 0);
        let bound = Bound::AtLeast { must: 0.8, want: 0.95 };
        self.report.add(format!("accept with {stored} stored / empty"), rates, "", bound, note);
        self.costs(&pairs, ["empty", "full"]);
        Ok(())
    }

    /// This livehook against another one: their ratio says what a change is worth on a machine that is never quiet.
    pub(crate) async fn compare(&mut self) -> io::Result<()> {
        let Some(other) = self.against.clone() else {
            return Ok(());
        };
        for (name, handler) in [("accept alone", Handler::Idle), ("delivering to a file", Handler::File)] {
            let dir = self.dir.join(format!("other-{handler:?}"));
            let theirs = Server::livehook(&self.cores, &other, &dir, handler)?;
            let ours = self.livehook(&format!("ours-{handler:?}"), handler)?;
            let targets = (self.target(&theirs, Spread::Many), self.target(&ours, Spread::Many));
            let pairs = self.pairs((&theirs, &targets.0), (&ours, &targets.1)).await?;
            let (rates, note) = ratio(&pairs, |cost| cost.rate, 0);
            self.report.add(format!("this livehook / the other ({name})"), rates, "", Bound::None, note);
            self.costs(&pairs, [&format!("the other ({name})"), &format!("this livehook ({name})")]);
        }
        Ok(())
    }

    /// Two servers at saturation in turn.
    async fn pairs(&self, one: (&Server, &Target), other: (&Server, &Target)) -> io::Result<Vec<(Cost, Cost)>> {
        load::saturate(one.1, span(WARM_UP)).await?;
        load::saturate(other.1, span(WARM_UP)).await?;
        let mut pairs = Vec::new();
        for round in 0..self.plan.rounds {
            // Each goes first as often as second: a machine that slows down steadily favours neither.
            if round % 2 == 0 {
                let first = self.cost(one).await?;
                pairs.push((first, self.cost(other).await?));
            } else {
                let first = self.cost(other).await?;
                pairs.push((self.cost(one).await?, first));
            }
        }
        Ok(pairs)
    }

    /// One window at saturation, and what it cost the server.
    async fn cost(&self, (server, target): (&Server, &Target)) -> io::Result<Cost> {
        let before = (server.busy(), server.written(), machine::busy());
        let outcome = load::saturate(target, span(self.plan.window)).await?;
        let after = (server.busy(), server.written(), machine::busy());
        let (answers, seconds) = (float(outcome.answered.max(1)), outcome.took.as_secs_f64());
        Ok(Cost {
            rate: outcome.rate(),
            micros: (after.0 - before.0) * 1e6 / answers,
            share: (after.0 - before.0) / seconds,
            load_share: (after.2 - before.2) / seconds,
            written: float(after.1.saturating_sub(before.1)) / answers,
        })
    }

    /// Tells of both what an answer costs. This holds where the rates do not: others on the machine may slow the load,
    /// the disk or one of a pair, and change it little.
    fn costs(&mut self, pairs: &[(Cost, Cost)], [one, other]: [&str; 2]) {
        let (micros, note) = ratio(pairs, |cost| cost.micros, 1);
        self.report.add(format!("processor time, {other} / {one}"), micros, "", Bound::None, note);
        let (ones, others): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        for (name, costs) in [(one, ones), (other, others)] {
            let of = |part: fn(&Cost) -> f64| median(costs.iter().map(part));
            let (share, load) = (of(|cost| cost.share) * 100.0, of(|cost| cost.load_share) * 100.0);
            let note = format!("{share:.0} % of the server's core, {load:.0} % of the load's");
            self.report.add(format!("processor time, {name}"), of(|cost| cost.micros), " µs each", Bound::None, note);
            let written = of(|cost| cost.written);
            if written > 0.0 {
                self.report.tell(format!("written to disk, {name}"), written, " bytes each");
            }
        }
    }

    /// Starts a server in `name` and returns how many milliseconds its first answer took.
    async fn first_answer(&self, name: &str, spread: Spread) -> io::Result<(f64, Server)> {
        let begun = Instant::now();
        let server = Server::livehook(&self.cores, PROGRAM.as_ref(), &self.dir.join(name), Handler::Idle)?;
        load::once(&self.target(&server, spread)).await?;
        Ok((begun.elapsed().as_secs_f64() * 1000.0, server))
    }

    /// Kills a server under load. Returns the events it had acknowledged.
    async fn killed(&self, name: &str) -> io::Result<Vec<u64>> {
        let server = Server::livehook(&self.cores, PROGRAM.as_ref(), &self.dir.join(name), Handler::Idle)?;
        let target = self.target(&server, Spread::Many);
        let window = self.plan.window / 2;
        let noted = Span { length: window + DRAIN_MAX, note: true };
        let kill = async {
            tokio::time::sleep(window).await;
            server.kill()
        };
        let (outcome, killed) = tokio::join!(load::saturate(&target, noted), kill);
        killed?;
        Ok(outcome?.acknowledged)
    }

    fn livehook(&self, name: &str, handler: Handler) -> io::Result<Server> {
        let dir = self.dir.join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        Server::livehook(&self.cores, PROGRAM.as_ref(), &dir, handler)
    }

    fn target(&self, server: &Server, spread: Spread) -> Target {
        Target { address: server.callbacks, spread, numbers: self.numbers.clone() }
    }

    fn memory(&mut self, what: &str, memory: Memory, (must, want): (f64, f64)) {
        let mebibytes = |kib: u32| f64::from(kib) / 1024.0;
        let note = format!("peak; {:.1} MiB at the end", mebibytes(memory.now));
        self.report.add(what, mebibytes(memory.peak), " MiB", Bound::AtMost { must, want }, note);
    }
}

const fn span(length: Duration) -> Span {
    Span { length, note: false }
}

/// Deliveries that ended well.
const DONE: &str = r#"livehook_handler_attempts_total{handler="sink",outcome="done"}"#;
/// Deliveries that wait.
const DEPTH: &str = r#"livehook_queue_depth{handler="sink"}"#;

/// Waits until all is delivered, within bounds. Of one stream nothing is waited for.
async fn drain(server: &Server, spread: Spread) -> io::Result<()> {
    let begun = Instant::now();
    while spread == Spread::Many && begun.elapsed() < DRAIN_MAX && server.metric(DEPTH).await? > 0.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The sequences of all events in a store.
fn stored(dir: &Path) -> io::Result<HashSet<String>> {
    let read = || {
        let db = Connection::open_with_flags(dir.join("livehook.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut statement = db.prepare("SELECT sequence FROM events")?;
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()
    };
    read().map_err(io::Error::other)
}

/// The median of the second against the first, and the range.
fn ratio<T>(pairs: &[(T, T)], figure: fn(&T) -> f64, digits: usize) -> (f64, String) {
    let figures: Vec<_> = pairs.iter().map(|(one, other)| (figure(one), figure(other))).collect();
    let ratios = || figures.iter().map(|(one, other)| other / one);
    let (low, high) = (ratios().fold(f64::INFINITY, f64::min), ratios().fold(0.0, f64::max));
    let pairs = figures.iter().map(|(one, other)| format!("{one:.digits$}:{other:.digits$}"));
    (median(ratios()), format!("{low:.2} to {high:.2}; {}", pairs.collect::<Vec<_>>().join(" ")))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().saturating_sub(1) / 2), values.get(values.len() / 2));
    low.zip(high).map_or(0.0, |(low, high)| f64::midpoint(*low, *high))
}

fn told(latency: &Histogram<u64>) -> String {
    let at = |quantile| latency.value_at_quantile(quantile);
    let (p50, p999, max) = (at(0.5), at(0.999), latency.max());
    format!("p50 {p50} µs, p99.9 {p999} µs, max {max} µs, {} answers", latency.len())
}

fn add(sum: &mut Histogram<u64>, more: &Histogram<u64>) {
    sum.add(more).expect("all histograms have the same bounds");
}

fn float(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
