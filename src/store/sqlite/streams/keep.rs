//! The row of a stream in the database.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Result;
use super::pushes::Stored;
use crate::store::streams::keep::{Kept, Open, State};
use crate::streams::StreamName;

/// What [`read`] reads.
pub(super) const COLUMNS: &str =
    "id, state, current, pushes, loose, alone, recordings, events, last_event_at, outlived_at";

/// Has a stream be changed; makes a row where there is none.
pub(super) fn open<'a>(db: &'a Connection, generation: i64, name: &StreamName) -> Result<Open<Stored<'a>>> {
    let kept = match find(db, generation, name)? {
        Some(kept) => kept,
        None => db
            .prepare_cached(&format!(
                "INSERT INTO streams (generation, domain, app, stream) VALUES (?1, ?2, ?3, ?4) RETURNING {COLUMNS}"
            ))?
            .query_row(params![generation, name.domain, name.app, name.stream], |row| read(row, 0))?,
    };
    let stream = kept.id;
    Open::new(kept, Stored { db, stream })
}

pub(super) fn find(db: &Connection, generation: i64, name: &StreamName) -> Result<Option<Kept>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM streams WHERE generation = ?1 AND domain = ?2 AND app = ?3 AND stream = ?4"
    ))?
    .query_row(params![generation, name.domain, name.app, name.stream], |row| read(row, 0))
    .optional()
}

/// Reads [`COLUMNS`], which begin at `from`.
pub(super) fn read(row: &Row<'_>, from: usize) -> Result<Kept> {
    Ok(Kept {
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
    })
}

/// Saves a stream that was in the state `before`.
pub(super) fn save(db: &Connection, kept: &Kept, before: State) -> Result<()> {
    db.prepare_cached(
        "UPDATE streams SET current = ?2, pushes = ?3, loose = ?4, alone = ?5, recordings = ?6, events = ?7, \
         last_event_at = ?8, outlived_at = ?9 WHERE id = ?1",
    )?
    .execute(params![
        kept.id,
        kept.current,
        kept.pushes,
        kept.loose,
        kept.alone,
        kept.recordings,
        kept.events,
        kept.last_event_at,
        kept.outlived_at,
    ])?;
    // Apart, since it moves the row in an index.
    if kept.state != before {
        db.prepare_cached("UPDATE streams SET state = ?2 WHERE id = ?1")?
            .execute(params![kept.id, kept.state as i64])?;
    }
    Ok(())
}

/// Forgets all of a stream.
pub(super) fn forget(db: &Connection, stream: i64) -> Result<()> {
    for sql in [
        "DELETE FROM pushes WHERE stream = ?1",
        "DELETE FROM stream_notes WHERE stream = ?1",
        "DELETE FROM streams WHERE id = ?1",
    ] {
        db.prepare_cached(sql)?.execute([stream])?;
    }
    Ok(())
}
