//! Lists of deliveries for people, the newest events first, and what a decision about many of them is to change.
//!
//! Dead and dropped ones stand in an index in this order. Pending ones do not: those that are behind stand in indexes of
//! another order, the others are fresh. Where many are pending, some of the newest deliveries are; where few are, all of
//! them are soon put in order. Those that are done, and all of a handler, stand in no index: they are looked for one by
//! one, for so long, and a page that finds fewer says where the next one goes on.

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};

use super::super::super::model::page;
use super::super::super::model::{ClaimKey, Delivery, DeliveryFilter, DeliveryState, HandlerId, Page};
use super::super::catalogue;
use super::state_of;
use crate::clock::Timestamp;
use crate::event::EventId;

type Result<T> = rusqlite::Result<T>;

/// Deliveries that are looked at one by one for pending ones.
const NEAREST: i64 = if cfg!(test) { 4 } else { 20_000 };
/// Deliveries that are looked at one by one for a page.
const REACH: i64 = if cfg!(test) { 6 } else { 100_000 };

const COLUMNS: &str = "e.id, h.name, d.state, d.replay, d.attempts, d.due, d.last_error, d.updated_at";

/// The deliveries of one event.
pub(in super::super) fn of_event(db: &Connection, seq: i64) -> Result<Vec<Delivery>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM deliveries d JOIN events e ON e.seq = d.event JOIN handlers h ON h.id = d.handler \
         WHERE d.event = ?1 ORDER BY h.name"
    ))?
    .query_map([seq], delivery)?
    .collect()
}

/// A page of deliveries. The cursor names event and handler of the last row before.
pub(in crate::store) fn list(
    db: &Connection,
    filter: &DeliveryFilter,
    limit: usize,
    before: Option<(i64, i64)>,
) -> Result<Page<Delivery>> {
    let snapshot = db.unchecked_transaction()?;
    let look = Look {
        db: &snapshot,
        handlers: handlers(&snapshot, filter)?,
        before: before.unwrap_or((i64::MAX, i64::MAX)),
        limit: limit + 1,
    };
    let (keys, looked_to) = match filter.state {
        Some(DeliveryState::Dead) => (look.by_handler(NEWEST_DEAD)?, None),
        Some(DeliveryState::Dropped) => (look.by_handler(NEWEST_DROPPED)?, None),
        Some(DeliveryState::Pending) => (look.pending()?, None),
        Some(DeliveryState::Done) => look.in_reach("state = 1")?,
        None => look.in_reach("TRUE")?,
    };
    let cursor = |(seq, handler): &Key| format!("{seq}.{handler}");
    let mut page = page(keys, limit, cursor);
    page.next = page.next.or_else(|| looked_to.as_ref().map(cursor));
    let sql = format!(
        "SELECT {COLUMNS} FROM deliveries d JOIN events e ON e.seq = d.event JOIN handlers h ON h.id = d.handler \
         WHERE d.event = ?1 AND d.handler = ?2"
    );
    let mut statement = snapshot.prepare_cached(&sql)?;
    let items = page.items.iter().map(|key| statement.query_row(params![key.0, key.1], delivery));
    Ok(Page { items: items.collect::<Result<_>>()?, next: page.next })
}

/// The numbers of the handlers a filter matches.
fn handlers(db: &Connection, filter: &DeliveryFilter) -> Result<Vec<i64>> {
    db.prepare_cached("SELECT id FROM handlers WHERE ?1 IS NULL OR name = ?1 ORDER BY id")?
        .query_map([&filter.handler], |row| row.get(0))?
        .collect()
}

/// Event and handler.
type Key = (i64, i64);

/// What is looked for: of these handlers, before a place, not more than so many.
struct Look<'a> {
    db: &'a Connection,
    handlers: Vec<i64>,
    before: Key,
    limit: usize,
}

