//! A person's decisions about deliveries.

use sqlx::Row as _;

use super::super::super::Decided;
use super::super::super::model::{ClaimKey, Delivery, DeliveryState, HandlerId, Verdict};
use super::super::tx::Tx;
use super::lanes::mend;
use super::list::of_event;
use super::{BLOCKED, DEAD, DONE, DROPPED, READY, is_pending};
use crate::event::EventId;
use crate::store::postgres::text;

type Result<T> = sqlx::Result<T>;

/// Applies a person's decision to one delivery.
pub(in super::super) async fn judge(tx: &mut Tx, id: EventId, handler: &str, verdict: Verdict) -> Result<Decided> {
    let found = sqlx::query(
        "SELECT d.event, d.handler, d.state FROM events e JOIN deliveries d ON d.event = e.seq \
         JOIN handlers h ON h.id = d.handler WHERE e.id = $1 AND h.name = $2",
    )
    .bind(&id.as_bytes()[..])
    .bind(text::to_sql(handler))
    .fetch_optional(&mut tx.db)
    .await?;
    let Some(found) = found else {
        return Ok(Decided::Unknown);
    };
    let key = ClaimKey { seq: found.try_get(0)?, handler: HandlerId(found.try_get(1)?) };
    if found.try_get::<i16, _>(2)? == DONE {
        return Ok(Decided::WasDone);
    }
    judge_all(tx, &[key], None, verdict).await?;
    let is_own = |delivery: &Delivery| delivery.handler == handler;
    let now = of_event(&mut tx.db, key.seq).await?.into_iter().find(is_own);
    Ok(now.map_or(Decided::Unknown, Decided::Is))
}

/// Applies a person's decision to deliveries that were found in `state`, where one was asked for, and still are. Returns
/// how many it changed.
pub(in super::super) async fn judge_all(
    tx: &mut Tx,
    keys: &[ClaimKey],
    state: Option<DeliveryState>,
    verdict: Verdict,
) -> Result<u64> {
    let found: Vec<i16> = match state {
        Some(DeliveryState::Done) => return Ok(0),
        Some(DeliveryState::Pending) => vec![READY, BLOCKED],
        Some(DeliveryState::Dead) => vec![DEAD],
        Some(DeliveryState::Dropped) => vec![DROPPED],
        None => vec![READY, BLOCKED, DEAD, DROPPED],
    };
    let (sql, in_hand) = match verdict {
        Verdict::Drop => (DROP, CALL_OFF),
        Verdict::Retry => (RETRY, RENEW),
    };
    let rows = sqlx::query(sql)
        .bind(keys.iter().map(|key| key.seq).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.handler.0).collect::<Vec<_>>())
        .bind(found)
        .bind(tx.now.millis())
        .fetch_all(&mut tx.db)
        .await?;
    let (mut lanes, mut changed) = (Vec::new(), Vec::with_capacity(rows.len()));
    for row in &rows {
        let key = ClaimKey { seq: row.try_get(0)?, handler: HandlerId(row.try_get(1)?) };
        let former = row.try_get::<i16, _>(3)?;
        tx.dead(key.handler, -i64::from(former == DEAD));
        tx.pending(key.handler, i64::from(verdict == Verdict::Retry) - i64::from(is_pending(former)));
        lanes.extend(row.try_get::<Option<i64>, _>(2)?.map(|lane| (key.handler, lane)));
        if verdict == Verdict::Retry {
            tx.wake(key.handler);
        }
        changed.push(key);
    }
    mend(tx, &lanes).await?;
    tell_holders(tx, &changed, in_hand).await?;
    Ok(changed.len() as u64)
}

/// Tells whoever has any of these in hand.
pub(super) async fn tell_holders(tx: &mut Tx, keys: &[ClaimKey], sql: &'static str) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let told = sqlx::query(sql)
        .bind(keys.iter().map(|key| key.seq).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.handler.0).collect::<Vec<_>>())
        .execute(&mut tx.db)
        .await?;
    if told.rows_affected() > 0 {
        tx.refresh_others();
    }
    Ok(())
}

const DROP: &str = "
UPDATE deliveries d SET state = 3, updated_at = $4
FROM unnest($1::bigint[], $2::bigint[]) AS w (event, handler) JOIN deliveries o USING (event, handler)
WHERE d.event = o.event AND d.handler = o.handler AND o.state = ANY ($3) AND o.state <> 3
RETURNING d.event, d.handler, d.lane, o.state";

/// What was pending keeps its place; what was not finds it when its lane is mended.
const RETRY: &str = "
UPDATE deliveries d SET due = $4, attempts = 0, updated_at = $4,
    state = CASE WHEN o.state IN (0, 4) THEN o.state WHEN o.lane IS NULL THEN 0 ELSE 4 END
FROM unnest($1::bigint[], $2::bigint[]) AS w (event, handler) JOIN deliveries o USING (event, handler)
WHERE d.event = o.event AND d.handler = o.handler AND o.state = ANY ($3)
RETURNING d.event, d.handler, d.lane, o.state";

/// The attempt that is made is not wanted any more.
const CALL_OFF: &str = "
UPDATE claims c SET called_off = true FROM unnest($1::bigint[], $2::bigint[]) AS w (event, handler)
WHERE c.handler = w.handler AND c.event = w.event";

/// The attempt that is made is followed by others, whatever comes of it, unless it succeeds.
pub(super) const RENEW: &str = "
UPDATE claims c SET renewed = true FROM unnest($1::bigint[], $2::bigint[]) AS w (event, handler)
WHERE c.handler = w.handler AND c.event = w.event";
