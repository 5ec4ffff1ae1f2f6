//! Deliveries that are all but made: pending rows that stand in no index, because they are expected to end at once.
//!
//! Where nothing is behind, an event is claimed and delivered within moments of being stored. Entering it in the indexes
//! only to take it out again would cost more than storing it. So its rows are written as `FRESH`, and their places are
//! kept here, in order. Whatever does not end at its first attempt, or falls behind, or is decided by a person, is
//! *shelved*: from then on the indexes keep it. After a crash everything fresh is shelved.
//!
//! In a lane fresh deliveries are older than shelved ones, none of which is `READY` then.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::super::model::{ClaimKey, HandlerId};
use crate::clock::Timestamp;
use crate::event::Event;

/// Deliveries kept here; what comes above is shelved at once. In tests a few, so that short ones go there and back.
const COUNT_MAX: usize = if cfg!(test) { 3 } else { 4096 };
/// Bytes of their bodies.
const BYTES_MAX: usize = 8 << 20;
/// How far behind the newest event a delivery stays fresh: the rows from there on are looked at after a crash.
const SPAN_MAX: i64 = if cfg!(test) { 12 } else { 16_384 };

/// The fresh deliveries of all handlers, as of the last commit.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    handlers: HashMap<HandlerId, Waiting>,
    /// Where they are, oldest first.
    places: BTreeMap<(i64, HandlerId), Place>,
    bytes: usize,
    /// What is written down of where the oldest is: none is before this place.
    pub(super) noted_from: i64,
}

/// What is known of a place.
#[derive(Clone, Copy, Debug)]
struct Place {
    lane: Option<i64>,
    due: Timestamp,
    bytes: usize,
}

/// What waits for one handler.
#[derive(Debug, Default)]
struct Waiting {
    /// Those nothing stands before, by due time and place.
    ready: BTreeMap<(Timestamp, i64), FreshDelivery>,
    lanes: HashMap<i64, Lane>,
}

/// The fresh deliveries of a lane. The first is ready or in hand.
#[derive(Debug)]
struct Lane {
    first: i64,
    behind: VecDeque<FreshDelivery>,
}

/// A delivery with its event, so that it need not be read again.
#[derive(Clone, Debug)]
pub(super) struct FreshDelivery {
    pub(super) seq: i64,
    pub(super) lane: Option<i64>,
    pub(super) due: Timestamp,
    pub(super) event: Arc<Event>,
}

/// Which fresh deliveries are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// All of a lane.
    Lane(i64),
    /// The one at this place, which is in no lane.
    Single(i64),
}

/// What a transaction changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) added: Vec<(HandlerId, FreshDelivery)>,
    /// Made, and recorded.
    pub(super) ended: Vec<(ClaimKey, Option<i64>)>,
    pub(super) shelved: Vec<(HandlerId, Which)>,
    /// How many more a lane has than before the transaction; they are fewer where negative.
    pub(super) more_in_lane: HashMap<(HandlerId, i64), i64>,
    pub(super) noted_from: Option<i64>,
}

impl Which {
    /// Those that a decision about this one concerns.
    pub(super) fn of(lane: Option<i64>, seq: i64) -> Self {
        lane.map_or(Self::Single(seq), Self::Lane)
    }
}

impl Fresh {
    pub(super) fn new(noted_from: i64) -> Self {
        Self { noted_from, ..Self::default() }
    }

    /// Whether there is room for one more, with these changes.
    pub(super) fn has_room(&self, changes: &Changes, bytes: usize) -> bool {
        let added: usize = changes.added.iter().map(|(_, one)| one.event.body.len()).sum();
        self.places.len() + changes.added.len() < COUNT_MAX && self.bytes + added + bytes <= BYTES_MAX
    }

    /// How many there are in a lane.
    pub(super) fn in_lane(&self, handler: HandlerId, lane: i64) -> usize {
        self.lane(handler, lane).map_or(0, |lane| 1 + lane.behind.len())
    }

    /// Their places, oldest first.
    pub(super) fn places_of(&self, handler: HandlerId, which: Which) -> Vec<i64> {
        match which {
            Which::Single(seq) => self.places.contains_key(&(seq, handler)).then_some(seq).into_iter().collect(),
            Which::Lane(lane) => {
                let lane = self.lane(handler, lane).into_iter();
                lane.flat_map(|lane| [lane.first].into_iter().chain(lane.behind.iter().map(|one| one.seq))).collect()
            }
        }
    }

