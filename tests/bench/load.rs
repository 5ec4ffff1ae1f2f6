//! The load: raw HTTP/1.1 over connections that stay open, by hand, so that it costs little beside the server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::event::{Spread, Template};
use crate::report;

/// Connections that send at the same time.
pub(crate) const CONNECTIONS: usize = 64;
/// No answer takes longer than this, or the connection is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest latency that is told apart, in microseconds.
const MICROS_MAX: u64 = 60_000_000;

/// What came of a load.
pub(crate) struct Outcome {
    /// Requests answered 200 `{"code":0}`.
    pub(crate) answered: u64,
    /// How long it took.
    pub(crate) took: Duration,
    /// Microseconds from the moment a request was due to its answer.
    pub(crate) latency: Histogram<u64>,
    /// Numbers of the events that were answered, when they are asked for.
    pub(crate) acknowledged: Vec<u64>,
}

/// Numbers of events, never used twice.
#[derive(Clone, Default)]
pub(crate) struct Numbers(Arc<AtomicU64>);

impl Numbers {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Where to, and what of.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) spread: Spread,
    pub(crate) numbers: Numbers,
}

/// When to end, and whether to note what was answered.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) length: Duration,
    pub(crate) note: bool,
}

/// One connection.
struct Caller {
    stream: TcpStream,
    template: Template,
    numbers: Numbers,
    answer: Vec<u8>,
}

/// What one connection did.
struct Tally {
    latency: Histogram<u64>,
    acknowledged: Vec<u64>,
    broken: bool,
}

/// As many as the server answers: each connection sends its next when it has its answer.
pub(crate) async fn saturate(target: &Target, span: Span) -> io::Result<Outcome> {
    let callers = connect(target).await?;
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for mut caller in callers {
        running.spawn(async move {
            let mut tally = Tally::new();
            while begun.elapsed() < span.length && !tally.broken {
                tally.note(&caller.call().await, Instant::now(), span.note);
            }
            tally
        });
    }
    Ok(gather(running, begun).await)
}

/// `rate` a second, whether or not the server keeps up. Each latency counts from the moment at which its request was
/// due, so a stall is seen by all whom it made wait.
pub(crate) async fn pace(target: &Target, rate: u32, span: Span) -> io::Result<Outcome> {
    let callers = connect(target).await?;
    let mut running = JoinSet::new();
    let mut lines = Vec::new();
    for mut caller in callers {
        let (due, mut dues) = mpsc::unbounded_channel::<Instant>();
        lines.push(due);
        running.spawn(async move {
            let mut tally = Tally::new();
            while let Some(due) = dues.recv().await {
                let called = caller.call().await;
                // The receiver's own time is not looked at until the answer is there.
                tally.note(&called, due, span.note);
                if tally.broken {
                    break;
                }
            }
            tally
        });
    }
    let begun = Instant::now();
    // A thread of its own: the runtime's timer is no finer than a millisecond.
    let pacer = std::thread::spawn(move || ring(&lines, rate, begun, span.length));
    let outcome = gather(running, begun).await;
    let _ = pacer.join();
    Ok(outcome)
}

/// One request; returns once it is answered.
pub(crate) async fn once(target: &Target) -> io::Result<()> {
    Caller::connect(target).await?.call().await.map(drop)
}

/// Sends each connection in turn the moments at which its requests are due.
fn ring(lines: &[mpsc::UnboundedSender<Instant>], rate: u32, begun: Instant, length: Duration) {
    let count = u32::try_from(length.as_millis()).unwrap_or(u32::MAX) / 1000 * rate;
    for number in 0..count {
        let due = begun + Duration::from_secs(1) * number / rate;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let line = &lines[usize::try_from(number).unwrap_or_default() % lines.len()];
        // A connection that broke is counted where it broke.
        let _ = line.send(due);
    }
}

async fn connect(target: &Target) -> io::Result<Vec<Caller>> {
    let mut callers = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        callers.push(Caller::connect(target).await?);
    }
    Ok(callers)
}

async fn gather(mut running: JoinSet<Tally>, begun: Instant) -> Outcome {
    let mut outcome = Outcome { answered: 0, took: Duration::ZERO, latency: histogram(), acknowledged: Vec::new() };
    let mut broken = 0_u64;
    while let Some(ended) = running.join_next().await {
        let Ok(tally) = ended else {
            broken += 1;
            continue;
        };
        outcome.answered += tally.latency.len();
        broken += u64::from(tally.broken);
        outcome.latency.add(&tally.latency).expect("all histograms have the same bounds");
        outcome.acknowledged.extend(tally.acknowledged);
    }
    outcome.took = begun.elapsed();
    if broken > 0 {
        report::aside(&format!("{broken} connections ended early, as they do when their server is killed"));
    }
    outcome
}

impl Outcome {
    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.answered).unwrap_or(u32::MAX)) / self.took.as_secs_f64()
    }
}

impl Tally {
    fn new() -> Self {
        Self { latency: histogram(), acknowledged: Vec::new(), broken: false }
    }

    fn note(&mut self, called: &io::Result<u64>, due: Instant, keep: bool) {
        let Ok(number) = *called else {
            self.broken = true;
            return;
        };
        let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(MICROS_MAX);
        self.latency.saturating_record(micros);
        if keep {
            self.acknowledged.push(number);
        }
    }
}

/// A histogram of microseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("the bounds are in order")
}

impl Caller {
    async fn connect(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let (template, numbers) = (Template::new(target.spread), target.numbers.clone());
        Ok(Self { stream, template, numbers, answer: vec![0; 1024] })
    }

    /// Sends an event and waits for its answer. Returns its number.
    async fn call(&mut self) -> io::Result<u64> {
        let number = self.numbers.next();
        let sent = async {
            self.stream.write_all(self.template.request(number)).await?;
            let mut read = 0;
            while !self.answer[..read].ends_with(br#"{"code":0}"#) {
                match self.stream.read(&mut self.answer[read..]).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    more => read += more,
                }
            }
            let good = self.answer.starts_with(b"HTTP/1.1 200");
            if good { Ok(number) } else { Err(io::ErrorKind::InvalidData.into()) }
        };
        tokio::time::timeout(PATIENCE, sent).await?
    }
}
