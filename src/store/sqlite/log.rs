//! The write-ahead log on its way into the database: moved by one thread at a time, and all of it anew when a move fails.
//!
//! SQLite moves what no reader needs any more and counts it as moved; it syncs the database only when nothing is left to
//! move. Should that sync fail, the system takes for written what is not on the disk, no later sync writes it, and SQLite
//! moves only what it has not counted yet before it begins the log anew. So the count is taken back: then all of the log
//! is moved and synced once more. It stands at a documented place of the log's index
//! (<https://sqlite.org/walformat.html#the_wal_index_file_format>).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::beside;

/// The log of an open database. Its files are open as long as the store: whoever closes one gives up all locks of this
/// process on it.
#[derive(Debug)]
pub(super) struct Log {
    index: File,
    database: File,
    moving: Mutex<()>,
}

/// How far the log was moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    /// How long the log is, in pages.
    pub(super) pages: i64,
    /// How many of them are still to be moved, apart from those that came meanwhile.
    pub(super) left: i64,
}

/// How hard a move tries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    /// Leaves alone what somebody reads.
    Passive,
    /// Has the log begin anew with the next write, unless somebody reads.
    Restart,
    /// Empties the file, too.
    Truncate,
}

/// Where the index counts the frames that were moved: four bytes in the order of the machine.
const MOVED_AT: u64 = 96;

impl Log {
    /// The log of the database at a path, which must be open and have been read.
    pub(super) fn of(database: &Path) -> io::Result<Self> {
        let index = File::options().write(true).open(beside(database, "-shm"))?;
        Ok(Self { index, database: File::open(database)?, moving: Mutex::default() })
    }

    /// Moves what can be moved.
    pub(super) fn settle(&self, db: &Connection, how: Move) -> rusqlite::Result<Moved> {
        let _alone = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let pragma = match how {
            Move::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
            Move::Restart => "PRAGMA wal_checkpoint(RESTART)",
            Move::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
        };
        let moved = db.query_row(pragma, [], |row| {
            let (pages, moved) = (row.get(1)?, row.get::<_, i64>(2)?);
            Ok(Moved { pages, left: pages - moved })
        });
        if moved.is_err() {
            self.take_back();
        }
        moved
    }

    /// Syncs what was moved so far, so that whoever moves the rest need not wait for it.
    pub(super) fn sync_moved(&self) -> io::Result<()> {
        let _alone = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let synced = self.database.sync_data();
        if synced.is_err() {
            self.take_back();
        }
        synced
    }

    fn take_back(&self) {
        if let Err(error) = self.index.write_all_at(&0_u32.to_ne_bytes(), MOVED_AT) {
            tracing::error!(%error, "the index of the write-ahead log cannot be written");
        }
    }
}
