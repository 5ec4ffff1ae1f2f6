//! The embedded store: SQLite in WAL mode with a sync at every commit.

mod catalogue;
mod deliveries;
mod engine;
mod events;
mod fresh;
mod handlers;
mod identities;
mod log;
mod memory;
mod prune;
mod quarantine;
mod replays;
mod schema;
pub(super) mod streams;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio_util::sync::CancellationToken;

#[cfg(test)]
pub(super) use self::catalogue::LIST_QUERIES;
#[cfg(test)]
pub(super) use self::deliveries::{HOT_QUERIES, LIST_QUERIES as DELIVERY_LIST_QUERIES};
pub(super) use self::engine::Engine;
use self::handlers::Standings;
use self::log::{Log, Move, Moved};
use self::memory::Tx;
use self::writer::Job;
use super::bells::Bells;
use super::counted::Counted;
use super::health::{Complaints, Health};
use super::model::HandlerId;
use super::open::OpenError;
use super::queue::Queue;
use super::settings::{QuarantineSettings, shown_url};
use crate::clock::Clock;

/// The database file, and how to connect to it.
#[derive(Clone, Debug)]
struct Database {
    path: PathBuf,
    /// Device and number of the file that was opened; none before the first time.
    file: Option<(u64, u64)>,
}

/// What the writer lets others see.
#[derive(Debug)]
pub(super) struct Shared {
    health: Health,
    counted: Mutex<Counted>,
    standings: Mutex<Standings>,
    bounds: Mutex<QuarantineSettings>,
    bells: Bells,
    /// Pages in the write-ahead log at the last checkpoint.
    log_pages: AtomicI64,
    /// Whether the log is long and nearly all of it is moved and synced. Only between two commits can it be moved whole, to
    /// begin anew.
    log_waits: AtomicBool,
    /// Cancelled when the thread that writes has died.
    pub(super) died: CancellationToken,
}

/// An open embedded store.
#[derive(Debug)]
pub(super) struct Sqlite {
    database: Database,
    pub(super) shared: Arc<Shared>,
    idle_readers: Mutex<Vec<Connection>>,
    /// Open as long as the store, and used by nobody. SQLite reads the log anew when the last connection has gone, and
    /// takes for committed what it finds there: also a transaction whose sync failed, which no later sync makes last.
    _anchor: Mutex<Connection>,
    /// Outlives the connections, whose locks would go with it.
    _log: Arc<Log>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
    /// Held as long as the store is open or a thread still works on it, so that no second process opens it.
    _lock: Arc<File>,
}

/// How the store is to be opened.
pub(super) struct Opening<'a> {
    pub(super) url: &'a str,
    pub(super) bounds: QuarantineSettings,
    pub(super) handlers: &'a [String],
    pub(super) stall: Duration,
}

/// Cache of the connection that writes, in KiB: enough for the hot ends of all trees.
const WRITE_CACHE_KIB: i64 = 16 * 1024;
/// Cache of a connection that reads, in KiB.
const READ_CACHE_KIB: i64 = 2 * 1024;
/// A checkpoint so often keeps the log short and its syncs out of the commits.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(100);
/// The log is to begin anew when it has grown past this many pages.
const LOG_PAGES: i64 = 1024;
/// How long a connection waits for another one's lock.
pub(super) const BUSY: Duration = Duration::from_secs(5);
/// Statements each connection keeps prepared.
const STATEMENTS: usize = 64;

