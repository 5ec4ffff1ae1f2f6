//! The store held against a simple model of itself, and against its bounds.

mod catalogue;
mod fixture;
mod plans;
mod reach;
mod rollback;
mod strangers;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use self::fixture::{Fixture, On, on_both};
use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::event::{Event, Identity, Incoming, Verification};
use crate::signature::LegacyHeaders;

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const LANES: u64 = 3;
/// Nearly all tests deliver to the first.
const HANDLERS: [&str; 2] = ["rooms", "files"];

#[derive(Clone, Debug)]
enum Op {
    Append(Option<u64>),
    Claim(usize),
    Done(usize),
    Retry(usize),
    Dead(usize),
    PutBack(usize),
    Judge(usize, Verdict),
    Pause(bool),
    Replay(usize),
    Wait,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let any = || 0_usize..64;
    prop_oneof![
        4 => prop::option::weighted(0.85, 0..LANES).prop_map(Op::Append),
        4 => (1_usize..4).prop_map(Op::Claim),
        3 => any().prop_map(Op::Done),
        2 => any().prop_map(Op::Retry),
        1 => any().prop_map(Op::Dead),
        1 => any().prop_map(Op::PutBack),
        2 => (any(), prop_oneof![Just(Verdict::Retry), Just(Verdict::Drop)]).prop_map(|(i, v)| Op::Judge(i, v)),
        1 => prop::bool::ANY.prop_map(Op::Pause),
        2 => any().prop_map(Op::Replay),
        1 => Just(Op::Wait),
        1 => Just(Op::Reopen),
    ]
}

/// What the store must agree with: per event its lane, its state, when it is due, and its rank.
#[derive(Default)]
struct Model {
    deliveries: BTreeMap<u64, (Option<u64>, DeliveryState, Timestamp)>,
    ranks: BTreeMap<u64, u64>,
    next_rank: u64,
    renewed: Vec<u64>,
    paused: bool,
}

impl Model {
    /// Puts one behind all others.
    fn rank(&mut self, number: u64) {
        self.ranks.insert(number, self.next_rank);
        self.next_rank += 1;
    }

    fn set(&mut self, number: u64, state: DeliveryState, due: Timestamp) {
        let delivery = self.deliveries.get_mut(&number).unwrap();
        (delivery.1, delivery.2) = (state, due);
    }

    /// The pending deliveries that nothing older of their lane stands before, that are due, and whose lane is free.
    fn claimable(&self, in_hand: &[u64], now: Timestamp) -> Vec<u64> {
        if self.paused {
            return Vec::new();
        }
        let lane_of = |number: &u64| self.deliveries[number].0;
        let pending = self.deliveries.iter().filter(|(_, (_, state, _))| *state == DeliveryState::Pending);
        let first = |number: u64, lane: Option<u64>| {
            let pending = self.deliveries.iter().filter(|(_, (_, state, _))| *state == DeliveryState::Pending);
            let of_lane = pending.filter(|(_, (own, ..))| *own == lane).map(|(number, _)| *number);
            lane.is_none() || of_lane.min_by_key(|number| self.ranks[number]) == Some(number)
        };
        pending
            .filter(|(number, (lane, _, due))| {
                let busy = in_hand.iter().any(|held| held == *number || (lane.is_some() && lane_of(held) == *lane));
                first(**number, *lane) && *due <= now && !busy
            })
            .map(|(number, _)| *number)
            .collect()
    }
}

fn number_of(claim: &Claim) -> u64 {
    u64::try_from(claim.event.id.as_u128() - 1).unwrap()
}

