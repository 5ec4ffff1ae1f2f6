//! The rows of pushes, and of interruptions that name none.

use std::cmp::Ordering;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Result;
use crate::clock::Timestamp;
use crate::streams::{End, Notice, Push, PushName};

/// A push, or an interruption that names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PushRow {
    /// Its name among those of its stream; see [`key_of`].
    pub(super) key: String,
    /// What its events say, those that are gone included.
    pub(super) told: Facts,
    /// What those of its events say that are gone.
    pub(super) outlived: Option<Facts>,
    /// How many of its events are stored.
    pub(super) events: i64,
}

/// When it began and what ended it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    began: Option<Timestamp>,
    end: Option<End>,
}

/// The kinds of keys differ in their first character: interruptions that name no push come first, by their time.
const LOOSE: char = '!';
const NUMBERED: char = '#';
const TIMED: char = '@';
/// Between the keys of interruptions that name no push and those of pushes.
const PUSHES: &str = "\"";

const COLUMNS: &str =
    "name, began, ended, errcode, lasted, outlived, old_began, old_ended, old_errcode, old_lasted, events";

/// The key of what a notice is about.
pub(super) fn key_of(notice: &Notice) -> String {
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

fn loose_key(at: Timestamp) -> String {
    timed(LOOSE, at)
}

/// Sorts by time; nothing happens before 1970.
fn timed(sort: char, at: Timestamp) -> String {
    format!("{sort}{:015}", at.millis().max(0))
}

pub(super) fn is_loose(key: &str) -> bool {
    key.starts_with(LOOSE)
}

impl PushRow {
    /// Reads the row of that key; a new one where there is none, which is then yet to be saved.
    pub(super) fn open(db: &Connection, stream: i64, key: String) -> Result<(Self, bool)> {
        let found = Self::find(db, stream, &key)?;
        let is_new = found.is_none();
        let blank = || Self { key, told: Facts::default(), outlived: None, events: 0 };
        Ok((found.unwrap_or_else(blank), is_new))
    }

    pub(super) fn find(db: &Connection, stream: i64, key: &str) -> Result<Option<Self>> {
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM pushes WHERE stream = ?1 AND name = ?2"))?
            .query_row(params![stream, key], Self::read)
            .optional()
    }

    fn read(row: &Row<'_>) -> Result<Self> {
        let outlived: bool = row.get(5)?;
        Ok(Self {
            key: row.get(0)?,
            told: Facts::read(row, 1)?,
            outlived: outlived.then(|| Facts::read(row, 6)).transpose()?,
            events: row.get(10)?,
        })
    }

    pub(super) fn save(&self, db: &Connection, stream: i64) -> Result<()> {
        let [told, old] = [self.told, self.outlived.unwrap_or_default()].map(Facts::columns);
        db.prepare_cached(&format!(
            "INSERT OR REPLACE INTO pushes (stream, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
        ))?
        .execute(params![
            stream,
            self.key,
            told[0],
            told[1],
            told[2],
            told[3],
            self.outlived.is_some(),
            old[0],
            old[1],
            old[2],
            old[3],
            self.events,
        ])?;
        Ok(())
    }

    pub(super) fn delete(db: &Connection, stream: i64, key: &str) -> Result<()> {
        db.prepare_cached("DELETE FROM pushes WHERE stream = ?1 AND name = ?2")?.execute(params![stream, key])?;
        Ok(())
    }

    /// What is left of it when all of its events are gone that are stored.
    pub(super) fn without_events(self) -> Self {
        Self { told: self.outlived.unwrap_or_default(), events: 0, ..self }
    }

    pub(super) fn push(&self) -> Push {
        let millis = || Timestamp::from_millis(self.key.get(1..).and_then(|digits| digits.parse().ok()).unwrap_or(0));
        let name = match self.key.strip_prefix(NUMBERED) {
            Some(sequence) => PushName::Sequence(sequence.to_owned()),
            None => PushName::Time(millis()),
        };
        Push { name, began: self.told.began, end: self.told.end }
    }

    pub(super) fn end(&self) -> Option<End> {
        self.told.end
    }
}

impl Facts {
    pub(super) fn of(notice: &Notice) -> Self {
        match notice {
            Notice::Began(_, at) => Self { began: Some(*at), end: None },
            Notice::Ended(_, end) => Self { began: None, end: Some(*end) },
        }
    }

    #[must_use]
    pub(super) fn merged(self, other: Self) -> Self {
        let mut push = Push { name: PushName::Time(Timestamp::default()), began: self.began, end: self.end };
        push.merge(other.began, other.end);
        Self { began: push.began, end: push.end }
    }

    fn read(row: &Row<'_>, from: usize) -> Result<Self> {
        let moment = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis));
        let (errcode, lasted) = (row.get(from + 2)?, row.get(from + 3)?);
        Ok(Self { began: moment(from)?, end: moment(from + 1)?.map(|at| End { at, errcode, lasted }) })
    }

    fn columns(self) -> [Option<i64>; 4] {
        let end = self.end;
        [
            self.began.map(Timestamp::millis),
            end.map(|end| end.at.millis()),
            end.and_then(|end| end.errcode),
            end.and_then(|end| end.lasted),
        ]
    }
}

