//! The rows of pushes, and of interruptions that name none, in the database.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Result;
use crate::clock::Timestamp;
use crate::store::streams::keep::{Note, Rows};
use crate::store::streams::pushes::{Facts, PUSHES, PushRow, later, loose_key};
use crate::streams::End;

/// The rows of one stream.
pub(super) struct Stored<'a> {
    pub(super) db: &'a Connection,
    /// The number of the stream.
    pub(super) stream: i64,
}

const COLUMNS: &str =
    "name, began, ended, errcode, lasted, outlived, old_began, old_ended, old_errcode, old_lasted, events";

/// Whether a push began before all interruptions that name none. One of unknown beginning began before all others.
const BEGAN_BEFORE_LOOSE: &str = "SELECT 1 FROM pushes WHERE stream = ?1 AND name > ?2 \
    AND (coalesce(began, ended - lasted) IS NULL OR coalesce(began, ended - lasted) <= \
    (SELECT ended FROM pushes WHERE stream = ?1 AND name < ?2 ORDER BY name LIMIT 1)) LIMIT 1";

impl Rows for Stored<'_> {
    type Error = rusqlite::Error;

    fn find(&mut self, key: &str) -> Result<Option<PushRow>> {
        find(self.db, self.stream, key)
    }

    fn save(&mut self, row: &PushRow) -> Result<()> {
        let [told, old] = [row.told, row.outlived.unwrap_or_default()].map(Facts::columns);
        self.db
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO pushes (stream, {COLUMNS}) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
            ))?
            .execute(params![
                self.stream,
                row.key,
                told[0],
                told[1],
                told[2],
                told[3],
                row.outlived.is_some(),
                old[0],
                old[1],
                old[2],
                old[3],
                row.events,
            ])?;
        Ok(())
    }

    fn delete(&mut self, key: &str) -> Result<()> {
        self.db
            .prepare_cached("DELETE FROM pushes WHERE stream = ?1 AND name = ?2")?
            .execute(params![self.stream, key])?;
        Ok(())
    }

    fn note(&mut self, note: Note) -> Result<()> {
        self.db
            .prepare_cached("INSERT OR IGNORE INTO stream_notes (stream, sort, at, event) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![self.stream, note.sort as i64, note.at, note.event])?;
        Ok(())
    }

    fn unnote(&mut self, note: Note) -> Result<()> {
        self.db
            .prepare_cached("DELETE FROM stream_notes WHERE stream = ?1 AND sort = ?2 AND at = ?3 AND event = ?4")?
            .execute(params![self.stream, note.sort as i64, note.at, note.event])?;
        Ok(())
    }

    fn newest(&mut self) -> Result<Option<PushRow>> {
        let mut newest = None;
        each(self.db, self.stream, |row| newest = later(newest.take(), row))?;
        Ok(newest)
    }

    fn outliving(&mut self) -> Result<Vec<PushRow>> {
        outliving(self.db, self.stream)
    }

    fn last_loose(&mut self) -> Result<Option<End>> {
        last_loose(self.db, self.stream)
    }

    fn alone_before(&mut self) -> Result<String> {
        // Mostly the first row says so, however many there are.
        if self.db.prepare_cached(BEGAN_BEFORE_LOOSE)?.exists(params![self.stream, PUSHES])? {
            return Ok(String::new());
        }
        let (first, unknown): (Option<i64>, i64) = self
            .db
            .prepare_cached(
                "SELECT min(coalesce(began, ended - lasted)), count(*) - count(coalesce(began, ended - lasted)) \
                 FROM pushes WHERE stream = ?1 AND name > ?2",
            )?
            .query_row(params![self.stream, PUSHES], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(match first {
            // One of unknown beginning began before all others.
            _ if unknown > 0 => String::new(),
            Some(first) => loose_key(Timestamp::from_millis(first)),
            None => PUSHES.to_owned(),
        })
    }

    fn count_before(&mut self, key: &str) -> Result<i64> {
        self.db
            .prepare_cached("SELECT count(*) FROM pushes WHERE stream = ?1 AND name < ?2")?
            .query_row(params![self.stream, key], |row| row.get(0))
    }
}

/// The row of that key.
pub(super) fn find(db: &Connection, stream: i64, key: &str) -> Result<Option<PushRow>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM pushes WHERE stream = ?1 AND name = ?2"))?
        .query_row(params![stream, key], read)
        .optional()
}

/// Shows every row of a stream.
pub(super) fn each(db: &Connection, stream: i64, mut show: impl FnMut(PushRow)) -> Result<()> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM pushes WHERE stream = ?1"))?;
    let mut rows = statement.query([stream])?;
    while let Some(row) = rows.next()? {
        show(read(row)?);
    }
    Ok(())
}

/// The rows of a stream that know of events that are gone.
pub(super) fn outliving(db: &Connection, stream: i64) -> Result<Vec<PushRow>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM pushes WHERE stream = ?1 AND outlived = 1"))?
        .query_map([stream], read)?
        .collect()
}

/// The latest of the interruptions that name no push.
pub(super) fn last_loose(db: &Connection, stream: i64) -> Result<Option<End>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM pushes WHERE stream = ?1 AND name < ?2 ORDER BY name DESC LIMIT 1"
    ))?
    .query_row(params![stream, PUSHES], read)
    .optional()
    .map(|row| row.and_then(|row| row.end()))
}

fn read(row: &Row<'_>) -> Result<PushRow> {
    let facts = |from: usize| -> Result<Facts> {
        Ok(Facts::of_columns([row.get(from)?, row.get(from + 1)?, row.get(from + 2)?, row.get(from + 3)?]))
    };
    let outlived: bool = row.get(5)?;
    Ok(PushRow {
        key: row.get(0)?,
        told: facts(1)?,
        outlived: outlived.then(|| facts(6)).transpose()?,
        events: row.get(10)?,
    })
}