impl Sqlite {
    /// Opens or creates the store, brings it to the newest format and starts its threads. Returns the numbers of the
    /// handlers.
    pub(super) fn open(
        opening: &Opening<'_>,
        queue: &Arc<Queue<Box<dyn Job>>>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Vec<HandlerId>), OpenError> {
        let path = path_of(opening.url)?;
        let lock = Arc::new(lock(&path)?);
        let mut database = Database { path, file: None };
        let unusable = |error| OpenError::Unusable { path: database.path.clone(), error };
        let db = database.connect().map_err(unusable)?;
        database.file = database.found();
        settle_log(&db);
        schema::migrate(&db, schema::MIGRATIONS)?;
        sync_directories(&database.path)?;
        let handlers: Vec<_> =
            opening.handlers.iter().map(|name| register(&db, name)).collect::<rusqlite::Result<_>>()?;
        deliveries::shelve_left_over(&db)?;
        let memory = recall(&db)?;
        let shared = Arc::new(Shared {
            health: Health::new(opening.stall),
            counted: Mutex::new(memory.counted.clone()),
            standings: Mutex::new(memory.handlers.clone()),
            bounds: Mutex::new(opening.bounds),
            bells: Bells::default(),
            log_pages: AtomicI64::new(0),
            log_waits: AtomicBool::new(false),
            died: CancellationToken::new(),
        });
        let anchor = database.connect_to_read()?;
        anchor.query_row(FRESH_FROM, [], |_| Ok(()))?;
        require_log(&anchor)?;
        let log = Log::of(&database.path).map_err(|error| OpenError::Io { path: database.path.clone(), error })?;
        let log = Arc::new(log);
        shared.bells.hang(&handlers);
        let writer = writer::Writer {
            database: database.clone(),
            log: Arc::clone(&log),
            db: Some(db),
            memory,
            queue: Arc::clone(queue),
            shared: Arc::clone(&shared),
            clock,
            complaints: Complaints::default(),
        };
        let stopping = Arc::new(AtomicBool::new(false));
        let checkpoints = checkpointer(database.clone(), Arc::clone(&log), Arc::clone(&shared), Arc::clone(&stopping));
        let write = guarded(writer, Arc::clone(&lock));
        let threads = vec![spawn("store-writer", write)?, spawn("store-checkpoint", checkpoints)?];
        let store = Self {
            database,
            shared,
            idle_readers: Mutex::default(),
            _anchor: Mutex::new(anchor),
            _log: log,
            threads: Mutex::new(threads),
            stopping,
            _lock: lock,
        };
        Ok((store, handlers))
    }

    /// Reads on a connection of its own: sees the store as of the last commit.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.idle_readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let db = idle.map_or_else(|| self.database.connect_to_read(), Ok)?;
        let found = work(&db)?;
        self.idle_readers.lock().unwrap_or_else(PoisonError::into_inner).push(db);
        Ok(found)
    }

    /// Bytes on disk: the database and its log.
    pub(super) fn bytes(&self) -> u64 {
        let files = [self.database.path.clone(), beside(&self.database.path, "-wal")];
        files.iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum()
    }

    /// Bytes of the database in use: what pruning can make smaller.
    pub(super) fn bytes_used(&self) -> rusqlite::Result<u64> {
        self.read(|db| {
            let ask = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
            Ok((ask("page_count")? - ask("freelist_count")?) * ask("page_size")?)
        })
    }

    /// Has the threads end, whose queue has been closed.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Waits for the threads, whose queue has been closed. A thread that hangs in the disk is left behind.
    pub(super) fn join(&self, patience: Duration) {
        self.stop();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let until = std::time::Instant::now() + patience;
        for thread in threads {
            while !thread.is_finished() && std::time::Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
            if thread.is_finished() {
                let _ = thread.join();
            } else {
                tracing::error!(thread = thread.thread().name(), "did not stop in time and is left behind");
            }
        }
    }
}

impl Shared {
    /// How much there is as of the last commit.
    fn counted(&self) -> Counted {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why an event cannot be taken at present.
    pub(super) fn trouble(&self) -> Option<String> {
        self.health.trouble()
    }

    /// Other bounds of the quarantine, and another time after which a write counts as stuck.
    pub(super) fn reconfigure(&self, bounds: QuarantineSettings, stall: Duration) {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner) = bounds;
        self.health.set_stall(stall);
    }

    fn bounds(&self) -> QuarantineSettings {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How handlers stand as of the last commit.
    pub(super) fn standings(&self) -> Standings {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, memory: &memory::Memory) {
        publish(&self.counted, &memory.counted);
        publish(&self.standings, &memory.handlers);
    }
}

fn publish<T: Clone + PartialEq>(published: &Mutex<T>, present: &T) {
    let mut published = published.lock().unwrap_or_else(PoisonError::into_inner);
    if *published != *present {
        published.clone_from(present);
    }
}

impl Database {
    /// Device and number of the file at the path.
    fn found(&self) -> Option<(u64, u64)> {
        fs::metadata(&self.path).ok().map(|file| (file.dev(), file.ino()))
    }

    /// Whether the file that was opened still stands at its path. SQLite goes on writing to one that was removed, and all
    /// of it is gone with the process.
    fn is_in_place(&self) -> bool {
        self.file.is_none() || self.file == self.found()
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        // Only the first makes the file: later ones must find the one they know.
        let create = if self.file.is_none() { OpenFlags::SQLITE_OPEN_CREATE } else { OpenFlags::empty() };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
        let db = Connection::open_with_flags(&self.path, flags)?;
        db.busy_timeout(BUSY)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "wal_autocheckpoint", 0)?;
        Self::tune(&db, WRITE_CACHE_KIB)?;
        Ok(db)
    }

