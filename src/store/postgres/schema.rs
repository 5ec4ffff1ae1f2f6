//! The format in the database and its versions: in a schema of its own, beside whatever else the database holds.

use sqlx::{Connection as _, PgConnection, Row as _};

use super::super::open::OpenError;
use super::locks::{Lock, wait_for};
use super::{catalogue, groups, quarantine, replays, select, streams};

/// Each entry leads from the format version of its place to the next. Entries that were released never change.
const MIGRATIONS: &[&[&str]] = &[&[
    VERSION_1,
    groups::VERSION_1,
    select::VERSION_1,
    catalogue::VERSION_1,
    streams::VERSION_1,
    quarantine::VERSION_1,
    replays::VERSION_1,
]];

/// - `seq` is the order of storing, for all replicas: places are given out under a lock that is held until the commit.
///   `identity` is what makes copies equal (own time, natural key, content).
/// - Times are milliseconds since 1970 in UTC; only leases are told by the clock of the server.
/// - `deliveries.state`: 0 pending and first of its lane, 4 pending behind another of its lane, 1 done, 2 dead, 3 dropped.
///   `lane` is a digest of (domain, app, stream), null where it waits for none; `rank` its place in there.
/// - `claims` are the deliveries in hand: at most one of a lane, whichever replica has it. One whose replica is not alive
///   any more is nobody's. `renewed`: a person gave a fresh allowance of attempts meanwhile; `called_off`: a person does
///   not want the attempt any more.
/// - `replicas.batch` is the number of the last transaction of a replica, by which it finds out whether one was committed
///   whose commit had no answer.
/// - `forgotten` holds identities of events that were pruned inside the window in which copies are recognised.
/// - `handlers` counts what is pending and dead, so that nobody need count.
const VERSION_1: &str = r#"
CREATE TABLE meta (key text PRIMARY KEY, value bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO meta VALUES ('last_seq', 0), ('probe', 0), ('events_count', 0), ('events_bytes', 0);

CREATE TABLE events (
    seq bigint PRIMARY KEY,
    id bytea NOT NULL UNIQUE,
    identity bytea NOT NULL UNIQUE,
    kind text COLLATE "C" NOT NULL,
    event_type bigint,
    domain text COLLATE "C",
    app text COLLATE "C",
    stream text COLLATE "C",
    sequence text COLLATE "C",
    occurred_at bigint,
    received_at bigint NOT NULL,
    verification text COLLATE "C" NOT NULL,
    duplicates bigint NOT NULL DEFAULT 0,
    drift text COLLATE "C",
    grp bigint NOT NULL,
    name bigint,
    body bytea NOT NULL
);

CREATE TABLE forgotten (identity bytea PRIMARY KEY, received_at bigint NOT NULL);
CREATE INDEX forgotten_by_time ON forgotten (received_at);

CREATE TABLE handlers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    paused boolean NOT NULL DEFAULT false,
    pending bigint NOT NULL DEFAULT 0,
    dead bigint NOT NULL DEFAULT 0,
    succeeded_at bigint,
    failed_at bigint,
    last_error text COLLATE "C"
) WITH (fillfactor = 50);

CREATE TABLE deliveries (
    event bigint NOT NULL,
    handler bigint NOT NULL,
    state smallint NOT NULL,
    lane bigint,
    rank bigint NOT NULL,
    due bigint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    replay boolean NOT NULL DEFAULT false,
    updated_at bigint NOT NULL,
    last_error text COLLATE "C",
    PRIMARY KEY (event, handler)
);
CREATE INDEX deliveries_ready ON deliveries (handler, due, rank) WHERE state = 0;
CREATE INDEX deliveries_lanes ON deliveries (handler, lane, state, rank) WHERE state IN (0, 4) AND lane IS NOT NULL;
CREATE INDEX deliveries_pending ON deliveries (handler, event) WHERE state IN (0, 4);
CREATE INDEX deliveries_dead ON deliveries (handler, event) WHERE state = 2;
CREATE INDEX deliveries_dropped ON deliveries (handler, event) WHERE state = 3;

CREATE TABLE replicas (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alive_until timestamptz NOT NULL,
    batch bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE TABLE claims (
    handler bigint NOT NULL,
    event bigint NOT NULL,
    lane bigint,
    replica bigint NOT NULL,
    renewed boolean NOT NULL DEFAULT false,
    called_off boolean NOT NULL DEFAULT false,
    PRIMARY KEY (handler, event)
);
CREATE UNIQUE INDEX claims_lanes ON claims (handler, lane) WHERE lane IS NOT NULL;
"#;

/// Where the version stands.
const FOUND: &str = "SELECT value FROM meta WHERE key = 'version'";

/// Brings the schema to the newest format, in one transaction; of several replicas that begin together one does it and
/// the others wait for it. Refuses what a newer version wrote.
pub(super) async fn migrate(db: &mut PgConnection, schema: &str) -> Result<(), OpenError> {
    let mut tx = db.begin().await?;
    wait_for(&mut tx, Lock::Migrate).await?;
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(&mut *tx)
        .await?;
    if !known {
        sqlx::raw_sql(&format!("CREATE SCHEMA \"{schema}\"")).execute(&mut *tx).await?;
    }
    let ours: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = 'meta')",
    )
    .bind(schema)
    .fetch_one(&mut *tx)
    .await?;
    let found = if ours { version(&mut tx).await? } else { 0 };
    if !ours {
        refuse_foreign(&mut tx, schema).await?;
    }
    if found > MIGRATIONS.len() {
        return Err(OpenError::TooNew { found, known: MIGRATIONS.len() });
    }
    for (version, parts) in MIGRATIONS.iter().enumerate().skip(found) {
        for part in *parts {
            sqlx::raw_sql(part).execute(&mut *tx).await?;
        }
        let note = "INSERT INTO meta VALUES ('version', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        let next = i64::try_from(version + 1).unwrap_or(i64::MAX);
        sqlx::query(note).bind(next).execute(&mut *tx).await?;
        tracing::info!(from = version, to = version + 1, schema, "store format migrated");
    }
    tx.commit().await?;
    Ok(())
}

async fn version(db: &mut PgConnection) -> Result<usize, OpenError> {
    let found = sqlx::query(FOUND).fetch_optional(db).await?.ok_or(OpenError::ForeignSchema)?;
    usize::try_from(found.try_get::<i64, _>(0)?).map_err(|_| OpenError::ForeignSchema)
}

/// A schema that holds tables of somebody else is not ours to fill.
async fn refuse_foreign(db: &mut PgConnection, schema: &str) -> Result<(), OpenError> {
    let tables = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'S'))";
    let any: bool = sqlx::query_scalar(tables).bind(schema).fetch_one(db).await?;
    if any { Err(OpenError::ForeignSchema) } else { Ok(()) }
}
