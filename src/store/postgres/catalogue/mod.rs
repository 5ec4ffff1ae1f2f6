//! What is made of events after they were stored, so that storing them stays cheap: sums, where the events of a span of
//! time are, streams.
//!
//! Events before the place `catalogued_before` are taken in, those from there on are not yet. A run of them is taken in
//! by one transaction of its own, beside the writers, by one replica at a time: whoever does it holds the lock for it.
//! Events are committed in the order of their places, so none appears behind the place later. Pruning, which holds the
//! same lock, takes out again what was taken in.
//!
//! Copies are no matter of events here: each transaction of a writer notes how many of which kind it met, in `copies`,
//! and a run adds up what was noted.

mod counts;
mod moments;
mod stats;

use sqlx::PgConnection;

use super::events::{self, ROW};
use super::groups;
use super::streams;
use crate::clock::Timestamp;
use crate::store::catalogue::Entry;
use crate::store::model::Catalogued;

pub(in crate::store) use self::stats::{latest, stats};

type Result<T> = sqlx::Result<T>;

/// Events taken in by one transaction: the more that wait the more, since together they share the rows they change. It is
/// the part [`RUN_PART`] of those that wait, within these bounds.
const RUN_MIN: i64 = if cfg!(test) { 7 } else { 256 };
const RUN_MAX: i64 = if cfg!(test) { 7 } else { 4096 };
const RUN_PART: i64 = 16;
/// Bytes of their bodies, about: they are in memory together.
const RUN_BYTES: i64 = 8 << 20;

/// - `moments` tells between which times of receipt the events of a block of the order of storing lie.
/// - `kinds` and `counts` hold sums: of all, and of each minute and hour (`step` in seconds, `at` its number).
/// - `copies` are those of `kinds.duplicates` that are not added up yet.
pub(super) const VERSION_1: &str = r#"
INSERT INTO meta VALUES ('catalogued_before', 0);
CREATE TABLE moments (block bigint NOT NULL, first bigint NOT NULL, last bigint NOT NULL, PRIMARY KEY (block, first));
CREATE TABLE kinds (
    kind text COLLATE "C" PRIMARY KEY,
    count bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    last_event_at bigint,
    last_received_at bigint
) WITH (fillfactor = 50);
CREATE TABLE counts (
    step bigint NOT NULL,
    at bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (step, at, kind)
) WITH (fillfactor = 70);
CREATE TABLE copies (kind text COLLATE "C" NOT NULL, n bigint NOT NULL);
"#;

/// Takes in the events that come next; none when there are none.
pub(in crate::store) async fn run(db: &mut PgConnection) -> Result<Option<Catalogued>> {
    counts::fold_copies(db).await?;
    let from = reached(db).await?;
    let newest: Option<i64> = sqlx::query_scalar("SELECT max(seq) FROM events").fetch_one(&mut *db).await?;
    let behind = newest.map_or(0, |newest| newest + 1 - from);
    let entries = read(db, from, (behind / RUN_PART).clamp(RUN_MIN, RUN_MAX)).await?;
    let Some(before) = entries.last().map(|last| last.row.seq + 1) else {
        return Ok(None);
    };
    moments::add(db, &entries).await?;
    counts::add(db, &entries).await?;
    streams::add(db, &entries).await?;
    sqlx::query("UPDATE meta SET value = $1 WHERE key = 'catalogued_before'").bind(before).execute(db).await?;
    let behind = u64::try_from(behind - (before - from)).unwrap_or(0);
    Ok(Some(Catalogued { events: entries.len(), behind }))
}

/// So many events from a place on, but not many more bytes of bodies than may be.
pub(super) async fn read(db: &mut PgConnection, from: i64, count: i64) -> Result<Vec<Entry>> {
    let sql = format!(
        "SELECT {ROW}, e.body FROM (SELECT seq, coalesce(sum(octet_length(body)) OVER (ORDER BY seq \
         ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before FROM (SELECT seq, body FROM events \
         WHERE seq >= $1 ORDER BY seq LIMIT $2) n) w JOIN events e ON e.seq = w.seq WHERE w.bytes_before < $3 \
         ORDER BY e.seq"
    );
    let rows = sqlx::query(&sql).bind(from).bind(count).bind(RUN_BYTES).fetch_all(db).await?;
    rows.iter().map(events::entry).collect()
}

/// Takes events out that have been pruned in the same transaction, which holds both locks: that for cataloguing, and that
/// for storing events.
pub(super) async fn take_out(db: &mut PgConnection, pruned: &[Entry]) -> Result<()> {
    groups::sweep(db, pruned).await?;
    let before = reached(db).await?;
    // A copy of any event is counted, catalogued or not.
    counts::remove_copies(db, pruned).await?;
    let (pruned, _) = pruned.split_at(pruned.partition_point(|entry| entry.row.seq < before));
    moments::remove(db, pruned).await?;
    counts::remove(db, pruned).await?;
    streams::remove(db, pruned).await
}

/// Where events received in a span of time may be: places from the first on and before the second, the newest last.
pub(super) async fn places(
    db: &mut PgConnection,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Vec<(i64, i64)>> {
    if since.is_none() && until.is_none() {
        return Ok(vec![(i64::MIN, i64::MAX)]);
    }
    // First, so that what is catalogued meanwhile is found behind it.
    let reached = reached(db).await?;
    let mut places = moments::places(db, since, until).await?;
    places.retain_mut(|place| {
        place.1 = place.1.min(reached);
        place.0 < place.1
    });
    places.push((reached, i64::MAX));
    Ok(places)
}

/// The place before which events are taken in.
pub(super) async fn reached(db: &mut PgConnection) -> Result<i64> {
    sqlx::query_scalar("SELECT value FROM meta WHERE key = 'catalogued_before'").fetch_one(db).await
}
