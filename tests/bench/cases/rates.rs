//! Latency at rising rates until a server no longer follows: for the bare route and livehook in turn, rung by rung.

use std::io;
use std::time::Duration;

use super::{Bench, WARM_UP, add, float, span};
use crate::child::{Handler, Server};
use crate::load::{self, Outcome, Target};
use crate::machine;
use crate::numbers::shown;
use crate::report::{Bound, Rung, Sync, aside};

/// A rate is borne when at least this share of it is answered by the time the last answer is there.
const KEPT_UP: f64 = 0.95;
/// No ladder goes beyond.
const RATE_MAX: u32 = 200_000;

/// A server on its way up.
struct Climber {
    name: &'static str,
    target: Target,
    /// The highest rate it has borne.
    borne: u32,
    up: bool,
}

impl Bench {
    pub(crate) async fn rates(&mut self) -> io::Result<()> {
        let bare = Server::bare(&self.cores)?;
        let ours = self.livehook("rates", Handler::Idle).await?;
        let mut climbers = [("bare route", &bare), ("livehook", &ours)].map(|(name, server)| Climber {
            name,
            target: self.target(server),
            borne: 0,
            up: true,
        });
        for climber in &climbers {
            load::saturate(&climber.target, span(WARM_UP)).await?;
        }
        let (mut sync, (first, tenths)) = (load::histogram(), self.plan.rates);
        let mut rate = first;
        while rate < RATE_MAX && climbers.iter().any(|climber| climber.up) {
            add(&mut sync, &machine::sync_latency(&self.dir, self.plan.sync)?);
            for climber in climbers.iter_mut().filter(|climber| climber.up) {
                self.climb(climber, rate).await?;
            }
            rate = rounded(rate / 10 * tenths);
        }
        let at = |quantile| sync.value_at_quantile(quantile);
        self.report.sync_micros = Some(Sync { p50: at(0.5), p99: at(0.99) });
        for Climber { name, borne, .. } in climbers {
            self.report.add(
                format!("highest rate borne, {name}"),
                f64::from(borne),
                "/s",
                Bound::None,
                "of those tried",
            );
        }
        self.check(&ours, "rates").await
    }

    /// One rung, and at the end of the ladder one between the last two, to come nearer to where it ends.
    async fn climb(&mut self, climber: &mut Climber, rate: u32) -> io::Result<()> {
        climber.up = self.bears(climber, rate).await?;
        if climber.up {
            climber.borne = rate;
            return Ok(());
        }
        let between = rounded((rate - climber.borne) / 2 + climber.borne);
        if climber.borne > 0 && self.bears(climber, between).await? {
            climber.borne = between;
        }
        Ok(())
    }

    /// Whether the server follows. Where it does not it is asked once more, and only that counts: others on the machine
    /// may have been what held it up.
    async fn bears(&mut self, climber: &Climber, rate: u32) -> io::Result<bool> {
        let mut rung = self.rung(climber, rate).await?;
        if !rung.kept_up {
            rung = self.rung(climber, rate).await?;
        }
        let kept_up = rung.kept_up;
        self.report.latency_micros_by_rate.push(rung);
        Ok(kept_up)
    }

    async fn rung(&self, climber: &Climber, rate: u32) -> io::Result<Rung> {
        let length = self.plan.rung.max(Duration::from_secs(1) * self.plan.rung_requests / rate);
        let busy = machine::busy();
        let outcome = load::pace(&climber.target, rate, span(length)).await?;
        let load_share = (machine::busy() - busy) / outcome.took.as_secs_f64();
        let rung = told(climber.name, rate, &outcome, load_share);
        let [p50, p99] = [rung.p50, rung.p99].map(|micros| shown(float(micros), " µs"));
        let line = format!("{}: {rate}/s, p50 {p50}, p99 {p99}", rung.server);
        aside(&if rung.kept_up { line } else { line + ", not borne" });
        Ok(rung)
    }
}

fn told(server: &'static str, offered: u32, outcome: &Outcome, load_share: f64) -> Rung {
    let at = |quantile| outcome.latency.value_at_quantile(quantile);
    let kept_up = outcome.answered == outcome.due && outcome.rate() > KEPT_UP * f64::from(offered);
    Rung {
        server: server.to_owned(),
        offered,
        answered: outcome.rate(),
        kept_up,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        max: outcome.latency.max(),
        count: outcome.answered,
        load_share,
    }
}

/// To two digits.
fn rounded(rate: u32) -> u32 {
    let unit = 10_u32.pow(rate.checked_ilog10().unwrap_or_default().saturating_sub(1));
    rate / unit * unit
}
