//! The lists of events of one kind, domain, app and verification: any choice of these four is a few of the lists, merged.
//!
//! There are few groups unless somebody makes up names. Where there are many, the events of names that are new share a
//! group for each kind and verification, and are found by [`names`](super::names) instead.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};

use super::super::events::where_clause;
use super::super::memory::Tx;
use crate::event::{Kind, Verification};
use crate::store::catalogue::Entry;
use crate::store::model::EventFilter;

type Result<T> = rusqlite::Result<T>;

/// Groups beyond this are not made. All are looked at for every list.
const GROUPS_MAX: i64 = if cfg!(test) { 9 } else { 4096 };
/// Stands for a name that is not there; names are never empty.
const NONE: &str = "";
/// Stands for all names that have no group; names are without blanks at their ends.
const OTHERS: &str = " ";

/// What the events of a group have in common.
type Key<'a> = (&'a str, &'a str, &'a str, Verification);

/// A group as it stands in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) id: i64,
    /// Whether it holds the events of several names.
    pub(super) is_others: bool,
}

/// A group that a list is made of.
pub(super) struct Match {
    pub(super) group: Group,
    /// No event of it stands behind this place.
    pub(super) newest: i64,
}

/// Lists events. Returns the group of each.
pub(super) fn add(tx: &Tx<'_>, entries: &[Entry]) -> Result<Vec<Group>> {
    let mut by_key: BTreeMap<Key<'_>, Vec<usize>> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        by_key.entry(key(entry)).or_default().push(at);
    }
    let mut room = None;
    let mut groups = vec![Group { id: 0, is_others: false }; entries.len()];
    for (key, members) in by_key {
        let group = find_or_make(tx.db, key, &mut room)?;
        for at in &members {
            groups[*at] = group;
            tx.db
                .prepare_cached("INSERT INTO grouped (grp, event) VALUES (?1, ?2)")?
                .execute([group.id, entries[*at].row.seq])?;
        }
        let newest = members.last().map(|at| entries[*at].row.seq);
        tx.db
            .prepare_cached("UPDATE groups SET count = count + ?2, newest = max(newest, ?3) WHERE id = ?1")?
            .execute(params![group.id, members.len(), newest])?;
    }
    Ok(groups)
}

/// Takes events off the lists, and forgets groups that have none left. Returns the group each was in, if it was in any.
pub(super) fn remove(tx: &Tx<'_>, entries: &[Entry]) -> Result<Vec<Option<Group>>> {
    let mut known: BTreeMap<Key<'_>, [Option<Group>; 2]> = BTreeMap::new();
    let mut gone: BTreeMap<i64, i64> = BTreeMap::new();
    let mut groups = Vec::with_capacity(entries.len());
    for entry in entries {
        let key = key(entry);
        // It may have been stored before there was room for a group of its own.
        let candidates = match known.get(&key) {
            Some(candidates) => *candidates,
            None => *known.entry(key).or_insert([find(tx.db, key)?, find(tx.db, others(key))?]),
        };
        let mut own = None;
        for group in candidates.into_iter().flatten() {
            let removed = tx
                .db
                .prepare_cached("DELETE FROM grouped WHERE grp = ?1 AND event = ?2")?
                .execute([group.id, entry.row.seq])?;
            if removed > 0 {
                *gone.entry(group.id).or_default() += 1;
                own = Some(group);
                break;
            }
        }
        groups.push(own);
    }
    for (id, count) in gone {
        tx.db.prepare_cached("UPDATE groups SET count = count - ?2 WHERE id = ?1")?.execute([id, count])?;
        tx.db.prepare_cached("DELETE FROM groups WHERE id = ?1 AND count <= 0")?.execute([id])?;
    }
    Ok(groups)
}

/// The groups whose events a filter may match.
pub(super) fn matching(db: &Connection, filter: &EventFilter) -> Result<Vec<Match>> {
    let kind = filter.kind.map(Kind::slug);
    let verification = filter.verification.map(Verification::slug);
    let conditions: Vec<(&str, &str)> = [
        ("kind = ?", kind),
        ("verification = ?", verification),
        ("domain IN (?, ' ')", filter.domain.as_deref()),
        ("app IN (?, ' ')", filter.app.as_deref()),
    ]
    .into_iter()
    .filter_map(|(condition, value)| Some((condition, value?)))
    .collect();
    let wanted = where_clause(conditions.iter().map(|(condition, _)| *condition));
    let read = |row: &rusqlite::Row<'_>| {
        let group = Group { id: row.get(0)?, is_others: row.get::<_, String>(1)? == OTHERS };
        Ok(Match { group, newest: row.get(2)? })
    };
    db.prepare_cached(&format!("SELECT id, domain, newest FROM groups {wanted}"))?
        .query_map(params_from_iter(conditions.iter().map(|(_, value)| *value)), read)?
        .collect()
}

fn key(entry: &Entry) -> Key<'_> {
    let facts = &entry.row.facts;
    let (domain, app) = (facts.domain.as_deref().unwrap_or(NONE), facts.app.as_deref().unwrap_or(NONE));
    (&entry.kind, domain, app, entry.row.verification)
}

fn others(key: Key<'_>) -> Key<'_> {
    (key.0, OTHERS, OTHERS, key.3)
}

/// `room` is how many groups may still be made; none: that was not looked up yet.
fn find_or_make(db: &Connection, key: Key<'_>, room: &mut Option<i64>) -> Result<Group> {
    if let Some(group) = find(db, key)? {
        return Ok(group);
    }
    let left = match *room {
        Some(left) => left,
        None => GROUPS_MAX - db.query_row("SELECT count(*) FROM groups", [], |row| row.get::<_, i64>(0))?,
    };
    *room = Some(left - 1);
    if left > 0 {
        return make(db, key);
    }
    let others = others(key);
    find(db, others)?.map_or_else(|| make(db, others), Ok)
}

fn find(db: &Connection, (kind, domain, app, verification): Key<'_>) -> Result<Option<Group>> {
    db.prepare_cached(FIND)?
        .query_row(params![kind, domain, app, verification.slug()], |row| {
            Ok(Group { id: row.get(0)?, is_others: domain == OTHERS })
        })
        .optional()
}

fn make(db: &Connection, (kind, domain, app, verification): Key<'_>) -> Result<Group> {
    db.prepare_cached(
        "INSERT INTO groups (kind, domain, app, verification, count, newest) VALUES (?1, ?2, ?3, ?4, 0, 0) RETURNING id",
    )?
    .query_row(params![kind, domain, app, verification.slug()], |row| {
        Ok(Group { id: row.get(0)?, is_others: domain == OTHERS })
    })
}

const FIND: &str = "SELECT id FROM groups WHERE kind = ?1 AND domain = ?2 AND app = ?3 AND verification = ?4";
