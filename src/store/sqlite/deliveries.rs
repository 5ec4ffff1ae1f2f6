//! Deliveries in the database: what is owed to whom, in which order, and what came of it.
//!
//! A *lane* is the stream an ordered delivery waits in. Of the pending deliveries of a lane the first is `READY` and the
//! others are `BLOCKED`; whatever ends the first makes the next one `READY`. So a claim is a range of one index, however
//! many streams are behind, and one that fails holds back its own lane only. That holds in the database at every commit;
//! that nothing is claimed of a lane while one of it is in hand is seen to in memory.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};
use sha2::{Digest as _, Sha256};

use super::super::model::{
    Claim, ClaimKey, Claimed, Delivery, DeliveryFilter, DeliveryState, HandlerId, Owed, Page, Settlement, Verdict,
};
use super::events::{self, page, where_clause};
use super::memory::{InHand, Memory, Tx};
use crate::clock::Timestamp;
use crate::event::{Event, EventId, Facts};

type Result<T> = rusqlite::Result<T>;

const READY: i64 = 0;
const DONE: i64 = 1;
const DEAD: i64 = 2;
const DROPPED: i64 = 3;
const BLOCKED: i64 = 4;

/// Longer errors are cut: they are for people.
const ERROR_CHARS_MAX: usize = 1000;

/// Bodies handed out at once; what is above waits for the next claim.
const CLAIM_BYTES_MAX: usize = 4 << 20;

/// Notes that an event is owed to a handler.
pub(super) fn owe(tx: &mut Tx<'_>, seq: i64, owed: Owed, event: &Event) -> Result<()> {
    let lane = if owed.ordered { lane(&event.facts) } else { None };
    let behind = match lane {
        Some(lane) => tx.db.prepare_cached(IN_LANE)?.exists(params![owed.handler.0, lane])?,
        None => false,
    };
    tx.db
        .prepare_cached(
            "INSERT INTO deliveries (event, handler, state, lane, rank, due, updated_at) VALUES (?1, ?2, ?3, ?4, ?1, ?5, ?5)",
        )?
        .execute(params![seq, owed.handler.0, if behind { BLOCKED } else { READY }, lane, tx.now.millis()])?;
    tx.pending(owed.handler, 1);
    if !behind {
        tx.wake(owed.handler);
    }
    Ok(())
}

/// The lane of a stream; events that name none wait for none.
fn lane(facts: &Facts) -> Option<i64> {
    let stream = facts.stream.as_deref()?;
    let mut hash = Sha256::new();
    for name in [facts.domain.as_deref().unwrap_or_default(), facts.app.as_deref().unwrap_or_default(), stream] {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
    }
    let digest = hash.finalize();
    Some(i64::from_le_bytes(digest[..8].try_into().unwrap_or_default()))
}

/// Hands out deliveries that are due, oldest first, and tells when the next one will be. Writes nothing: what is in hand
/// is known in memory only, so after a crash everything unsettled is there again.
pub(super) fn claim(
    db: &Connection,
    memory: &mut Memory,
    handler: HandlerId,
    now: Timestamp,
    limit: usize,
) -> Result<Claimed> {
    let in_hand = memory.in_hand.entry(handler).or_default();
    let busy: HashSet<i64> = in_hand.values().filter_map(|claim| claim.lane).collect();
    let mut claimed = Claimed::default();
    let mut statement = db.prepare_cached(CLAIM)?;
    // What is in hand stands among the first, so it is read again; one more tells when the next is due.
    let mut rows = statement.query(params![handler.0, limit + in_hand.len() + 1])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (seq, due, attempts) = (row.get::<_, i64>(0)?, Timestamp::from_millis(row.get(1)?), row.get::<_, u32>(2)?);
        let lane = row.get::<_, Option<i64>>(3)?;
        if in_hand.contains_key(&seq) || lane.is_some_and(|lane| busy.contains(&lane)) {
            continue;
        }
        if due > now || found.len() == limit {
            claimed.next_due = Some(due);
            break;
        }
        found.push((seq, attempts, lane));
    }
    let mut bytes = 0;
    let mut lanes = Vec::new();
    for (seq, attempts, lane) in found {
        if bytes > CLAIM_BYTES_MAX {
            claimed.next_due = Some(now);
            break;
        }
        let event = events::at(db, seq)?;
        bytes += event.body.len();
        let key = ClaimKey { handler, seq };
        claimed.claims.push(Claim { key, event, attempt: attempts + 1, called_off: Arc::default(), release: None });
        lanes.push(lane);
    }
    // Only now, when nothing can fail any more: what is in hand and in nobody's hands would never be seen again.
    in_hand.extend(claimed.claims.iter().zip(lanes).map(|(claim, lane)| {
        (claim.key.seq, InHand { lane, renewed: false, called_off: Arc::clone(&claim.called_off) })
    }));
    Ok(claimed)
}

