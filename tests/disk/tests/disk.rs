//! The disk does as it is told, and nothing else.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::path::Path;
use std::time::{Duration, Instant};

use faulty_disk::{Counts, Disk, Failure, Fault, Op};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tempfile::TempDir;

/// What does not come about in this time never will.
const DEADLINE: Duration = Duration::from_secs(20);

fn covered() -> (TempDir, Disk) {
    faulty_disk::install();
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::over(directory.path());
    (directory, disk)
}

fn open(directory: &Path) -> Connection {
    let db = Connection::open(directory.join("a.db")).unwrap();
    db.busy_timeout(DEADLINE).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0").unwrap();
    db.execute_batch("CREATE TABLE IF NOT EXISTS t (x)").unwrap();
    db
}

fn insert(db: &Connection) -> rusqlite::Result<usize> {
    db.execute("INSERT INTO t VALUES (randomblob(1000))", [])
}

fn count(db: &Connection) -> i64 {
    db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn extended(error: &rusqlite::Error) -> i32 {
    let rusqlite::Error::SqliteFailure(failure, _) = error else { panic!("{error}") };
    failure.extended_code
}

#[track_caller]
fn fails_with(outcome: rusqlite::Result<usize>, code: i32) {
    let error = outcome.unwrap_err();
    assert_eq!(extended(&error), code, "{error}");
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is() {
        assert!(Instant::now() < until, "never came about: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn several_connections_share_a_write_ahead_log() {
    let (directory, disk) = covered();
    let db = open(directory.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let db = open(directory.path());
                (0..20).for_each(|_| assert_eq!(insert(&db).unwrap(), 1));
            });
        }
        scope.spawn(|| {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
            let reader = Connection::open_with_flags(directory.path().join("a.db"), flags).unwrap();
            eventually("a reader sees all", || count(&reader) == 80);
        });
    });
    let moved: (i64, i64, i64) =
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    assert_eq!(moved.0, 0, "the checkpoint was not kept back");
    let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    let intact: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!((mode.as_str(), intact.as_str()), ("wal", "ok"));
    let counts = disk.counts();
    assert!(counts.syncs >= 80 && counts.writes > counts.syncs && counts.truncates > 0, "{counts:?}");
    assert_eq!(counts.failed, 0);
}

#[test]
fn the_nth_operation_fails_once_and_no_other() {
    let (directory, disk) = covered();
    let db = open(directory.path());
    disk.fail(Fault::sync(2));
    insert(&db).unwrap();
    fails_with(insert(&db), rusqlite::ffi::SQLITE_IOERR_FSYNC);
    insert(&db).unwrap();
    disk.fail(Fault::write(1).on("b.db-wal"));
    disk.fail(Fault::write(1).with(Failure::Full).on("a.db-wal"));
    fails_with(insert(&db), rusqlite::ffi::SQLITE_FULL);
    insert(&db).unwrap();
    assert_eq!((count(&db), disk.counts().failed), (3, 2));
    let fresh = Connection::open(directory.path().join("a.db")).unwrap();
    disk.fail(Fault::read(1));
    let error = fresh.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap_err();
    assert_eq!(extended(&error), rusqlite::ffi::SQLITE_IOERR_READ);
    assert_eq!(count(&fresh), 3);
}

#[test]
fn every_one_from_the_nth_on_fails_until_the_disk_is_healed() {
    let (directory, disk) = covered();
    let db = open(directory.path());
    insert(&db).unwrap();
    disk.fail(Fault::change(1).until_healed());
    (0..3).for_each(|_| fails_with(insert(&db), rusqlite::ffi::SQLITE_IOERR_WRITE));
    assert_eq!(count(&db), 1, "it can be read");
    disk.heal();
    insert(&db).unwrap();
    assert_eq!(count(&db), 2);
}

#[test]
fn a_torn_write_arrives_in_part() {
    let (directory, disk) = covered();
    let db = open(directory.path());
    insert(&db).unwrap();
    let log = directory.path().join("a.db-wal");
    let before = std::fs::metadata(&log).unwrap().len();
    disk.fail(Fault::write(2).torn(100));
    fails_with(insert(&db), rusqlite::ffi::SQLITE_IOERR_WRITE);
    // The first write was the head of a frame, which is 24 bytes long.
    assert_eq!(std::fs::metadata(&log).unwrap().len(), before + 24 + 100);
    drop(db);
    assert_eq!(count(&open(directory.path())), 1);
}

