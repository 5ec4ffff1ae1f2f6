//! What is told of a stream: its newest pushes, and what belongs to each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::keep::{Kept, State};
use super::pushes::{self, PushRow};
use crate::clock::Timestamp;
use crate::event::Event;
use crate::store::model::{Picture, StreamPush, StreamRow, StreamStory};
use crate::streams::{self, End, Entry, Push, Span, StreamName, owner_of_file, owner_of_moment};

/// Pushes that are told of.
const PUSHES: usize = if cfg!(test) { 4 } else { 100 };
/// Files, and faults, that are told of.
pub(in crate::store) const EVENTS: usize = 200;
/// Bytes of their bodies, about.
pub(in crate::store) const EVENTS_BYTES: usize = 8 << 20;

/// A stream as it is listed. `loose` is the latest interruption that names no push, `picture` the latest picture.
pub(in crate::store) fn row(
    kept: &Kept,
    name: StreamName,
    current: Option<&PushRow>,
    loose: Option<End>,
    picture: Option<Picture>,
) -> StreamRow {
    let loose = loose.filter(|_| current.is_some_and(|row| !pushes::is_loose(&row.key)));
    StreamRow {
        name,
        live: kept.state == State::Live,
        current: current.and_then(|row| streams::timeline(vec![row.push()], loose).into_iter().next()),
        pushes: u64::try_from(kept.pushes + kept.alone).unwrap_or(0),
        last_event_at: Timestamp::from_millis(kept.last_event_at),
        recordings: u64::try_from(kept.recordings).unwrap_or(0),
        screencapture: picture,
    }
}

/// The newest pushes of a stream whose rows are shown one after the other, in the memory of as many as are told of.
#[derive(Default)]
pub(in crate::store) struct Newest {
    pushes: BinaryHeap<Reverse<ByBeginning>>,
    loose: Vec<End>,
}

/// One more than are told of, so that what belongs to that one is not taken for the next one's.
const COUNT: usize = PUSHES + 1;

impl Newest {
    /// Looks at a row.
    pub(in crate::store) fn see(&mut self, row: &PushRow) {
        if pushes::is_loose(&row.key) {
            self.loose.extend(row.end());
            return;
        }
        self.pushes.push(Reverse(ByBeginning(row.push())));
        if self.pushes.len() > COUNT {
            self.pushes.pop();
        }
    }

    /// The pushes, the newest first.
    pub(in crate::store) fn timeline(self) -> Vec<Span> {
        let pushes: Vec<Push> = self.pushes.into_iter().map(|Reverse(ByBeginning(push))| push).collect();
        let is_cut = pushes.len() == COUNT;
        let first = pushes.iter().map(Push::beginning).min().flatten();
        // Those before belong to older pushes than are looked at.
        let loose = self.loose.into_iter().filter(|end| !is_cut || first <= Some(end.at));
        let mut timeline = streams::timeline(pushes, loose);
        timeline.truncate(COUNT);
        timeline
    }
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

/// Tells of a stream with its pushes, and one before these, and the newest files and faults.
pub(in crate::store) fn tell(row: StreamRow, timeline: &[Span], events: Vec<Event>) -> StreamStory {
    let pushes = timeline.iter().cloned().map(StreamPush::new).collect();
    let mut story = StreamStory { row, timeline: pushes, recordings: Vec::new(), problems: Vec::new() };
    for event in events {
        place(&mut story, timeline, event);
    }
    story.timeline.truncate(PUSHES);
    story
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
pub(in crate::store) fn bounds(timeline: &[Span]) -> impl Iterator<Item = (i64, i64)> {
    let began = |span: &Span| span.began.map_or(i64::MIN, Timestamp::millis);
    let before = std::iter::once(i64::MAX).chain(timeline.iter().map(began));
    timeline.iter().map(began).zip(before)
}
