//! The lists of events of one stream, and of names that have no [group](super::groups).
//!
//! Streams are many, most of them short: with one list for all time each event would change a page of its own. So the
//! order of storing is divided into parts, and the lists of a part lie together, few pages that many events share. Who
//! looks for a name looks at one part after the other.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::memory::Tx;
use super::groups::Group;
use crate::store::catalogue::Entry;
use crate::store::names::{Of, digest};

type Result<T> = rusqlite::Result<T>;

/// A part holds the places that differ in this many bits only. More: each run of events changes more pages. Fewer: more
/// parts to look at.
const PART_BITS: u32 = if cfg!(test) { 3 } else { 13 };

/// Parts looked at before it is asked again which one is next. Mostly all are there; where much is pruned, few are.
const PARTS: i64 = 16;

/// A list that is looked through, the newest first.
#[derive(Debug)]
pub(super) struct NameList {
    pub(super) digest: i64,
    /// Only events of these groups.
    pub(super) groups: BTreeSet<i64>,
}

/// Part, name, group, place: as they stand in the table.
type Line = [i64; 4];

/// Lists events that are in these groups.
pub(super) fn add(tx: &Tx<'_>, entries: &[Entry], groups: &[Group]) -> Result<()> {
    let mut insert = tx.db.prepare_cached("INSERT INTO named (part, name, grp, event) VALUES (?1, ?2, ?3, ?4)")?;
    for line in lines(entries.iter().zip(groups.iter().copied())) {
        insert.execute(line)?;
    }
    Ok(())
}

/// Takes events off the lists that were in these groups.
pub(super) fn remove(tx: &Tx<'_>, entries: &[Entry], groups: &[Option<Group>]) -> Result<()> {
    let mut delete =
        tx.db.prepare_cached("DELETE FROM named WHERE part = ?1 AND name = ?2 AND grp = ?3 AND event = ?4")?;
    for line in lines(entries.iter().zip(groups).filter_map(|(entry, group)| Some((entry, (*group)?)))) {
        delete.execute(line)?;
    }
    Ok(())
}

/// In the order of the table.
fn lines<'a>(entries: impl Iterator<Item = (&'a Entry, Group)>) -> BTreeSet<Line> {
    let mut lines = BTreeSet::new();
    for (entry, group) in entries {
        let facts = &entry.row.facts;
        let mut names = vec![(Of::Stream, &facts.stream)];
        if group.is_others {
            names.extend([(Of::Domain, &facts.domain), (Of::App, &facts.app)]);
        }
        let names = names.into_iter().filter_map(|(of, name)| Some(digest(of, name.as_deref()?)));
        lines.extend(names.map(|name| [entry.row.seq >> PART_BITS, name, group.id, entry.row.seq]));
    }
    lines
}

impl NameList {
    /// The next places from `start` on and before `end`, the newest first: at least one unless there are none, and at
    /// most `limit`.
    pub(super) fn next(&self, db: &Connection, start: i64, end: i64, limit: usize) -> Result<Vec<i64>> {
        let mut at_most = (end - 1) >> PART_BITS;
        loop {
            let part: Option<i64> = db.prepare_cached(PART)?.query_row([at_most], |row| row.get(0)).optional()?;
            let Some(newest) = part.filter(|part| *part >= start >> PART_BITS) else {
                return Ok(Vec::new());
            };
            at_most = newest.saturating_sub(PARTS);
            for part in (at_most + 1..=newest).rev() {
                let found = self.in_part(db, part, (start, end), limit)?;
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        }
    }

    fn in_part(&self, db: &Connection, part: i64, (start, end): (i64, i64), limit: usize) -> Result<Vec<i64>> {
        let mut found = Vec::new();
        let mut groups = db.prepare_cached(GROUP)?;
        let mut events = db.prepare_cached(EVENTS)?;
        let mut after = i64::MIN;
        while let Some(group) = groups.query_row(params![part, self.digest, after], |row| row.get(0)).optional()? {
            after = group;
            if self.groups.contains(&group) {
                let places =
                    events.query_map(params![part, self.digest, group, start, end, limit], |row| row.get(0))?;
                found.extend(places.collect::<Result<Vec<i64>>>()?);
            }
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.truncate(limit);
        Ok(found)
    }
}

const PART: &str = "SELECT part FROM named WHERE part <= ?1 ORDER BY part DESC LIMIT 1";
const GROUP: &str = "SELECT grp FROM named WHERE part = ?1 AND name = ?2 AND grp > ?3 ORDER BY grp LIMIT 1";
const EVENTS: &str = "SELECT event FROM named WHERE part = ?1 AND name = ?2 AND grp = ?3 AND event >= ?4 AND event < ?5 \
    ORDER BY event DESC LIMIT ?6";

/// What is asked for a list, with the way it must be answered.
#[cfg(test)]
pub(super) const QUERIES: [(&str, &str); 3] = [
    (PART, "PRIMARY KEY (part<?)"),
    (GROUP, "PRIMARY KEY (part=? AND name=? AND grp>?)"),
    (EVENTS, "PRIMARY KEY (part=? AND name=? AND grp=? AND event>? AND event<?)"),
];