/// What may be claimed, first come first.
const CLAIM: &str =
    "SELECT event, due, attempts, lane FROM deliveries WHERE handler = ?1 AND state = 0 ORDER BY due, rank LIMIT ?2";

/// Records what came of an attempt. A delivery that was dropped meanwhile stays dropped; one that was given a fresh
/// allowance meanwhile keeps it, and stays due at once.
pub(in crate::store) fn settle(tx: &mut Tx<'_>, key: ClaimKey, settlement: &Settlement) -> Result<()> {
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
            tx.dead(key.handler, i64::from(state == DEAD));
            promote(tx, key.handler, lane)
        }
    }
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
    let Some(lane) = lane else {
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
    (CLAIM, "COVERING INDEX deliveries_ready"),
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

/// What came of a person's decision about one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Judged {
    /// The delivery as it is now.
    Is(Delivery),
    /// It is done: that would be a replay.
    WasDone,
    /// There is none of that event and handler.
    Unknown,
}

/// Applies a person's decision to one delivery.
pub(in crate::store) fn judge(tx: &mut Tx<'_>, id: EventId, handler: &str, verdict: Verdict) -> Result<Judged> {
    let found = tx
        .db
        .prepare_cached(
            "SELECT d.event, d.handler, d.state FROM deliveries d JOIN events e ON e.seq = d.event \
             JOIN handlers h ON h.id = d.handler WHERE e.id = ?1 AND h.name = ?2",
        )?
        .query_row(params![id.as_bytes(), handler], |row| {
            Ok((ClaimKey { seq: row.get(0)?, handler: HandlerId(row.get(1)?) }, row.get::<_, i64>(2)?))
        })
        .optional()?;
    let Some((key, state)) = found else {
        return Ok(Judged::Unknown);
    };
    if state == DONE {
        return Ok(Judged::WasDone);
    }
    apply(tx, key, state, verdict)?;
    let now = of_event(tx.db, key.seq)?.into_iter().find(|delivery| delivery.handler == handler);
    Ok(now.map_or(Judged::Unknown, Judged::Is))
}

/// The deliveries a filter matches that are not done, behind `after`, at most `limit` of them. For a reader: looking for
/// few among many takes its time.
pub(in crate::store) fn undone(
    db: &Connection,
    filter: &DeliveryFilter,
    after: Option<ClaimKey>,
    limit: usize,
) -> Result<Vec<ClaimKey>> {
    let after = after.map_or((0, 0), |key| (key.seq, key.handler.0));
    let (wanted, values) = conditions(filter, Some(("d.state <> 1 AND (d.event, d.handler) > (?, ?)", after)));
    let sql = format!(
        "SELECT d.event, d.handler FROM deliveries d JOIN handlers h ON h.id = d.handler \
         JOIN events e ON e.seq = d.event {wanted} ORDER BY d.event, d.handler LIMIT {limit}"
    );
    let read = |row: &Row<'_>| Ok(ClaimKey { seq: row.get(0)?, handler: HandlerId(row.get(1)?) });
    db.prepare_cached(&sql)?.query_map(params_from_iter(values), read)?.collect()
}

