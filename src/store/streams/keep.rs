//! What is kept of a stream, and how events change it.

use super::Told;
use super::pushes::{self, Facts, PushRow};
use crate::clock::Timestamp;
use crate::streams::{End, Entry, Notice};

/// Whether a stream is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum State {
    /// No push of it is known, only other events.
    Hidden = 0,
    /// The push that began last has ended.
    Ended = 1,
    /// It has not.
    Live = 2,
}

/// What a note refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum Sort {
    Recording = 1,
    Screencapture = 2,
    Problem = 3,
}

/// A reference to an event, other than of a push, that belongs to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Note {
    pub(in crate::store) sort: Sort,
    /// The time it is listed under, in milliseconds since 1970: of a file that of its end.
    pub(in crate::store) at: i64,
    /// The place of the event.
    pub(in crate::store) event: i64,
}

/// The rows of one stream, wherever they are kept.
pub(in crate::store) trait Rows {
    /// Why they cannot be had.
    type Error;

    /// The row of that key.
    fn find(&mut self, key: &str) -> Result<Option<PushRow>, Self::Error>;

    /// Puts a row in, or in the place of that of its key.
    fn save(&mut self, row: &PushRow) -> Result<(), Self::Error>;

    /// Takes a row out.
    fn delete(&mut self, key: &str) -> Result<(), Self::Error>;

    /// Refers to an event, unless that is done already.
    fn note(&mut self, note: Note) -> Result<(), Self::Error>;

    /// Refers to it no longer.
    fn unnote(&mut self, note: Note) -> Result<(), Self::Error>;

    /// The push that began last: of interruptions that name none, where there is nothing else. Looks at all rows.
    fn newest(&mut self) -> Result<Option<PushRow>, Self::Error>;

    /// The rows that know of events that are gone.
    fn outliving(&mut self) -> Result<Vec<PushRow>, Self::Error>;

    /// The latest of the interruptions that name no push.
    fn last_loose(&mut self) -> Result<Option<End>, Self::Error>;

    /// The key before which interruptions that name no push tell of pushes of their own: none before it has a push that
    /// began before. Looks at all rows of pushes.
    fn alone_before(&mut self) -> Result<String, Self::Error>;

    /// How many interruptions that name no push have keys before that one.
    fn count_before(&mut self, key: &str) -> Result<i64, Self::Error>;
}

/// A stream as it is kept.
#[derive(Clone, Debug)]
pub(in crate::store) struct Kept {
    pub(in crate::store) id: i64,
    pub(in crate::store) state: State,
    /// Key of the push that began last.
    pub(in crate::store) current: Option<String>,
    /// Rows of pushes.
    pub(in crate::store) pushes: i64,
    /// Rows of interruptions that name no push.
    pub(in crate::store) loose: i64,
    /// Those of them that tell of a push of their own.
    pub(in crate::store) alone: i64,
    pub(in crate::store) recordings: i64,
    /// Events of it that are stored.
    pub(in crate::store) events: i64,
    /// Milliseconds since 1970, as all times here.
    pub(in crate::store) last_event_at: i64,
    /// The latest time of an event that is gone.
    pub(in crate::store) outlived_at: Option<i64>,
}

/// A stream that is being changed.
pub(in crate::store) struct Open<R> {
    pub(in crate::store) kept: Kept,
    pub(in crate::store) rows: R,
    /// The push that began last, before it was changed.
    former: Option<PushRow>,
    /// Pushes that were changed.
    touched: Vec<PushRow>,
}

impl State {
    /// The state of that number.
    pub(in crate::store) fn of(number: i64) -> Self {
        [Self::Hidden, Self::Ended].into_iter().find(|state| *state as i64 == number).unwrap_or(Self::Live)
    }
}

impl<R: Rows> Open<R> {
    /// Has a stream be changed whose rows these are.
    pub(in crate::store) fn new(kept: Kept, mut rows: R) -> Result<Self, R::Error> {
        let former = match &kept.current {
            Some(current) => rows.find(current)?,
            None => None,
        };
        Ok(Self { kept, rows, former, touched: Vec::new() })
    }

    /// Adds what an event says. What follows from it is found in [`close`](Self::close).
    pub(in crate::store) fn add(&mut self, told: &Told) -> Result<(), R::Error> {
        self.kept.events += 1;
        self.kept.last_event_at = self.kept.last_event_at.max(told.dated.map_or(0, Timestamp::millis));
        if let Entry::Push(notice) = &told.entry {
            return self.merge(notice, 1);
        }
        let Some(note) = note_of(told) else { return Ok(()) };
        self.kept.recordings += i64::from(note.sort == Sort::Recording);
        self.rows.note(note)
    }

    /// Takes an event out. What its push knows of it stays. What follows from it is found in [`sweep`](Self::sweep).
    pub(in crate::store) fn remove(&mut self, told: &Told) -> Result<(), R::Error> {
        self.kept.events -= 1;
        self.kept.outlived_at = self.kept.outlived_at.max(told.dated.map(Timestamp::millis));
        if let Entry::Push(notice) = &told.entry {
            return self.merge(notice, -1);
        }
        let Some(note) = note_of(told) else { return Ok(()) };
        self.kept.recordings -= i64::from(note.sort == Sort::Recording);
        self.rows.unnote(note)
    }

