//! A second look at what was refused, with today's configuration.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::{Callback, Intake, Receipt, Ruling, Terms};
use crate::event::{Reason, Verification};
use crate::store::{QuarantineFilter, Quarantined, StoreError};

/// What came of a second look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readmitted {
    /// Callbacks that are events now, or copies of events.
    pub readmitted: u64,
    /// Callbacks that stay where they are.
    pub refused: u64,
}

/// Refused callbacks listed at once.
const PAGE: usize = 1000;
/// Second looks at the same time: enough to share a sync, and few enough to hold the largest bodies in memory.
const AT_ONCE: usize = 32;

impl Intake {
    /// Looks again at one refused callback; none if there is none of that id. `force` overlooks token and signature.
    /// The signature's time is judged as of receipt.
    pub async fn readmit(&self, id: i64, force: bool) -> Result<Option<Readmitted>, StoreError> {
        let Some((item, body)) = self.store.refused(id).await? else {
            return Ok(None);
        };
        let is_event = self.look_again(item, body, force).await?;
        Ok(Some(Readmitted { readmitted: u64::from(is_event), refused: u64::from(!is_event) }))
    }

    /// Looks again at all refused callbacks, or at those refused for one reason, those first that came first.
    pub async fn readmit_all(&self, reason: Option<Reason>, force: bool) -> Result<Readmitted, StoreError> {
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.store.quarantine(QuarantineFilter { reason }, PAGE, cursor.as_deref()).await?;
            ids.extend(page.items.iter().map(|item| item.id));
            cursor = page.next;
            if cursor.is_none() {
                ids.reverse();
                return self.readmit_these(ids, force).await;
            }
        }
    }

    /// Looks again at refused callbacks in this order, several at a time. Those that are gone meanwhile count as neither.
    ///
    /// Dropping the future ends it after those in hand, and the log says how far it came: what is left stays in
    /// quarantine.
    pub async fn readmit_these(&self, ids: Vec<i64>, force: bool) -> Result<Readmitted, StoreError> {
        let mut course = Course { left: ids.len(), sum: Readmitted::default() };
        for step in ids.chunks(AT_ONCE) {
            let found = try_join_all(step.iter().map(|id| self.store.refused(*id))).await?;
            // Queued for the store in this order; one sync is for all.
            let looks = found.into_iter().flatten().map(|(item, body)| self.look_again(item, body, force));
            course.note(step.len(), &try_join_all(looks).await?);
        }
        Ok(course.sum)
    }

    async fn look_again(&self, item: Quarantined, body: bytes::Bytes, force: bool) -> Result<bool, StoreError> {
        // What passed the token once is not asked for it again: the query was not kept.
        let barred = item.reason == Reason::Token && self.rules.load().signature.url_token.is_some();
        if item.truncated || (barred && !force) {
            return Ok(false);
        }
        let callback = Callback {
            received_at: item.received_at,
            path: item.path,
            route: None,
            token: None,
            headers: item.headers,
            body,
            excess: None,
        };
        match self.rule_on(&callback, Terms { token: false, force }) {
            Ruling::Refused(_) => Ok(false),
            Ruling::Event(mut admitted) => {
                admitted.new.readmitted = Some(item.id);
                if barred {
                    Arc::make_mut(&mut admitted.new.event).verification = Verification::Forced;
                }
                let receipt = self.keep_event(*admitted).await?;
                tracing::info!(quarantine_id = item.id, ?receipt, force, "callback readmitted");
                Ok(matches!(receipt, Receipt::Stored(_) | Receipt::Duplicate))
            }
        }
    }
}

/// How far second looks have come. Ended before the last, whether whoever asked hung up or the store failed, it says so.
struct Course {
    left: usize,
    sum: Readmitted,
}

impl Course {
    fn note(&mut self, looked_for: usize, are_events: &[bool]) {
        self.left -= looked_for;
        let readmitted = are_events.iter().filter(|is_event| **is_event).count();
        self.sum.readmitted += readmitted as u64;
        self.sum.refused += (are_events.len() - readmitted) as u64;
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        if self.left > 0 {
            let Readmitted { readmitted, refused } = self.sum;
            tracing::warn!(
                readmitted,
                refused,
                left = self.left,
                "readmission broken off; the rest stays in quarantine"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::log::tests::capture;

    #[test]
    fn what_is_broken_off_says_how_far_it_came_and_what_is_whole_says_nothing() {
        let (pipe, stderr, _capturing) = capture("info");
        let mut whole = Course { left: 2, sum: Readmitted::default() };
        whole.note(2, &[true]);
        drop(whole);
        let mut broken = Course { left: 5, sum: Readmitted::default() };
        broken.note(3, &[true, true, false]);
        drop(broken);
        assert!(stderr.flush(Duration::from_secs(20)));
        let lines = pipe.text();
        let line: serde_json::Value = serde_json::from_str(lines.trim_end()).unwrap();
        assert_eq!([&line["readmitted"], &line["refused"], &line["left"]], [2, 1, 2]);
    }
}
