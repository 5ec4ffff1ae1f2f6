//! Throughput with many events stored, against an empty store.

use std::io;
use std::time::Duration;

use super::{Bench, ratio, span};
use crate::child::Handler;
use crate::load;
use crate::report::Bound;

/// One load of those that fill a store.
const FILL: Duration = Duration::from_secs(10);

impl Bench {
    pub(crate) async fn growth(&mut self) -> io::Result<()> {
        if self.stored == 0 {
            return Ok(());
        }
        let full = self.livehook("full", Handler::Idle)?;
        let target = self.target(&full);
        let mut stored = 0;
        while stored < self.stored {
            stored += load::saturate(&target, span(FILL)).await?.answered;
        }
        let empty = self.livehook("empty", Handler::Idle)?;
        let pairs = self.pairs((&empty, &self.target(&empty)), (&full, &target)).await?;
        let (rates, note) = ratio(&pairs, |cost| cost.rate, 0);
        let bound = Bound::More { must: 0.8, want: 0.95 };
        self.report.add(format!("accept with {stored} stored / empty"), rates, "", bound, note);
        self.costs(&pairs, ["empty", "full"], "");
        self.check(&full, "full").await
    }
}
