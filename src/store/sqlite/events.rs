//! Events in the database.

use bytes::Bytes;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use super::super::model::{Appended, EventFilter, EventRow, NewEvent, Stored};
use super::deliveries;
use super::identities::{self, Known};
use super::memory::Tx;
use super::quarantine;
use crate::clock::Timestamp;
use crate::event::{Event, EventId, Facts, Kind, Verification};

type Result<T> = rusqlite::Result<T>;

/// The columns of an [`EventRow`], in the order [`row`] reads them.
pub(super) const ROW: &str = "seq, id, kind, event_type, domain, app, stream, sequence, occurred_at, received_at, verification, \
                   duplicates, length(body)";

/// Stores an event with its deliveries, or counts it as a copy of one that is known.
pub(in crate::store) fn append(tx: &mut Tx<'_>, new: &NewEvent) -> Result<Appended> {
    if let Some(id) = new.readmitted {
        quarantine::remove(tx, id)?;
    }
    if (tx.memory.any_forgotten || tx.effects.forgot) && is_forgotten(tx.db, new)? {
        return Ok(Appended::Duplicate(None));
    }
    let namesake = match identities::find(tx, &new.identity)? {
        Known::Copy(seq) => return count_copy(tx, seq),
        Known::Namesake(id) => Some(id),
        Known::Not => None,
    };
    let seq = tx.next_seq();
    insert(tx.db, new, seq, namesake)?;
    identities::add(tx, &new.identity, seq);
    for owed in &new.owed {
        deliveries::owe(tx, seq, *owed, &new.event)?;
    }
    Ok(Appended::Stored { id: new.event.id, drifted: namesake.is_some() || !new.drift.is_empty() })
}

fn is_forgotten(db: &Connection, new: &NewEvent) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM forgotten WHERE identity = ?1")?.exists([new.identity.bytes()])
}

/// `namesake` is another event of the same time and natural key.
fn insert(db: &Connection, new: &NewEvent, seq: i64, namesake: Option<EventId>) -> Result<()> {
    let (event, facts) = (&new.event, &new.event.facts);
    let note = namesake.map(|id| format!("named like event {id} and different in content"));
    let drift: Vec<&str> = new.drift.iter().map(String::as_str).chain(note.as_deref()).collect();
    db.prepare_cached(
        "INSERT INTO events (seq, id, identity, kind, event_type, domain, app, stream, sequence, occurred_at, \
             received_at, verification, drift, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
             ?14)",
    )?
    .execute(params![
        seq,
        event.id.as_bytes(),
        new.identity.bytes(),
        facts.kind.slug(),
        facts.event_type,
        facts.domain,
        facts.app,
        facts.stream,
        facts.sequence,
        facts.occurred_at.map(Timestamp::millis),
        event.received_at.millis(),
        event.verification.slug(),
        (!drift.is_empty()).then(|| drift.join("\n")),
        &event.body[..],
    ])?;
    Ok(())
}

fn count_copy(tx: &mut Tx<'_>, seq: i64) -> Result<Appended> {
    let (id, kind) = tx
        .db
        .prepare_cached("UPDATE events SET duplicates = duplicates + 1 WHERE seq = ?1 RETURNING id, kind")?
        .query_row([seq], |row| Ok((EventId::from_bytes(row.get(0)?), row.get::<_, String>(1)?)))?;
    if seq < tx.catalogued_before() {
        *tx.effects.copies.entry(kind).or_default() += 1;
    }
    Ok(Appended::Duplicate(Some(id)))
}

