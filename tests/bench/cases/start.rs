//! From starting the process to the first durable answer, and what a kill costs.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Bench, float, median};
use crate::child::{Handler, Server};
use crate::event;
use crate::load::{self, Span};
use crate::report::Bound;

/// A load that is to be cut off by a kill would end by itself so much later.
const CUT_OFF: Duration = Duration::from_secs(8);

impl Bench {
    pub(crate) async fn start(&mut self) -> io::Result<()> {
        let mut empty = Vec::new();
        for number in 0..self.plan.starts {
            let name = format!("empty-{number}");
            self.stores.clear(&self.dir, &name).await?;
            empty.push(self.first_answer(&name).await?.0);
        }
        let bound = Bound::Less { must: 100.0, want: 25.0 };
        self.report.add("start to first durable 200, empty", median(empty.into_iter()), " ms", bound, "");
        let (mut after, mut lost, mut acknowledged) = (Vec::new(), 0, 0);
        for number in 0..self.plan.kills {
            let name = format!("killed-{number}");
            let sent = self.killed(&name).await?;
            let (took, server) = self.first_answer(&name).await?;
            after.push(took);
            acknowledged += sent.len();
            let stored = stored(&server).await?;
            lost += sent.iter().filter(|number| !stored.contains(&event::sequence(**number))).count();
        }
        let bound = Bound::Less { must: 1000.0, want: 250.0 };
        self.report.add("start to first durable 200, killed", median(after.into_iter()), " ms", bound, "");
        let note = format!("{acknowledged} acknowledged, {} kills", self.plan.kills);
        let bound = Bound::Less { must: 0.0, want: 0.0 };
        self.report.add("acknowledged events lost", float(lost as u64), "", bound, note);
        Ok(())
    }

    /// Starts a server in `name` and returns how many milliseconds its first answer took.
    pub(super) async fn first_answer(&self, name: &str) -> io::Result<(f64, Server)> {
        let begun = Instant::now();
        let server = self.again(name)?;
        load::once(&self.target(&server)).await?;
        Ok((begun.elapsed().as_secs_f64() * 1000.0, server))
    }

    /// Kills a server under load. Returns the events it had acknowledged.
    async fn killed(&self, name: &str) -> io::Result<Vec<u64>> {
        let server = self.livehook(name, Handler::Idle).await?;
        let target = self.target(&server);
        let window = self.plan.window / 2;
        let kill = async {
            tokio::time::sleep(window).await;
            server.kill()
        };
        let noted = Span { length: window + CUT_OFF, note: true };
        let (outcome, killed) = tokio::join!(load::saturate(&target, noted), kill);
        killed?;
        Ok(outcome?.acknowledged)
    }
}

/// The sequences of all events a server lists.
async fn stored(server: &Server) -> io::Result<HashSet<u64>> {
    let mut sequences = HashSet::new();
    let mut path = "/api/v1/events?limit=1000".to_owned();
    loop {
        let page: Value = serde_json::from_str(&server.get(&path).await?.0)?;
        let events = page["events"].as_array().into_iter().flatten();
        sequences.extend(events.filter_map(|event| event["sequence"].as_str()?.parse::<u64>().ok()));
        let Some(next) = page["next"].as_str() else {
            return Ok(sequences);
        };
        path = format!("/api/v1/events?limit=1000&cursor={next}");
    }
}
