//! Deliveries in the database: what is owed to whom, in which order, and what came of it.
//!
//! A *lane* is the stream an ordered delivery waits in. Of the pending deliveries of a lane the first is `READY` and the
//! others are `BLOCKED`; whatever ends the first makes the next one `READY`. So a claim is a range of one index, however
//! many streams are behind, and one that fails holds back its own lane only. That holds in the database at every commit;
//! that nothing is claimed of a lane while one of it is in hand is seen to in memory. Deliveries that need not wait at all
//! are `FRESH` and stand in no index; see [`fresh`].

mod claims;
mod judge;
mod list;

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

pub(super) use self::claims::claim;
pub(in crate::store) use self::judge::{judge, judge_all};
#[cfg(test)]
pub(in crate::store) use self::list::LIST_QUERIES;
pub(super) use self::list::of_event;
pub(in crate::store) use self::list::{list, undone};
use super::super::lane::lane;
use super::super::model::{ClaimKey, DeliveryState, HandlerId, Owed, Settlement};
#[cfg(doc)]
use super::fresh;
use super::fresh::{FreshDelivery, Which};
use super::handlers;
use super::memory::Tx;
use crate::clock::Timestamp;
use crate::event::{Event, Facts};

type Result<T> = rusqlite::Result<T>;

const READY: i64 = 0;
const DONE: i64 = 1;
const DEAD: i64 = 2;
const DROPPED: i64 = 3;
const BLOCKED: i64 = 4;
const FRESH: i64 = 5;

/// Longer errors are cut: they are for people.
const ERROR_CHARS_MAX: usize = 1000;

/// Notes that an event is owed to a handler.
pub(super) fn owe(tx: &mut Tx<'_>, seq: i64, owed: Owed, event: &Arc<Event>) -> Result<()> {
    let Owed { handler, ordered } = owed;
    let lane = if ordered { lane(&event.facts) } else { None };
    let behind_shelved = match lane.filter(|_| tx.any_shelved(handler)) {
        Some(lane) => tx.db.prepare_cached(IN_LANE)?.exists(params![handler.0, lane])?,
        None => false,
    };
    // What a paused handler is owed will not end at once.
    let expected = !behind_shelved && !tx.memory.is_paused(handler);
    let state = if expected && tx.memory.fresh.has_room(&tx.effects.fresh, event.body.len()) {
        FRESH
    } else if behind_shelved || lane.is_some_and(|lane| fresh_in_lane(tx, handler, lane) > 0) {
        BLOCKED
    } else {
        READY
    };
    tx.db
        .prepare_cached(
            "INSERT INTO deliveries (event, handler, state, lane, rank, due, updated_at) VALUES (?1, ?2, ?3, ?4, ?1, ?5, ?5)",
        )?
        .execute(params![seq, handler.0, state, lane, tx.now.millis()])?;
    tx.pending(handler, 1);
    if state == FRESH {
        let one = FreshDelivery { seq, lane, due: tx.now, event: Arc::clone(event) };
        tx.effects.fresh.added.push((handler, one));
        count_in_lane(tx, handler, lane, 1);
        return Ok(());
    }
    tx.shelved(handler, 1);
    if state == READY {
        tx.wake(handler);
    }
    Ok(())
}

/// Makes a delivery pending that is not, or makes it where there was none, behind what is pending. Returns whether it did.
pub(super) fn owe_again(tx: &mut Tx<'_>, seq: i64, owed: Owed, facts: &Facts) -> Result<bool> {
    let key = ClaimKey { handler: owed.handler, seq };
    let state: Option<i64> = tx
        .db
        .prepare_cached("SELECT state FROM deliveries WHERE event = ?1 AND handler = ?2")?
        .query_row(params![seq, key.handler.0], |row| row.get(0))
        .optional()?;
    let is_there = |tx: &Tx<'_>| tx.db.prepare_cached("SELECT 1 FROM events WHERE seq = ?1")?.exists([seq]);
    match state {
        Some(READY | BLOCKED | FRESH) => return Ok(false),
        // An event that was pruned meanwhile.
        None if !is_there(tx)? => return Ok(false),
        Some(DEAD) => tx.dead(key.handler, -1),
        // Should it be in hand, it has a fresh allowance of attempts from now on.
        Some(DROPPED) => tx.effects.renewed.push(key),
        _ => {}
    }
    let lane = if owed.ordered { lane(facts) } else { None };
    let is_behind = match lane {
        Some(lane) if fresh_in_lane(tx, key.handler, lane) > 0 => true,
        Some(lane) => tx.db.prepare_cached(IN_LANE)?.exists(params![key.handler.0, lane])?,
        None => false,
    };
    let rank = tx.next_seq();
    tx.db
        .prepare_cached(
            "INSERT INTO deliveries (event, handler, state, lane, rank, due, replay, updated_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?6) ON CONFLICT DO UPDATE SET state = excluded.state, \
             lane = excluded.lane, rank = excluded.rank, due = excluded.due, attempts = 0, replay = 1, \
             updated_at = excluded.updated_at",
        )?
        .execute(params![seq, key.handler.0, if is_behind { BLOCKED } else { READY }, lane, rank, tx.now.millis()])?;
    tx.pending(key.handler, 1);
    tx.shelved(key.handler, 1);
    if !is_behind {
        tx.wake(key.handler);
    }
    Ok(true)
}

