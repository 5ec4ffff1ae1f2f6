//! This livehook against another one: their ratio says what a change is worth on a machine that is never quiet.

use std::io;

use super::{Bench, ratio};
use crate::child::{Handler, Program};
use crate::report::Bound;

impl Bench {
    pub(crate) async fn compare(&mut self) -> io::Result<()> {
        let Some(other) = self.against.clone().map(Program::Other) else {
            return Ok(());
        };
        for (name, handler) in [("accept alone", Handler::Idle), ("delivering to a file", Handler::File)] {
            let theirs = self.server(&other, "theirs", handler).await?;
            let ours = self.livehook("ours", handler).await?;
            let targets = (self.target(&theirs), self.target(&ours));
            let pairs = self.pairs((&theirs, &targets.0), (&ours, &targets.1)).await?;
            let (rates, note) = ratio(&pairs, |cost| cost.rate, 0);
            self.report.add(format!("this livehook / the other ({name})"), rates, "", Bound::None, note);
            self.costs(&pairs, ["the other", "this livehook"], &format!(" ({name})"));
            self.check(&ours, name).await?;
        }
        Ok(())
    }
}
