//! The load: raw HTTP/1.1 over connections that stay open, by hand, so that it costs little beside the server.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::event::{Sort, Spread, Template};
use crate::report;

/// Connections that send at the same time, unless a case says otherwise.
pub(crate) const CONNECTIONS: usize = 64;
/// No answer takes longer than this, or the connection is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest latency that is told apart, in microseconds.
const MICROS_MAX: u64 = 60_000_000;

/// What came of a load.
pub(crate) struct Outcome {
    /// Requests that were due: all that were sent, where no rate was given.
    pub(crate) due: u64,
    /// Requests answered 200 `{"code":0}`.
    pub(crate) answered: u64,
    /// How long it took, to the last answer.
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

    /// Those that come next, to be used once more.
    pub(crate) fn again(&self) -> Self {
        Self(Arc::new(AtomicU64::new(self.0.load(Ordering::Relaxed))))
    }
}

/// Where to, and what of.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) spread: Spread,
    pub(crate) sort: Sort,
    pub(crate) numbers: Numbers,
    /// When all the events happened, in seconds; none: whenever they are sent.
    pub(crate) happened: Option<u64>,
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

/// What all connections of a load did.
struct Tally {
    outcome: Outcome,
    broken: u64,
    /// Whether to note what was answered.
    note: bool,
}

/// As many as the server answers: each connection sends its next when it has its answer.
pub(crate) async fn saturate(target: &Target, span: Span) -> io::Result<Outcome> {
    let callers = connect(target).await?;
    let (begun, tally) = (Instant::now(), Tally::new(span));
    let mut running = JoinSet::new();
    for mut caller in callers {
        let tally = Arc::clone(&tally);
        running.spawn(async move {
            while begun.elapsed() < span.length {
                let sent = Instant::now();
                if !note(&tally, &caller.call().await, sent) {
                    break;
                }
            }
        });
    }
    Ok(gather(running, tally, begun).await)
}

/// `rate` a second, whether or not the server keeps up. Each latency counts from the moment at which its request was
/// due, so a stall is seen by all whom it made wait.
pub(crate) async fn pace(target: &Target, rate: u32, span: Span) -> io::Result<Outcome> {
    let callers = connect(target).await?;
    let tally = Tally::new(span);
    let mut running = JoinSet::new();
    let mut lines = Vec::new();
    for mut caller in callers {
        let (due, mut dues) = mpsc::unbounded_channel::<Instant>();
        lines.push(due);
        let tally = Arc::clone(&tally);
        running.spawn(async move {
            let mut open = true;
            while let Some(due) = dues.recv().await {
                // Owed all the same where the connection is lost: no request is left out because it had no answer.
                let called = if open { caller.call().await } else { Err(io::ErrorKind::NotConnected.into()) };
                open = note(&tally, &called, due);
            }
        });
    }
    let begun = Instant::now();
    // A thread of its own: the runtime's timer is no finer than a millisecond.
    let pacer = std::thread::spawn(move || ring(&lines, rate, begun, span.length));
    let outcome = gather(running, tally, begun).await;
    let _ = pacer.join();
    Ok(outcome)
}

/// One request; returns once it is answered.
pub(crate) async fn once(target: &Target) -> io::Result<()> {
    Caller::connect(target).await?.call().await.map(drop)
}

/// Sends each connection in turn the moments at which its requests are due.
fn ring(lines: &[mpsc::UnboundedSender<Instant>], rate: u32, begun: Instant, length: Duration) {
    // The system may let a sleeper oversleep by 50 µs, which would count as latency. Refused, it stays so.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    for number in 0..=u32::MAX {
        let at = Duration::from_secs(1) * number / rate;
        if at >= length {
            break;
        }
        let due = begun + at;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let line = &lines[usize::try_from(number).unwrap_or_default() % lines.len()];
        // Fails only where a task has panicked, which is counted there.
        let _ = line.send(due);
    }
}

async fn connect(target: &Target) -> io::Result<Vec<Caller>> {
    let mut callers = Vec::with_capacity(target.connections);
    for _ in 0..target.connections {
        callers.push(Caller::connect(target).await?);
    }
    Ok(callers)
}

async fn gather(mut running: JoinSet<()>, tally: Arc<Mutex<Tally>>, begun: Instant) -> Outcome {
    while let Some(ended) = running.join_next().await {
        ended.expect("no connection panics");
    }
    let took = begun.elapsed();
    let tally = Arc::into_inner(tally).expect("all connections have ended");
    let Tally { outcome, broken, .. } = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    if broken > 0 {
        report::aside(&format!("{broken} requests had no answer, as when their server is killed"));
    }
    Outcome { took, ..outcome }
}

/// Counts a request. Whether it was answered, and the next may follow.
fn note(tally: &Mutex<Tally>, called: &io::Result<u64>, due: Instant) -> bool {
    let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(MICROS_MAX);
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    tally.outcome.due += 1;
    let Ok(number) = *called else {
        tally.broken += 1;
        return false;
    };
    tally.outcome.answered += 1;
    tally.outcome.latency.saturating_record(micros);
    if tally.note {
        tally.outcome.acknowledged.push(number);
    }
    true
}

impl Outcome {
    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.answered).unwrap_or(u32::MAX)) / self.took.as_secs_f64()
    }
}

impl Tally {
    fn new(span: Span) -> Arc<Mutex<Self>> {
        let (latency, took) = (histogram(), Duration::ZERO);
        let outcome = Outcome { due: 0, answered: 0, took, latency, acknowledged: Vec::new() };
        Arc::new(Mutex::new(Self { outcome, broken: 0, note: span.note }))
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
        let template = Template::new(target.spread, target.sort, target.happened);
        let numbers = target.numbers.clone();
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
