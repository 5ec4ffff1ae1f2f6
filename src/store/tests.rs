//! The store held against a simple model of itself, and against its bounds.

mod catalogue;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::event::{Event, Identity, Incoming, Verification};
use crate::signature::LegacyHeaders;

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const LANES: u64 = 3;
/// Nearly all tests deliver to the first.
const HANDLERS: [&str; 2] = ["rooms", "files"];

struct Fixture {
    store: Store,
    clock: ManualClock,
    handler: HandlerId,
    runtime: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings =
            Settings { url: format!("sqlite:{}", directory.path().join("s.db").display()), ..Settings::default() };
        change(&mut settings);
        let clock = ManualClock::new(START);
        let handlers = HANDLERS.map(str::to_owned);
        let store = Store::open(settings, &handlers, Duration::from_secs(5), Arc::new(clock.clone())).unwrap();
        let handler = store.handler("rooms").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { store, clock, handler, runtime, directory }
    }

    fn event(&self, number: u64, lane: Option<u64>) -> NewEvent {
        let stream = lane.map_or_else(String::new, |lane| format!(r#","stream_id":"s{lane}""#));
        let body = format!(r#"{{"event_type":1,"n":{number}{stream}}}"#);
        let incoming = Incoming::read(body.as_bytes()).unwrap();
        let facts = incoming.facts();
        let identity = Identity::of(incoming.body(), facts.occurred_at, None);
        let event = Event {
            id: EventId::from_u128(u128::from(number) + 1),
            facts,
            received_at: self.clock.now(),
            verification: Verification::Unsigned,
            body: Bytes::from(body.clone()),
        };
        let owed = vec![Owed { handler: self.handler, ordered: true }];
        NewEvent { event: Arc::new(event), identity, drift: Vec::new(), owed, readmitted: None }
    }

    fn append(&self, number: u64, lane: Option<u64>) -> Appended {
        self.runtime.block_on(self.store.append(self.event(number, lane))).unwrap()
    }

    fn claim(&self, limit: usize) -> Vec<Claim> {
        self.runtime.block_on(self.store.claim(self.handler, limit)).claims
    }

    fn pause(&self, paused: bool) {
        assert!(self.runtime.block_on(self.store.pause("rooms".to_owned(), paused)).unwrap());
    }

    fn settle(&self, claim: Claim, settlement: Settlement) {
        self.runtime.block_on(self.store.settle(claim, settlement)).unwrap();
    }

    fn refuse(&self, reason: Reason, bytes: usize) {
        let new = NewRefused {
            received_at: self.clock.now(),
            reason,
            detail: String::new(),
            path: "/callbacks".to_owned(),
            body: Bytes::from(vec![b'x'; bytes]),
            bytes: bytes as u64,
            headers: LegacyHeaders::default(),
        };
        self.runtime.block_on(self.store.refuse(new)).unwrap();
    }

    fn event_count(&self) -> usize {
        self.runtime.block_on(self.store.events(EventFilter::default(), 10_000, None)).unwrap().items.len()
    }

    fn prune(&self) -> u64 {
        self.runtime.block_on(self.store.prune()).unwrap()
    }

    /// Appends all of them at once, so that they share transactions. Returns how many were new.
    fn append_all(&self, numbers: std::ops::Range<u64>) -> usize {
        let all = numbers.map(|number| self.store.append(self.event(number, None)));
        let appended = self.runtime.block_on(futures_util::future::join_all(all));
        appended.into_iter().filter(|one| matches!(one, Ok(Appended::Stored { .. }))).count()
    }

    /// Closes the store and opens it again.
    fn reopen(self) -> Self {
        let Self { store, clock, handler, runtime, directory } = self;
        runtime.block_on(store.close(Duration::from_secs(20)));
        let settings = store.0.terms.load().settings.clone();
        drop(store);
        let handlers = HANDLERS.map(str::to_owned);
        let store = Store::open(settings, &handlers, Duration::from_secs(5), Arc::new(clock.clone())).unwrap();
        Self { store, clock, handler, runtime, directory }
    }
}

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

fn play(ops: Vec<Op>) {
    let mut fixture = Fixture::new(|_| {});
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn lanes_hand_out_the_oldest_one_at_a_time_and_lose_nothing(ops in prop::collection::vec(op(), 1..60)) {
        play(ops);
    }
}

#[test]
fn what_is_pending_or_dead_outlives_retention() {
    let fixture = Fixture::new(|settings| settings.retention = Duration::from_hours(1));
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

#[test]
fn a_copy_of_what_was_pruned_is_known_inside_the_window_and_new_after_it() {
    let fixture = Fixture::new(|settings| {
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

#[test]
fn a_store_that_is_too_large_forgets_the_oldest_that_nobody_waits_for() {
    let fixture = Fixture::new(|settings| settings.max_bytes = Some(1));
    for number in 0..3 {
        fixture.append(number, None);
    }
    fixture.settle(fixture.claim(1).remove(0), Settlement::Done);
    assert_eq!((fixture.prune(), fixture.event_count()), (1, 2), "what is owed stays, however large the store");
    assert_eq!(fixture.append(0, None), Appended::Duplicate(None));
}

#[test]
fn what_was_refused_pushes_out_no_event() {
    let fixture = Fixture::new(|settings| settings.max_bytes = Some(1 << 20));
    fixture.append(1, None);
    fixture.settle(fixture.claim(1).remove(0), Settlement::Done);
    (0..300).for_each(|_| fixture.refuse(Reason::Token, 10_000));
    assert_eq!((fixture.prune(), fixture.event_count()), (0, 1));
}

#[test]
fn half_of_the_queue_is_for_events_alone() {
    let fixture = Fixture::new(|settings| settings.queue_count = 10);
    fixture.append(1, None);
    let stranger = rusqlite::Connection::open(fixture.directory.path().join("s.db")).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
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
        let (stored, ()) = tokio::join!(event, async { stranger.execute_batch("ROLLBACK").unwrap() });
        assert!(matches!(stored, Ok(Appended::Stored { .. })));
    });
}

#[test]
fn copies_are_known_before_and_after_their_identity_is_filed() {
    let fixture = Fixture::new(|settings| settings.dedup_window = Duration::ZERO);
    // More than one run of identities: some filed, some being filed, some only in memory.
    let (some, all) = (0..6_000, 0..10_000);
    assert_eq!(fixture.append_all(some.clone()), 6_000);
    assert_eq!(fixture.append_all(some.clone()), 0);
    assert_eq!(fixture.append_all(all.clone()), 4_000);
    let fixture = fixture.reopen();
    assert_eq!(fixture.append_all(all.clone()), 0, "after a start they are read from the events");
    let left = "SELECT count(*) FROM events WHERE seq >= (SELECT value FROM meta WHERE key = 'filed_before')";
    let database = rusqlite::Connection::open(fixture.directory.path().join("s.db")).unwrap();
    let left: i64 = database.query_row(left, [], |row| row.get(0)).unwrap();
    assert!(left < 4096, "{left} events to read at the next start, however short this life");

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

#[test]
fn places_in_the_order_of_storing_are_never_given_twice() {
    let fixture = Fixture::new(|settings| settings.retention = Duration::ZERO);
    fixture.append(1, None);
    let before = fixture.runtime.block_on(fixture.store.events(EventFilter::default(), 1, None)).unwrap().items[0].seq;
    fixture.settle(fixture.claim(1).remove(0), Settlement::Done);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.prune(), 1);
    let Fixture { store, clock, runtime, directory, .. } = fixture;
    let settings = store.0.terms.load().settings.clone();
    runtime.block_on(store.close(Duration::from_secs(5)));
    drop(store);
    let store =
        Store::open(settings, &HANDLERS.map(str::to_owned), Duration::from_secs(5), Arc::new(clock.clone())).unwrap();
    let handler = store.handler("rooms").unwrap();
    let fixture = Fixture { store, clock, handler, runtime, directory };
    fixture.append(2, None);
    let after = fixture.runtime.block_on(fixture.store.events(EventFilter::default(), 1, None)).unwrap().items[0].seq;
    assert!(after > before, "{after} after {before}");
}

#[test]
fn quarantine_is_bounded_by_count_and_bytes_and_a_flood_pushes_out_itself() {
    let fixture = Fixture::new(|settings| {
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

#[test]
fn claims_and_lanes_are_answered_by_partial_indexes() {
    let fixture = Fixture::new(|_| {});
    let db = rusqlite::Connection::open(fixture.directory.path().join("s.db")).unwrap();
    for (sql, index) in sqlite::HOT_QUERIES {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = rusqlite::params_from_iter(vec![1; statement.parameter_count()]);
        let plan: Vec<String> =
            statement.query_map(values, |row| row.get(3)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
        let plan = plan.join("; ");
        assert!(plan.contains(index) && !plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
}

#[test]
fn handlers_come_go_and_return_while_the_store_is_open() {
    let mut fixture = Fixture::new(|_| {});
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

#[test]
fn other_bounds_hold_from_the_next_callback_on() {
    let fixture = Fixture::new(|_| {});
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
