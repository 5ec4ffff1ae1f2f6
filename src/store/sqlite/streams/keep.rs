//! The row of a stream, and how events change it.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::pushes::{self, Facts, PushRow};
use super::{Result, Told};
use crate::streams::{Entry, Notice, StreamName};

/// Whether a stream is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No push of it is known, only files, pictures or faults.
    Hidden = 0,
    /// The push that began last has ended.
    Ended = 1,
    /// It has not.
    Live = 2,
}

/// What a note refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Recording = 1,
    Screencapture = 2,
    Problem = 3,
}

/// A stream as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) id: i64,
    pub(super) state: State,
    /// Key of the push that began last.
    pub(super) current: Option<String>,
    /// Rows of pushes.
    pub(super) pushes: i64,
    /// Rows of interruptions that name no push.
    pub(super) loose: i64,
    /// Those of them that tell of a push of their own.
    pub(super) alone: i64,
    pub(super) recordings: i64,
    /// Events of it that are stored.
    pub(super) events: i64,
    /// Milliseconds since 1970, as all times here.
    pub(super) last_event_at: i64,
    /// The latest time of an event that is gone.
    pub(super) outlived_at: Option<i64>,
    /// The push that began last, before it was changed.
    former: Option<PushRow>,
    /// Pushes that were changed.
    touched: Vec<PushRow>,
}

/// What [`Kept::read`] reads.
pub(super) const COLUMNS: &str =
    "id, state, current, pushes, loose, alone, recordings, events, last_event_at, outlived_at";

impl State {
    fn of(number: i64) -> Self {
        [Self::Hidden, Self::Ended].into_iter().find(|state| *state as i64 == number).unwrap_or(Self::Live)
    }
}

impl Kept {
    /// Reads a stream's row, or makes one.
    pub(super) fn open(db: &Connection, generation: i64, name: &StreamName) -> Result<Self> {
        let mut kept = match Self::find(db, generation, name)? {
            Some(kept) => kept,
            None => db
                .prepare_cached(&format!(
                    "INSERT INTO streams (generation, domain, app, stream) VALUES (?1, ?2, ?3, ?4) RETURNING {COLUMNS}"
                ))?
                .query_row(params![generation, name.domain, name.app, name.stream], |row| Self::read(row, 0))?,
        };
        if let Some(current) = &kept.current {
            kept.former = PushRow::find(db, kept.id, current)?;
        }
        Ok(kept)
    }

