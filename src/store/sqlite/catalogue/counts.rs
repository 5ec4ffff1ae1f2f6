//! How many events there are of each kind: in all, in each minute, in each hour.

use rusqlite::{OptionalExtension as _, params};

use super::super::memory::Tx;
use crate::store::catalogue::Entry;
use crate::store::catalogue::counts::Change;

type Result<T> = rusqlite::Result<T>;

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
            .execute(params![kind, sum.count, sum.duplicates, sum.last_event_at, sum.last_received_at])?;
    }
    for ((step, at, kind), count) in change.steps {
        tx.db
            .prepare_cached(
                "INSERT INTO counts (step, at, kind, count) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (step, at, kind) DO UPDATE SET count = count + ?4",
            )?
            .execute(params![step, at, kind, count])?;
    }
    Ok(())
}

/// Takes events out of the sums again.
pub(super) fn remove(tx: &Tx<'_>, entries: &[Entry]) -> Result<()> {
    let change = Change::of(entries);
    for (kind, sum) in &change.kinds {
        tx.db
            .prepare_cached("UPDATE kinds SET count = count - ?2, duplicates = duplicates - ?3 WHERE kind = ?1")?
            .execute(params![kind, sum.count, sum.duplicates])?;
    }
    for ((step, at, kind), count) in change.steps {
        let left: Option<i64> = tx
            .db
            .prepare_cached(
                "UPDATE counts SET count = count - ?4 WHERE step = ?1 AND at = ?2 AND kind = ?3 RETURNING count",
            )?
            .query_row(params![step, at, kind, count], |row| row.get(0))
            .optional()?;
        if left.is_some_and(|left| left <= 0) {
            tx.db
                .prepare_cached("DELETE FROM counts WHERE step = ?1 AND at = ?2 AND kind = ?3")?
                .execute(params![step, at, kind])?;
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
fn copies_now<'a>(tx: &Tx<'_>, entries: &'a [Entry], change: &mut Change<'a>) -> Result<()> {
    change.kinds.values_mut().for_each(|sum| sum.duplicates = 0);
    for entry in entries {
        let copies: i64 = tx
            .db
            .prepare_cached("SELECT duplicates FROM events WHERE seq = ?1")?
            .query_row([entry.row.seq], |row| row.get(0))?;
        change.kinds.entry(&entry.kind).or_default().duplicates += copies;
    }
    Ok(())
}