/// The push of a stream that began last: of interruptions that name none, where there is nothing else. Reads all of them.
pub(super) fn newest(db: &Connection, stream: i64) -> Result<Option<PushRow>> {
    let mut newest = None;
    each(db, stream, |row| {
        let later =
            |known: &PushRow| is_loose(&known.key).cmp(&is_loose(&row.key)).then_with(|| by_beginning(&row, known));
        if newest.as_ref().is_none_or(|known| later(known).is_gt()) {
            newest = Some(row);
        }
    })?;
    Ok(newest)
}

/// The order in which the pushes of two rows began.
pub(super) fn by_beginning(one: &PushRow, other: &PushRow) -> Ordering {
    one.push().cmp_by_beginning(&other.push())
}

/// Shows every row of a stream.
pub(super) fn each(db: &Connection, stream: i64, mut show: impl FnMut(PushRow)) -> Result<()> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM pushes WHERE stream = ?1"))?;
    let mut rows = statement.query([stream])?;
    while let Some(row) = rows.next()? {
        show(PushRow::read(row)?);
    }
    Ok(())
}

/// The rows of a stream that know of events that are gone.
pub(super) fn outliving(db: &Connection, stream: i64) -> Result<Vec<PushRow>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM pushes WHERE stream = ?1 AND outlived = 1"))?
        .query_map([stream], PushRow::read)?
        .collect()
}

/// The latest of the interruptions that name no push.
pub(super) fn last_loose(db: &Connection, stream: i64) -> Result<Option<End>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM pushes WHERE stream = ?1 AND name < ?2 ORDER BY name DESC LIMIT 1"
    ))?
    .query_row(params![stream, PUSHES], PushRow::read)
    .optional()
    .map(|row| row.and_then(|row| row.told.end))
}

/// The key before which interruptions that name no push tell of pushes of their own: none before it has a push that
/// began before. Reads all pushes.
pub(super) fn alone_before(db: &Connection, stream: i64) -> Result<String> {
    let (first, unknown): (Option<i64>, i64) = db
        .prepare_cached(
            "SELECT min(coalesce(began, ended - lasted)), count(*) - count(coalesce(began, ended - lasted)) FROM pushes \
             WHERE stream = ?1 AND name > ?2",
        )?
        .query_row(params![stream, PUSHES], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(match first {
        // One of unknown beginning began before all others.
        _ if unknown > 0 => String::new(),
        Some(first) => loose_key(Timestamp::from_millis(first)),
        None => PUSHES.to_owned(),
    })
}

/// How many interruptions have keys before that one.
pub(super) fn count_before(db: &Connection, stream: i64, key: &str) -> Result<i64> {
    db.prepare_cached("SELECT count(*) FROM pushes WHERE stream = ?1 AND name < ?2")?
        .query_row(params![stream, key], |row| row.get(0))
}