impl Look<'_> {
    /// Asks for each handler, and merges.
    fn by_handler(&self, sql: &str) -> Result<Vec<Key>> {
        let mut statement = self.db.prepare_cached(sql)?;
        let mut keys = Vec::new();
        for handler in &self.handlers {
            // The last event before is not through for the handlers below the one it was given with.
            let end = self.before.0.saturating_add(i64::from(*handler < self.before.1));
            let events = statement.query_map(params![handler, end, self.limit], |row| row.get(0))?;
            for event in events {
                keys.push((event?, *handler));
            }
        }
        Ok(self.newest(keys))
    }

    fn pending(&self) -> Result<Vec<Key>> {
        let near = self.one_by_one("state IN (0, 4, 5)", self.near(NEAREST)?.unwrap_or(i64::MIN))?;
        if near.len() >= self.limit {
            return Ok(near);
        }
        let mut keys = self.by_handler(NEWEST_READY)?;
        keys.extend(self.by_handler(NEWEST_BLOCKED)?);
        keys.extend(self.by_handler(NEWEST_FRESH)?);
        Ok(self.newest(keys))
    }

    /// Looks at the nearest deliveries one after the other. Tells too where it ended, unless nothing is behind.
    fn in_reach(&self, condition: &str) -> Result<(Vec<Key>, Option<Key>)> {
        let start = self.near(REACH)?;
        // All of the event at the start are looked at, and no handler has this number.
        Ok((self.one_by_one(condition, start.unwrap_or(i64::MIN))?, start.map(|start| (start, 0))))
    }

    /// Looks at one delivery after the other, from the place `start` on.
    fn one_by_one(&self, condition: &str, start: i64) -> Result<Vec<Key>> {
        let handlers = self.handlers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT event, handler FROM deliveries WHERE (event, handler) < (?1, ?2) AND event >= ?3 AND {condition} \
             AND handler IN ({handlers}) ORDER BY event DESC, handler DESC LIMIT ?4"
        );
        self.db
            .prepare_cached(&sql)?
            .query_map(params![self.before.0, self.before.1, start, self.limit], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    }

    /// Where so many begin that are nearest to what was given last; none where there are fewer.
    fn near(&self, count: i64) -> Result<Option<i64>> {
        self.db
            .prepare_cached(NEAR)?
            .query_row(params![self.before.0, self.before.1, count], |row| row.get(0))
            .optional()
    }

    fn newest(&self, mut keys: Vec<Key>) -> Vec<Key> {
        keys.sort_unstable_by(|one, other| other.cmp(one));
        keys.truncate(self.limit);
        keys
    }
}

const NEAR: &str = "SELECT event FROM deliveries WHERE (event, handler) < (?1, ?2) \
    ORDER BY event DESC, handler DESC LIMIT 1 OFFSET ?3";
const NEWEST_DEAD: &str =
    "SELECT event FROM deliveries WHERE handler = ?1 AND state = 2 AND event < ?2 ORDER BY event DESC LIMIT ?3";
const NEWEST_DROPPED: &str =
    "SELECT event FROM deliveries WHERE handler = ?1 AND state = 3 AND event < ?2 ORDER BY event DESC LIMIT ?3";
const NEWEST_READY: &str = "SELECT event FROM deliveries INDEXED BY deliveries_ready \
    WHERE handler = ?1 AND state = 0 AND event < ?2 ORDER BY event DESC LIMIT ?3";
const NEWEST_BLOCKED: &str = "SELECT event FROM deliveries INDEXED BY deliveries_lanes \
    WHERE handler = ?1 AND state IN (0, 4) AND lane IS NOT NULL AND state = 4 AND event < ?2 \
    ORDER BY event DESC LIMIT ?3";
const NEWEST_FRESH: &str = "SELECT event FROM deliveries \
    WHERE event >= (SELECT value FROM meta WHERE key = 'fresh_from') AND event < ?2 AND handler = ?1 AND state = 5 \
    ORDER BY event DESC LIMIT ?3";

/// What is asked for a list, with the way it must be answered.
#[cfg(test)]
pub(in crate::store) const LIST_QUERIES: [(&str, &str); 6] = [
    (NEAR, "PRIMARY KEY ((event,handler)<(?,?))"),
    (NEWEST_DEAD, "INDEX deliveries_dead (handler=? AND event<?)"),
    (NEWEST_DROPPED, "INDEX deliveries_dropped (handler=? AND event<?)"),
    (NEWEST_READY, "COVERING INDEX deliveries_ready (handler=?); USE TEMP B-TREE"),
    (NEWEST_BLOCKED, "COVERING INDEX deliveries_lanes (handler=? AND lane>?); USE TEMP B-TREE"),
    (NEWEST_FRESH, "PRIMARY KEY (event>? AND event<?)"),
];

