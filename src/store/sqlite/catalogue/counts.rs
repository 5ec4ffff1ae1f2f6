//! How many events there are of each kind: in all, in each minute, in each hour.

use std::collections::BTreeMap;

use rusqlite::params;

use super::super::memory::Tx;
use super::Entry;
use crate::clock::Timestamp;
use crate::event::Kind;

type Result<T> = rusqlite::Result<T>;

/// Seconds of the steps that are counted apart.
const STEPS: [i64; 2] = [MINUTE, HOUR];
pub(super) const MINUTE: i64 = 60;
pub(super) const HOUR: i64 = 3600;

/// What some events change.
#[derive(Default)]
struct Change {
    kinds: BTreeMap<Kind, KindChange>,
    /// By length of the step, its number and kind.
    steps: BTreeMap<(i64, i64, Kind), i64>,
}

#[derive(Default)]
struct KindChange {
    count: i64,
    duplicates: i64,
    last_event_at: Option<i64>,
    last_received_at: Option<i64>,
}

/// Counts events that are taken in; `copies` of them have come since, in all. What came last of a kind stays known when
/// it is pruned.
pub(super) fn add(tx: &Tx<'_>, entries: &[Entry], copies: u64) -> Result<()> {
    let mut change = Change::of(entries);
    if copies > 0 {
        copies_now(tx, entries, &mut change)?;
    }
    for (kind, sum) in &change.kinds {
        tx.db
            .prepare_cached(
                "INSERT INTO kinds (kind, count, duplicates, last_event_at, last_received_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (kind) DO UPDATE SET count = count + ?2, \
                 duplicates = duplicates + ?3, \
                 last_event_at = max(coalesce(last_event_at, ?4), coalesce(?4, last_event_at)), \
                 last_received_at = max(coalesce(last_received_at, ?5), ?5)",
            )?
            .execute(params![kind.slug(), sum.count, sum.duplicates, sum.last_event_at, sum.last_received_at])?;
    }
    for ((step, at, kind), count) in change.steps {
        tx.db
            .prepare_cached(
                "INSERT INTO counts (step, at, kind, count) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (step, at, kind) DO UPDATE SET count = count + ?4",
            )?
            .execute(params![step, at, kind.slug(), count])?;
    }
    Ok(())
}

/// Takes events out of the sums again.
pub(super) fn remove(tx: &Tx<'_>, entries: &[Entry]) -> Result<()> {
    let change = Change::of(entries);
    for (kind, sum) in &change.kinds {
        tx.db
            .prepare_cached("UPDATE kinds SET count = count - ?2, duplicates = duplicates - ?3 WHERE kind = ?1")?
            .execute(params![kind.slug(), sum.count, sum.duplicates])?;
    }
    for ((step, at, kind), count) in change.steps {
        let left: i64 = tx
            .db
            .prepare_cached(
                "UPDATE counts SET count = count - ?4 WHERE step = ?1 AND at = ?2 AND kind = ?3 RETURNING count",
            )?
            .query_row(params![step, at, kind.slug(), count], |row| row.get(0))?;
        if left <= 0 {
            tx.db.prepare_cached("DELETE FROM counts WHERE step = ?1 AND at = ?2 AND kind = ?3")?.execute(params![
                step,
                at,
                kind.slug()
            ])?;
        }
    }
    Ok(())
}

/// Counts the copies of a transaction, as the last thing it does. Those of events that are not taken in yet are counted
/// with them.
pub(in super::super) fn note_copies(tx: &Tx<'_>) -> Result<()> {
    for (kind, copies) in &tx.effects.copies {
        tx.db
            .prepare_cached("UPDATE kinds SET duplicates = duplicates + ?2 WHERE kind = ?1")?
            .execute(params![kind, copies])?;
    }
    Ok(())
}

/// Copies may have come since the events were read.
fn copies_now(tx: &Tx<'_>, entries: &[Entry], change: &mut Change) -> Result<()> {
    change.kinds.values_mut().for_each(|sum| sum.duplicates = 0);
    for entry in entries {
        let copies: i64 = tx
            .db
            .prepare_cached("SELECT duplicates FROM events WHERE seq = ?1")?
            .query_row([entry.seq], |row| row.get(0))?;
        change.kinds.entry(entry.event.facts.kind).or_default().duplicates += copies;
    }
    Ok(())
}

impl Change {
    fn of(entries: &[Entry]) -> Self {
        let mut change = Self::default();
        for Entry { event, duplicates, .. } in entries {
            let (kind, received_at) = (event.facts.kind, event.received_at);
            let sum = change.kinds.entry(kind).or_default();
            sum.count += 1;
            sum.duplicates += i64::try_from(*duplicates).unwrap_or(i64::MAX);
            sum.last_event_at = sum.last_event_at.max(event.facts.occurred_at.map(Timestamp::millis));
            sum.last_received_at = sum.last_received_at.max(Some(received_at.millis()));
            for step in STEPS {
                *change.steps.entry((step, received_at.secs().div_euclid(step), kind)).or_default() += 1;
            }
        }
        change
    }
}