/// Records what came of an attempt. A delivery that was dropped meanwhile stays dropped; one that was given a fresh
/// allowance meanwhile keeps it, and stays due at once.
pub(in crate::store) fn settle(tx: &mut Tx<'_>, key: ClaimKey, settlement: &Settlement) -> Result<()> {
    handlers::attempted(tx, key.handler, settlement.error().map(cut));
    if let Some(lane) = lane_if_fresh(tx, key) {
        if *settlement == Settlement::Done {
            return settle_fresh(tx, key, lane);
        }
        shelve(tx, key.handler, Which::of(lane, key.seq))?;
    }
    let renewed = tx.is_renewed(key);
    let (state, due, error) = match settlement {
        Settlement::Done => (DONE, None, None),
        Settlement::Retry { error, .. } | Settlement::Dead { error, exhausted: true } if renewed => {
            (READY, None, Some(cut(error)))
        }
        Settlement::Retry { due, error } => (READY, Some(due.millis()), Some(cut(error))),
        Settlement::Dead { error, .. } => (DEAD, None, Some(cut(error))),
    };
    let counted = i64::from(state != READY || !renewed);
    let lane = tx
        .db
        .prepare_cached(
            "UPDATE deliveries SET state = ?3, due = coalesce(?4, due), attempts = attempts + ?7, \
             last_error = coalesce(?5, last_error), updated_at = ?6 \
             WHERE event = ?1 AND handler = ?2 AND state IN (0, 4) RETURNING lane",
        )?
        .query_row(params![key.seq, key.handler.0, state, due, error, tx.now.millis(), counted], |row| row.get(0))
        .optional()?;
    tx.effects.settled.push(key);
    match lane {
        None => record_only(tx, key, error),
        // Should an older one have come back meanwhile, it goes first.
        Some(Some(lane)) if state == READY => {
            set_state(tx, key, BLOCKED)?;
            promote(tx, key.handler, Some(lane))
        }
        Some(None) if state == READY => {
            // It is due at another time now.
            tx.wake(key.handler);
            Ok(())
        }
        Some(lane) => {
            tx.pending(key.handler, -1);
            tx.shelved(key.handler, -1);
            tx.dead(key.handler, i64::from(state == DEAD));
            promote(tx, key.handler, lane)
        }
    }
}

/// The lane of a claimed delivery, if it is still fresh.
#[expect(clippy::option_option, reason = "fresh or not, and if fresh in a lane or not")]
fn lane_if_fresh(tx: &Tx<'_>, key: ClaimKey) -> Option<Option<i64>> {
    let claim = tx.memory.in_hand.get(&key.handler)?.get(&key.seq)?;
    let lane = claim.fresh.as_ref()?.lane;
    let shelved = tx.effects.fresh.shelved.contains(&(key.handler, Which::of(lane, key.seq)));
    (!shelved).then_some(lane)
}

/// A delivery that was made at once: it was in no index, so none changes.
fn settle_fresh(tx: &mut Tx<'_>, key: ClaimKey, lane: Option<i64>) -> Result<()> {
    tx.db
        .prepare_cached(
            "UPDATE deliveries SET state = 1, attempts = 1, updated_at = ?3 WHERE event = ?1 AND handler = ?2 AND state = 5",
        )?
        .execute(params![key.seq, key.handler.0, tx.now.millis()])?;
    tx.effects.settled.push(key);
    tx.effects.fresh.ended.push((key, lane));
    tx.pending(key.handler, -1);
    count_in_lane(tx, key.handler, lane, -1);
    if tx.any_shelved(key.handler) { promote(tx, key.handler, lane) } else { Ok(()) }
}

