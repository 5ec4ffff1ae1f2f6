//! The format on disk and its versions.

use rusqlite::Connection;

use super::OpenError;

/// Marks a database file as ours (`lvhk`).
const APPLICATION_ID: i32 = 0x6C76_686B;

/// Each entry leads from the format version of its place to the next. Entries that were released never change.
pub(super) const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7];

/// - `seq` is the order of storing, `identity` what makes copies equal (own time, natural key, content).
/// - Times are milliseconds since 1970 in UTC.
/// - `deliveries.state`: 0 pending and first of its lane, 4 pending behind another of its lane, 1 done, 2 dead,
///   3 dropped, since version 2 also 5 pending and in no index. `lane` is a digest of (domain, app, stream), null where it waits for none; `rank` its place in there.
/// - `forgotten` holds identities of events that were pruned inside the window in which copies are recognised.
const VERSION_1: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('last_seq', 0), ('probe', 0);

CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    identity BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    event_type INTEGER,
    domain TEXT,
    app TEXT,
    stream TEXT,
    sequence TEXT,
    occurred_at INTEGER,
    received_at INTEGER NOT NULL,
    verification TEXT NOT NULL,
    duplicates INTEGER NOT NULL DEFAULT 0,
    drift TEXT,
    body BLOB NOT NULL
);

CREATE TABLE forgotten (identity BLOB PRIMARY KEY, received_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX forgotten_by_time ON forgotten (received_at);

CREATE TABLE handlers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE deliveries (
    event INTEGER NOT NULL,
    handler INTEGER NOT NULL,
    state INTEGER NOT NULL,
    lane INTEGER,
    rank INTEGER NOT NULL,
    due INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    replay INTEGER NOT NULL DEFAULT 0,
    updated_at INTEGER NOT NULL,
    last_error TEXT,
    PRIMARY KEY (event, handler)
) WITHOUT ROWID;
CREATE INDEX deliveries_ready ON deliveries (handler, due, rank, lane, attempts) WHERE state = 0;
CREATE INDEX deliveries_lanes ON deliveries (handler, lane, state, rank) WHERE state IN (0, 4) AND lane IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (handler) WHERE state = 2;

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    path TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    headers TEXT,
    body BLOB NOT NULL
);
CREATE INDEX quarantine_by_reason ON quarantine (reason, id);
CREATE INDEX quarantine_by_time ON quarantine (received_at);
";

/// Identities leave the events' own index for a table that is filled in sorted runs: `identities` holds those of all
/// events before the place `filed_before`, and of some behind it. No delivery before the place `fresh_from` is fresh.
const VERSION_2: &str = "
CREATE TABLE identities (identity BLOB PRIMARY KEY, event INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO identities SELECT identity, seq FROM events ORDER BY identity;
INSERT INTO meta SELECT 'filed_before', coalesce(max(seq), 0) + 1 FROM events;
INSERT INTO meta SELECT 'fresh_from', coalesce(max(seq), 0) + 1 FROM events;

ALTER TABLE events RENAME TO former_events;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    identity BLOB NOT NULL,
    kind TEXT NOT NULL,
    event_type INTEGER,
    domain TEXT,
    app TEXT,
    stream TEXT,
    sequence TEXT,
    occurred_at INTEGER,
    received_at INTEGER NOT NULL,
    verification TEXT NOT NULL,
    duplicates INTEGER NOT NULL DEFAULT 0,
    drift TEXT,
    body BLOB NOT NULL
);
INSERT INTO events SELECT * FROM former_events;
DROP TABLE former_events;
";

/// A handler that is `paused` is handed nothing. The rest says how its latest attempts went, and lags behind.
const VERSION_3: &str = "
ALTER TABLE handlers ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE handlers ADD COLUMN succeeded_at INTEGER;
ALTER TABLE handlers ADD COLUMN failed_at INTEGER;
ALTER TABLE handlers ADD COLUMN last_error TEXT;
";

