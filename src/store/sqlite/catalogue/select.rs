//! Lists of events, the newest first: those of the lists that a filter needs, merged.
//!
//! The order is that of storing, which is that of receipt but for what was imported or readmitted. It never changes, and
//! what is new comes before everything else: somebody who reads page by page meets each event once that was there when he
//! began.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use rusqlite::{Connection, params};

use super::super::super::model::page;
use super::super::events;
use super::names::NameList;
use super::{groups, moments, reached};
use crate::store::model::{EventFilter, EventRow, Page};
use crate::store::names::{Of, digest};

type Result<T> = rusqlite::Result<T>;

/// Places read at once from a list, at first; twice as many each further time, up to the second number.
const CHUNK: (usize, usize) = (16, 256);

/// A page of rows. The cursor is the place of the last row of the page before.
pub(in crate::store) fn list(
    db: &Connection,
    filter: &EventFilter,
    limit: usize,
    before: Option<i64>,
) -> Result<Page<EventRow>> {
    let filter = filter.trimmed();
    let end = before.unwrap_or(i64::MAX);
    // All that is asked must be as of one moment.
    let snapshot = db.unchecked_transaction()?;
    let reached = if filter.is_everything() { i64::MIN } else { reached(&snapshot)? };
    let mut found = events::scan(&snapshot, &filter, reached, end, limit + 1)?;
    if filter.is_of_time_only() {
        for (start, own_end) in moments::places(&snapshot, filter.since, filter.until)?.into_iter().rev() {
            let (end, left) = (own_end.min(end).min(reached), limit + 1 - found.len());
            if left > 0 && start < end {
                found.extend(events::scan(&snapshot, &filter, start, end, left)?);
            }
        }
        return Ok(page(found, limit, |row| row.seq.to_string()));
    }
    let mut walk = Walk::new(&snapshot, &filter, end.min(reached))?;
    while found.len() <= limit {
        let Some(seq) = walk.next()? else {
            break;
        };
        found.extend(events::row_at(&snapshot, seq)?.filter(|row| is_wanted(&filter, row)));
    }
    Ok(page(found, limit, |row| row.seq.to_string()))
}

fn is_wanted(filter: &EventFilter, row: &EventRow) -> bool {
    let facts = &row.facts;
    filter.kind.is_none_or(|kind| kind == facts.kind)
        && filter.verification.is_none_or(|verification| verification == row.verification)
        && [(&filter.domain, &facts.domain), (&filter.app, &facts.app), (&filter.stream, &facts.stream)]
            .iter()
            .all(|(wanted, name)| wanted.is_none() || wanted == name)
        && filter.since.is_none_or(|since| row.received_at >= since)
        && filter.until.is_none_or(|until| row.received_at < until)
}

/// The places of events that a filter may match, the newest first.
struct Walk<'a> {
    sources: Vec<Source<'a>>,
    /// The sources that may have more, by the place that comes next of each, or before which it comes.
    heads: BinaryHeap<(i64, Reverse<usize>)>,
    /// Where they may be; the last comes first.
    places: Vec<(i64, i64)>,
    /// Those from here on have been given.
    end: i64,
}

/// One of the lists, and how far it was read.
struct Source<'a> {
    db: &'a Connection,
    list: List,
    /// Read and not given, the newest first.
    ahead: VecDeque<i64>,
    /// Before this place it was not read yet.
    end: i64,
    chunk: usize,
}

#[derive(Debug)]
enum List {
    Group(i64),
    Name(NameList),
}

impl<'a> Walk<'a> {
    fn new(db: &'a Connection, filter: &EventFilter, end: i64) -> Result<Self> {
        // Nothing has an empty name.
        let is_empty = [&filter.domain, &filter.app, &filter.stream].iter().any(|name| name.as_deref() == Some(""));
        let nothing = is_empty || end == i64::MIN;
        let places = if nothing { Vec::new() } else { moments::places(db, filter.since, filter.until)? };
        let lists = if places.is_empty() { Vec::new() } else { lists(db, filter)? };
        let source = |(list, newest): (List, i64)| Source {
            db,
            list,
            ahead: VecDeque::new(),
            end: newest.saturating_add(1).min(end),
            chunk: CHUNK.0,
        };
        let sources: Vec<_> = lists.into_iter().map(source).collect();
        let heads = sources.iter().enumerate().map(|(at, source)| (source.end, Reverse(at))).collect();
        Ok(Self { sources, heads, places, end })
    }

