//! Makes all streams anew from the events that are stored and what outlived others, beside those that are in use.

use rusqlite::{Connection, params};

use super::super::catalogue;
use super::super::events::ROW;
use super::super::memory::Tx;
use super::keep::{self, COLUMNS};
use super::{Result, add_to, note_live, pushes};
use crate::store::catalogue::Entry;
use crate::store::model::StreamsRebuild;
use crate::store::streams::keep::Kept;
use crate::streams::StreamName;

/// Events read at once.
const EVENTS: usize = if cfg!(test) { 5 } else { 1024 };
/// Bytes of their bodies, about.
const EVENTS_BYTES: u64 = 4 << 20;
/// Streams looked at in one transaction.
const STREAMS: usize = if cfg!(test) { 3 } else { 500 };
/// Rows deleted in one transaction, about.
const ROWS: usize = 2000;

/// What is to be done next, read beside the writer.
#[derive(Debug)]
pub(in crate::store) enum Step {
    /// Streams of a former generation are deleted.
    Clear,
    /// What outlived its events is carried into the new generation, of streams behind this one.
    Carry(i64),
    /// Events are added to the new generation.
    Add(Added),
}

/// Events between two places in the order of storing.
#[derive(Debug)]
pub(in crate::store) struct Added {
    from: i64,
    before: i64,
    events: Vec<Entry>,
}

/// The generation that is in use.
pub(super) fn generation(db: &Connection) -> Result<i64> {
    number(db, "streams_generation")
}

/// Whether a new generation is being filled.
pub(in crate::store) fn is_under_way(db: &Connection) -> Result<bool> {
    Ok(number(db, "streams_next")? > 0)
}

/// Begins a new generation, unless one is being filled already. Returns how far it is filled.
pub(in crate::store) fn begin(tx: &mut Tx<'_>) -> Result<StreamsRebuild> {
    if !is_under_way(tx.db)? {
        set(tx.db, "streams_next", generation(tx.db)? + 1)?;
        set(tx.db, "streams_carried", 0)?;
        set(tx.db, "streams_from", 0)?;
    }
    filled(tx.db)
}

/// How far a new generation is filled; none when none is.
pub(in crate::store) fn progress(db: &Connection) -> Result<Option<StreamsRebuild>> {
    let snapshot = db.unchecked_transaction()?;
    if is_under_way(&snapshot)? { filled(&snapshot).map(Some) } else { Ok(None) }
}

fn filled(db: &Connection) -> Result<StreamsRebuild> {
    let first: i64 = db.query_row("SELECT coalesce(min(seq), 0) FROM events", [], |row| row.get(0))?;
    let behind_first = |place: i64| u64::try_from(place - first).unwrap_or(0);
    let total = behind_first(catalogue::reached(db)?);
    Ok(StreamsRebuild { done: behind_first(number(db, "streams_from")?).min(total), total })
}

/// What is to be done next; none when nothing is.
pub(in crate::store) fn read(db: &Connection) -> Result<Option<Step>> {
    let snapshot = db.unchecked_transaction()?;
    if !is_under_way(&snapshot)? {
        let former =
            "SELECT 1 FROM streams WHERE generation < (SELECT value FROM meta WHERE key = 'streams_generation')";
        return Ok(snapshot.prepare_cached(former)?.exists([])?.then_some(Step::Clear));
    }
    match number(&snapshot, "streams_carried")? {
        carried @ 0.. => Ok(Some(Step::Carry(carried))),
        _ => read_events(&snapshot).map(|added| Some(Step::Add(added))),
    }
}

fn read_events(db: &Connection) -> Result<Added> {
    let (from, end) = (number(db, "streams_from")?, catalogue::reached(db)?);
    let mut statement = db.prepare_cached(&format!(
        "SELECT {ROW}, body FROM events WHERE seq >= ?1 AND seq < ?2 ORDER BY seq LIMIT ?3"
    ))?;
    let mut rows = statement.query(params![from, end, EVENTS])?;
    let (mut events, mut bytes): (Vec<Entry>, _) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let entry = catalogue::entry(row)?;
        bytes += entry.row.bytes;
        events.push(entry);
        if bytes > EVENTS_BYTES {
            break;
        }
    }
    let is_full = events.len() == EVENTS || bytes > EVENTS_BYTES;
    let before = events.last().filter(|_| is_full).map_or(end, |last| last.row.seq + 1);
    Ok(Added { from, before, events })
}

