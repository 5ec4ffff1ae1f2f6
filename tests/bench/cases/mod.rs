//! What is measured, a file for each part.

mod brokers;
mod compare;
mod delivery;
mod growth;
mod latency;
mod lists;
mod rates;
mod replicas;
mod slow;
mod start;
mod throughput;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::child::{Handler, Memory, Program, Server};
use crate::event::{Sort, Spread};
use crate::load::{self, CONNECTIONS, Numbers, Span, Target};
use crate::machine::{self, Cores};
use crate::numbers::shown;
use crate::report::{Bound, Report};
use crate::stores::Stores;

/// How long and how often.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// One load at saturation.
    window: Duration,
    /// Pairs that are compared.
    rounds: u32,
    /// Slices of load at a given rate.
    slices: u32,
    /// Measuring what a sync costs, each time.
    sync: Duration,
    /// Starts on an empty store.
    starts: u32,
    /// Kills under load.
    kills: u32,
    /// One load at each of the rising rates, at least,
    rung: Duration,
    /// and as long as so many requests take, of which p99.9 is to be told.
    rung_requests: u32,
    /// The first of these rates, and by how many tenths each is above the one before.
    rates: (u32, u32),
    /// Milliseconds that each sync of a slow disk takes more.
    syncs: &'static [u64],
}

/// A run.
pub(crate) struct Bench {
    pub(crate) cores: Cores,
    pub(crate) dir: PathBuf,
    /// Another livehook to compare with.
    pub(crate) against: Option<PathBuf>,
    pub(crate) plan: Plan,
    /// Events that a store is filled with; 0: none is.
    pub(crate) stored: u64,
    pub(crate) numbers: Numbers,
    pub(crate) stores: Arc<Stores>,
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

/// Before a first measurement of a server.
const WARM_UP: Duration = Duration::from_millis(400);
/// One load at a given rate.
const SLICE: Duration = Duration::from_secs(2);
/// Until a server that was just started has settled.
const SETTLE: Duration = Duration::from_millis(800);

impl Plan {
    pub(crate) const USUAL: Self = Self {
        window: Duration::from_secs(3),
        rounds: 4,
        slices: 4,
        sync: Duration::from_millis(400),
        starts: 7,
        kills: 3,
        rung: Duration::from_secs(3),
        rung_requests: 5000,
        rates: (500, 14),
        syncs: &[0, 2, 10, 50],
    };
    pub(crate) const QUICK: Self = Self {
        window: Duration::from_millis(700),
        rounds: 2,
        slices: 1,
        sync: Duration::from_millis(200),
        starts: 2,
        kills: 1,
        rung: Duration::from_millis(700),
        rung_requests: 0,
        rates: (1000, 40),
        syncs: &[0, 10],
    };
}

impl Bench {
    /// The program on disk.
    pub(crate) fn size(&mut self) -> io::Result<()> {
        let bytes = std::fs::metadata(env!("CARGO_BIN_EXE_livehook"))?.len();
        let bound = Bound::Less { must: 20.0, want: 12.0 };
        self.report.add("program, stripped", float(bytes) / 1e6, " MB", bound, "");
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
    fn costs(&mut self, pairs: &[(Cost, Cost)], [one, other]: [&str; 2], beside: &str) {
        let (micros, note) = ratio(pairs, |cost| cost.micros, 1);
        self.report.add(format!("processor time, {other} / {one}{beside}"), micros, "", Bound::None, note);
        let (ones, others): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        for (name, costs) in [(one, ones), (other, others)] {
            let of = |part: fn(&Cost) -> f64| median(costs.iter().map(part));
            let (share, load) = (of(|cost| cost.share) * 100.0, of(|cost| cost.load_share) * 100.0);
            let note = format!("of an answer; {share:.0} % of the server's core, {load:.0} % of the load's");
            let what = format!("processor time, {name}{beside}");
            self.report.add(what, of(|cost| cost.micros), " µs", Bound::None, note);
            let written = of(|cost| cost.written);
            if written > 0.0 {
                self.report.add(
                    format!("written to disk, {name}{beside}"),
                    written,
                    " bytes",
                    Bound::None,
                    "for an answer",
                );
            }
        }
    }

    /// A livehook with nothing in its store yet.
    async fn livehook(&self, name: &str, handler: Handler<'_>) -> io::Result<Server> {
        self.server(&Program::Ours, name, handler).await
    }

    async fn server(&self, program: &Program, name: &str, handler: Handler<'_>) -> io::Result<Server> {
        self.stores.clear(&self.dir, name).await?;
        Server::livehook(&self.cores, program, &self.dir.join(name), handler, &self.stores.url(&self.dir, name))
    }

    /// One that goes on where another of that name has ended, or begins.
    fn again(&self, name: &str) -> io::Result<Server> {
        let (dir, url) = (self.dir.join(name), self.stores.url(&self.dir, name));
        Server::livehook(&self.cores, &Program::Ours, &dir, Handler::Idle, &url)
    }

    fn target(&self, server: &Server) -> Target {
        Target {
            address: server.callbacks,
            connections: CONNECTIONS,
            spread: Spread::Many,
            sort: Sort::Push,
            numbers: self.numbers.clone(),
            happened: None,
        }
    }

    /// Sees to it that whatever a server has answered was a new event to it, and stored: else something else was
    /// measured than is told. What was spilled is answered too, by a disk that cannot follow.
    async fn check(&mut self, server: &Server, what: &str) -> io::Result<()> {
        let mut others = 0.0;
        for metric in ["events_duplicate", "callbacks_quarantined", "callbacks_spilled", "events_drift"] {
            others += server.metric(&format!("livehook_{metric}_total")).await?;
        }
        if others > 0.0 {
            self.report.tell(format!("NOT STORED AS NEW EVENTS ({what})"), others, "");
        }
        Ok(())
    }

    /// What the store takes for an event.
    async fn weight(&mut self, server: &Server, what: &str) -> io::Result<()> {
        let bytes = server.metric("livehook_store_bytes").await?;
        let events = server.metric("livehook_events_received_total").await?;
        let note = format!("of {events:.0}");
        self.report.add(format!("store, for an event {what}"), bytes / events.max(1.0), " bytes", Bound::None, note);
        Ok(())
    }

    fn memory(&mut self, what: impl Into<String>, memory: Memory, bound: Bound) {
        let mebibytes = |kib: u32| f64::from(kib) / 1024.0;
        let note = format!("peak; {:.1} MiB at the end", mebibytes(memory.now));
        self.report.add(what, mebibytes(memory.peak), " MiB", bound, note);
    }
}

const fn span(length: Duration) -> Span {
    Span { length, note: false }
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

/// Latencies for people, but for the one that stands beside.
fn told(latency: &Histogram<u64>) -> String {
    let at = |quantile| shown(float(latency.value_at_quantile(quantile)), " µs");
    format!("p50 {}, p99.9 {}, max {}, of {}", at(0.5), at(0.999), at(1.0), latency.len())
}

fn add(sum: &mut Histogram<u64>, more: &Histogram<u64>) {
    sum.add(more).expect("all histograms have the same bounds");
}

#[expect(clippy::cast_precision_loss, reason = "no figure here is told to more than 15 digits")]
fn float(count: u64) -> f64 {
    count as f64
}