/// Has the indexes keep deliveries that were fresh.
fn shelve(tx: &mut Tx<'_>, handler: HandlerId, which: Which) -> Result<()> {
    let fresh = &mut tx.effects.fresh;
    let mut places = Vec::new();
    if !fresh.shelved.contains(&(handler, which)) {
        let ended = |seq: &i64| fresh.ended.iter().any(|(key, _)| *key == ClaimKey { handler, seq: *seq });
        places = tx.memory.fresh.places_of(handler, which);
        places.retain(|seq| !ended(seq));
    }
    let is_meant = |one: &FreshDelivery| Which::of(one.lane, one.seq) == which;
    places.extend(fresh.added.iter().filter(|(own, one)| *own == handler && is_meant(one)).map(|(_, one)| one.seq));
    fresh.added.retain(|(own, one)| *own != handler || !is_meant(one));
    fresh.shelved.push((handler, which));
    if let Which::Lane(lane) = which {
        let before = i64::try_from(tx.memory.fresh.in_lane(handler, lane)).unwrap_or(i64::MAX);
        fresh.more_in_lane.insert((handler, lane), -before);
    }
    for (at, seq) in places.iter().enumerate() {
        set_state(tx, ClaimKey { handler, seq: *seq }, if at == 0 { READY } else { BLOCKED })?;
        tx.shelved(handler, 1);
    }
    if !places.is_empty() {
        tx.wake(handler);
    }
    Ok(())
}

