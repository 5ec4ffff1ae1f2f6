//! Accept while every event is also delivered, against accept alone.

use std::io;
use std::time::{Duration, Instant};

use super::{Bench, WARM_UP, float, median, ratio, span};
use crate::child::{Handler, Server};
use crate::event::Spread;
use crate::load::{self, Target};
use crate::report::Bound;
use crate::sink::Sink;

/// A backlog may take this long to be delivered between two rounds.
const DRAIN_MAX: Duration = Duration::from_secs(8);
/// Deliveries that ended well.
pub(super) const DONE: &str = r#"livehook_handler_attempts_total{handler="sink",outcome="done"}"#;
/// Deliveries that wait.
pub(super) const DEPTH: &str = r#"livehook_queue_depth{handler="sink"}"#;

/// One round of both.
struct Round {
    /// Accepted a second.
    rates: (f64, f64),
    /// Delivered a second meanwhile.
    delivered: f64,
    /// Delivered meanwhile, of what was accepted.
    share: f64,
    /// Processor time of accepting and delivering an event, in microseconds, where all was delivered in time.
    micros: Option<f64>,
}

impl Bench {
    pub(crate) async fn delivery(&mut self) -> io::Result<()> {
        let sink = Sink::start()?;
        for (name, handler) in [("file", Handler::File), ("http", Handler::Http(sink.address))] {
            for (streams, spread) in [("1,000 streams", Spread::Many), ("one stream", Spread::One)] {
                self.deliver(&format!("{name}, {streams}"), handler, spread).await?;
            }
        }
        Ok(())
    }

    async fn deliver(&mut self, name: &str, handler: Handler<'_>, spread: Spread) -> io::Result<()> {
        let alone = self.livehook("alone", Handler::Idle).await?;
        let delivering = self.livehook("delivering", handler).await?;
        let targets = [&alone, &delivering].map(|server| Target { spread, ..self.target(server) });
        // Deliveries of one stream go one by one: a backlog would take too long to go.
        let count = if spread == Spread::One { 1 } else { self.plan.rounds.div_ceil(2) };
        let mut rounds = Vec::new();
        for _ in 0..count {
            rounds.push(self.round(&targets, &delivering, spread).await?);
        }
        let rates: Vec<_> = rounds.iter().map(|round| round.rates).collect();
        let (ratio, note) = ratio(&rates, |rate| *rate, 0);
        let bound = Bound::More { must: 0.4, want: 0.7 };
        self.report.add(format!("accept delivering / alone ({name})"), ratio, "", bound, note);
        let of = |part: fn(&Round) -> f64| median(rounds.iter().map(part));
        let note = format!("{:.2} of what was accepted", of(|round| round.share));
        self.report.add(format!("delivered meanwhile ({name})"), of(|round| round.delivered), "/s", Bound::None, note);
        if rounds.iter().all(|round| round.micros.is_some()) {
            let micros = median(rounds.iter().filter_map(|round| round.micros));
            self.report.tell(format!("processor time, accepted and delivered ({name})"), micros, " µs");
        }
        self.weight(&delivering, &format!("with its delivery ({name})")).await?;
        self.check(&delivering, name).await
    }

    async fn round(&self, [alone, with]: &[Target; 2], delivering: &Server, spread: Spread) -> io::Result<Round> {
        load::saturate(alone, span(WARM_UP)).await?;
        let before = load::saturate(alone, span(self.plan.window)).await?;
        load::saturate(with, span(WARM_UP)).await?;
        drain(delivering, spread).await?;
        let (done, busy) = (delivering.metric(DONE).await?, delivering.busy());
        let outcome = load::saturate(with, span(self.plan.window)).await?;
        let done = delivering.metric(DONE).await? - done;
        let drained = drain(delivering, spread).await?;
        let answered = float(outcome.answered.max(1));
        Ok(Round {
            rates: (before.rate(), outcome.rate()),
            delivered: done / outcome.took.as_secs_f64(),
            share: done / answered,
            micros: drained.then(|| (delivering.busy() - busy) * 1e6 / answered),
        })
    }
}

/// Waits until all is delivered, within bounds. Of one stream nothing is waited for.
async fn drain(server: &Server, spread: Spread) -> io::Result<bool> {
    let begun = Instant::now();
    while spread == Spread::Many && begun.elapsed() < DRAIN_MAX {
        if server.metric(DEPTH).await? == 0.0 {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(false)
}
