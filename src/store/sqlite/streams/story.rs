//! Everything about one stream: its newest pushes, and what belongs to each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rusqlite::{Connection, params};

use super::keep::{Kept, Sort, State};
use super::pushes;
use super::{Result, list, rebuild};
use crate::clock::Timestamp;
use crate::event::Event;
use crate::store::model::{StreamPush, StreamStory};
use crate::store::sqlite::events;
use crate::streams::{self, Entry, Push, Span, StreamName, owner_of_file, owner_of_moment};

/// Pushes that are told of.
const PUSHES: usize = if cfg!(test) { 4 } else { 100 };
/// Files, and faults, that are told of.
const EVENTS: usize = 200;
/// Bytes of their bodies, about.
const EVENTS_BYTES: usize = 8 << 20;

/// Tells of a stream; none if nothing is known of any push of it.
pub(in crate::store) fn story(db: &Connection, name: &StreamName) -> Result<Option<StreamStory>> {
    let snapshot = db.unchecked_transaction()?;
    let generation = rebuild::generation(&snapshot)?;
    let Some(kept) = Kept::find(&snapshot, generation, name)?.filter(|kept| kept.state != State::Hidden) else {
        return Ok(None);
    };
    // One more than are told of, so that what belongs to that one is not taken for the next one's.
    let timeline = newest(&snapshot, kept.id, PUSHES + 1)?;
    let mut story = StreamStory {
        row: list::row(&snapshot, &kept, name.clone())?,
        timeline: timeline.iter().cloned().map(StreamPush::new).collect(),
        recordings: Vec::new(),
        problems: Vec::new(),
    };
    let mut bytes = 0;
    for sort in [Sort::Recording, Sort::Problem] {
        for event in newest_events(&snapshot, kept.id, sort, &mut bytes)? {
            place(&mut story, &timeline, event);
        }
    }
    story.timeline.truncate(PUSHES);
    for (push, at) in story.timeline.iter_mut().zip(bounds(&timeline)) {
        push.screencapture = picture(&snapshot, kept.id, at)?;
    }
    Ok(Some(story))
}

/// The newest pushes of a stream, in the memory of so many.
fn newest(db: &Connection, stream: i64, count: usize) -> Result<Vec<Span>> {
    let mut newest: BinaryHeap<Reverse<ByBeginning>> = BinaryHeap::new();
    let mut loose = Vec::new();
    pushes::each(db, stream, |row| {
        if pushes::is_loose(&row.key) {
            loose.extend(row.end());
            return;
        }
        newest.push(Reverse(ByBeginning(row.push())));
        if newest.len() > count {
            newest.pop();
        }
    })?;
    let pushes: Vec<Push> = newest.into_iter().map(|Reverse(ByBeginning(push))| push).collect();
    let is_cut = pushes.len() == count;
    let first = pushes.iter().map(Push::beginning).min().flatten();
    // Those before belong to older pushes than are looked at.
    loose.retain(|end| !is_cut || first <= Some(end.at));
    let mut timeline = streams::timeline(pushes, loose);
    timeline.truncate(count);
    Ok(timeline)
}

#[derive(PartialEq, Eq)]
struct ByBeginning(Push);

impl PartialOrd for ByBeginning {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByBeginning {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp_by_beginning(&other.0)
    }
}

/// The newest first.
fn newest_events(db: &Connection, stream: i64, sort: Sort, bytes: &mut usize) -> Result<Vec<Event>> {
    let seqs: Vec<i64> = db
        .prepare_cached(
            "SELECT event FROM stream_notes WHERE stream = ?1 AND sort = ?2 ORDER BY at DESC, event DESC LIMIT ?3",
        )?
        .query_map(params![stream, sort as i64, EVENTS], |row| row.get(0))?
        .collect::<Result<_>>()?;
    let mut found = Vec::new();
    for seq in seqs {
        let event = events::at(db, seq)?;
        *bytes += event.body.len();
        if *bytes > EVENTS_BYTES {
            break;
        }
        found.push(event);
    }
    Ok(found)
}

/// Puts an event where it belongs.
fn place(story: &mut StreamStory, timeline: &[Span], event: Event) {
    let (file, owner) = match Entry::of(&event) {
        Some(Entry::Recording { from, until }) => (true, owner_of_file(timeline, from, until)),
        Some(Entry::Problem(problem)) => (
            false,
            match &problem.push {
                Some(name) => timeline.iter().position(|span| span.name == *name),
                None => owner_of_moment(timeline, problem.at),
            },
        ),
        _ => return,
    };
    let list = match (owner, file) {
        (Some(owner), true) => &mut story.timeline[owner].recordings,
        (Some(owner), false) => &mut story.timeline[owner].problems,
        (None, true) => &mut story.recordings,
        (None, false) => &mut story.problems,
    };
    list.push(event);
}

/// From when on and before when a picture belongs to each push, in milliseconds since 1970; see [`owner_of_moment`].
fn bounds(timeline: &[Span]) -> impl Iterator<Item = (i64, i64)> {
    let began = |span: &Span| span.began.map_or(i64::MIN, Timestamp::millis);
    let before = std::iter::once(i64::MAX).chain(timeline.iter().map(began));
    timeline.iter().map(began).zip(before)
}

/// The newest picture from one moment on and before another.
fn picture(db: &Connection, stream: i64, (from, before): (i64, i64)) -> Result<Option<Event>> {
    let mut statement = db.prepare_cached(
        "SELECT event FROM stream_notes WHERE stream = ?1 AND sort = ?2 AND at >= ?3 AND at < ?4 \
         ORDER BY at DESC, event DESC LIMIT 1",
    )?;
    let mut rows = statement.query(params![stream, Sort::Screencapture as i64, from, before])?;
    rows.next()?.map(|row| events::at(db, row.get(0)?)).transpose()
}
