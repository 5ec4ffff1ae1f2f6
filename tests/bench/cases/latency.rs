//! Latency at two rates in units of a sync, and memory on the way.

use std::io;

use hdrhistogram::Histogram;

use super::{Bench, SETTLE, SLICE, WARM_UP, add, float, span, told};
use crate::child::Handler;
use crate::load::{self, Target};
use crate::machine;
use crate::report::Bound;

impl Bench {
    pub(crate) async fn latency(&mut self) -> io::Result<()> {
        let server = self.livehook("latency", Handler::Idle).await?;
        tokio::time::sleep(SETTLE).await;
        self.memory("memory idle", server.memory(), Bound::Less { must: 20.0, want: 10.0 });
        let target = self.target(&server);
        load::pace(&target, 1000, span(WARM_UP)).await?;
        let mut sync = load::histogram();
        let slow = self.paced(&target, 1000, &mut sync).await?;
        let fast = self.paced(&target, 5000, &mut sync).await?;
        self.memory("memory at 5,000/s", server.memory(), Bound::Less { must: 64.0, want: 32.0 });
        load::saturate(&target, span(self.plan.window)).await?;
        self.memory("memory at saturation", server.memory(), Bound::Less { must: 160.0, want: 96.0 });

        let unit = sync.value_at_quantile(0.99);
        let note = told(&sync);
        self.report.add("4 KiB append + fdatasync, p99", float(unit), " µs", Bound::None, note);
        for (rate, latency, must, want) in [("1,000/s", slow, 20.0, 8.0), ("5,000/s", fast, 40.0, 15.0)] {
            let p99 = latency.value_at_quantile(0.99);
            let ratio = float(p99) / float(unit.max(1));
            self.report.add(format!("answer at {rate}, p99"), float(p99), " µs", Bound::None, told(&latency));
            self.report.add(format!("answer at {rate}, p99 / sync p99"), ratio, "", Bound::Less { must, want }, "");
        }
        self.check(&server, "latency").await
    }

    /// Latency at a rate, in slices with syncs measured in between, so that both see the same times of the machine.
    async fn paced(&self, target: &Target, rate: u32, sync: &mut Histogram<u64>) -> io::Result<Histogram<u64>> {
        let mut latency = load::histogram();
        for _ in 0..self.plan.slices {
            add(sync, &machine::sync_latency(&self.dir, self.plan.sync)?);
            let outcome = load::pace(target, rate, span(SLICE)).await?;
            if outcome.answered < outcome.due {
                return Err(io::Error::other("requests at a rate that any server should bear had no answer"));
            }
            add(&mut latency, &outcome.latency);
        }
        Ok(latency)
    }
}