fn play(on: On, ops: Vec<Op>) {
    let mut fixture = Fixture::new(on, |_| {});
    let mut model = Model::default();
    let mut held: Vec<Claim> = Vec::new();
    let mut next = 0;
    for op in ops {
        let now = fixture.clock.now();
        match op {
            Op::Append(lane) => {
                fixture.append(next, lane);
                model.deliveries.insert(next, (lane, DeliveryState::Pending, now));
                model.rank(next);
                next += 1;
            }
            Op::Claim(limit) => claim_and_compare(&fixture, &mut model, &mut held, limit),
            Op::Done(i) | Op::Retry(i) | Op::Dead(i) | Op::PutBack(i) if !held.is_empty() => {
                let claim = held.swap_remove(i % held.len());
                end(&fixture, &mut model, claim, &op);
            }
            Op::Judge(i, verdict) if next > 0 => judge(&fixture, &mut model, &held, i as u64 % next, verdict),
            Op::Replay(i) if next > 0 => replay(&fixture, &mut model, &held, i as u64 % next),
            Op::Pause(paused) => {
                fixture.pause(paused);
                model.paused = paused;
            }
            Op::Wait => fixture.clock.advance(Duration::from_mins(1)),
            Op::Reopen => {
                held.clear();
                model.renewed.clear();
                fixture = fixture.reopen();
            }
            _ => {}
        }
    }
    held.clear();
    fixture.pause(false);
    model.paused = false;
    drain(&fixture, &mut model);
}

fn claim_and_compare(fixture: &Fixture, model: &mut Model, held: &mut Vec<Claim>, limit: usize) {
    let in_hand: Vec<u64> = held.iter().map(number_of).collect();
    let mut expected = model.claimable(&in_hand, fixture.clock.now());
    expected.sort_by_key(|number| (model.deliveries[number].2, model.ranks[number]));
    expected.truncate(limit);
    let claims = fixture.claim(limit);
    assert_eq!(claims.iter().map(number_of).collect::<Vec<_>>(), expected);
    held.extend(claims);
}

fn end(fixture: &Fixture, model: &mut Model, claim: Claim, op: &Op) {
    let (number, now) = (number_of(&claim), fixture.clock.now());
    let (_, state, due) = model.deliveries[&number];
    let renewed = model.renewed.contains(&number);
    model.renewed.retain(|own| *own != number);
    let later = now.plus(Duration::from_secs(30));
    let error = String::new();
    let (settlement, becomes) = match op {
        Op::Done(_) => (Settlement::Done, (DeliveryState::Done, now)),
        Op::Retry(_) => (Settlement::Retry { due: later, error }, (DeliveryState::Pending, later)),
        Op::Dead(_) => (Settlement::Dead { error, exhausted: true }, (DeliveryState::Dead, now)),
        _ => return drop(claim),
    };
    fixture.settle(claim, settlement);
    if state == DeliveryState::Pending {
        let (state, due) =
            if renewed && becomes.0 != DeliveryState::Done { (DeliveryState::Pending, due) } else { becomes };
        model.set(number, state, due);
    }
}

fn judge(fixture: &Fixture, model: &mut Model, held: &[Claim], number: u64, verdict: Verdict) {
    let id = EventId::from_u128(u128::from(number) + 1);
    let decided = fixture.runtime.block_on(fixture.store.judge(id, "rooms".to_owned(), verdict)).unwrap();
    let (_, state, _) = model.deliveries[&number];
    if state == DeliveryState::Done {
        assert_eq!(decided, Decided::WasDone);
        return;
    }
    let becomes = if verdict == Verdict::Retry { DeliveryState::Pending } else { DeliveryState::Dropped };
    model.set(number, becomes, fixture.clock.now());
    if verdict == Verdict::Retry && held.iter().any(|claim| number_of(claim) == number) {
        model.renewed.push(number);
    }
    assert!(matches!(decided, Decided::Is(delivery) if delivery.state == becomes));
}

fn replay(fixture: &Fixture, model: &mut Model, held: &[Claim], number: u64) {
    let id = EventId::from_u128(u128::from(number) + 1);
    let wish = Wish { events: Wanted::These(vec![id]), ..Wish::default() };
    let owed = vec![Owed { handler: fixture.handler, ordered: true }];
    let queued = fixture.runtime.block_on(async {
        let row = fixture.store.event(id).await.unwrap().unwrap().row;
        let replay = fixture.store.begin_replay(wish, 1, row.seq).await.unwrap().unwrap().id;
        assert!(fixture.store.replay(replay, vec![(row, owed)]).await.unwrap());
        fixture.store.end_replay(replay, ReplayState::Done, None).await.unwrap().unwrap().queued
    });
    let (_, state, _) = model.deliveries[&number];
    assert_eq!(queued, u64::from(state != DeliveryState::Pending));
    if queued == 1 {
        model.set(number, DeliveryState::Pending, fixture.clock.now());
        model.rank(number);
        if held.iter().any(|claim| number_of(claim) == number) {
            model.renewed.push(number);
        }
    }
}