    pub(super) fn find(db: &Connection, generation: i64, name: &StreamName) -> Result<Option<Self>> {
        db.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM streams WHERE generation = ?1 AND domain = ?2 AND app = ?3 AND stream = ?4"
        ))?
        .query_row(params![generation, name.domain, name.app, name.stream], |row| Self::read(row, 0))
        .optional()
    }

    /// Reads [`COLUMNS`], which begin at `from`.
    pub(super) fn read(row: &Row<'_>, from: usize) -> Result<Self> {
        Ok(Self {
            id: row.get(from)?,
            state: State::of(row.get(from + 1)?),
            current: row.get(from + 2)?,
            pushes: row.get(from + 3)?,
            loose: row.get(from + 4)?,
            alone: row.get(from + 5)?,
            recordings: row.get(from + 6)?,
            events: row.get(from + 7)?,
            last_event_at: row.get(from + 8)?,
            outlived_at: row.get(from + 9)?,
            former: None,
            touched: Vec::new(),
        })
    }

    /// Adds what an event says. What follows from it is found in [`close`](Self::close).
    pub(super) fn add(&mut self, db: &Connection, told: &Told) -> Result<()> {
        self.events += 1;
        self.last_event_at = self.last_event_at.max(told.at.millis());
        match &told.entry {
            Entry::Push(notice) => self.merge(db, notice, 1)?,
            other => self.note(db, other, told)?,
        }
        Ok(())
    }

    /// Takes an event out. What its push knows of it stays. What follows from it is found in [`sweep`](Self::sweep).
    pub(super) fn remove(&mut self, db: &Connection, told: &Told) -> Result<()> {
        self.events -= 1;
        self.outlived_at = self.outlived_at.max(Some(told.at.millis()));
        match &told.entry {
            Entry::Push(notice) => self.merge(db, notice, -1)?,
            other => self.unnote(db, other, told)?,
        }
        Ok(())
    }

    /// `change` is 1 for an event that is added, -1 for one that goes.
    fn merge(&mut self, db: &Connection, notice: &Notice, change: i64) -> Result<()> {
        let (mut row, is_new) = PushRow::open(db, self.id, pushes::key_of(notice))?;
        let facts = Facts::of(notice);
        row.told = row.told.merged(facts);
        row.events += change;
        if change < 0 {
            row.outlived = Some(row.outlived.unwrap_or_default().merged(facts));
        }
        row.save(db, self.id)?;
        self.take(row, is_new);
        Ok(())
    }

    /// Counts a row that was saved.
    pub(super) fn take(&mut self, row: PushRow, is_new: bool) {
        let loose = pushes::is_loose(&row.key);
        if is_new {
            *(if loose { &mut self.loose } else { &mut self.pushes }) += 1;
        }
        if !loose {
            self.touched.push(row);
        }
    }

    fn note(&mut self, db: &Connection, entry: &Entry, told: &Told) -> Result<()> {
        let (sort, at) = note_of(entry, told);
        self.recordings += i64::from(sort == Sort::Recording);
        db.prepare_cached("INSERT OR IGNORE INTO stream_notes (stream, sort, at, event) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![self.id, sort as i64, at, told.seq])?;
        Ok(())
    }

    fn unnote(&mut self, db: &Connection, entry: &Entry, told: &Told) -> Result<()> {
        let (sort, at) = note_of(entry, told);
        self.recordings -= i64::from(sort == Sort::Recording);
        db.prepare_cached("DELETE FROM stream_notes WHERE stream = ?1 AND sort = ?2 AND at = ?3 AND event = ?4")?
            .execute(params![self.id, sort as i64, at, told.seq])?;
        Ok(())
    }

    /// Finds what follows from what was added, and saves the row. Returns by how many more streams are live.
    pub(super) fn close(&mut self, db: &Connection) -> Result<i64> {
        self.find_current(db)?;
        let before = self.state;
        self.state = self.state_now(db)?;
        self.alone = match self.alone_before(db)?.as_str() {
            "" => 0,
            key => pushes::count_before(db, self.id, key)?,
        };
        self.save(db, before)?;
        Ok(i64::from(self.state == State::Live) - i64::from(before == State::Live))
    }

    /// As [`close`](Self::close), after events were taken out: forgets what nobody needs any more.
    pub(super) fn sweep(&mut self, db: &Connection) -> Result<i64> {
        // Events may be taken out that were added just before, so it must be found out first.
        let change = self.close(db)?;
        if self.events <= 0 && self.state != State::Live {
            self.forget(db)?;
            return Ok(change);
        }
        let alone_before = self.alone_before(db)?;
        let needed = |row: &PushRow| {
            let ends_one = pushes::is_loose(&row.key) && row.key >= alone_before;
            row.events > 0 || ends_one || Some(&row.key) == self.current.as_ref()
        };
        let gone: Vec<_> = pushes::outliving(db, self.id)?.into_iter().filter(|row| !needed(row)).collect();
        if gone.is_empty() {
            return Ok(change);
        }
        for row in gone {
            PushRow::delete(db, self.id, &row.key)?;
            *(if pushes::is_loose(&row.key) { &mut self.loose } else { &mut self.pushes }) -= 1;
        }
        self.touched.clear();
        Ok(change + self.close(db)?)
    }

    /// The push that began last is one of those that were changed or the one it was; all are looked at only where that one
    /// turns out to have begun earlier.
    fn find_current(&mut self, db: &Connection) -> Result<()> {
        let former = self.former.take().filter(|row| !pushes::is_loose(&row.key));
        let beginning = |row: &PushRow| row.push().beginning();
        let now = former.as_ref().and_then(|row| self.touched.iter().rfind(|touched| touched.key == row.key));
        let earlier = former.as_ref().is_some_and(|row| now.is_some_and(|now| beginning(now) < beginning(row)));
        let newest = if earlier || self.pushes == 0 {
            pushes::newest(db, self.id)?
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
        self.current = newest.as_ref().map(|row| row.key.clone());
        self.former = newest;
        Ok(())
    }

    /// The key before which interruptions that name no push tell of pushes of their own. Most streams have none, and then
    /// nothing is read.
    fn alone_before(&self, db: &Connection) -> Result<String> {
        if self.loose == 0 { Ok(String::new()) } else { pushes::alone_before(db, self.id) }
    }

    fn state_now(&self, db: &Connection) -> Result<State> {
        let Some(current) = &self.former else {
            return Ok(State::Hidden);
        };
        if current.end().is_some() {
            return Ok(State::Ended);
        }
        let loose = if self.loose > 0 { pushes::last_loose(db, self.id)? } else { None };
        let ended = loose.is_some_and(|end| current.push().beginning() <= Some(end.at));
        Ok(if ended { State::Ended } else { State::Live })
    }

    fn save(&self, db: &Connection, before: State) -> Result<()> {
        db.prepare_cached(
            "UPDATE streams SET current = ?2, pushes = ?3, loose = ?4, alone = ?5, recordings = ?6, events = ?7, \
             last_event_at = ?8, outlived_at = ?9 WHERE id = ?1",
        )?
        .execute(params![
            self.id,
            self.current,
            self.pushes,
            self.loose,
            self.alone,
            self.recordings,
            self.events,
            self.last_event_at,
            self.outlived_at,
        ])?;
        // Apart, since it moves the row in an index.
        if self.state != before {
            db.prepare_cached("UPDATE streams SET state = ?2 WHERE id = ?1")?
                .execute(params![self.id, self.state as i64])?;
        }
        Ok(())
    }

    fn forget(&self, db: &Connection) -> Result<()> {
        for sql in [
            "DELETE FROM pushes WHERE stream = ?1",
            "DELETE FROM stream_notes WHERE stream = ?1",
            "DELETE FROM streams WHERE id = ?1",
        ] {
            db.prepare_cached(sql)?.execute([self.id])?;
        }
        Ok(())
    }
}

/// What a note of the event refers to, and the time it is listed under: of a file that of its end.
fn note_of(entry: &Entry, told: &Told) -> (Sort, i64) {
    let sort = match entry {
        Entry::Recording { .. } => Sort::Recording,
        Entry::Screencapture(_) => Sort::Screencapture,
        Entry::Push(_) | Entry::Problem(_) => Sort::Problem,
    };
    (sort, told.at.millis())
}
