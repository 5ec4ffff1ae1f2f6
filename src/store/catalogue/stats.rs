//! Statistics as they are put together.

use crate::clock::Timestamp;
use crate::event::Kind;
use crate::store::model::{KindStats, Stats, Timeline};

/// Events that are counted one by one. There are more of them only under a flood, and after a new format.
pub(in crate::store) const UNCATALOGUED_MAX: i64 = 20_000;

/// An event that is in no sum yet.
pub(in crate::store) struct Single {
    pub(in crate::store) kind: Kind,
    pub(in crate::store) occurred_at: Option<Timestamp>,
    pub(in crate::store) received_at: Timestamp,
    pub(in crate::store) duplicates: u64,
}

/// A slug this version does not know was written by a newer one.
pub(in crate::store) fn kind(slug: &str) -> Kind {
    slug.parse().unwrap_or(Kind::Unknown)
}

impl Stats {
    /// Of nothing, with steps of which the last one holds `now`.
    pub(in crate::store) fn empty(now: Timestamp, step: i64, steps: usize) -> Self {
        let last = now.secs().div_euclid(step);
        let from = last - i64::try_from(steps).unwrap_or(0) + 1;
        let counts = || Kind::all().map(|kind| (kind, vec![0; steps])).collect();
        Self {
            at: now,
            kinds: Kind::all().map(|kind| (kind, KindStats::default())).collect(),
            timeline: Timeline { from: Timestamp::from_secs(from * step), step_seconds: step, kinds: counts() },
            oldest_received_at: None,
        }
    }

    /// Counts one more event.
    pub(in crate::store) fn add(&mut self, single: &Single) {
        let received_at = single.received_at;
        let sum = self.kinds.entry(single.kind).or_default();
        sum.count += 1;
        sum.duplicates += single.duplicates;
        sum.last_event_at = sum.last_event_at.max(single.occurred_at);
        sum.last_received_at = sum.last_received_at.max(Some(received_at));
        self.oldest_received_at = Some(self.oldest_received_at.map_or(received_at, |oldest| oldest.min(received_at)));
        self.timeline.add(single.kind, received_at, 1);
    }
}

impl Timeline {
    /// The end of the last step.
    pub(in crate::store) fn end(&self) -> Timestamp {
        let steps = self.kinds.values().next().map_or(0, Vec::len);
        Timestamp::from_secs(self.from.secs() + self.step_seconds * i64::try_from(steps).unwrap_or(0))
    }

    /// Counts events of a moment, if that is in one of the steps.
    pub(in crate::store) fn add(&mut self, kind: Kind, moment: Timestamp, count: u64) {
        let at = (moment.secs() - self.from.secs()).div_euclid(self.step_seconds);
        let step = self.kinds.get_mut(&kind).and_then(|steps| steps.get_mut(usize::try_from(at).ok()?));
        if let Some(step) = step {
            *step += count;
        }
    }
}
