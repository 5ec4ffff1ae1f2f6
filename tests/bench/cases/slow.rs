//! A disk whose syncs take long, as one in a network: all who wait share a sync, so that throughput lasts.

use std::io;

use super::{Bench, WARM_UP, float, span};
use crate::child::{Handler, Program};
use crate::load::{self, Target};
use crate::numbers::shown;
use crate::report::Bound;

/// Callers at the same time. A few would be what limits the rate: none sends its next before its answer.
const CALLERS: usize = 1024;
/// The rate at which latency is measured.
const RATE: u32 = 1000;

impl Bench {
    pub(crate) async fn slow(&mut self) -> io::Result<()> {
        let mut usual = None;
        for millis in self.plan.syncs {
            let server = self.server(&Program::Slow(*millis), &format!("slow-{millis}"), Handler::Idle).await?;
            let few = self.target(&server);
            let many = Target { connections: CALLERS, ..self.target(&server) };
            load::saturate(&many, span(WARM_UP)).await?;
            let few = load::saturate(&few, span(self.plan.window)).await?.rate();
            let all = load::saturate(&many, span(self.plan.window)).await?.rate();
            let paced = load::pace(&many, RATE, span(self.plan.window)).await?.latency;
            let usual = *usual.get_or_insert(all);
            let at = |quantile| shown(float(paced.value_at_quantile(quantile)), " µs");
            let note = format!(
                "{:.2} of that without; 64 callers {few:.0}/s; at {RATE}/s p50 {}, p99 {}",
                all / usual,
                at(0.5),
                at(0.99),
            );
            let what = format!("accept of 1,024 callers, syncs take {millis} ms more");
            self.report.add(what, all, "/s", Bound::None, note);
            self.check(&server, &format!("syncs of {millis} ms")).await?;
        }
        Ok(())
    }
}
