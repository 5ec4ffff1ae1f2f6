//! What is in hand, and whose it is.
//!
//! A replica is alive as long as it says so: it keeps moving its `alive_until` on, by the clock of the server. Claims of one
//! that has stopped doing so are nobody's. A replica that was only slow finds its row gone, gives itself another number
//! and has lost what it held: a settlement ends a claim only under the number that made it.

use std::time::Duration;

use sqlx::{PgConnection, Row as _};

use super::super::super::model::{ClaimKey, HandlerId};
use super::super::events::{BEHIND_ROW, ROW, event, row};
use super::super::tx::Tx;
use crate::clock::Timestamp;
use crate::event::Event;

type Result<T> = sqlx::Result<T>;

/// How long a replica is taken for alive that does not say so.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Lease(pub(in super::super) Duration);

/// A delivery that was taken into hand.
#[derive(Debug)]
pub(in super::super) struct Taken {
    pub(in super::super) key: ClaimKey,
    pub(in super::super) event: Event,
    pub(in super::super) attempts: u32,
}

/// Bodies handed out at once; what is above waits for the next claim.
const CLAIM_BYTES_MAX: i64 = 4 << 20;

/// Takes deliveries into hand that are due, oldest first, and tells when the next one will be. Nothing while the handler is
/// paused, or while this replica does not count as alive.
pub(in super::super) async fn claim(
    tx: &mut Tx,
    handler: HandlerId,
    now: Timestamp,
    limit: usize,
) -> Result<(Vec<Taken>, Option<Timestamp>)> {
    let rows = sqlx::query(claim_statement())
        .bind(handler.0)
        .bind(now.millis())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX - 1))
        .bind(tx.replica)
        .bind(CLAIM_BYTES_MAX)
        .fetch_all(&mut tx.db)
        .await?;
    let (mut taken, mut next_due) = (Vec::with_capacity(rows.len()), None);
    for line in rows {
        if line.try_get::<bool, _>(BEHIND_ROW + 1)? {
            let row = row(&line)?;
            let attempts = u32::try_from(line.try_get::<i32, _>(BEHIND_ROW + 2)?).unwrap_or(0);
            let key = ClaimKey { handler, seq: row.seq };
            taken.push(Taken { key, event: event(&row, &line)?, attempts });
        } else {
            next_due = next_due.or(Some(Timestamp::from_millis(line.try_get(BEHIND_ROW + 3)?)));
        }
    }
    Ok((taken, next_due))
}

/// What is free is looked at in order, one more than may be taken: its time is that of the next claim.
fn claim_statement() -> &'static str {
    static STATEMENT: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        format!(
            "
WITH free AS MATERIALIZED (
    SELECT d.event, d.lane, d.due, d.rank, d.attempts, row_number() OVER (ORDER BY d.due, d.rank) AS n
    FROM (
        SELECT event, lane, due, rank, attempts FROM deliveries d
        WHERE d.handler = $1 AND d.state = 0
            AND NOT EXISTS (SELECT FROM claims c WHERE c.handler = d.handler AND c.event = d.event)
            AND (d.lane IS NULL OR NOT EXISTS (
                SELECT FROM claims c WHERE c.handler = d.handler AND c.lane = d.lane AND c.lane IS NOT NULL))
            AND NOT (SELECT paused FROM handlers WHERE id = $1)
            AND EXISTS (SELECT FROM replicas WHERE id = $4 AND alive_until > clock_timestamp())
        ORDER BY due, rank LIMIT $3 + 1
    ) d
), weighed AS MATERIALIZED (
    SELECT f.*, f.n <= $3 AND f.due <= $2 AND $5 >= sum(octet_length(e.body)) OVER (ORDER BY f.n) - octet_length(e.body) AS fits
    FROM free f JOIN LATERAL (SELECT body FROM events WHERE seq = f.event LIMIT 1) e ON true
), taken AS (
    INSERT INTO claims (handler, event, lane, replica) SELECT $1, event, lane, $4 FROM weighed WHERE fits
    ON CONFLICT DO NOTHING RETURNING event
)
SELECT {ROW}, CASE WHEN w.fits THEN e.body END, w.fits, w.attempts, w.due
FROM weighed w JOIN LATERAL (SELECT * FROM events WHERE seq = w.event LIMIT 1) e ON true
WHERE NOT w.fits OR w.event IN (SELECT event FROM taken)
ORDER BY w.n"
        )
    });
    &STATEMENT
}