    /// The place of the oldest.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.places.keys().next().map(|(seq, _)| *seq)
    }

    /// Those that have fallen far behind `next_seq`.
    pub(super) fn stragglers(&self, next_seq: i64) -> impl Iterator<Item = (HandlerId, Which)> {
        let far = self.places.range(..(next_seq.saturating_sub(SPAN_MAX), HandlerId(i64::MIN)));
        far.map(|((seq, handler), place)| (*handler, Which::of(place.lane, *seq)))
    }

    /// Those nothing stands before, oldest first.
    pub(super) fn ready(&self, handler: HandlerId) -> impl Iterator<Item = &FreshDelivery> {
        self.handlers.get(&handler).into_iter().flat_map(|waiting| waiting.ready.values())
    }

    /// Takes one into hand.
    pub(super) fn take(&mut self, handler: HandlerId, one: &FreshDelivery) {
        if let Some(waiting) = self.handlers.get_mut(&handler) {
            waiting.ready.remove(&(one.due, one.seq));
        }
    }

    /// Takes one back that was in hand.
    pub(super) fn put_back(&mut self, handler: HandlerId, one: FreshDelivery) {
        self.handlers.entry(handler).or_default().ready.insert((one.due, one.seq), one);
    }

    /// Makes the changes of a committed transaction true. Returns for whom something has become ready.
    pub(super) fn apply(&mut self, changes: Changes) -> Vec<HandlerId> {
        let mut ready = Vec::new();
        for (key, lane) in changes.ended {
            self.end(key, lane);
            ready.push(key.handler);
        }
        for (handler, which) in changes.shelved {
            self.shelve(handler, which);
        }
        for (handler, one) in changes.added {
            self.add(handler, one);
            ready.push(handler);
        }
        self.noted_from = changes.noted_from.unwrap_or(self.noted_from);
        ready
    }

    fn add(&mut self, handler: HandlerId, one: FreshDelivery) {
        let place = Place { lane: one.lane, due: one.due, bytes: one.event.body.len() };
        self.places.insert((one.seq, handler), place);
        self.bytes += place.bytes;
        let waiting = self.handlers.entry(handler).or_default();
        if let Some(lane) = one.lane.and_then(|lane| waiting.lanes.get_mut(&lane)) {
            lane.behind.push_back(one);
            return;
        }
        let lane = one.lane.map(|lane| (lane, Lane { first: one.seq, behind: VecDeque::new() }));
        waiting.lanes.extend(lane);
        waiting.ready.insert((one.due, one.seq), one);
    }

    /// One that was in hand is made: the next of its lane comes first.
    fn end(&mut self, key: ClaimKey, lane: Option<i64>) {
        self.leave(key.handler, key.seq);
        let waiting = self.handlers.entry(key.handler).or_default();
        let Some(own) = lane.and_then(|lane| waiting.lanes.get_mut(&lane)) else {
            return;
        };
        match own.behind.pop_front() {
            Some(next) => {
                own.first = next.seq;
                waiting.ready.insert((next.due, next.seq), next);
            }
            None => {
                lane.and_then(|lane| waiting.lanes.remove(&lane));
            }
        }
    }

    fn shelve(&mut self, handler: HandlerId, which: Which) {
        let gone = self.places_of(handler, which);
        if let (Which::Lane(lane), Some(waiting)) = (which, self.handlers.get_mut(&handler)) {
            waiting.lanes.remove(&lane);
        }
        for seq in gone {
            let due = self.leave(handler, seq).map(|place| place.due);
            if let (Some(due), Some(waiting)) = (due, self.handlers.get_mut(&handler)) {
                waiting.ready.remove(&(due, seq));
            }
        }
    }

    fn leave(&mut self, handler: HandlerId, seq: i64) -> Option<Place> {
        let place = self.places.remove(&(seq, handler))?;
        self.bytes -= place.bytes;
        Some(place)
    }

    fn lane(&self, handler: HandlerId, lane: i64) -> Option<&Lane> {
        self.handlers.get(&handler)?.lanes.get(&lane)
    }
}