/// Shelves what a former process left fresh, before anything is claimed.
pub(super) fn shelve_left_over(db: &Connection) -> Result<()> {
    let left: Vec<(i64, i64, Option<i64>)> = db
        .prepare(
            "SELECT event, handler, lane FROM deliveries \
             WHERE event >= (SELECT value FROM meta WHERE key = 'fresh_from') AND state = 5 ORDER BY event",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_>>()?;
    if left.is_empty() {
        return Ok(());
    }
    let tx = db.unchecked_transaction()?;
    let mut lanes = HashSet::new();
    for (seq, handler, lane) in left {
        // What is shelved of the same lane is younger, and blocked.
        let first = lane.is_none_or(|lane| lanes.insert((handler, lane)));
        tx.prepare_cached("UPDATE deliveries SET state = ?3 WHERE event = ?1 AND handler = ?2")?.execute([
            seq,
            handler,
            if first { READY } else { BLOCKED },
        ])?;
    }
    tx.commit()
}

/// Keeps the rows few that may be fresh: shelves what has fallen far behind, and writes down from where on they are.
pub(super) fn keep_near(tx: &mut Tx<'_>) -> Result<()> {
    let next_seq = tx.memory.next_seq;
    let far: Vec<_> = tx.memory.fresh.stragglers(next_seq).take(SHELVED_AT_ONCE).collect();
    for (handler, which) in far {
        shelve(tx, handler, which)?;
    }
    let added = || tx.effects.fresh.added.first().map(|(_, one)| one.seq);
    let from = tx.memory.fresh.oldest().or_else(added).unwrap_or(next_seq);
    if from - tx.memory.fresh.noted_from >= NOTED_EVERY {
        tx.db.prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'fresh_from'")?.execute([from])?;
        tx.effects.fresh.noted_from = Some(from);
    }
    Ok(())
}

/// Stragglers, or lanes of them, shelved by one transaction.
const SHELVED_AT_ONCE: usize = 64;
/// Events after which it is written down anew where the fresh deliveries begin.
const NOTED_EVERY: i64 = if cfg!(test) { 3 } else { 4096 };

/// Counts how many fresh deliveries more a lane has.
fn count_in_lane(tx: &mut Tx<'_>, handler: HandlerId, lane: Option<i64>, more: i64) {
    if let Some(lane) = lane {
        *tx.effects.fresh.more_in_lane.entry((handler, lane)).or_default() += more;
    }
}

fn fresh_in_lane(tx: &Tx<'_>, handler: HandlerId, lane: i64) -> i64 {
    let more = tx.effects.fresh.more_in_lane.get(&(handler, lane)).copied().unwrap_or(0);
    i64::try_from(tx.memory.fresh.in_lane(handler, lane)).unwrap_or(i64::MAX) + more
}

/// The outcome of an attempt whose delivery was decided by a person while it ran, or pruned.
fn record_only(tx: &mut Tx<'_>, key: ClaimKey, error: Option<&str>) -> Result<()> {
    let lane = tx
        .db
        .prepare_cached(
            "UPDATE deliveries SET attempts = attempts + 1, last_error = coalesce(?3, last_error), updated_at = ?4 \
             WHERE event = ?1 AND handler = ?2 RETURNING lane",
        )?
        .query_row(params![key.seq, key.handler.0, error, tx.now.millis()], |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    // Whatever waited for the attempt to end may go on.
    tx.wake(key.handler);
    promote(tx, key.handler, lane.flatten())
}

/// Makes the next of a lane the first, unless it has one, and has it looked at.
fn promote(tx: &mut Tx<'_>, handler: HandlerId, lane: Option<i64>) -> Result<()> {
    let Some(lane) = lane.filter(|lane| fresh_in_lane(tx, handler, *lane) == 0) else {
        return Ok(());
    };
    let next: Option<i64> =
        tx.db.prepare_cached(NEXT_OF_LANE)?.query_row(params![handler.0, lane], |row| row.get(0)).optional()?;
    let has_first = first_of(tx.db, handler, lane)?.is_some();
    if has_first || next.is_some() {
        tx.wake(handler);
    }
    if let (false, Some(seq)) = (has_first, next) {
        tx.db.prepare_cached(PROMOTE)?.execute(params![seq, handler.0])?;
    }
    Ok(())
}

const IN_LANE: &str = "SELECT 1 FROM deliveries WHERE handler = ?1 AND lane = ?2 AND state IN (0, 4) LIMIT 1";
const FIRST_OF_LANE: &str =
    "SELECT event, rank FROM deliveries WHERE handler = ?1 AND lane = ?2 AND state IN (0, 4) AND state = 0 LIMIT 1";
const NEXT_OF_LANE: &str = "SELECT event FROM deliveries \
    WHERE handler = ?1 AND lane = ?2 AND state IN (0, 4) AND state = 4 ORDER BY rank LIMIT 1";
const PROMOTE: &str = "UPDATE deliveries SET state = 0 WHERE event = ?1 AND handler = ?2";

/// What is asked at every append, claim and settlement, with the index that must answer it, and how: a lane may be long,
/// so its first is found by its state, not by looking at all of them.
#[cfg(test)]
pub(in crate::store) const HOT_QUERIES: [(&str, &str); 4] = [
    (claims::CLAIM, "COVERING INDEX deliveries_ready"),
    (IN_LANE, "deliveries_lanes"),
    (FIRST_OF_LANE, "deliveries_lanes (handler=? AND lane=? AND state=?)"),
    (NEXT_OF_LANE, "deliveries_lanes (handler=? AND lane=? AND state=?)"),
];

/// The delivery of a lane that is `READY`: event and rank.
fn first_of(db: &Connection, handler: HandlerId, lane: i64) -> Result<Option<(i64, i64)>> {
    db.prepare_cached(FIRST_OF_LANE)?
        .query_row(params![handler.0, lane], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Returns the lane.
fn set_state(tx: &Tx<'_>, key: ClaimKey, state: i64) -> Result<Option<i64>> {
    tx.db
        .prepare_cached(
            "UPDATE deliveries SET state = ?3, updated_at = ?4 WHERE event = ?1 AND handler = ?2 RETURNING lane",
        )?
        .query_row(params![key.seq, key.handler.0, state, tx.now.millis()], |row| row.get(0))
}

/// Receipt of the oldest event pending for a handler. Looks at a bounded number of lanes: with more of them behind than
/// that, the answer may be somewhat too young.
pub(super) fn oldest_pending(db: &Connection, handler: HandlerId) -> Result<Option<Timestamp>> {
    const LANES_MAX: i64 = 10_000;
    let oldest = "SELECT e.received_at FROM events e WHERE e.seq = (SELECT min(event) FROM \
                  (SELECT event FROM (SELECT event FROM deliveries WHERE handler = ?1 AND state = 0 ORDER BY due LIMIT ?2) \
                   UNION ALL SELECT min(event) FROM deliveries WHERE handler = ?1 AND state = 5 \
                   AND event >= (SELECT value FROM meta WHERE key = 'fresh_from')))";
    let received_at = db.prepare_cached(oldest)?.query_row([handler.0, LANES_MAX], |row| row.get(0)).optional()?;
    Ok(received_at.map(Timestamp::from_millis))
}

fn state_of(stored: i64) -> DeliveryState {
    match stored {
        DONE => DeliveryState::Done,
        DEAD => DeliveryState::Dead,
        DROPPED => DeliveryState::Dropped,
        _ => DeliveryState::Pending,
    }
}

fn cut(error: &str) -> &str {
    error.char_indices().nth(ERROR_CHARS_MAX).map_or(error, |(end, _)| &error[..end])
}
