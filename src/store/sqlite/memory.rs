//! What the writer keeps in memory about the store, and how a transaction changes it: only by committing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::super::model::{ClaimKey, HandlerId};
use super::identities::{self, Unfiled};
use crate::clock::Timestamp;
use crate::event::Reason;

/// True of the store as of the last commit.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Deliveries that were claimed and not settled, by their events.
    pub(super) in_hand: HashMap<HandlerId, HashMap<i64, InHand>>,
    /// Counts per handler and per reason.
    pub(super) tally: Tally,
    /// The place of the next event, and of the next replay, in the order of storing. Gaps do no harm.
    pub(super) next_seq: i64,
    /// Whether any identity outlives its event.
    pub(super) any_forgotten: bool,
    /// Identities that are not in their table yet.
    pub(super) unfiled: Unfiled,
}

/// A delivery that was claimed and not settled.
#[derive(Clone, Debug)]
pub(super) struct InHand {
    /// The lane nothing else is claimed of meanwhile.
    pub(super) lane: Option<i64>,
    /// Whether a person gave it a fresh allowance of attempts meanwhile.
    pub(super) renewed: bool,
    /// Tells whoever holds it that a person has dropped the delivery meanwhile.
    pub(super) called_off: Arc<AtomicBool>,
}

/// How much is pending, dead and refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Tally {
    pub(in crate::store) pending: BTreeMap<HandlerId, i64>,
    pub(in crate::store) dead: BTreeMap<HandlerId, i64>,
    /// Count and bytes.
    pub(in crate::store) refused: BTreeMap<Reason, (i64, i64)>,
}

/// A transaction under way: the connection, what memory says, and what will be different once it is committed.
pub(in crate::store) struct Tx<'a> {
    pub(super) db: &'a Connection,
    pub(super) memory: &'a mut Memory,
    pub(super) effects: Effects,
    pub(super) now: Timestamp,
    pub(super) bounds: super::super::QuarantineSettings,
}

/// What a commit changes outside the database.
#[derive(Clone, Debug, Default)]
pub(super) struct Effects {
    pub(super) tally: Tally,
    /// Handlers that have something to claim.
    pub(super) wake: BTreeSet<HandlerId>,
    /// Claims whose deliveries were given a fresh allowance.
    pub(super) renewed: Vec<ClaimKey>,
    /// Claims whose deliveries were dropped.
    pub(super) dropped: Vec<ClaimKey>,
    /// Claims that ended.
    pub(super) settled: Vec<ClaimKey>,
    pub(super) forgot: bool,
    pub(super) identities: identities::Changes,
}

impl Memory {
    pub(super) fn put_back(&mut self, key: ClaimKey) {
        if let Some(claims) = self.in_hand.get_mut(&key.handler) {
            claims.remove(&key.seq);
        }
    }

    /// Makes the effects of a committed transaction true.
    pub(super) fn apply(&mut self, effects: Effects) {
        self.tally.add(&effects.tally);
        self.unfiled.apply(effects.identities, self.next_seq);
        self.any_forgotten |= effects.forgot;
        for key in &effects.renewed {
            if let Some(claim) = self.in_hand.get_mut(&key.handler).and_then(|claims| claims.get_mut(&key.seq)) {
                claim.renewed = true;
            }
        }
        for key in &effects.dropped {
            if let Some(claim) = self.in_hand.get(&key.handler).and_then(|claims| claims.get(&key.seq)) {
                claim.called_off.store(true, Ordering::Relaxed);
            }
        }
        effects.settled.iter().for_each(|key| self.put_back(*key));
    }
}

impl Tally {
    pub(super) fn add(&mut self, change: &Self) {
        change.pending.iter().for_each(|(handler, n)| *self.pending.entry(*handler).or_default() += n);
        change.dead.iter().for_each(|(handler, n)| *self.dead.entry(*handler).or_default() += n);
        for (reason, (count, bytes)) in &change.refused {
            let sum = self.refused.entry(*reason).or_default();
            *sum = (sum.0 + count, sum.1 + bytes);
        }
    }
}

impl Tx<'_> {
    pub(super) fn next_seq(&mut self) -> i64 {
        let seq = self.memory.next_seq;
        self.memory.next_seq += 1;
        seq
    }

    /// Whether a person gave the delivery a fresh allowance while it was in hand.
    pub(super) fn is_renewed(&self, key: ClaimKey) -> bool {
        let claim = self.memory.in_hand.get(&key.handler).and_then(|claims| claims.get(&key.seq));
        self.effects.renewed.contains(&key) || claim.is_some_and(|claim| claim.renewed)
    }

    pub(super) fn pending(&mut self, handler: HandlerId, change: i64) {
        *self.effects.tally.pending.entry(handler).or_default() += change;
    }

    pub(super) fn dead(&mut self, handler: HandlerId, change: i64) {
        *self.effects.tally.dead.entry(handler).or_default() += change;
    }

    pub(super) fn refused(&mut self, reason: Reason, count: i64, bytes: i64) {
        let sum = self.effects.tally.refused.entry(reason).or_default();
        *sum = (sum.0 + count, sum.1 + bytes);
    }

    pub(super) fn wake(&mut self, handler: HandlerId) {
        self.effects.wake.insert(handler);
    }
}