/// Takes claims back whose attempts were not made.
pub(in super::super) async fn release(tx: &mut Tx, keys: &[ClaimKey]) -> Result<()> {
    let freed: Vec<i64> = sqlx::query_scalar(RELEASE)
        .bind(keys.iter().map(|key| key.seq).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.handler.0).collect::<Vec<_>>())
        .bind(tx.replica)
        .fetch_all(&mut tx.db)
        .await?;
    for handler in freed {
        tx.wake(HandlerId(handler));
    }
    Ok(())
}

const RELEASE: &str = "
WITH gone AS (
    DELETE FROM claims c USING unnest($1::bigint[], $2::bigint[]) AS w (event, handler)
    WHERE c.handler = w.handler AND c.event = w.event AND c.replica = $3 RETURNING c.handler
)
SELECT DISTINCT handler FROM gone";

/// Takes back every claim of this replica but those in hand: some may have been made by a commit whose answer was lost.
pub(in super::super) async fn reconcile(tx: &mut Tx, in_hand: &[ClaimKey]) -> Result<()> {
    let rows =
        sqlx::query("SELECT handler, event FROM claims WHERE replica = $1").bind(tx.replica).fetch_all(&mut tx.db);
    let mut stray = Vec::new();
    for row in rows.await? {
        let key = ClaimKey { handler: HandlerId(row.try_get(0)?), seq: row.try_get(1)? };
        if !in_hand.contains(&key) {
            stray.push(key);
        }
    }
    if stray.is_empty() { Ok(()) } else { release(tx, &stray).await }
}

/// Says that a replica is alive, and gives it a number when it has none any more: then it has lost what it held. Returns
/// the number.
pub(in super::super) async fn beat(db: &mut PgConnection, replica: Option<i64>, lease: Lease) -> Result<i64> {
    let seconds = lease.0.as_secs_f64();
    if let Some(replica) = replica {
        let alive = "UPDATE replicas SET alive_until = clock_timestamp() + make_interval(secs => $2) WHERE id = $1";
        if sqlx::query(alive).bind(replica).bind(seconds).execute(&mut *db).await?.rows_affected() > 0 {
            return Ok(replica);
        }
    }
    let begin =
        "INSERT INTO replicas (alive_until) VALUES (clock_timestamp() + make_interval(secs => $1)) RETURNING id";
    sqlx::query_scalar(begin).bind(seconds).fetch_one(db).await
}

/// Whether any replica has stopped saying that it is alive. None has in the first moments after the server's own start:
/// nobody could say so before.
pub(in super::super) async fn any_dead(db: &mut PgConnection, lease: Lease) -> Result<bool> {
    sqlx::query_scalar(ANY_DEAD).bind(lease.0.as_secs_f64()).fetch_one(db).await
}

const ANY_DEAD: &str = "
SELECT EXISTS (SELECT FROM replicas WHERE alive_until < clock_timestamp())
    AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => $1)";

/// Takes back what replicas held that are not alive any more.
pub(in super::super) async fn lose_the_dead(tx: &mut Tx) -> Result<()> {
    let dead: Vec<i64> = sqlx::query_scalar("DELETE FROM replicas WHERE alive_until < clock_timestamp() RETURNING id")
        .fetch_all(&mut tx.db)
        .await?;
    if dead.is_empty() {
        return Ok(());
    }
    let claims = end_claims(tx, &dead).await?;
    tracing::warn!(replicas = dead.len(), claims, "replicas are not alive any more; what they had in hand is free");
    Ok(())
}

/// Takes back what this replica holds, and its number: at the end.
pub(in super::super) async fn leave(tx: &mut Tx) -> Result<()> {
    let replica = tx.replica;
    end_claims(tx, &[replica]).await?;
    sqlx::query("DELETE FROM replicas WHERE id = $1").bind(replica).execute(&mut tx.db).await?;
    Ok(())
}

async fn end_claims(tx: &mut Tx, replicas: &[i64]) -> Result<usize> {
    let gone = "DELETE FROM claims WHERE replica = ANY ($1) RETURNING handler";
    let freed: Vec<i64> = sqlx::query_scalar(gone).bind(replicas).fetch_all(&mut tx.db).await?;
    for handler in &freed {
        tx.wake(HandlerId(*handler));
    }
    Ok(freed.len())
}
