//! A store with many events in it: throughput against an empty one, start, memory, and what people ask of it.

use std::io;
use std::time::{Duration, Instant};

use livehook::clock::{Clock as _, SystemClock};

use super::{Bench, float, median, ratio, span};
use crate::child::{Handler, Memory, Server};
use crate::event::Sort;
use crate::load::{self, Target};
use crate::machine;
use crate::numbers::grouped;
use crate::report::{Bound, Stage, aside};
use crate::sink::Sink;

/// One load of those that fill a store, and that between two reports of how far it is.
const FILL: Duration = Duration::from_secs(5);
/// Of what stands at the beginning of the store, below everything else.
const RARE: Duration = Duration::from_millis(500);
/// Bytes on the disk that an event is assumed to take, with its share of the indexes and of the log.
const EVENT_BYTES: u64 = 1_600;
/// What is left free on the disk for others.
const SPARE_BYTES: u64 = 2 << 30;
/// Times that each question is asked.
const ASKED: usize = 5;
/// Deliveries that were refused may take this long to be so.
const REFUSED_MAX: Duration = Duration::from_mins(2);
/// Deliveries that wait.
const DEPTH: &str = r#"livehook_queue_depth{handler="sink"}"#;

/// What people ask of a store, from the plain to what must look at everything to find nothing.
const QUESTIONS: &[(&str, &str)] = &[
    ("newest events", "/api/v1/events?limit=100"),
    ("events of one stream", "/api/v1/events?limit=100&stream=room-0007"),
    (
        "events of a domain, app and stream",
        "/api/v1/events?limit=100&domain=push.example.com&app=live&stream=room-0007",
    ),
    ("events of a stream that is not there", "/api/v1/events?limit=100&stream=nobody"),
    ("events of a kind, all of them old", "/api/v1/events?limit=100&kind=stream-interruption"),
    ("events of a kind that is not there", "/api/v1/events?limit=100&kind=recording"),
    ("events of ten seconds", "/api/v1/events?limit=100&since={since}&until={until}"),
    ("events before all others", "/api/v1/events?limit=100&until=2020-01-01T00:00:00Z"),
    ("dead deliveries of a handler", "/api/v1/deliveries?limit=100&handler=sink&state=dead"),
    ("dead deliveries", "/api/v1/deliveries?limit=100&state=dead"),
    ("pending deliveries", "/api/v1/deliveries?limit=100&state=pending"),
    ("quarantine", "/api/v1/quarantine?limit=100"),
    ("quarantine, one reason", "/api/v1/quarantine?limit=100&reason=signature-mismatch"),
    ("quarantine, a reason that is not there", "/api/v1/quarantine?limit=100&reason=too-large"),
    ("metrics", "/metrics"),
];

impl Bench {
    pub(crate) async fn growth(&mut self) -> io::Result<()> {
        self.room()?;
        let (stored, memory) = self.fill().await?;
        self.report.fact("stored", grouped(&stored.to_string()));
        self.memory("memory, store being filled", memory, Bound::None);

        let (took, full) = self.first_answer("full").await?;
        self.report.tell("start to first durable 200, store filled and killed", took, " ms");
        let empty = self.livehook("empty", Handler::Idle).await?;
        let targets = (self.target(&empty), self.target(&full));
        let pairs = self.pairs((&empty, &targets.0), (&full, &targets.1)).await?;
        let (rates, note) = ratio(&pairs, |cost| cost.rate, 0);
        let bound = Bound::More { must: 0.8, want: 0.95 };
        self.report.add("accept, store filled / empty", rates, "", bound, note);
        self.costs(&pairs, ["accept, store empty", "accept, store filled"], "");
        self.questions(&full, &empty).await?;
        self.memory("memory, store filled, after all questions", full.memory(), Bound::None);
        self.check(&full, "full").await
    }

    /// Refuses to begin what the disk cannot hold.
    pub(super) fn room(&self) -> io::Result<()> {
        let (need, free) = (self.stored * EVENT_BYTES + SPARE_BYTES, machine::free(&self.dir)?);
        aside(&format!(
            "{} events need about {} GB; {} GB are free",
            self.stored,
            need / 1_000_000_000,
            free / 1_000_000_000
        ));
        if free < need {
            return Err(io::Error::other(
                "the disk has no room for that; --dir names another place, --grow takes less",
            ));
        }
        Ok(())
    }

    /// Fills a store: below everything some events of another kind and some that are refused, then pushes, of which
    /// every hundredth ends as a dead delivery. Returns how many are stored, and what memory that took.
    async fn fill(&mut self) -> io::Result<(u64, Memory)> {
        let sink = Sink::start()?;
        let server = self.livehook("full", Handler::Refused(sink.address)).await?;
        let pushes = self.target(&server);
        load::saturate(&Target { sort: Sort::Forged, ..pushes.clone() }, span(RARE)).await?;
        let rare = load::saturate(&Target { sort: Sort::Interruption, ..pushes.clone() }, span(RARE)).await?;
        let (begun, mut stored) = (Instant::now(), rare.answered);
        while stored < self.stored {
            if machine::free(&self.dir)? < SPARE_BYTES {
                return Err(io::Error::other(format!("the disk is full after {stored} events")));
            }
            let (busy, written) = (server.busy(), server.written());
            let outcome = load::saturate(&pushes, span(FILL)).await?;
            stored += outcome.answered;
            let answered = float(outcome.answered.max(1));
            self.report.growth.push(Stage {
                stored,
                accepted_per_second: outcome.rate(),
                processor_micros_each: (server.busy() - busy) * 1e6 / answered,
                written_bytes_each: float(server.written() - written) / answered,
            });
            self.progress(stored, outcome.rate(), begun);
        }
        let begun = Instant::now();
        while server.metric(DEPTH).await? > 0.0 && begun.elapsed() < REFUSED_MAX {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let memory = server.memory();
        server.kill()?;
        Ok((stored, memory))
    }

    fn progress(&self, stored: u64, rate: f64, begun: Instant) {
        let left = self.stored.saturating_sub(stored);
        let pace = float(stored) / begun.elapsed().as_secs_f64();
        aside(&format!("{stored} of {} stored, {rate:.0}/s; {:.0} s to go", self.stored, float(left) / pace));
    }

    /// Each question to both, a few times.
    async fn questions(&mut self, full: &Server, empty: &Server) -> io::Result<()> {
        for (what, question) in QUESTIONS {
            let (slow, found) = ask(full, question).await?;
            let (quick, _) = ask(empty, question).await?;
            let note = format!("{quick:.1} ms in the other; {found} bytes");
            self.report.add(format!("asked for: {what}"), slow, " ms", Bound::None, note);
        }
        Ok(())
    }
}

/// The median of how many milliseconds the answer takes, and its length.
async fn ask(server: &Server, question: &str) -> io::Result<(f64, usize)> {
    let ago = |secs| SystemClock.now().minus(Duration::from_secs(secs)).rfc3339_secs();
    let question = question.replace("{since}", &ago(20)).replace("{until}", &ago(10));
    let (mut took, mut length) = (Vec::new(), 0);
    for _ in 0..ASKED {
        let (answer, time) = server.get(&question).await?;
        took.push(time.as_secs_f64() * 1000.0);
        length = answer.len();
    }
    Ok((median(took.into_iter()), length))
}