/// Nothing is lost: what is pending can be claimed and ended, lane by lane in order.
fn drain(fixture: &Fixture, model: &mut Model) {
    fixture.clock.advance(Duration::from_hours(1));
    let mut held = Vec::new();
    while model.deliveries.values().any(|(_, state, _)| *state == DeliveryState::Pending) {
        claim_and_compare(fixture, model, &mut held, 100);
        assert!(!held.is_empty(), "pending, and never handed out");
        for claim in held.drain(..) {
            end(fixture, model, claim, &Op::Done(0));
        }
    }
    let tally = fixture.store.tally();
    let dead = model.deliveries.values().filter(|(_, state, _)| *state == DeliveryState::Dead).count();
    assert_eq!((tally.pending["rooms"], tally.dead["rooms"]), (0, dead as u64), "the counts agree");
}

fn lanes_hand_out_the_oldest_one_at_a_time_and_lose_nothing(on: On) {
    proptest!(on.cases(32), |(ops in prop::collection::vec(op(), 1..60))| play(on, ops));
}

fn what_is_pending_or_dead_outlives_retention(on: On) {
    let fixture = Fixture::new(on, |settings| settings.retention = Duration::from_hours(1));
    for number in 0..4 {
        fixture.append(number, None);
    }
    let mut claims = fixture.claim(3);
    fixture.settle(claims.remove(0), Settlement::Done);
    fixture.settle(claims.remove(0), Settlement::Dead { error: String::new(), exhausted: false });
    assert_eq!(fixture.prune(), 0, "too young");
    fixture.clock.advance(Duration::from_secs(3601));
    assert_eq!((fixture.prune(), fixture.event_count()), (1, 3));
    fixture.settle(claims.remove(0), Settlement::Done);
    assert_eq!((fixture.prune(), fixture.event_count()), (1, 2));
}

fn a_copy_of_what_was_pruned_is_known_inside_the_window_and_new_after_it(on: On) {
    let fixture = Fixture::new(on, |settings| {
        settings.retention = Duration::from_mins(1);
        settings.dedup_window = Duration::from_hours(1);
    });
    fixture.append(1, None);
    fixture.settle(fixture.claim(1).remove(0), Settlement::Done);
    fixture.clock.advance(Duration::from_secs(61));
    assert_eq!((fixture.prune(), fixture.event_count()), (1, 0));
    assert_eq!(fixture.append(1, None), Appended::Duplicate(None));
    fixture.clock.advance(Duration::from_hours(1));
    fixture.prune();
    assert!(matches!(fixture.append(1, None), Appended::Stored { .. }));
}

fn a_store_that_is_too_large_forgets_the_oldest_that_nobody_waits_for(on: On) {
    let fixture = Fixture::new(on, |settings| settings.max_bytes = Some(1));
    for number in 0..3 {
        fixture.append(number, None);
    }
    fixture.settle(fixture.claim(1).remove(0), Settlement::Done);
    assert_eq!((fixture.prune(), fixture.event_count()), (1, 2), "what is owed stays, however large the store");
    assert_eq!(fixture.append(0, None), Appended::Duplicate(None));
}

fn what_was_refused_pushes_out_no_event(on: On) {
    let fixture = Fixture::new(on, |settings| settings.max_bytes = Some(1 << 20));
    fixture.append(1, None);
    fixture.settle(fixture.claim(1).remove(0), Settlement::Done);
    (0..300).for_each(|_| fixture.refuse(Reason::Token, 10_000));
    assert_eq!((fixture.prune(), fixture.event_count()), (0, 1));
}