/// The deliveries a filter matches that are not done, behind `after`, at most `limit` of them, the oldest first. For a
/// reader: those that are pending are looked for among all of the time that is asked for.
pub(in crate::store) fn undone(
    db: &Connection,
    filter: &DeliveryFilter,
    after: Option<ClaimKey>,
    limit: usize,
) -> Result<Vec<ClaimKey>> {
    let snapshot = db.unchecked_transaction()?;
    let handlers = handlers(&snapshot, filter)?;
    let after = after.map_or((i64::MIN, i64::MIN), |key| (key.seq, key.handler.0));
    let mut keys = Vec::new();
    match filter.state {
        Some(DeliveryState::Done) => {}
        Some(DeliveryState::Dead | DeliveryState::Dropped) => {
            let state = if filter.state == Some(DeliveryState::Dead) { 2 } else { 3 };
            for handler in handlers {
                let start = after.0.saturating_add(i64::from(handler <= after.1));
                let sql = format!("d.handler = ?5 AND d.state = {state} AND d.event >= ?6");
                keys.extend(look_up(&snapshot, filter, &sql, &[&handler, &start], limit)?);
            }
        }
        Some(DeliveryState::Pending) | None => {
            let states = if filter.state.is_some() { "d.state IN (0, 4, 5)" } else { "d.state <> 1" };
            let names = handlers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            for (start, end) in catalogue::places(&snapshot, filter.since, filter.until)? {
                let start = start.max(after.0);
                let sql = format!(
                    "{states} AND d.handler IN ({names}) AND d.event >= ?5 AND d.event < ?6 \
                     AND (d.event, d.handler) > (?7, ?8)"
                );
                let left = limit - keys.len();
                if left > 0 && start < end {
                    keys.extend(look_up(&snapshot, filter, &sql, &[&start, &end, &after.0, &after.1], left)?);
                }
            }
        }
    }
    keys.sort_unstable_by_key(|key| (key.seq, key.handler));
    keys.truncate(limit);
    Ok(keys)
}

/// The first deliveries that meet a condition on `d`, with values from `?5` on, of events of the filter's time.
fn look_up(
    db: &Connection,
    filter: &DeliveryFilter,
    condition: &str,
    values: &[&dyn ToSql],
    limit: usize,
) -> Result<Vec<ClaimKey>> {
    let (since, until) = (filter.since.map(Timestamp::millis), filter.until.map(Timestamp::millis));
    let first: [&dyn ToSql; 4] = [&limit, &since, &until, &(since.is_some() || until.is_some())];
    let sql = format!(
        "SELECT d.event, d.handler FROM deliveries d WHERE {condition} AND (NOT ?4 OR EXISTS (SELECT 1 FROM events e \
         WHERE e.seq = d.event AND (?2 IS NULL OR e.received_at >= ?2) AND (?3 IS NULL OR e.received_at < ?3))) \
         ORDER BY d.event, d.handler LIMIT ?1"
    );
    let read = |row: &Row<'_>| Ok(ClaimKey { seq: row.get(0)?, handler: HandlerId(row.get(1)?) });
    let values: Vec<_> = first.into_iter().chain(values.iter().copied()).collect();
    db.prepare_cached(&sql)?.query_map(&values[..], read)?.collect()
}

fn delivery(row: &Row<'_>) -> Result<Delivery> {
    let state = state_of(row.get(2)?);
    let due = Timestamp::from_millis(row.get(5)?);
    Ok(Delivery {
        event_id: EventId::from_bytes(row.get(0)?),
        handler: row.get(1)?,
        state,
        replay: row.get(3)?,
        attempts: row.get(4)?,
        next_attempt_at: (state == DeliveryState::Pending).then_some(due),
        last_error: row.get(6)?,
        updated_at: Timestamp::from_millis(row.get(7)?),
    })
}
