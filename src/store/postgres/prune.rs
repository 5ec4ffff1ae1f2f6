//! Forgetting: events whose deliveries have all ended go after their time, earlier when the store is too large.
//!
//! One replica does it at a time, a few hundred events in a transaction, in the order of storing. What is deleted leaves
//! room for what comes: the server keeps the space for the tables, so what is counted for the bound on bytes is what events
//! take, not the size of the tables.

use sqlx::PgConnection;

use super::super::model::{Pruned, Pruning};
use super::events::{self, ROW};
use super::locks::{Lock, wait_for};
use super::{catalogue, streams};
use crate::clock::Timestamp;

type Result<T> = sqlx::Result<T>;

/// Events looked at in one transaction: few enough not to keep callbacks waiting.
const STEP: i64 = 500;
/// Bytes of their bodies, about: those that go are in memory together.
const STEP_BYTES: i64 = 8 << 20;
/// What an event takes beside its body: its row, its places in the indexes, the rows of its deliveries, room that is not
/// used.
const EVENT_OVERHEAD: i64 = 1024;

/// Place, receipt, whether it is owed to anybody, length of its body.
type Candidate = (i64, i64, bool, i64);

/// Looks at the events behind `after`, in the order of storing. Whoever calls holds the lock to catalogue.
pub(super) async fn step(db: &mut PgConnection, pruning: Pruning, after: i64) -> Result<Pruned> {
    // Streams that are made anew read every event once, and must not miss what one leaves behind that goes meanwhile.
    if streams::is_under_way(db).await? {
        return Ok(Pruned::default());
    }
    let before = pruning.received_before.millis();
    let candidates: Vec<Candidate> = sqlx::query_as(CANDIDATES).bind(after).bind(STEP).fetch_all(&mut *db).await?;
    let mut bytes = 0;
    let in_bounds = candidates.iter().take_while(|(.., length)| {
        let fits = bytes <= STEP_BYTES;
        bytes += length;
        fits
    });
    let looked_at = &candidates[..in_bounds.count()];
    let may_go = |(_, received_at, owed, _): &&Candidate| !owed && (pruning.any_age || *received_at < before);
    let wanted: Vec<i64> = looked_at.iter().filter(may_go).map(|(seq, ..)| *seq).collect();
    let gone = if wanted.is_empty() { 0 } else { forget(db, &wanted, pruning.remember_since).await? };
    // Order of storing is all but order of receipt, so the first that is too young ends the walk.
    let too_young = |(_, received_at, ..): &&Candidate| !pruning.any_age && *received_at >= before;
    let more = looked_at.len() < candidates.len() || i64::try_from(candidates.len()).is_ok_and(|n| n == STEP);
    let next = looked_at.last().filter(|last| more && !too_young(last)).map(|(seq, ..)| *seq);
    Ok(Pruned { events: gone, next })
}

/// Only of what is catalogued: an interruption that went unseen would leave its push without an end.
const CANDIDATES: &str = "
SELECT seq, received_at,
       EXISTS (SELECT FROM deliveries d WHERE d.event = e.seq AND d.state IN (0, 2, 4)), octet_length(body)::bigint
FROM events e WHERE seq > $1 AND seq < (SELECT value FROM meta WHERE key = 'catalogued_before') ORDER BY seq LIMIT $2";

/// Deletes what is still owed to nobody, now that nothing else is written. Returns how many events went.
async fn forget(db: &mut PgConnection, wanted: &[i64], remember_since: Timestamp) -> Result<u64> {
    wait_for(db, Lock::Write).await?;
    sqlx::query(REMEMBER).bind(wanted).bind(remember_since.millis()).execute(&mut *db).await?;
    let delete = format!("{DELETE} RETURNING {ROW}, e.body");
    let rows = sqlx::query(&delete).bind(wanted).fetch_all(&mut *db).await?;
    let gone = rows.iter().map(events::entry).collect::<Result<Vec<_>>>()?;
    let seqs: Vec<i64> = gone.iter().map(|entry| entry.row.seq).collect();
    sqlx::query("DELETE FROM deliveries WHERE event = ANY ($1)").bind(&seqs).execute(&mut *db).await?;
    let bytes: u64 = gone.iter().map(|entry| entry.row.bytes).sum();
    sqlx::query(COUNT)
        .bind(i64::try_from(gone.len()).unwrap_or(i64::MAX))
        .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
        .execute(&mut *db)
        .await?;
    catalogue::take_out(db, &gone).await?;
    Ok(gone.len() as u64)
}

/// A person may have had an event delivered again since it was looked at.
const REMEMBER: &str = "
INSERT INTO forgotten (identity, received_at)
SELECT identity, received_at FROM events e WHERE seq = ANY ($1) AND received_at >= $2
    AND NOT EXISTS (SELECT FROM deliveries d WHERE d.event = e.seq AND d.state IN (0, 2, 4))
ON CONFLICT DO NOTHING";
const DELETE: &str = "
DELETE FROM events e WHERE seq = ANY ($1)
    AND NOT EXISTS (SELECT FROM deliveries d WHERE d.event = e.seq AND d.state IN (0, 2, 4))";
const COUNT: &str = "
UPDATE meta SET value = value - CASE key WHEN 'events_count' THEN $1::bigint ELSE $2::bigint END
WHERE key IN ('events_count', 'events_bytes')";

/// Drops some identities of pruned events whose copies need not be recognised any more. Returns whether there may be more.
pub(super) async fn drop_forgotten(db: &mut PgConnection, before: Timestamp) -> Result<bool> {
    let dropped = sqlx::query(DROP_FORGOTTEN).bind(before.millis()).bind(STEP).execute(db).await?.rows_affected();
    Ok(i64::try_from(dropped).is_ok_and(|n| n == STEP))
}

const DROP_FORGOTTEN: &str = "
DELETE FROM forgotten WHERE identity IN (SELECT identity FROM forgotten WHERE received_at < $1 ORDER BY received_at LIMIT $2)";

/// What events take, about.
pub(super) async fn bytes_used(db: &mut PgConnection) -> Result<u64> {
    let used: i64 = sqlx::query_scalar(USED).bind(EVENT_OVERHEAD).fetch_one(db).await?;
    Ok(u64::try_from(used).unwrap_or(0))
}

const USED: &str = "
SELECT sum(CASE key WHEN 'events_count' THEN value * $1 ELSE value END)::bigint FROM meta
WHERE key IN ('events_count', 'events_bytes')";
