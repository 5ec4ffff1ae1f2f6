//! What the writer keeps in memory about the store, and how a transaction changes it: only by committing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::super::counted::Counted;
use super::super::model::{ClaimKey, HandlerId};
use super::fresh::{self, Fresh, FreshDelivery, Which};
use super::handlers::{self, Standings};
use super::identities::{self, Unfiled};
use crate::clock::Timestamp;
use crate::event::Reason;

/// True of the store as of the last commit.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Deliveries that were claimed and not settled, by their events.
    pub(super) in_hand: HashMap<HandlerId, HashMap<i64, InHand>>,
    /// Counts per handler and per reason.
    pub(super) counted: Counted,
    /// Those of the pending that stand in the indexes.
    pub(super) shelved: BTreeMap<HandlerId, i64>,
    /// Who is paused, and how the latest attempts went.
    pub(super) handlers: Standings,
    /// The place of the next event, and of the next replay, in the order of storing. Gaps do no harm.
    pub(super) next_seq: i64,
    /// Whether any identity outlives its event.
    pub(super) any_forgotten: bool,
    /// Identities that are not in their table yet.
    pub(super) unfiled: Unfiled,
    /// Deliveries that stand in no index.
    pub(super) fresh: Fresh,
    /// Events before this place are catalogued.
    pub(super) catalogued_before: i64,
}

/// A delivery that was claimed and not settled.
#[derive(Clone, Debug)]
pub(super) struct InHand {
    /// The lane nothing else is claimed of meanwhile.
    pub(super) lane: Option<i64>,
    /// Whether a person gave it a fresh allowance of attempts meanwhile.
    pub(super) renewed: bool,
    /// Tells whoever holds it that a person has dropped the delivery, or paused its handler, meanwhile.
    pub(super) called_off: Arc<AtomicBool>,
    /// Where it goes back to if it is fresh.
    pub(super) fresh: Option<FreshDelivery>,
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
    pub(super) counted: Counted,
    pub(super) shelved: BTreeMap<HandlerId, i64>,
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
    pub(super) fresh: fresh::Changes,
    pub(super) handlers: handlers::Changes,
    pub(super) catalogued_before: Option<i64>,
    /// Copies of catalogued events, by kind.
    pub(super) copies: BTreeMap<String, i64>,
}

impl Memory {
    /// Takes back a claim whose attempt was not made.
    pub(super) fn put_back(&mut self, key: ClaimKey) {
        let claim = self.in_hand.get_mut(&key.handler).and_then(|claims| claims.remove(&key.seq));
        if let Some(fresh) = claim.and_then(|claim| claim.fresh) {
            self.fresh.put_back(key.handler, fresh);
        }
    }

    /// Whether nothing is to be handed out to a handler.
    pub(super) fn is_paused(&self, handler: HandlerId) -> bool {
        self.handlers.get(&handler).is_some_and(|standing| standing.paused)
    }

    /// Has attempts of a handler that have not begun go back.
    pub(super) fn call_off(&self, handler: HandlerId) {
        for claim in self.in_hand.get(&handler).into_iter().flat_map(HashMap::values) {
            claim.called_off.store(true, Ordering::Relaxed);
        }
    }

    /// Makes the effects of a transaction committed `now` true. Returns for whom there may be something.
    pub(super) fn apply(&mut self, effects: Effects, now: Timestamp) -> BTreeSet<HandlerId> {
        let Effects {
            counted,
            shelved,
            mut wake,
            renewed,
            dropped,
            settled,
            forgot,
            identities,
            fresh,
            handlers,
            catalogued_before,
            copies: _,
        } = effects;
        self.catalogued_before = catalogued_before.unwrap_or(self.catalogued_before);
        self.counted.add(&counted);
        for (handler, n) in shelved {
            *self.shelved.entry(handler).or_default() += n;
        }
        self.any_forgotten |= forgot;
        self.unfiled.apply(identities, self.next_seq);
        for (handler, which) in &fresh.shelved {
            self.shelve_in_hand(*handler, *which);
        }
        wake.extend(self.fresh.apply(fresh));
        handlers::apply(self, handlers, now);
        for key in &renewed {
            if let Some(claim) = self.in_hand.get_mut(&key.handler).and_then(|claims| claims.get_mut(&key.seq)) {
                claim.renewed = true;
            }
        }
        for key in &dropped {
            if let Some(claim) = self.in_hand.get(&key.handler).and_then(|claims| claims.get(&key.seq)) {
                claim.called_off.store(true, Ordering::Relaxed);
            }
        }
        for key in &settled {
            self.in_hand.get_mut(&key.handler).and_then(|claims| claims.remove(&key.seq));
        }
        wake
    }

    /// A claim whose delivery was shelved has no fresh place to go back to.
    fn shelve_in_hand(&mut self, handler: HandlerId, which: Which) {
        for seq in self.fresh.places_of(handler, which) {
            if let Some(claim) = self.in_hand.get_mut(&handler).and_then(|claims| claims.get_mut(&seq)) {
                claim.fresh = None;
            }
        }
    }
}

impl Tx<'_> {
    pub(super) fn next_seq(&mut self) -> i64 {
        let seq = self.memory.next_seq;
        self.memory.next_seq += 1;
        seq
    }

    /// Events before this place are catalogued, as far as this transaction has come.
    pub(super) fn catalogued_before(&self) -> i64 {
        self.effects.catalogued_before.unwrap_or(self.memory.catalogued_before)
    }

    /// Whether a person gave the delivery a fresh allowance while it was in hand.
    pub(super) fn is_renewed(&self, key: ClaimKey) -> bool {
        let claim = self.memory.in_hand.get(&key.handler).and_then(|claims| claims.get(&key.seq));
        self.effects.renewed.contains(&key) || claim.is_some_and(|claim| claim.renewed)
    }

    pub(super) fn pending(&mut self, handler: HandlerId, change: i64) {
        *self.effects.counted.pending.entry(handler).or_default() += change;
    }

    pub(super) fn shelved(&mut self, handler: HandlerId, change: i64) {
        *self.effects.shelved.entry(handler).or_default() += change;
    }

    /// Whether any pending delivery of a handler stands in the indexes.
    pub(super) fn any_shelved(&self, handler: HandlerId) -> bool {
        let of = |shelved: &BTreeMap<HandlerId, i64>| shelved.get(&handler).copied().unwrap_or(0);
        of(&self.memory.shelved) + of(&self.effects.shelved) > 0
    }

    pub(super) fn dead(&mut self, handler: HandlerId, change: i64) {
        *self.effects.counted.dead.entry(handler).or_default() += change;
    }

    pub(super) fn refused(&mut self, reason: Reason, count: i64, bytes: i64) {
        self.effects.counted.refuse(reason, count, bytes);
    }

    pub(super) fn wake(&mut self, handler: HandlerId) {
        self.effects.wake.insert(handler);
    }
}