/// What lists and statistics are made of, filled in the background from the events before the place `catalogued_before`;
/// see [`super::catalogue`]. What a former version stored is taken in after the start.
///
/// - `groups` are the events of a kind, domain, app and verification; `''` stands for none, `' '` for any that has no
///   group of its own. `grouped` lists their events.
/// - `named` lists the events of a stream, by part of the order of storing and digest of the name.
/// - `moments` tells between which times of receipt the events of a block of the order of storing lie.
/// - `kinds` and `counts` hold sums: of all, and of each minute and hour (`step` in seconds, `at` its number).
const VERSION_4: &str = "
CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    domain TEXT NOT NULL,
    app TEXT NOT NULL,
    verification TEXT NOT NULL,
    count INTEGER NOT NULL,
    newest INTEGER NOT NULL,
    UNIQUE (kind, domain, app, verification)
);
CREATE TABLE grouped (grp INTEGER NOT NULL, event INTEGER NOT NULL, PRIMARY KEY (grp, event)) WITHOUT ROWID;
CREATE TABLE named (
    part INTEGER NOT NULL,
    name INTEGER NOT NULL,
    grp INTEGER NOT NULL,
    event INTEGER NOT NULL,
    PRIMARY KEY (part, name, grp, event)
) WITHOUT ROWID;
CREATE TABLE moments (
    block INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (block, first)
) WITHOUT ROWID;

CREATE TABLE kinds (
    kind TEXT PRIMARY KEY,
    count INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    last_event_at INTEGER,
    last_received_at INTEGER
) WITHOUT ROWID;
CREATE TABLE counts (
    step INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (step, at, kind)
) WITHOUT ROWID;

INSERT INTO meta SELECT 'catalogued_before', coalesce(min(seq), (SELECT value FROM meta WHERE key = 'last_seq') + 1)
    FROM events;

CREATE INDEX deliveries_dropped ON deliveries (handler) WHERE state = 3;
";

/// What the events of a stream come to; see [`super::streams`].
///
/// - `streams` belong to a generation: the one in use (`streams_generation`), or one that is being made (`streams_next`, 0
///   for none), into which what outlived its events was carried up to the stream `streams_carried` (-1: of all) and events
///   were added up to the place `streams_from`. `streams_live` counts those that are live in the one in use. A part of a
///   name that is not known is empty. `state`: 0 no push known, 1 ended, 2 live. `current` names the push that began last,
///   `pushes` and `loose` count rows of pushes and of interruptions that name none, `alone` those of them that tell of a
///   push of their own. `outlived_at` is the latest time of an event that is gone.
/// - `pushes` are named `#` and sequence, `@` and time of a push without one, `!` and time of an interruption that names
///   none. The columns `old_…` are what events say that are gone; `outlived` is 1 where there were any.
/// - `stream_notes` refers to events by their place: recordings (`sort` 1), screencaptures (2), problems (3).
const VERSION_5: &str = "
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    domain TEXT NOT NULL,
    app TEXT NOT NULL,
    stream TEXT NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    current TEXT,
    pushes INTEGER NOT NULL DEFAULT 0,
    loose INTEGER NOT NULL DEFAULT 0,
    alone INTEGER NOT NULL DEFAULT 0,
    recordings INTEGER NOT NULL DEFAULT 0,
    events INTEGER NOT NULL DEFAULT 0,
    last_event_at INTEGER NOT NULL DEFAULT 0,
    outlived_at INTEGER,
    UNIQUE (generation, domain, app, stream)
);
CREATE INDEX streams_by_state ON streams (generation, state, domain, app, stream);
CREATE TABLE pushes (
    stream INTEGER NOT NULL,
    name TEXT NOT NULL,
    began INTEGER,
    ended INTEGER,
    errcode INTEGER,
    lasted INTEGER,
    outlived INTEGER NOT NULL,
    old_began INTEGER,
    old_ended INTEGER,
    old_errcode INTEGER,
    old_lasted INTEGER,
    events INTEGER NOT NULL,
    PRIMARY KEY (stream, name)
) WITHOUT ROWID;
CREATE INDEX pushes_outlived ON pushes (stream, name) WHERE outlived = 1;
CREATE TABLE stream_notes (
    stream INTEGER NOT NULL,
    sort INTEGER NOT NULL,
    at INTEGER NOT NULL,
    event INTEGER NOT NULL,
    PRIMARY KEY (stream, sort, at, event)
) WITHOUT ROWID;

INSERT INTO meta VALUES ('streams_generation', 1), ('streams_live', 0), ('streams_carried', -1), ('streams_from', 0);
INSERT INTO meta SELECT 'streams_next', 2 * EXISTS (SELECT 1 FROM events WHERE seq < value)
    FROM meta WHERE key = 'catalogued_before';
