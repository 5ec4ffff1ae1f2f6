//! What is known already: the identities of all events that are stored.
//!
//! Within a second identities are random, so a table kept in their order changes a page for nearly every event, and all
//! of these pages go into the log. New identities therefore stay in memory for a while and are filed in the table in
//! sorted runs, many to a page. The events carry their identities too: what a crash leaves unfiled is read from them.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::memory::Tx;
use crate::event::{EventId, Identity};

type Result<T> = rusqlite::Result<T>;
type Key = [u8; 32];

/// Identities are collected up to this number before they are filed: enough for some tens to a page at any rate, few
/// enough to be read at a start in no time.
const RUN: usize = 4096;
/// Identities filed by one transaction, at least, and for each event it stores.
const FILED_AT_ONCE: usize = 32;
const FILED_PER_EVENT: usize = 2;

/// Identities that are not in the table yet, with the places of their events.
#[derive(Debug, Default)]
pub(super) struct Unfiled {
    /// Those of a finished run, being filed from the smallest on.
    run: BTreeMap<Key, i64>,
    /// Those of the next run.
    next: BTreeMap<Key, i64>,
    /// No event before this place is unfiled once the run is filed.
    run_end: i64,
}

/// What a transaction changes about it.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    added: BTreeMap<Key, i64>,
    removed: BTreeSet<Key>,
    /// How many of the run are filed, from the smallest on.
    filed: usize,
}

/// What is known of the identity of a new event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing like it.
    Not,
    /// Another event of the same time and natural key and of other content.
    Namesake(EventId),
    /// The event at this place is the same.
    Copy(i64),
}

impl Unfiled {
    /// Reads what a former process left unfiled, and files it if it is a run already: processes that live too shortly to
    /// file their own must not leave ever more behind.
    pub(super) fn recall(db: &Connection, next_seq: i64) -> Result<Self> {
        let next: BTreeMap<Key, i64> = db
            .prepare(
                "SELECT identity, seq FROM events WHERE seq >= (SELECT value FROM meta WHERE key = 'filed_before')",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_>>()?;
        // On a disk that takes nothing they wait in memory as before.
        if next.len() >= RUN && file_all(db, &next, next_seq).is_ok() {
            return Ok(Self::default());
        }
        Ok(Self { next, ..Self::default() })
    }

    /// Makes the changes of a committed transaction true; `next_seq` is the place of the next event.
    pub(super) fn apply(&mut self, changes: Changes, next_seq: i64) {
        for _ in 0..changes.filed {
            self.run.pop_first();
        }
        for identity in &changes.removed {
            self.run.remove(identity);
            self.next.remove(identity);
        }
        self.next.extend(changes.added);
        if self.run.is_empty() && self.next.len() >= RUN {
            self.run = std::mem::take(&mut self.next);
            self.run_end = next_seq;
        }
    }

    fn all(&self) -> [&BTreeMap<Key, i64>; 2] {
        [&self.next, &self.run]
    }
}

fn file_all(db: &Connection, identities: &BTreeMap<Key, i64>, next_seq: i64) -> Result<()> {
    let tx = db.unchecked_transaction()?;
    for (identity, seq) in identities {
        tx.prepare_cached(FILE)?.execute(params![identity, seq])?;
    }
    tx.prepare_cached(FILED_BEFORE)?.execute([next_seq])?;
    tx.commit()
}

/// Looks an identity up.
pub(super) fn find(tx: &Tx<'_>, identity: &Identity) -> Result<Known> {
    let key = *identity.bytes();
    if let Some((_, seq)) = in_memory(tx, key, key) {
        return Ok(Known::Copy(seq));
    }
    let Some((first, last)) = identity.namesakes() else {
        return Ok(in_table(tx.db, key, key)?.map_or(Known::Not, |(_, seq)| Known::Copy(seq)));
    };
    match in_table(tx.db, first, last)? {
        Some((found, seq)) if found == key => Ok(Known::Copy(seq)),
        // With several of that name the first need not be the one.
        Some((_, namesake)) => match in_table(tx.db, key, key)? {
            Some((_, seq)) => Ok(Known::Copy(seq)),
            None => known_as(tx.db, namesake),
        },
        None => in_memory(tx, first, last).map_or(Ok(Known::Not), |(_, namesake)| known_as(tx.db, namesake)),
    }
}

/// Notes the identity of an event that is being stored.
pub(super) fn add(tx: &mut Tx<'_>, identity: &Identity, seq: i64) {
    tx.effects.identities.added.insert(*identity.bytes(), seq);
}

/// Forgets the identity of an event that is being deleted.
pub(super) fn remove(tx: &mut Tx<'_>, identity: Key) -> Result<()> {
    tx.db.prepare_cached("DELETE FROM identities WHERE identity = ?1")?.execute([identity])?;
    tx.effects.identities.added.remove(&identity);
    tx.effects.identities.removed.insert(identity);
    Ok(())
}

/// Files a part of the run, as the last thing a transaction does.
pub(super) fn file(tx: &mut Tx<'_>) -> Result<()> {
    let Tx { db, memory, effects, .. } = tx;
    let (run, changes) = (&memory.unfiled.run, &mut effects.identities);
    if run.is_empty() {
        return Ok(());
    }
    let count = FILED_AT_ONCE.max(changes.added.len() * FILED_PER_EVENT);
    let mut insert = db.prepare_cached(FILE)?;
    for (identity, seq) in run.iter().take(count) {
        if !changes.removed.contains(identity) {
            insert.execute(params![identity, seq])?;
        }
        changes.filed += 1;
    }
    if count >= run.len() {
        db.prepare_cached(FILED_BEFORE)?.execute([memory.unfiled.run_end])?;
    }
    Ok(())
}

/// Of a run that was not filed to its end before a crash, a part is filed already.
const FILE: &str = "INSERT OR IGNORE INTO identities (identity, event) VALUES (?1, ?2)";
const FILED_BEFORE: &str = "UPDATE meta SET value = ?1 WHERE key = 'filed_before'";

/// One of those between two identities, both included, that are not filed, or not before this transaction.
fn in_memory(tx: &Tx<'_>, first: Key, last: Key) -> Option<(Key, i64)> {
    let changes = &tx.effects.identities;
    let mut before = tx.memory.unfiled.all().into_iter().flat_map(|part| part.range(first..=last));
    let found =
        changes.added.range(first..=last).next().or_else(|| before.find(|(key, _)| !changes.removed.contains(*key)));
    found.map(|(key, seq)| (*key, *seq))
}

/// One of those between two identities, both included, that are filed.
fn in_table(db: &Connection, first: Key, last: Key) -> Result<Option<(Key, i64)>> {
    db.prepare_cached("SELECT identity, event FROM identities WHERE identity BETWEEN ?1 AND ?2 LIMIT 1")?
        .query_row(params![first, last], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

fn known_as(db: &Connection, seq: i64) -> Result<Known> {
    db.prepare_cached("SELECT id FROM events WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0).map(EventId::from_bytes))
        .map(Known::Namesake)
}
