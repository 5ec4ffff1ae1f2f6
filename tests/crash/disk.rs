//! What a place keeps, read while nothing else has it open.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use crate::program::Place;

/// An event as it is stored.
pub(crate) struct Stored {
    /// Its place in the order of storing.
    pub(crate) seq: i64,
    pub(crate) id: Uuid,
    /// Copies that were counted at it.
    pub(crate) copies: u32,
    pub(crate) body: Vec<u8>,
}

/// The store, opened to be read. This is the only place that knows how it is laid out.
///
/// Closed before the program opens the store: as the first to open it after a crash, the program has to recover the log.
pub(crate) struct Disk(Connection);

impl Disk {
    pub(crate) fn open(place: &Place) -> Self {
        let db = Connection::open_with_flags(place.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        db.busy_timeout(crate::DEADLINE).unwrap();
        Self(db)
    }

    /// The events behind `after`, in the order of storing.
    pub(crate) fn events(&self, after: i64, mut each: impl FnMut(Stored)) {
        let sql = "SELECT seq, id, duplicates, body FROM events WHERE seq > ?1 ORDER BY seq";
        let mut statement = self.0.prepare(sql).unwrap();
        let mut rows = statement.query([after]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let id = Uuid::from_bytes(row.get(1).unwrap());
            let (seq, copies, body) = (row.get(0).unwrap(), row.get(2).unwrap(), row.get(3).unwrap());
            each(Stored { seq, id, copies, body });
        }
    }

    /// The refused callbacks behind `after`: number and body.
    pub(crate) fn refused(&self, after: i64, mut each: impl FnMut(i64, Vec<u8>)) {
        let mut statement = self.0.prepare("SELECT id, body FROM quarantine WHERE id > ?1 ORDER BY id").unwrap();
        let mut rows = statement.query([after]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            each(row.get(0).unwrap(), row.get(1).unwrap());
        }
    }

    /// The place of the first event; none where there is no event.
    pub(crate) fn first(&self) -> Option<i64> {
        self.0.query_row("SELECT min(seq) FROM events", [], |row| row.get(0)).unwrap()
    }

    /// Keeps the view of the store as it is now until it is dropped, which keeps the log from being written anew.
    pub(crate) fn hold(self) -> Self {
        self.0.execute_batch("BEGIN; SELECT count(*) FROM meta;").unwrap();
        self
    }

    /// What SQLite finds wrong with the file.
    pub(crate) fn damage(&self) -> Option<String> {
        let found: String = self.0.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).unwrap();
        (found != "ok").then_some(found)
    }
}

/// Somebody else who writes to the store, and keeps the program from writing until it is dropped.
pub(crate) struct Stall(Connection);

impl Stall {
    pub(crate) fn begin(place: &Place) -> Self {
        let db = Connection::open_with_flags(place.database(), OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        db.busy_timeout(crate::DEADLINE).unwrap();
        // The last one to close moves the log into the database, which is not what a crash leaves.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(db)
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        let _ = self.0.execute_batch("ROLLBACK");
    }
}

/// How far checkpoints have come, out of the index of the log (<https://sqlite.org/walformat.html>, section 2.2): frames
/// that may have been copied to the database, and frames that are known to have been.
pub(crate) struct Index(File);

impl Index {
    /// None where there is no index. Not for a process that has the store open: closing any descriptor of a file drops
    /// all locks the process has on it.
    pub(crate) fn open(place: &Place) -> Option<Self> {
        File::open(place.index()).ok().map(Self)
    }

    /// Whether a checkpoint has begun and not ended.
    pub(crate) fn is_checkpoint_under_way(&self) -> bool {
        let (attempted, done) = self.backfill();
        attempted > done
    }

    /// Frames that may be in the database, and frames that are.
    pub(crate) fn backfill(&self) -> (u32, u32) {
        let field = |at| {
            let mut bytes = [0; 4];
            let read = self.0.read_exact_at(&mut bytes, at);
            read.map_or(0, |()| u32::from_ne_bytes(bytes))
        };
        (field(ATTEMPTED_AT), field(BACKFILLED_AT))
    }
}

const BACKFILLED_AT: u64 = 96;
const ATTEMPTED_AT: u64 = 128;

/// Leaves bytes behind the end of a file, as a write does that was under way when the power went. A file that is not
/// there stays away.
pub(crate) fn scribble(file: &Path, bytes: &[u8]) {
    if let Ok(mut file) = File::options().append(true).open(file) {
        file.write_all(bytes).unwrap();
    }
}
