//! How many events there are of each kind: in all, in each minute, in each hour.

use std::collections::BTreeMap;

use super::Entry;
use crate::clock::Timestamp;

/// Seconds of the steps that are counted apart.
const STEPS: [i64; 2] = [MINUTE, HOUR];
pub(in crate::store) const MINUTE: i64 = 60;
pub(in crate::store) const HOUR: i64 = 3600;

/// What some events change.
#[derive(Default)]
pub(in crate::store) struct Change<'a> {
    pub(in crate::store) kinds: BTreeMap<&'a str, KindChange>,
    /// By length of the step, its number and kind.
    pub(in crate::store) steps: BTreeMap<(i64, i64, &'a str), i64>,
}

/// What some events change of their kind.
#[derive(Default)]
pub(in crate::store) struct KindChange {
    pub(in crate::store) count: i64,
    pub(in crate::store) duplicates: i64,
    /// The latest, in milliseconds since 1970.
    pub(in crate::store) last_event_at: Option<i64>,
    pub(in crate::store) last_received_at: Option<i64>,
}

impl<'a> Change<'a> {
    /// Sums them up.
    pub(in crate::store) fn of(entries: &'a [Entry]) -> Self {
        let mut change = Self::default();
        for Entry { row, kind, .. } in entries {
            let (kind, received_at) = (kind.as_ref(), row.received_at);
            let sum = change.kinds.entry(kind).or_default();
            sum.count += 1;
            sum.duplicates += i64::try_from(row.duplicates).unwrap_or(i64::MAX);
            sum.last_event_at = sum.last_event_at.max(row.facts.occurred_at.map(Timestamp::millis));
            sum.last_received_at = sum.last_received_at.max(Some(received_at.millis()));
            for step in STEPS {
                *change.steps.entry((step, received_at.secs().div_euclid(step), kind)).or_default() += 1;
            }
        }
        change
    }
}