/// Applies a person's decision to deliveries that were found in `state`, where one was asked for, and still are. Returns
/// how many it changed.
pub(in crate::store) fn judge_all(
    tx: &mut Tx<'_>,
    keys: &[ClaimKey],
    state: Option<DeliveryState>,
    verdict: Verdict,
) -> Result<u64> {
    let mut changed = 0;
    for key in keys {
        let now = tx
            .db
            .prepare_cached("SELECT state FROM deliveries WHERE event = ?1 AND handler = ?2")?
            .query_row(params![key.seq, key.handler.0], |row| row.get(0))
            .optional()?;
        let Some(now) = now.filter(|now| *now != DONE && state.is_none_or(|state| state == state_of(*now))) else {
            continue;
        };
        changed += u64::from(apply(tx, *key, now, verdict)?);
    }
    Ok(changed)
}

fn state_of(stored: i64) -> DeliveryState {
    match stored {
        DONE => DeliveryState::Done,
        DEAD => DeliveryState::Dead,
        DROPPED => DeliveryState::Dropped,
        _ => DeliveryState::Pending,
    }
}

/// Returns whether anything is different now.
fn apply(tx: &mut Tx<'_>, key: ClaimKey, state: i64, verdict: Verdict) -> Result<bool> {
    match (verdict, state) {
        (Verdict::Drop, READY | BLOCKED | DEAD) => drop_one(tx, key, state).map(|()| true),
        (Verdict::Retry, _) => retry_one(tx, key, state).map(|()| true),
        (Verdict::Drop, _) => Ok(false),
    }
}

fn drop_one(tx: &mut Tx<'_>, key: ClaimKey, state: i64) -> Result<()> {
    let lane = set_state(tx, key, DROPPED)?;
    if state == DEAD {
        tx.dead(key.handler, -1);
        return Ok(());
    }
    tx.effects.dropped.push(key);
    tx.pending(key.handler, -1);
    promote(tx, key.handler, lane)
}

fn retry_one(tx: &mut Tx<'_>, key: ClaimKey, state: i64) -> Result<()> {
    tx.db
        .prepare_cached("UPDATE deliveries SET due = ?3, attempts = 0 WHERE event = ?1 AND handler = ?2")?
        .execute(params![key.seq, key.handler.0, tx.now.millis()])?;
    tx.effects.renewed.push(key);
    match state {
        DEAD => tx.dead(key.handler, -1),
        READY | BLOCKED => {
            tx.wake(key.handler);
            return set_state(tx, key, state).map(|_| ());
        }
        _ => {}
    }
    tx.pending(key.handler, 1);
    let lane = set_state(tx, key, BLOCKED)?;
    enter_lane(tx, key, lane)
}

/// Finds the place of a delivery that has become pending again: first of its lane if it is the oldest there.
fn enter_lane(tx: &mut Tx<'_>, key: ClaimKey, lane: Option<i64>) -> Result<()> {
    let first = lane.map_or(Ok(None), |lane| first_of(tx.db, key.handler, lane))?;
    if let Some((seq, rank)) = first {
        let other = ClaimKey { handler: key.handler, seq };
        let own_rank: i64 = tx
            .db
            .prepare_cached("SELECT rank FROM deliveries WHERE event = ?1 AND handler = ?2")?
            .query_row(params![key.seq, key.handler.0], |row| row.get(0))?;
        if rank < own_rank {
            return Ok(());
        }
        set_state(tx, other, BLOCKED)?;
    }
    set_state(tx, key, READY)?;
    tx.wake(key.handler);
    Ok(())
}

/// Returns the lane.
fn set_state(tx: &Tx<'_>, key: ClaimKey, state: i64) -> Result<Option<i64>> {
    tx.db
        .prepare_cached(
            "UPDATE deliveries SET state = ?3, updated_at = ?4 WHERE event = ?1 AND handler = ?2 RETURNING lane",
        )?
        .query_row(params![key.seq, key.handler.0, state, tx.now.millis()], |row| row.get(0))
}

const COLUMNS: &str =
    "e.id, h.name, d.state, d.replay, d.attempts, d.due, d.last_error, d.updated_at, d.event, d.handler";

