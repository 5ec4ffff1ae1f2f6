//! Deliveries that are to be made once more.

use sqlx::Row as _;

use super::super::super::lane::lane;
use super::super::super::model::{ClaimKey, HandlerId, Owed};
use super::super::tx::Tx;
use super::judge::{RENEW, tell_holders};
use super::lanes::mend;
use super::{DEAD, is_pending};
use crate::event::Facts;

type Result<T> = sqlx::Result<T>;

/// What is owed once more.
struct Wanted {
    key: ClaimKey,
    lane: Option<i64>,
    rank: i64,
}

/// Makes deliveries pending that are not, or makes them where there were none, behind what is pending; events that were
/// pruned meanwhile are left alone. Returns how many it made pending.
pub(in super::super) async fn owe_again(tx: &mut Tx, owed: &[(i64, Owed, &Facts)]) -> Result<u64> {
    if owed.is_empty() {
        return Ok(0);
    }
    let first = tx.next_seqs(owed.len()).await?;
    let wanted = owed.iter().zip(first..).map(|((seq, owed, facts), rank)| Wanted {
        key: ClaimKey { handler: owed.handler, seq: *seq },
        lane: lane(facts).filter(|_| owed.ordered),
        rank,
    });
    let wanted: Vec<Wanted> = wanted.collect();
    let rows = sqlx::query(OWE_AGAIN)
        .bind(wanted.iter().map(|one| one.key.seq).collect::<Vec<_>>())
        .bind(wanted.iter().map(|one| one.key.handler.0).collect::<Vec<_>>())
        .bind(wanted.iter().map(|one| one.lane).collect::<Vec<_>>())
        .bind(wanted.iter().map(|one| one.rank).collect::<Vec<_>>())
        .bind(tx.now.millis())
        .fetch_all(&mut tx.db)
        .await?;
    let (mut lanes, mut made) = (Vec::new(), Vec::with_capacity(rows.len()));
    for row in &rows {
        let key = ClaimKey { seq: row.try_get(0)?, handler: HandlerId(row.try_get(1)?) };
        let former: Option<i16> = row.try_get(3)?;
        debug_assert!(!former.is_some_and(is_pending), "what is pending is left alone");
        tx.dead(key.handler, -i64::from(former == Some(DEAD)));
        tx.pending(key.handler, 1);
        tx.wake(key.handler);
        lanes.extend(row.try_get::<Option<i64>, _>(2)?.map(|lane| (key.handler, lane)));
        made.push(key);
    }
    mend(tx, &lanes).await?;
    // Should one be in hand, it has a fresh allowance of attempts from now on.
    tell_holders(tx, &made, RENEW).await?;
    Ok(made.len() as u64)
}

/// Those of a lane are blocked until the lane is mended.
const OWE_AGAIN: &str = "
WITH wanted AS MATERIALIZED (
    SELECT w.*, d.state AS former
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS w (event, handler, lane, rank)
    LEFT JOIN LATERAL (SELECT state FROM deliveries d WHERE d.event = w.event AND d.handler = w.handler) d ON true
    WHERE (d.state IS NULL OR d.state NOT IN (0, 4)) AND EXISTS (SELECT FROM events e WHERE e.seq = w.event)
), made AS (
    INSERT INTO deliveries (event, handler, state, lane, rank, due, replay, updated_at)
    SELECT event, handler, CASE WHEN lane IS NULL THEN 0 ELSE 4 END, lane, rank, $5, true, $5 FROM wanted
    ON CONFLICT (event, handler) DO UPDATE SET state = excluded.state, lane = excluded.lane, rank = excluded.rank,
        due = excluded.due, attempts = 0, replay = true, updated_at = excluded.updated_at
)
SELECT event, handler, lane, former FROM wanted";