#[test]
fn what_survives_a_power_cut_is_what_was_synced() {
    faulty_disk::install();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = Disk::over(here.path());
    disk.remember();
    let db = open(here.path());
    insert(&db).unwrap();
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    insert(&db).unwrap();
    db.execute_batch("PRAGMA synchronous = NORMAL").unwrap();
    insert(&db).unwrap();
    disk.survivors(there.path()).unwrap();
    assert_eq!((count(&db), count(&open(there.path()))), (3, 2), "the third was never synced");
}

#[test]
fn what_a_failed_sync_was_to_make_last_never_does() {
    faulty_disk::install();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = Disk::over(here.path());
    disk.remember();
    let db = open(here.path());
    disk.fail(Fault::sync(1));
    assert!(insert(&db).is_err());
    insert(&db).unwrap();
    disk.survivors(there.path()).unwrap();
    assert_eq!(count(&open(there.path())), 1, "SQLite writes it anew");
    db.execute_batch("PRAGMA synchronous = NORMAL").unwrap();
    insert(&db).unwrap();
    db.execute_batch("PRAGMA synchronous = FULL").unwrap();
    disk.fail(Fault::sync(1));
    assert!(insert(&db).is_err());
    insert(&db).unwrap();
    let there = tempfile::tempdir().unwrap();
    disk.survivors(there.path()).unwrap();
    assert_eq!((count(&db), count(&open(there.path()))), (3, 1), "the second is missing in the log, so it ends before");
}

#[test]
fn a_full_disk_takes_what_needs_no_room() {
    let (directory, disk) = covered();
    let db = open(directory.path());
    insert(&db).unwrap();
    disk.fill();
    fails_with(insert(&db), rusqlite::ffi::SQLITE_FULL);
    let moved = db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, i64>(0));
    assert!(moved.is_err(), "the table's page is new to the database");
    disk.heal();
    insert(&db).unwrap();
    db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
    disk.fill();
    db.execute("UPDATE t SET x = 1 WHERE rowid = 1", []).unwrap();
    assert_eq!(disk.counts().failed, 2, "the log has begun anew and is overwritten");
}

#[test]
fn a_read_only_disk_can_be_read_and_opened() {
    let (directory, disk) = covered();
    let db = open(directory.path());
    insert(&db).unwrap();
    disk.refuse_writes();
    fails_with(insert(&db), rusqlite::ffi::SQLITE_IOERR_WRITE);
    let other = Connection::open(directory.path().join("a.db")).unwrap();
    assert_eq!(count(&other), 1);
    let error = insert(&other).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly), "{error}");
    let missing = Connection::open(directory.path().join("b.db"));
    assert_eq!(missing.unwrap_err().sqlite_error_code(), Some(ErrorCode::CannotOpen));
    disk.heal();
    insert(&db).unwrap();
}

#[test]
fn opening_fails_when_told_so() {
    let (directory, disk) = covered();
    disk.fail(Fault::of(&[Op::Open], 1));
    let refused = Connection::open(directory.path().join("a.db"));
    assert_eq!(refused.unwrap_err().sqlite_error_code(), Some(ErrorCode::CannotOpen));
    insert(&open(directory.path())).unwrap();
}

#[test]
fn what_hangs_or_takes_its_time_goes_on_when_the_disk_is_healed() {
    type Slow = fn(&Disk);
    let slow: [Slow; 3] = [
        Disk::hang_syncs,
        |disk| disk.sync_takes(Duration::from_hours(1)),
        |disk| disk.write_takes(Duration::from_hours(1)),
    ];
    for slow in slow {
        let (directory, disk) = covered();
        let db = open(directory.path());
        let before = disk.counts();
        slow(&disk);
        std::thread::scope(|scope| {
            let inserting = scope.spawn(|| insert(&open(directory.path())));
            eventually("it has begun", || disk.counts() != Counts { opens: disk.counts().opens, ..before });
            assert!(!inserting.is_finished());
            assert_eq!(count(&db), 0, "others read on");
            disk.heal();
            inserting.join().unwrap().unwrap();
        });
        assert_eq!((count(&db), disk.counts().hanging), (1, 0));
    }
}

#[test]
fn one_directory_knows_nothing_of_another() {
    let (here, disk) = covered();
    let (there, _other) = covered();
    let nowhere = tempfile::tempdir().unwrap();
    let (bad, good, uncovered) = (open(here.path()), open(there.path()), open(nowhere.path()));
    disk.fail(Fault::change(1).until_healed());
    assert!(insert(&bad).is_err());
    insert(&good).unwrap();
    insert(&uncovered).unwrap();
    drop(disk);
    insert(&bad).unwrap();
}
