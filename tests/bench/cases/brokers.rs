//! What delivering costs with each type of handler: how fast it goes beside accepting and from a backlog, and the
//! processor time of livehook for it.

use std::io;
use std::time::{Duration, Instant};

use super::delivery::{DEPTH, DONE};
use super::{Bench, WARM_UP, median, ratio, span};
use crate::child::{Handler, Server};
use crate::load::{self, Target};
use crate::outlets::{Outlet, TYPES};
use crate::report::{Bound, aside};
use crate::sink::Sink;

/// All attempts, however they ended.
const ATTEMPTS: &str = r#"livehook_handler_attempts_total{handler="sink""#;

/// Deliveries while nothing arrives.
struct Emptying {
    /// Delivered a second.
    rate: f64,
    /// Seconds of processor time for 100,000 of them.
    busy: f64,
}

impl Bench {
    pub(crate) async fn brokers(&mut self) -> io::Result<()> {
        let sink = Sink::start()?;
        let mut skipped = Vec::new();
        for kind in TYPES {
            match self.cores.beside_server(Outlet::start(kind, &self.dir, &sink)).await? {
                Some(outlet) => self.broker(kind, &outlet).await?,
                None => skipped.push(kind),
            }
        }
        if !skipped.is_empty() {
            let fact = format!("{}: not built in, or no server installed", skipped.join(", "));
            aside(&format!("left out: {fact}"));
            self.report.fact("left out", fact);
        }
        Ok(())
    }

    async fn broker(&mut self, kind: &str, outlet: &Outlet) -> io::Result<()> {
        let alone = self.livehook("alone", Handler::Idle).await?;
        let server = self.livehook("delivering", Handler::Told(&outlet.settings)).await?;
        let targets = [&alone, &server].map(|server| self.target(server));
        let emptying = self.emptying(&server, &targets[1]).await?;
        self.report.tell(format!("{kind}: delivered while nothing arrives"), emptying.rate, "/s");
        self.report.tell(format!("{kind}: processor time of 100,000 deliveries"), emptying.busy, " s");
        load::saturate(&targets[0], span(WARM_UP)).await?;
        let (mut rates, mut delivered) = (Vec::new(), Vec::new());
        for _ in 0..self.plan.rounds.div_ceil(2) {
            let before = load::saturate(&targets[0], span(self.plan.window)).await?.rate();
            let done = server.metric(DONE).await?;
            let outcome = load::saturate(&targets[1], span(self.plan.window)).await?;
            delivered.push((server.metric(DONE).await? - done) / outcome.took.as_secs_f64());
            rates.push((before, outcome.rate()));
        }
        let (accept, note) = ratio(&rates, |rate| *rate, 0);
        self.report.add(format!("{kind}: accept delivering / alone"), accept, "", Bound::None, note);
        self.report.tell(format!("{kind}: delivered meanwhile"), median(delivered.into_iter()), "/s");
        let failed = server.metric(ATTEMPTS).await? - server.metric(DONE).await?;
        if failed > 0.0 {
            self.report.tell(format!("ATTEMPTS THAT FAILED ({kind})"), failed, "");
        }
        self.check(&server, kind).await
    }

    /// Has a backlog delivered, for as long as a load lasts at most.
    async fn emptying(&self, server: &Server, target: &Target) -> io::Result<Emptying> {
        server.post("/api/v1/handlers/sink/pause").await?;
        load::saturate(target, span(self.plan.window)).await?;
        let (done, busy) = (server.metric(DONE).await?, server.busy());
        let begun = Instant::now();
        server.post("/api/v1/handlers/sink/resume").await?;
        while begun.elapsed() < self.plan.window && server.metric(DEPTH).await? > 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (took, busy) = (begun.elapsed().as_secs_f64(), server.busy() - busy);
        let done = server.metric(DONE).await? - done;
        Ok(Emptying { rate: done / took, busy: busy * 100_000.0 / done.max(1.0) })
    }
}