    fn connect_to_read(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags)?;
        db.busy_timeout(BUSY)?;
        Self::tune(&db, READ_CACHE_KIB)?;
        Ok(db)
    }

    fn tune(db: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
        db.pragma_update(None, "cache_size", -cache_kib)?;
        db.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(())
    }
}

/// The path with an ending appended: SQLite and we keep further files beside the database.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn path_of(url: &str) -> Result<PathBuf, OpenError> {
    let path = url.strip_prefix("sqlite:").filter(|path| !path.is_empty() && !path.starts_with(':'));
    path.map(PathBuf::from).ok_or_else(|| OpenError::Url(shown_url(url)))
}

/// Bodies hold push secrets: not for everybody's eyes. What is there already stays as it is.
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// Makes the directory and the file where they are missing, and takes the lock file beside the database.
fn lock(path: &Path) -> Result<File, OpenError> {
    let io = |error| OpenError::Io { path: path.to_owned(), error };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(parent).map_err(io)?;
    }
    let mut ours = File::options();
    ours.write(true).mode(FILE_MODE);
    let file = ours.clone().create(true).truncate(false).open(beside(path, ".lock")).map_err(io)?;
    match file.try_lock() {
        // SQLite takes an empty file for a new database, and gives its log the same mode.
        Ok(()) => match ours.create_new(true).open(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(io(error)),
            _ => Ok(file),
        },
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Moves what a former process left in the log into the database. It may have met a sync that failed: then the log can be
/// read and is not on the disk, and nothing must be written behind it. Copied, it is written and synced anew.
fn settle_log(db: &Connection) {
    match db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0)) {
        Ok(false) => {}
        Ok(true) => tracing::warn!("somebody reads the store; its write-ahead log stays as the last run left it"),
        Err(error) => tracing::warn!(%error, "the write-ahead log of the last run cannot be moved into the store"),
    }
}

/// SQLite goes on with another journal where the disk failed, or cannot share memory, when it was told to use a log.
fn require_log(db: &Connection) -> rusqlite::Result<()> {
    let journal: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if journal == "wal" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
    Err(rusqlite::Error::SqliteFailure(code, Some("its disk took no write-ahead log".to_owned())))
}

/// Syncs the directories that lead to the database, so that a power cut after the first answer does not take their
/// entries with it. Those above the first may be unreadable or read-only; then they were there before us.
fn sync_directories(path: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: path.to_owned(), error };
    let absolute = std::path::absolute(path).map_err(io)?;
    let mut directories = absolute.ancestors().skip(1).map(|directory| File::open(directory)?.sync_all());
    directories.next().unwrap_or(Ok(())).map_err(io)?;
    directories.for_each(drop);
    Ok(())
}

/// Gives each of these handlers a number, or finds the one it has.
pub(super) fn register_all(tx: &Tx<'_>, names: &[String]) -> rusqlite::Result<Vec<HandlerId>> {
    names.iter().map(|name| register(tx.db, name)).collect()
}

fn register(db: &Connection, name: &str) -> rusqlite::Result<HandlerId> {
    db.execute("INSERT INTO handlers (name) VALUES (?1) ON CONFLICT DO NOTHING", [name])?;
    db.query_row("SELECT id FROM handlers WHERE name = ?1", [name], |row| row.get(0).map(HandlerId))
}

/// Memory as of what is stored.
fn recall(db: &Connection) -> rusqlite::Result<memory::Memory> {
    let count = |sql: &str| -> rusqlite::Result<BTreeMap<HandlerId, i64>> {
        let mut statement = db.prepare(sql)?;
        statement.query_map([], |row| Ok((HandlerId(row.get(0)?), row.get(1)?)))?.collect()
    };
    let dead = count("SELECT handler, count(*) FROM deliveries WHERE state = 2 GROUP BY handler")?;
    let pending = count(PENDING)?;
    let mut counted = Counted { dead, pending: pending.clone(), ..Counted::default() };
    let mut statement = db.prepare("SELECT reason, count(*), sum(length(body)) FROM quarantine GROUP BY reason")?;
    let refused = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, (row.get(1)?, row.get(2)?))))?;
    for row in refused {
        let (reason, sums) = row?;
        counted.refused.extend(reason.parse().ok().map(|reason| (reason, sums)));
    }
    counted.streams_live = db.query_row("SELECT value FROM meta WHERE key = 'streams_live'", [], |row| row.get(0))?;
    let highest =
        "SELECT max(coalesce((SELECT max(seq) FROM events), 0), (SELECT value FROM meta WHERE key = 'last_seq'))";
    let next_seq = db.query_row(highest, [], |row| row.get::<_, i64>(0))? + 1;
    Ok(memory::Memory {
        in_hand: HashMap::new(),
        counted,
        shelved: pending,
        next_seq,
        handlers: handlers::recall(db)?,
        any_forgotten: db.prepare("SELECT 1 FROM forgotten LIMIT 1")?.exists([])?,
        unfiled: identities::Unfiled::recall(db, next_seq)?,
        fresh: fresh::Fresh::new(db.query_row(FRESH_FROM, [], |row| row.get(0))?),
        catalogued_before: catalogue::reached(db)?,
    })
}

