//! What is made of events after they were stored, so that storing them stays cheap: sums, lists, and whatever else can
//! wait for a moment.
//!
//! Events before the place `catalogued_before` are taken in, those from there on are not yet: whoever asks looks at these
//! himself. A [`Run`] of them is read beside the writer, which then takes it in with one job: what is written and the
//! place move in one transaction, so that a crash neither leaves out an event nor takes one in twice. Pruning takes out
//! again what was taken in.
//!
//! Each concern is a file here with three functions: what it makes of a run without the writer (where that is worth
//! while), `add` for a run, `remove` for events that are pruned.

mod counts;
mod groups;
mod moments;
mod names;
mod select;
mod stats;

use std::borrow::Cow;

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::events::{ROW, event, row};
use super::memory::Tx;
use super::streams;
use crate::clock::Timestamp;
use crate::event::Kind;
use crate::store::catalogue::Entry;
use crate::store::streams::Told;

pub(super) use self::counts::note_copies;
pub(in crate::store) use self::select::list;
pub(in crate::store) use self::stats::{latest, stats};

type Result<T> = rusqlite::Result<T>;

/// Events taken in by one transaction: few enough not to keep callbacks waiting, and the more that wait the more, since
/// together they share the pages they change. It is the part [`RUN_PART`] of those that wait, within these bounds.
const RUN_MIN: i64 = if cfg!(test) { 7 } else { 48 };
const RUN_MAX: i64 = if cfg!(test) { 7 } else { 8192 };
const RUN_PART: i64 = 64;
/// Bytes of their bodies, about: each is read and let go, so this bounds how long reading takes.
const RUN_BYTES: u64 = 16 << 20;

/// Events that follow one another in the order of storing and are to be taken in.
#[derive(Debug)]
pub(in crate::store) struct Run {
    /// The place that was reached before.
    from: i64,
    /// The place that will be reached with it.
    before: i64,
    /// In the order of storing.
    events: Vec<Entry>,
    /// Places up to the newest event, from `from` on.
    behind: i64,
}

impl Run {
    /// How many events there are, and how many more wait behind them, at most.
    pub(in crate::store) fn len(&self) -> (usize, u64) {
        (self.events.len(), u64::try_from(self.behind - (self.before - self.from)).unwrap_or(0))
    }
}

/// Reads what is to be taken in next; none when there is nothing.
pub(in crate::store) fn read(db: &Connection) -> Result<Option<Run>> {
    let snapshot = db.unchecked_transaction()?;
    let from = reached(&snapshot)?;
    let mut statement =
        snapshot.prepare_cached(&format!("SELECT {ROW}, body FROM events WHERE seq >= ?1 ORDER BY seq LIMIT ?2"))?;
    let newest: Option<i64> =
        snapshot.prepare_cached("SELECT max(seq) FROM events")?.query_row([], |row| row.get(0))?;
    let behind = newest.map_or(0, |newest| newest + 1 - from);
    let run = (behind / RUN_PART).clamp(RUN_MIN, RUN_MAX);
    let mut rows = statement.query(params![from, run])?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(line) = rows.next()? {
        let entry = entry(line)?;
        bytes += entry.row.bytes;
        events.push(entry);
        if bytes > RUN_BYTES {
            break;
        }
    }
    let Some(before) = events.last().map(|last: &Entry| last.row.seq + 1) else {
        return Ok(None);
    };
    Ok(Some(Run { from, before, events, behind }))
}

/// Takes a run in. Returns whether it did: not when another one was taken in since it was read, or an event of it has
/// been pruned; then it is to be read again.
pub(in crate::store) fn take_in(tx: &mut Tx<'_>, run: &Run) -> Result<bool> {
    if tx.catalogued_before() != run.from {
        return Ok(false);
    }
    let (count, copies): (usize, u64) = tx
        .db
        .prepare_cached("SELECT count(*), coalesce(sum(duplicates), 0) FROM events WHERE seq >= ?1 AND seq < ?2")?
        .query_row([run.from, run.before], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if count != run.events.len() {
        return Ok(false);
    }
    let groups = groups::add(tx, &run.events)?;
    names::add(tx, &run.events, &groups)?;
    moments::add(tx, &run.events)?;
    counts::add(tx, &run.events, copies)?;
    streams::add(tx, &run.events)?;
    tx.db.prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'catalogued_before'")?.execute([run.before])?;
    tx.effects.catalogued_before = Some(run.before);
    Ok(true)
}

/// Takes events out that are being pruned.
pub(super) fn take_out(tx: &mut Tx<'_>, pruned: &[Entry]) -> Result<()> {
    let before = tx.catalogued_before();
    let (pruned, _) = pruned.split_at(pruned.partition_point(|entry| entry.row.seq < before));
    let groups = groups::remove(tx, pruned)?;
    names::remove(tx, pruned, &groups)?;
    moments::remove(tx, pruned)?;
    counts::remove(tx, pruned)?;
    streams::remove(tx, pruned)
}

/// Where events received in a span of time may be: places from the first on and before the second, the newest last.
pub(super) fn places(db: &Connection, since: Option<Timestamp>, until: Option<Timestamp>) -> Result<Vec<(i64, i64)>> {
    let mut places = moments::places(db, since, until)?;
    if since.is_some() || until.is_some() {
        let reached = reached(db)?;
        if let Some(last) = places.last_mut() {
            last.1 = last.1.min(reached);
        }
        places.push((reached, i64::MAX));
    }
    Ok(places)
}

/// The place before which events are taken in, as of the last commit.
pub(super) fn reached(db: &Connection) -> Result<i64> {
    db.prepare_cached("SELECT value FROM meta WHERE key = 'catalogued_before'")?.query_row([], |row| row.get(0))
}

/// Reads the columns of [`ROW`] and the body behind them.
pub(super) fn entry(line: &rusqlite::Row<'_>) -> Result<Entry> {
    let row = row(line)?;
    let told = Told::of(row.seq, &event(&row, Bytes::from(line.get::<_, Vec<u8>>(13)?)));
    let kind = match row.facts.kind {
        Kind::Unknown => Cow::Owned(line.get(2)?),
        known => Cow::Borrowed(known.slug()),
    };
    Ok(Entry { row, kind, told })
}

/// What is asked for a list, with the way it must be answered.
#[cfg(test)]
pub(in crate::store) const LIST_QUERIES: [&[(&str, &str)]; 2] = [&select::QUERIES, &names::QUERIES];