    fn next(&mut self) -> Result<Option<i64>> {
        while let Some((_, end)) = self.places.last() {
            let Some(seq) = self.next_before(self.end.min(*end))? else {
                return Ok(None);
            };
            self.end = seq;
            while self.places.last().is_some_and(|(start, _)| *start > seq) {
                self.places.pop();
            }
            if self.places.last().is_some_and(|(_, end)| seq < *end) {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }

    /// The newest of all lists before a place.
    fn next_before(&mut self, end: i64) -> Result<Option<i64>> {
        let start = self.places.first().map_or(i64::MIN, |(start, _)| *start);
        while let Some((head, Reverse(at))) = self.heads.pop() {
            let source = &mut self.sources[at];
            let given = source.ahead.pop_front_if(|own| *own == head && head < end);
            source.look_ahead(start, end)?;
            self.heads.extend(source.ahead.front().map(|next| (*next, Reverse(at))));
            if given.is_some() {
                return Ok(given);
            }
        }
        Ok(None)
    }
}

impl Source<'_> {
    /// Sees to it that the next place from `start` on and before `end` is known, unless there is none.
    fn look_ahead(&mut self, start: i64, end: i64) -> Result<()> {
        while self.ahead.front().is_some_and(|next| *next >= end) {
            self.ahead.pop_front();
        }
        if !self.ahead.is_empty() {
            return Ok(());
        }
        let end = self.end.min(end);
        let found = if start < end { self.read(start, end)? } else { Vec::new() };
        self.end = found.last().copied().unwrap_or(start);
        self.ahead.extend(found);
        self.chunk = CHUNK.1.min(self.chunk * 2);
        Ok(())
    }

    fn read(&self, start: i64, end: i64) -> Result<Vec<i64>> {
        let places = |row: &rusqlite::Row<'_>| row.get(0);
        match &self.list {
            List::Group(id) => {
                self.db.prepare_cached(GROUP)?.query_map(params![start, end, self.chunk, id], places)?.collect()
            }
            List::Name(list) => list.next(self.db, start, end, self.chunk),
        }
    }
}

/// The lists a filter needs, each with the place of its newest event or a later one.
fn lists(db: &Connection, filter: &EventFilter) -> Result<Vec<(List, i64)>> {
    let matching = groups::matching(db, filter)?;
    let named = |digest: i64, only_others: bool| {
        let groups = matching.iter().filter(|found| found.group.is_others || !only_others);
        let groups: BTreeSet<i64> = groups.map(|found| found.group.id).collect();
        (List::Name(NameList { digest, groups }), i64::MAX)
    };
    if let Some(stream) = &filter.stream {
        return Ok(vec![named(digest(Of::Stream, stream), false)]);
    }
    let name = match (&filter.domain, &filter.app) {
        (Some(domain), _) => Some(digest(Of::Domain, domain)),
        (None, Some(app)) => Some(digest(Of::App, app)),
        (None, None) => None,
    };
    let own = matching.iter().filter(|found| name.is_none() || !found.group.is_others);
    let mut lists: Vec<_> = own.map(|found| (List::Group(found.group.id), found.newest)).collect();
    if let Some(digest) = name.filter(|_| matching.iter().any(|found| found.group.is_others)) {
        lists.push(named(digest, true));
    }
    Ok(lists)
}

const GROUP: &str =
    "SELECT event FROM grouped WHERE grp = ?4 AND event >= ?1 AND event < ?2 ORDER BY event DESC LIMIT ?3";

/// What is asked for a list, with the way it must be answered.
#[cfg(test)]
pub(super) const QUERIES: [(&str, &str); 1] = [(GROUP, "PRIMARY KEY (grp=? AND event>? AND event<?)")];
