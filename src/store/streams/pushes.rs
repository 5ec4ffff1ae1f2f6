//! What is known of a push, and of an interruption that names none.

use std::cmp::Ordering;

use crate::clock::Timestamp;
use crate::streams::{End, Notice, Push, PushName};

/// A push, or an interruption that names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct PushRow {
    /// Its name among those of its stream; see [`key_of`].
    pub(in crate::store) key: String,
    /// What its events say, those that are gone included.
    pub(in crate::store) told: Facts,
    /// What those of its events say that are gone.
    pub(in crate::store) outlived: Option<Facts>,
    /// How many of its events are stored.
    pub(in crate::store) events: i64,
}

/// When it began and what ended it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Facts {
    began: Option<Timestamp>,
    end: Option<End>,
}

/// The kinds of keys differ in their first character: interruptions that name no push come first, by their time.
const LOOSE: char = '!';
const NUMBERED: char = '#';
const TIMED: char = '@';
/// Between the keys of interruptions that name no push and those of pushes.
pub(in crate::store) const PUSHES: &str = "\"";

/// The key of what a notice is about.
pub(in crate::store) fn key_of(notice: &Notice) -> String {
    match notice {
        Notice::Began(name, _) | Notice::Ended(Some(name), _) => key_of_push(name),
        Notice::Ended(None, end) => loose_key(end.at),
    }
}

fn key_of_push(name: &PushName) -> String {
    match name {
        PushName::Sequence(sequence) => format!("{NUMBERED}{sequence}"),
        PushName::Time(at) => timed(TIMED, *at),
    }
}

/// The key of an interruption that names no push.
pub(in crate::store) fn loose_key(at: Timestamp) -> String {
    timed(LOOSE, at)
}

/// Sorts by time; nothing happens before 1970.
fn timed(sort: char, at: Timestamp) -> String {
    format!("{sort}{:015}", at.millis().max(0))
}

/// Whether a key is that of an interruption that names no push.
pub(in crate::store) fn is_loose(key: &str) -> bool {
    key.starts_with(LOOSE)
}

impl PushRow {
    /// One of which nothing is known yet.
    pub(in crate::store) fn blank(key: String) -> Self {
        Self { key, told: Facts::default(), outlived: None, events: 0 }
    }

    /// What is left of it when all of its events are gone that are stored.
    pub(in crate::store) fn without_events(self) -> Self {
        Self { told: self.outlived.unwrap_or_default(), events: 0, ..self }
    }

    /// The push it tells of.
    pub(in crate::store) fn push(&self) -> Push {
        let millis = || Timestamp::from_millis(self.key.get(1..).and_then(|digits| digits.parse().ok()).unwrap_or(0));
        let name = match self.key.strip_prefix(NUMBERED) {
            Some(sequence) => PushName::Sequence(sequence.to_owned()),
            None => PushName::Time(millis()),
        };
        Push { name, began: self.told.began, end: self.told.end }
    }

    /// What ended it.
    pub(in crate::store) fn end(&self) -> Option<End> {
        self.told.end
    }
}

impl Facts {
    /// What a notice says.
    pub(in crate::store) fn of(notice: &Notice) -> Self {
        match notice {
            Notice::Began(_, at) => Self { began: Some(*at), end: None },
            Notice::Ended(_, end) => Self { began: None, end: Some(*end) },
        }
    }

    /// What both say.
    #[must_use]
    pub(in crate::store) fn merged(self, other: Self) -> Self {
        let mut push = Push { name: PushName::Time(Timestamp::default()), began: self.began, end: self.end };
        push.merge(other.began, other.end);
        Self { began: push.began, end: push.end }
    }

    /// What was written as [`columns`](Self::columns).
    pub(in crate::store) fn of_columns([began, ended, errcode, lasted]: [Option<i64>; 4]) -> Self {
        let end = ended.map(|at| End { at: Timestamp::from_millis(at), errcode, lasted });
        Self { began: began.map(Timestamp::from_millis), end }
    }

    /// Beginning, end, error code and length, as they stand in columns.
    pub(in crate::store) fn columns(self) -> [Option<i64>; 4] {
        let end = self.end;
        [
            self.began.map(Timestamp::millis),
            end.map(|end| end.at.millis()),
            end.and_then(|end| end.errcode),
            end.and_then(|end| end.lasted),
        ]
    }
}

/// The row of the push that began last: of interruptions that name none, where there is nothing else.
pub(in crate::store) fn later(one: Option<PushRow>, other: PushRow) -> Option<PushRow> {
    let is_later = |known: &PushRow| {
        let named = is_loose(&known.key).cmp(&is_loose(&other.key));
        named.then_with(|| by_beginning(&other, known)).is_gt()
    };
    if one.as_ref().is_none_or(is_later) { Some(other) } else { one }
}

/// The order in which the pushes of two rows began.
pub(in crate::store) fn by_beginning(one: &PushRow, other: &PushRow) -> Ordering {
    one.push().cmp_by_beginning(&other.push())
}