fn half_of_the_queue_is_for_events_alone(on: On) {
    let fixture = Fixture::new(on, |settings| settings.queue_count = 10);
    fixture.append(1, None);
    let stranger = fixture.hold();
    let refused = |_| {
        let new = NewRefused {
            received_at: START,
            reason: Reason::Token,
            detail: String::new(),
            path: "/callbacks".to_owned(),
            body: Bytes::new(),
            bytes: 0,
            headers: LegacyHeaders::default(),
        };
        Box::pin(fixture.store.refuse(new))
    };
    let mut flood: Vec<_> = (0..20).map(refused).collect();
    fixture.runtime.block_on(async {
        let full = flood.iter_mut().filter_map(futures_util::FutureExt::now_or_never);
        assert_eq!(full.filter(|outcome| *outcome == Err(StoreError::Full)).count(), 15);
        let event = fixture.store.append(fixture.event(2, None));
        let (stored, ()) = tokio::join!(event, async { drop(stranger) });
        assert!(matches!(stored, Ok(Appended::Stored { .. })));
    });
}

fn copies_are_known_before_and_after_their_identity_is_filed(on: On) {
    let fixture = Fixture::new(on, |settings| settings.dedup_window = Duration::ZERO);
    // More than one run of identities: some filed, some being filed, some only in memory.
    let (some, all) = (0..6_000, 0..10_000);
    assert_eq!(fixture.append_all(some.clone()), 6_000);
    assert_eq!(fixture.append_all(some.clone()), 0);
    assert_eq!(fixture.append_all(all.clone()), 4_000);
    let fixture = fixture.reopen();
    assert_eq!(fixture.append_all(all.clone()), 0, "after a start they are read from the events");
    if on == On::Sqlite {
        let left = "SELECT count(*) FROM events WHERE seq >= (SELECT value FROM meta WHERE key = 'filed_before')";
        let left = fixture.number(left);
        assert!(left < 4096, "{left} events to read at the next start, however short this life");
    }
    while let Some(claim) = fixture.claim(1).pop() {
        if number_of(&claim) >= 10 {
            break;
        }
        fixture.settle(claim, Settlement::Done);
    }
    fixture.clock.advance(Duration::from_hours(40 * 24));
    assert_eq!(fixture.prune(), 10);
    assert_eq!(fixture.append_all(0..20), 10, "what was forgotten is new, what was not is known");
}

fn places_in_the_order_of_storing_are_never_given_twice(on: On) {
    let fixture = Fixture::new(on, |settings| settings.retention = Duration::ZERO);
    fixture.append(1, None);
    let before = fixture.runtime.block_on(fixture.store.events(EventFilter::default(), 1, None)).unwrap().items[0].seq;
    fixture.settle(fixture.claim(1).remove(0), Settlement::Done);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.prune(), 1);
    let fixture = fixture.reopen();
    fixture.append(2, None);
    let after = fixture.runtime.block_on(fixture.store.events(EventFilter::default(), 1, None)).unwrap().items[0].seq;
    assert!(after > before, "{after} after {before}");
}

fn quarantine_is_bounded_by_count_and_bytes_and_a_flood_pushes_out_itself(on: On) {
    let fixture = Fixture::new(on, |settings| {
        settings.quarantine = QuarantineSettings { max_count: 10, max_bytes: 10_000 };
    });
    (0..3).for_each(|_| fixture.refuse(Reason::Token, 10));
    (0..30).for_each(|_| fixture.refuse(Reason::Empty, 0));
    let count = |reason| fixture.store.tally().refused.get(&reason).copied().unwrap_or(0);
    assert_eq!((count(Reason::Token), count(Reason::Empty)), (3, 7));
    (0..5).for_each(|_| fixture.refuse(Reason::TooLarge, 4000));
    assert_eq!((count(Reason::Token), count(Reason::TooLarge)), (3, 2), "by bytes too");
    fixture.refuse(Reason::TooLarge, 20_000);
    assert_eq!(count(Reason::TooLarge), 0, "one that is larger than the bound cannot stay");
}

