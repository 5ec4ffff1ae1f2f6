//! What the pushes of a stream come to.

use std::collections::BTreeMap;
use std::time::Duration;

use super::push::{End, Push, PushName};
use crate::clock::Timestamp;
use crate::event::{Cause, CauseClass};

/// A push in the history of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What tells it apart.
    pub name: PushName,
    /// When it began; unknown where only an interruption tells of it, and not for how long it had lasted.
    pub began: Option<Timestamp>,
    /// What ended it.
    pub end: Option<End>,
    /// Whether another push began soon enough to have taken its place.
    succeeded: bool,
}

/// A push that began no later than this after another one's end may have taken its place.
const REPLACED_WITHIN: Duration = Duration::from_secs(5);
/// The code of a push that was cut on request or replaced.
const CUT: i64 = 21;

const REPLACED: Cause =
    Cause { class: CauseClass::Replaced, meaning: "a newer push took its place", meaning_zh: "被新的推流顶替" };

/// The history of a stream, the push that began last first. `loose` are the interruptions that name no push: each ends
/// the one that began last before it; where there is none, it tells of a push of its own. Those of one moment are one.
///
/// Given only the pushes that began last, and the loose interruptions since the first of these, it tells of these pushes
/// what it would tell of them given all.
pub fn timeline(mut pushes: Vec<Push>, loose: impl IntoIterator<Item = End>) -> Vec<Span> {
    pushes.sort_by(Push::cmp_by_beginning);
    let mut spans: Vec<Span> = pushes.into_iter().map(Span::of).collect();
    let mut alone: BTreeMap<Timestamp, Push> = BTreeMap::new();
    for end in loose {
        // What is unknown is less than any moment.
        match spans.partition_point(|span| span.began <= Some(end.at)).checked_sub(1) {
            Some(last) => spans[last].end = spans[last].end.max(Some(end)),
            None => {
                alone.entry(end.at).or_insert_with(|| Push::named(PushName::Time(end.at))).merge(None, Some(end));
            }
        }
    }
    let mut alone: Vec<Push> = alone.into_values().collect();
    alone.sort_by(Push::cmp_by_beginning);
    spans.splice(0..0, alone.into_iter().map(Span::of));
    spans.reverse();
    mark_succeeded(&mut spans);
    spans
}

/// Looks for each push, the newest first, at the first that began after it.
fn mark_succeeded(spans: &mut [Span]) {
    let mut next: Option<Timestamp> = None;
    let mut newer: Option<Timestamp> = None;
    for span in spans {
        if span.began < newer {
            next = newer;
        }
        newer = span.began;
        span.succeeded = span.end.is_some_and(|end| next.is_some_and(|next| next <= end.at.plus(REPLACED_WITHIN)));
    }
}

impl Span {
    fn of(push: Push) -> Self {
        Self { began: push.beginning(), name: push.name, end: push.end, succeeded: false }
    }

    /// When it ended.
    pub fn ended(&self) -> Option<Timestamp> {
        self.end.map(|end| end.at)
    }

    /// How long it lasted, in milliseconds: as CSS says, else from beginning to end.
    pub fn lasted(&self) -> Option<i64> {
        let end = self.end?;
        let reckoned = || Some(end.at.millis().saturating_sub(self.began?.millis())).filter(|lasted| *lasted >= 0);
        end.lasted.or_else(reckoned)
    }

    /// Why it ended.
    pub fn cause(&self) -> Option<Cause> {
        let errcode = self.end?.errcode.unwrap_or(0);
        let cause = Cause::of(errcode);
        Some(if errcode == CUT && self.succeeded { REPLACED } else { cause })
    }

    /// How much of the time between two moments, in milliseconds, lies within it.
    fn overlap(&self, from: Timestamp, until: Timestamp) -> i64 {
        let from = self.began.map_or(from, |began| began.max(from));
        let until = self.ended().map_or(until, |ended| ended.min(until));
        until.millis().saturating_sub(from.millis())
    }
}

/// The place of the push whose file has content of the time between two moments: the one that most of it falls into,
/// else the one that began last before its end.
pub fn owner_of_file(timeline: &[Span], from: Timestamp, until: Timestamp) -> Option<usize> {
    let overlaps = timeline.iter().map(|span| span.overlap(from, until)).enumerate();
    // Of equal ones the newest; in the list that is the first.
    let most = overlaps.rev().max_by_key(|(_, overlap)| *overlap).filter(|(_, overlap)| *overlap > 0);
    most.map(|(place, _)| place).or_else(|| owner_of_moment(timeline, until))
}

/// The place of the push that had begun last at a moment.
pub fn owner_of_moment(timeline: &[Span], at: Timestamp) -> Option<usize> {
    timeline.iter().position(|span| span.began <= Some(at))
}
