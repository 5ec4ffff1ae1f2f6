//! How much there is, by handlers' numbers and reasons: kept by counting along, since asking would take looking at all of it.

use std::collections::BTreeMap;

use super::model::HandlerId;
use crate::event::Reason;

/// How much is pending, dead, refused and live; also a change of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) pending: BTreeMap<HandlerId, i64>,
    pub(super) dead: BTreeMap<HandlerId, i64>,
    pub(super) streams_live: i64,
    /// Count and bytes.
    pub(super) refused: BTreeMap<Reason, (i64, i64)>,
}

/// What a refused callback takes in the database beside its body: its row, its indexes, the rest of a page.
const REFUSED_OVERHEAD: i64 = 2048;

impl Counted {
    pub(super) fn add(&mut self, change: &Self) {
        change.pending.iter().for_each(|(handler, n)| *self.pending.entry(*handler).or_default() += n);
        change.dead.iter().for_each(|(handler, n)| *self.dead.entry(*handler).or_default() += n);
        self.streams_live += change.streams_live;
        change.refused.iter().for_each(|(reason, (count, bytes))| self.refuse(*reason, *count, *bytes));
    }

    pub(super) fn refuse(&mut self, reason: Reason, count: i64, bytes: i64) {
        let sum = self.refused.entry(reason).or_default();
        *sum = (sum.0 + count, sum.1 + bytes);
    }

    /// What refused callbacks take, about. They have bounds of their own, and strangers decide how many there are: they push
    /// out no event.
    pub(super) fn refused_bytes_taken(&self) -> u64 {
        let bytes: i64 = self.refused.values().map(|(count, bytes)| bytes + count * REFUSED_OVERHEAD).sum();
        u64::try_from(bytes).unwrap_or(0)
    }
}