/// Does a step, unless it was done since it was read.
pub(in crate::store) fn step(tx: &mut Tx<'_>, step: &Step) -> Result<()> {
    let next = number(tx.db, "streams_next")?;
    match step {
        Step::Clear => clear(tx.db),
        Step::Carry(after) if next > 0 && number(tx.db, "streams_carried")? == *after => carry(tx, next, *after),
        Step::Add(added) if next > 0 && number(tx.db, "streams_from")? == added.from => add(tx, next, added),
        Step::Carry(_) | Step::Add(_) => Ok(()),
    }
}

fn add(tx: &mut Tx<'_>, next: i64, added: &Added) -> Result<()> {
    add_to(tx, next, &added.events)?;
    set(tx.db, "streams_from", added.before)?;
    if added.before < tx.catalogued_before() {
        return Ok(());
    }
    let live: i64 =
        tx.db
            .query_row("SELECT count(*) FROM streams WHERE generation = ?1 AND state = 2", [next], |row| row.get(0))?;
    let change = live - number(tx.db, "streams_live")?;
    note_live(tx, change)?;
    set(tx.db, "streams_generation", next)?;
    set(tx.db, "streams_next", 0)
}

fn carry(tx: &mut Tx<'_>, next: i64, after: i64) -> Result<()> {
    let generation = generation(tx.db)?;
    // By their numbers, which the index of the names would have to sort.
    let streams: Vec<(Kept, StreamName)> = tx
        .db
        .prepare_cached(&format!(
            "SELECT {COLUMNS}, domain, app, stream FROM streams WHERE id > ?1 AND +generation = ?2 ORDER BY id LIMIT ?3"
        ))?
        .query_map(params![after, generation, STREAMS], |row| {
            let name = StreamName { domain: row.get("domain")?, app: row.get("app")?, stream: row.get("stream")? };
            Ok((keep::read(row, 0)?, name))
        })?
        .collect::<Result<_>>()?;
    for (kept, name) in &streams {
        if let Some(outlived_at) = kept.outlived_at {
            carry_one(tx.db, next, kept.id, name, outlived_at)?;
        }
    }
    set(tx.db, "streams_carried", streams.last().map_or(-1, |(kept, _)| kept.id))
}

fn carry_one(db: &Connection, next: i64, from: i64, name: &StreamName, outlived_at: i64) -> Result<()> {
    let mut open = keep::open(db, next, name)?;
    let before = open.kept.state;
    (open.kept.last_event_at, open.kept.outlived_at) = (outlived_at, Some(outlived_at));
    pushes::outliving(db, from)?.into_iter().try_for_each(|row| open.carry(row))?;
    open.close()?;
    keep::save(db, &open.kept, before)
}

/// Deletes a part of what is left of former generations.
fn clear(db: &Connection) -> Result<()> {
    let former = "SELECT id FROM streams WHERE generation < (SELECT value FROM meta WHERE key = 'streams_generation') \
                  LIMIT ?1";
    let ids: Vec<i64> = db.prepare_cached(former)?.query_map([STREAMS], |row| row.get(0))?.collect::<Result<_>>()?;
    let mut left = ROWS;
    for id in ids {
        for sql in [
            "DELETE FROM pushes WHERE stream = ?1 AND name IN (SELECT name FROM pushes WHERE stream = ?1 LIMIT ?2)",
            "DELETE FROM stream_notes WHERE stream = ?1 AND (sort, at, event) IN \
                 (SELECT sort, at, event FROM stream_notes WHERE stream = ?1 LIMIT ?2)",
        ] {
            left = left.saturating_sub(db.prepare_cached(sql)?.execute(params![id, left])?);
        }
        if left == 0 {
            break;
        }
        db.prepare_cached("DELETE FROM streams WHERE id = ?1")?.execute([id])?;
    }
    Ok(())
}

fn number(db: &Connection, key: &str) -> Result<i64> {
    db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0))
}

fn set(db: &Connection, key: &str, value: i64) -> Result<()> {
    db.prepare_cached("UPDATE meta SET value = ?2 WHERE key = ?1")?.execute(params![key, value])?;
    Ok(())
}