";

/// Replays: what is wished for as JSON, and how far it has come: `reached` is the place of the last event that is done,
/// `last` that of the last it is about.
const VERSION_6: &str = "
CREATE TABLE replays (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    wish TEXT NOT NULL,
    state TEXT NOT NULL,
    matched INTEGER NOT NULL,
    replayed INTEGER NOT NULL DEFAULT 0,
    queued INTEGER NOT NULL DEFAULT 0,
    reached INTEGER NOT NULL DEFAULT 0,
    last INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    detail TEXT
);
";

/// Streams know of every event that names them, so they are made anew; a generation that was being made is given up.
const VERSION_7: &str = "
UPDATE meta SET value = 1 + (SELECT max(value) FROM meta WHERE key IN ('streams_generation', 'streams_next'))
    WHERE key = 'streams_next' AND (value > 0 OR EXISTS (SELECT 1 FROM events WHERE seq <
        (SELECT value FROM meta WHERE key = 'catalogued_before')));
UPDATE meta SET value = 0 WHERE key IN ('streams_carried', 'streams_from')
    AND (SELECT value FROM meta WHERE key = 'streams_next') > 0;
";

/// Brings a database to the newest of `migrations`, each step in its own transaction. Refuses what a newer version
/// wrote, and a database that is somebody else's.
pub(super) fn migrate(db: &Connection, migrations: &[&str]) -> Result<(), OpenError> {
    let application: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let found: usize = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(OpenError::Foreign(db.path().unwrap_or_default().into()));
    }
    if found > migrations.len() {
        return Err(OpenError::TooNew { found, known: migrations.len() });
    }
    for (version, step) in migrations.iter().enumerate().skip(found) {
        db.execute_batch(&format!(
            "BEGIN IMMEDIATE; {step}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}; COMMIT;",
            version + 1
        ))?;
        tracing::info!(from = version, to = version + 1, "store format migrated");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(db: &Connection) -> usize {
        db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_new_database_gets_the_newest_format_and_keeps_it() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, MIGRATIONS).unwrap();
        migrate(&db, MIGRATIONS).unwrap();
        assert_eq!(version(&db), MIGRATIONS.len());
    }

    #[test]
    fn an_older_database_is_led_on_with_its_rows() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, MIGRATIONS).unwrap();
        db.execute("INSERT INTO handlers (name) VALUES ('rooms')", []).unwrap();
        let longer = [MIGRATIONS, &["ALTER TABLE handlers ADD COLUMN note TEXT DEFAULT 'new'"]].concat();
        migrate(&db, &longer).unwrap();
        let note: String = db.query_row("SELECT note FROM handlers", [], |row| row.get(0)).unwrap();
        assert_eq!((version(&db), note.as_str()), (longer.len(), "new"));
    }

    #[test]
    fn identities_of_version_1_are_known_in_version_2() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, &MIGRATIONS[..1]).unwrap();
        let event = "INSERT INTO events (seq, id, identity, kind, received_at, verification, body) \
                     VALUES (7, x'01', x'02', 'relay', 0, 'unsigned', '{}')";
        db.execute(event, []).unwrap();
        migrate(&db, MIGRATIONS).unwrap();
        let known = "SELECT event, value, kind FROM identities JOIN events ON seq = event \
                     JOIN meta ON key = 'filed_before' WHERE identities.identity = x'02'";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        assert_eq!(db.query_row(known, [], read).unwrap(), (7, 8, "relay".to_owned()));
    }

    #[test]
    fn handlers_of_version_2_run_in_version_3() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, &MIGRATIONS[..2]).unwrap();
        db.execute("INSERT INTO handlers (name) VALUES ('rooms')", []).unwrap();
        migrate(&db, MIGRATIONS).unwrap();
        let standing = "SELECT name, paused, last_error IS NULL FROM handlers";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        assert_eq!(db.query_row(standing, [], read).unwrap(), ("rooms".to_owned(), false, true));
    }

    #[test]
    fn what_version_3_holds_is_to_be_catalogued_from_its_first_event_on() {
        for (events, from) in [("", 42), ("(7, x'01', x'02', 'relay', 0, 'unsigned', '{}')", 7)] {
            let db = Connection::open_in_memory().unwrap();
            migrate(&db, &MIGRATIONS[..3]).unwrap();
            db.execute("UPDATE meta SET value = 41 WHERE key = 'last_seq'", []).unwrap();
            if !events.is_empty() {
                let columns = "seq, id, identity, kind, received_at, verification, body";
                db.execute(&format!("INSERT INTO events ({columns}) VALUES {events}"), []).unwrap();
            }
            migrate(&db, MIGRATIONS).unwrap();
            let place = "SELECT value FROM meta WHERE key = 'catalogued_before'";
            assert_eq!(db.query_row(place, [], |row| row.get::<_, i64>(0)).unwrap(), from);
        }
    }

    #[test]
    fn streams_are_made_in_version_5_of_what_was_catalogued_before() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, &MIGRATIONS[..4]).unwrap();
        let empty = Connection::open_in_memory().unwrap();
        migrate(&empty, &MIGRATIONS[..5]).unwrap();
        assert_eq!(rebuild(&empty), [0, -1, 0]);
        catalogued(&db);
        migrate(&db, &MIGRATIONS[..5]).unwrap();
        assert_eq!(rebuild(&db), [2, -1, 0]);
    }

    /// The generation that is being made, and how far it is.
    fn rebuild(db: &Connection) -> [i64; 3] {
        ["streams_next", "streams_carried", "streams_from"]
            .map(|key| db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).unwrap())
    }

    /// Has an event that is in the sums and lists.
    fn catalogued(db: &Connection) {
        let event = "INSERT INTO events (seq, id, identity, kind, received_at, verification, body) \
                     VALUES (7, x'01', x'02', 'relay', 0, 'unsigned', '{}')";
        db.execute(event, []).unwrap();
        db.execute("UPDATE meta SET value = 8 WHERE key = 'catalogued_before'", []).unwrap();
    }

    #[test]
    fn streams_of_version_6_are_made_anew_in_version_7() {
        let empty = Connection::open_in_memory().unwrap();
        migrate(&empty, MIGRATIONS).unwrap();
        assert_eq!(rebuild(&empty), [0, -1, 0]);
        for (before, after) in [([0, -1, 900], [5, 0, 0]), ([6, -1, 5], [7, 0, 0]), ([5, 12, 0], [6, 0, 0])] {
            let db = Connection::open_in_memory().unwrap();
            migrate(&db, &MIGRATIONS[..6]).unwrap();
            catalogued(&db);
            let keys = ["streams_next", "streams_carried", "streams_from", "streams_generation"];
            for (key, value) in keys.into_iter().zip(before.into_iter().chain([4])) {
                db.execute("UPDATE meta SET value = ?2 WHERE key = ?1", rusqlite::params![key, value]).unwrap();
            }
            migrate(&db, MIGRATIONS).unwrap();
            assert_eq!(rebuild(&db), after, "{before:?}");
        }
    }

    #[test]
    fn a_store_of_version_5_has_no_replays_in_version_6() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, &MIGRATIONS[..5]).unwrap();
        migrate(&db, MIGRATIONS).unwrap();
        assert_eq!(db.query_row("SELECT count(*) FROM replays", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }

    #[test]
    fn a_step_that_fails_leaves_the_format_before_it() {
        let db = Connection::open_in_memory().unwrap();
        let broken = [MIGRATIONS, &["CREATE TABLE half (x); CREATE TABLE half (x)"]].concat();
        assert!(migrate(&db, &broken).is_err());
        let _ = db.execute_batch("ROLLBACK");
        assert_eq!(version(&db), MIGRATIONS.len());
        let halves = "SELECT count(*) FROM sqlite_schema WHERE name = 'half'";
        assert_eq!(db.query_row(halves, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }

    #[test]
    fn what_is_newer_or_not_ours_is_refused() {
        let db = Connection::open_in_memory().unwrap();
        migrate(&db, MIGRATIONS).unwrap();
        db.pragma_update(None, "user_version", MIGRATIONS.len() + 1).unwrap();
        assert!(matches!(migrate(&db, MIGRATIONS), Err(OpenError::TooNew { .. })));
        let other = Connection::open_in_memory().unwrap();
        other.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(matches!(migrate(&other, MIGRATIONS), Err(OpenError::Foreign(_))));
    }
}