    /// `change` is 1 for an event that is added, -1 for one that goes.
    fn merge(&mut self, notice: &Notice, change: i64) -> Result<(), R::Error> {
        let key = pushes::key_of(notice);
        let found = self.rows.find(&key)?;
        let is_new = found.is_none();
        let mut row = found.unwrap_or_else(|| PushRow::blank(key));
        let facts = Facts::of(notice);
        row.told = row.told.merged(facts);
        row.events += change;
        if change < 0 {
            row.outlived = Some(row.outlived.unwrap_or_default().merged(facts));
        }
        self.put(row, is_new)
    }

    /// Takes over what outlived its events from a row of a former generation.
    pub(in crate::store) fn carry(&mut self, row: PushRow) -> Result<(), R::Error> {
        self.put(row.without_events(), true)
    }

    fn put(&mut self, row: PushRow, is_new: bool) -> Result<(), R::Error> {
        self.rows.save(&row)?;
        let loose = pushes::is_loose(&row.key);
        if is_new {
            *self.count_of(loose) += 1;
        }
        if !loose {
            self.touched.push(row);
        }
        Ok(())
    }

    fn count_of(&mut self, loose: bool) -> &mut i64 {
        if loose { &mut self.kept.loose } else { &mut self.kept.pushes }
    }

    /// Finds what follows from what was added. Returns by how many more streams are live.
    pub(in crate::store) fn close(&mut self) -> Result<i64, R::Error> {
        self.find_current()?;
        let before = self.kept.state;
        self.kept.state = self.state_now()?;
        self.kept.alone = match self.alone_before()?.as_str() {
            "" => 0,
            key => self.rows.count_before(key)?,
        };
        Ok(i64::from(self.kept.state == State::Live) - i64::from(before == State::Live))
    }

    /// As [`close`](Self::close), after events were taken out: forgets rows nobody needs any more. Returns also whether
    /// the stream itself is still needed; otherwise all of it is to be forgotten.
    pub(in crate::store) fn sweep(&mut self) -> Result<(i64, bool), R::Error> {
        // Events may be taken out that were added just before, so it must be found out first.
        let mut change = self.close()?;
        // What goes may have been all that another row was needed for.
        loop {
            if self.kept.events <= 0 && self.kept.state != State::Live {
                return Ok((change, false));
            }
            let alone_before = self.alone_before()?;
            let needed = |row: &PushRow| {
                let ends_one = pushes::is_loose(&row.key) && row.key >= alone_before;
                row.events > 0 || ends_one || Some(&row.key) == self.kept.current.as_ref()
            };
            let gone: Vec<_> = self.rows.outliving()?.into_iter().filter(|row| !needed(row)).collect();
            if gone.is_empty() {
                return Ok((change, true));
            }
            for row in gone {
                self.rows.delete(&row.key)?;
                *self.count_of(pushes::is_loose(&row.key)) -= 1;
            }
            self.touched.clear();
            change += self.close()?;
        }
    }

    /// The push that began last is one of those that were changed or the one it was; all are looked at only where that one
    /// turns out to have begun earlier.
    fn find_current(&mut self) -> Result<(), R::Error> {
        let former = self.former.take().filter(|row| !pushes::is_loose(&row.key));
        let beginning = |row: &PushRow| row.push().beginning();
        let now = former.as_ref().and_then(|row| self.touched.iter().rfind(|touched| touched.key == row.key));
        let earlier = former.as_ref().is_some_and(|row| now.is_some_and(|now| beginning(now) < beginning(row)));
        let newest = if earlier || self.kept.pushes == 0 {
            self.rows.newest()?
        } else {
            // The last state of each that was changed comes last.
            let known = former.iter().chain(&self.touched).cloned();
            let mut latest: Vec<PushRow> = Vec::new();
            for row in known {
                latest.retain(|known| known.key != row.key);
                latest.push(row);
            }
            latest.into_iter().max_by(pushes::by_beginning)
        };
        self.kept.current = newest.as_ref().map(|row| row.key.clone());
        self.former = newest;
        Ok(())
    }

    /// The key before which interruptions that name no push tell of pushes of their own. Most streams have none, and then
    /// nothing is read.
    fn alone_before(&mut self) -> Result<String, R::Error> {
        if self.kept.loose == 0 { Ok(String::new()) } else { self.rows.alone_before() }
    }

    fn state_now(&mut self) -> Result<State, R::Error> {
        let Some(current) = &self.former else {
            return Ok(State::Hidden);
        };
        if current.end().is_some() {
            return Ok(State::Ended);
        }
        let loose = if self.kept.loose > 0 { self.rows.last_loose()? } else { None };
        let ended = loose.is_some_and(|end| current.push().beginning() <= Some(end.at));
        Ok(if ended { State::Ended } else { State::Live })
    }
}

/// What refers to an event, if anything does.
fn note_of(told: &Told) -> Option<Note> {
    let sort = match &told.entry {
        Entry::Recording { .. } => Sort::Recording,
        Entry::Screencapture(_) => Sort::Screencapture,
        Entry::Problem(_) => Sort::Problem,
        Entry::Push(_) | Entry::Mention => return None,
    };
    Some(Note { sort, at: told.at.millis(), event: told.seq })
}