/// Rows that a filter matches from place `start` on and before `end`, the newest first: looks at each.
pub(super) fn scan(db: &Connection, filter: &EventFilter, start: i64, end: i64, limit: usize) -> Result<Vec<EventRow>> {
    let text = |value: &Option<String>| value.clone().map(Sql::from);
    let conditions: Vec<(&str, Sql)> = [
        ("seq >= ?", Some(Sql::from(start))),
        ("seq < ?", Some(Sql::from(end))),
        ("kind = ?", filter.kind.map(|kind| Sql::from(kind.slug().to_owned()))),
        ("domain = ?", text(&filter.domain)),
        ("app = ?", text(&filter.app)),
        ("stream = ?", text(&filter.stream)),
        ("verification = ?", filter.verification.map(|v| Sql::from(v.slug().to_owned()))),
        ("received_at >= ?", filter.since.map(|t| Sql::from(t.millis()))),
        ("received_at < ?", filter.until.map(|t| Sql::from(t.millis()))),
    ]
    .into_iter()
    .filter_map(|(condition, value)| Some((condition, value?)))
    .collect();
    let wanted = where_clause(conditions.iter().map(|(condition, _)| *condition));
    let limit = Sql::from(i64::try_from(limit).unwrap_or(i64::MAX));
    let mut statement = db.prepare_cached(&format!("SELECT {ROW} FROM events {wanted} ORDER BY seq DESC LIMIT ?"))?;
    let values = conditions.into_iter().map(|(_, value)| value).chain([limit]);
    statement.query_map(params_from_iter(values), row)?.collect()
}

/// The row at a place in the order of storing.
pub(super) fn row_at(db: &Connection, seq: i64) -> Result<Option<EventRow>> {
    db.prepare_cached(&format!("SELECT {ROW} FROM events WHERE seq = ?1"))?.query_row([seq], row).optional()
}

/// `WHERE a AND b`, or nothing.
pub(super) fn where_clause<'a>(conditions: impl Iterator<Item = &'a str>) -> String {
    let all = conditions.collect::<Vec<_>>().join(" AND ");
    if all.is_empty() { all } else { format!("WHERE {all}") }
}

/// Everything known of one event.
pub(in crate::store) fn find(db: &Connection, id: EventId) -> Result<Option<Stored>> {
    let mut statement = db.prepare_cached(&format!("SELECT {ROW}, body, drift FROM events WHERE id = ?1"))?;
    let read = |line: &Row<'_>| {
        let row = row(line)?;
        let event = event(&row, Bytes::from(line.get::<_, Vec<u8>>(13)?));
        let drift =
            line.get::<_, Option<String>>(14)?.map_or_else(Vec::new, |d| d.lines().map(str::to_owned).collect());
        Ok(Stored { row, event, drift, deliveries: Vec::new() })
    };
    let Some(mut stored) = statement.query_row([id.as_bytes()], read).optional()? else {
        return Ok(None);
    };
    stored.deliveries = deliveries::of_event(db, stored.row.seq)?;
    Ok(Some(stored))
}

/// The event at a place in the order of storing.
pub(super) fn at(db: &Connection, seq: i64) -> Result<Event> {
    db.prepare_cached(&format!("SELECT {ROW}, body FROM events WHERE seq = ?1"))?
        .query_row([seq], |line| Ok(event(&row(line)?, Bytes::from(line.get::<_, Vec<u8>>(13)?))))
}

pub(super) fn row(line: &Row<'_>) -> Result<EventRow> {
    let kind: String = line.get(2)?;
    let verification: String = line.get(10)?;
    Ok(EventRow {
        seq: line.get(0)?,
        id: EventId::from_bytes(line.get(1)?),
        facts: Facts {
            // A slug this version does not know was written by a newer one.
            kind: kind.parse().unwrap_or(Kind::Unknown),
            event_type: line.get(3)?,
            domain: line.get(4)?,
            app: line.get(5)?,
            stream: line.get(6)?,
            sequence: line.get(7)?,
            occurred_at: line.get::<_, Option<i64>>(8)?.map(Timestamp::from_millis),
        },
        received_at: Timestamp::from_millis(line.get(9)?),
        verification: Verification::from_slug(&verification).unwrap_or(Verification::Unsigned),
        duplicates: line.get(11)?,
        bytes: line.get(12)?,
    })
}

pub(super) fn event(row: &EventRow, body: Bytes) -> Event {
    Event { id: row.id, facts: row.facts.clone(), received_at: row.received_at, verification: row.verification, body }
}