const FRESH_FROM: &str = "SELECT value FROM meta WHERE key = 'fresh_from'";

/// Each part is answered by a partial index: nothing that is done is looked at.
const PENDING: &str = "
SELECT handler, sum(n) FROM (
    SELECT handler, count(*) AS n FROM deliveries WHERE state = 0 AND lane IS NULL GROUP BY handler
    UNION ALL
    SELECT handler, count(*) FROM deliveries WHERE state IN (0, 4) AND lane IS NOT NULL GROUP BY handler
) GROUP BY handler";

/// The writer's thread. Should it panic, whoever waits is told, and the store counts as dead.
fn guarded(writer: writer::Writer, lock: Arc<File>) -> impl FnOnce() + Send {
    move || {
        let (queue, shared) = (Arc::clone(&writer.queue), Arc::clone(&writer.shared));
        if catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
            queue.close();
            shared.health.end(Some("the thread that writes has died".to_owned()));
            for job in queue.abandon() {
                job.finish(Some("the thread that writes has died".to_owned()));
            }
            shared.died.cancel();
        }
        drop(lock);
    }
}

/// Moves the log into the database on a connection of its own, so that the writer need not.
fn checkpointer(
    database: Database,
    log: Arc<Log>,
    shared: Arc<Shared>,
    stopping: Arc<AtomicBool>,
) -> impl FnOnce() + Send {
    move || {
        let mut db = None;
        let mut before = 0;
        while !stopping.load(Ordering::Relaxed) {
            std::thread::sleep(CHECKPOINT_EVERY);
            if !database.is_in_place() {
                continue;
            }
            if db.is_none() {
                db = database.connect().ok();
            }
            let Some(open) = &db else {
                continue;
            };
            shared.log_waits.store(false, Ordering::Relaxed);
            match log.settle(open, Move::Passive) {
                Ok(Moved { pages, left }) => {
                    shared.log_pages.store(pages, Ordering::Relaxed);
                    let is_in_use = std::mem::replace(&mut before, pages) != pages;
                    if is_in_use && pages > LOG_PAGES && left < pages / 2 && log.sync_moved().is_ok() {
                        shared.log_waits.store(true, Ordering::Relaxed);
                    }
                }
                // The writer meets the same trouble and reports it.
                Err(_) => db = None,
            }
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| OpenError::Io { path: PathBuf::from(name), error })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::{Settings, Store};
    use super::*;
    use crate::clock::SystemClock;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn new_files_and_folders_are_not_for_everybody_and_others_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/s.db");
        let open = || {
            let settings = Settings { url: format!("sqlite:{}", path.display()), ..Settings::default() };
            Store::open(settings, &[], Duration::from_secs(5), Arc::new(SystemClock)).unwrap()
        };
        let store = open();
        for ending in ["", "-wal", "-shm", ".lock"] {
            assert_eq!(mode(&beside(&path, ending)) & 0o027, 0, "{ending:?}");
        }
        assert_eq!([mode(&dir.path().join("new")) & 0o027, mode(&dir.path().join("new/folder")) & 0o027], [0, 0]);
        drop(store);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        let waited = std::time::Instant::now();
        while lock(&path).is_err() {
            assert!(waited.elapsed() < Duration::from_secs(20), "the threads of the first end");
        }
        drop(open());
        assert_eq!(mode(&path), 0o664);
    }

    /// Checkpoints on a second connection could corrupt the database before this version (the WAL-reset bug).
    #[test]
    fn the_bundled_sqlite_has_the_fix_our_checkpoints_need() {
        assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
    }
}
