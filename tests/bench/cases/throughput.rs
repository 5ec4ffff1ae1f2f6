//! Durable accept against a bare route, both saturated.

use std::io;

use super::{Bench, median, ratio};
use crate::child::{Handler, Server};
use crate::report::Bound;

impl Bench {
    pub(crate) async fn throughput(&mut self) -> io::Result<()> {
        let bare = Server::bare(&self.cores)?;
        let ours = self.livehook("throughput", Handler::Idle).await?;
        let targets = (self.target(&bare), self.target(&ours));
        let pairs = self.pairs((&bare, &targets.0), (&ours, &targets.1)).await?;
        self.report.tell("bare route", median(pairs.iter().map(|pair| pair.0.rate)), "/s");
        self.report.tell("durable accept", median(pairs.iter().map(|pair| pair.1.rate)), "/s");
        let (rates, note) = ratio(&pairs, |cost| cost.rate, 0);
        let bound = Bound::More { must: 0.15, want: 0.30 };
        self.report.add("durable accept / bare route", rates, "", bound, note);
        self.costs(&pairs, ["bare route", "durable accept"], "");
        self.weight(&ours, "without deliveries").await?;
        self.check(&ours, "throughput").await
    }
}