fn handlers_come_go_and_return_while_the_store_is_open(on: On) {
    let mut fixture = Fixture::new(on, |_| {});
    let rooms = fixture.handler;
    let become_for = |fixture: &Fixture, names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let settings = fixture.store.0.terms.load().settings.clone();
        fixture.runtime.block_on(fixture.store.reconfigure(settings, &names, Duration::from_secs(5))).unwrap();
    };
    fixture.append(1, Some(1));
    let bell = fixture.store.bell(rooms);
    become_for(&fixture, &["archive"]);
    let archive = fixture.store.handler("archive").unwrap();
    assert_eq!((fixture.store.handler("rooms"), archive == rooms), (None, false));
    fixture.handler = archive;
    fixture.append(2, Some(1));
    assert_eq!(fixture.store.tally().pending, BTreeMap::from([("archive".to_owned(), 1)]));
    assert_eq!(fixture.claim(10).len(), 1, "what arrived since, and only that");
    become_for(&fixture, &["archive", "rooms"]);
    assert_eq!(fixture.store.handler("rooms"), Some(rooms));
    assert!(Arc::ptr_eq(&bell, &fixture.store.bell(rooms)), "whoever still listens is rung");
    fixture.handler = rooms;
    assert_eq!(fixture.claim(10).len(), 1, "what it was owed");
}

fn other_bounds_hold_from_the_next_callback_on(on: On) {
    let fixture = Fixture::new(on, |_| {});
    let reconfigure = |change: fn(&mut Settings)| {
        let mut settings = fixture.store.0.terms.load().settings.clone();
        change(&mut settings);
        let names = ["rooms".to_owned()];
        fixture.runtime.block_on(fixture.store.reconfigure(settings, &names, Duration::from_secs(5))).unwrap();
    };
    for _ in 0..5 {
        fixture.refuse(Reason::Token, 10);
    }
    reconfigure(|settings| settings.quarantine.max_count = 2);
    fixture.refuse(Reason::Token, 10);
    assert_eq!(fixture.store.tally().refused, BTreeMap::from([(Reason::Token, 2)]));
    reconfigure(|settings| settings.queue_bytes = 100);
    let refused = fixture.runtime.block_on(fixture.store.append(fixture.event(1, None)));
    assert_eq!(refused, Err(StoreError::Full));
    reconfigure(|settings| (settings.queue_bytes, settings.retention) = (1 << 20, Duration::from_secs(1)));
    fixture.append(1, None);
    let claim = fixture.claim(1).pop().unwrap();
    fixture.settle(claim, Settlement::Done);
    fixture.clock.advance(Duration::from_secs(2));
    assert_eq!(fixture.prune(), 1);
}

/// Passes of the checkpoint thread alone leave what was committed meanwhile, so the log would never begin anew.
#[test]
fn the_log_stays_short_while_commits_go_on() {
    let fixture = Fixture::new(On::Sqlite, |_| {});
    let log = fixture.place.sqlite().unwrap().path().map(|path| format!("{path}-wal")).unwrap();
    let mut longest = 0;
    for number in 0..1000 {
        let mut new = fixture.event(number, None);
        Arc::get_mut(&mut new.event).unwrap().body = vec![b' '; 64 * 1024].into();
        fixture.runtime.block_on(fixture.store.append(new)).unwrap();
        longest = longest.max(std::fs::metadata(&log).unwrap().len());
    }
    assert!(longest < 32 << 20, "{longest} bytes");
}

on_both! {
    lanes_hand_out_the_oldest_one_at_a_time_and_lose_nothing,
    what_is_pending_or_dead_outlives_retention,
    a_copy_of_what_was_pruned_is_known_inside_the_window_and_new_after_it,
    a_store_that_is_too_large_forgets_the_oldest_that_nobody_waits_for,
    what_was_refused_pushes_out_no_event,
    half_of_the_queue_is_for_events_alone,
    copies_are_known_before_and_after_their_identity_is_filed,
    places_in_the_order_of_storing_are_never_given_twice,
    quarantine_is_bounded_by_count_and_bytes_and_a_flood_pushes_out_itself,
    handlers_come_go_and_return_while_the_store_is_open,
    other_bounds_hold_from_the_next_callback_on,
}