/// The deliveries of one event.
pub(super) fn of_event(db: &Connection, seq: i64) -> Result<Vec<Delivery>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM deliveries d JOIN events e ON e.seq = d.event JOIN handlers h ON h.id = d.handler \
         WHERE d.event = ?1 ORDER BY h.name"
    ))?
    .query_map([seq], |row| delivery(row).map(|(delivery, _)| delivery))?
    .collect()
}

/// A page of deliveries, those of the newest events first. The cursor names event and handler of the last row before.
pub(in crate::store) fn list(
    db: &Connection,
    filter: &DeliveryFilter,
    limit: usize,
    before: Option<(i64, i64)>,
) -> Result<Page<Delivery>> {
    let (wanted, values) = conditions(filter, before.map(|cursor| ("(d.event, d.handler) < (?, ?)", cursor)));
    let sql = format!(
        "SELECT {COLUMNS} FROM deliveries d JOIN events e ON e.seq = d.event JOIN handlers h ON h.id = d.handler \
         {wanted} ORDER BY d.event DESC, d.handler DESC LIMIT {}",
        limit + 1
    );
    let rows = db.prepare_cached(&sql)?.query_map(params_from_iter(values), delivery)?.collect::<Result<_>>()?;
    let page = page(rows, limit, |(_, (seq, handler))| format!("{seq}.{handler}"));
    Ok(Page { items: page.items.into_iter().map(|(delivery, _)| delivery).collect(), next: page.next })
}

/// Receipt of the oldest event pending for a handler. Looks at a bounded number of lanes: with more of them behind than
/// that, the answer may be somewhat too young.
pub(in crate::store) fn oldest_pending(db: &Connection, handler: HandlerId) -> Result<Option<Timestamp>> {
    const LANES_MAX: i64 = 10_000;
    let oldest = "SELECT e.received_at FROM events e WHERE e.seq = (SELECT min(event) FROM \
                  (SELECT event FROM deliveries WHERE handler = ?1 AND state = 0 ORDER BY due LIMIT ?2))";
    let received_at = db.prepare_cached(oldest)?.query_row([handler.0, LANES_MAX], |row| row.get(0)).optional()?;
    Ok(received_at.map(Timestamp::from_millis))
}

fn conditions(filter: &DeliveryFilter, cursor: Option<(&'static str, (i64, i64))>) -> (String, Vec<Sql>) {
    let mut clauses = Vec::new();
    let mut values = Vec::new();
    if let Some((clause, (seq, handler))) = cursor {
        clauses.push(clause);
        values.extend([Sql::from(seq), Sql::from(handler)]);
    }
    if let Some(name) = &filter.handler {
        clauses.push("h.name = ?");
        values.push(Sql::from(name.clone()));
    }
    clauses.extend(filter.state.map(|state| match state {
        DeliveryState::Pending => "d.state IN (0, 4)",
        DeliveryState::Done => "d.state = 1",
        DeliveryState::Dead => "d.state = 2",
        DeliveryState::Dropped => "d.state = 3",
    }));
    for (clause, moment) in [("e.received_at >= ?", filter.since), ("e.received_at < ?", filter.until)] {
        if let Some(moment) = moment {
            clauses.push(clause);
            values.push(Sql::from(moment.millis()));
        }
    }
    (where_clause(clauses.into_iter()), values)
}

fn delivery(row: &Row<'_>) -> Result<(Delivery, (i64, i64))> {
    let state = state_of(row.get(2)?);
    let due = Timestamp::from_millis(row.get(5)?);
    let delivery = Delivery {
        event_id: EventId::from_bytes(row.get(0)?),
        handler: row.get(1)?,
        state,
        replay: row.get(3)?,
        attempts: row.get(4)?,
        next_attempt_at: (state == DeliveryState::Pending).then_some(due),
        last_error: row.get(6)?,
        updated_at: Timestamp::from_millis(row.get(7)?),
    };
    Ok((delivery, (row.get(8)?, row.get(9)?)))
}

fn cut(error: &str) -> &str {
    error.char_indices().nth(ERROR_CHARS_MAX).map_or(error, |(end, _)| &error[..end])
}
