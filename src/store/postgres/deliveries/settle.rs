//! What came of attempts: all of a batch at once.

use sqlx::Row as _;

use super::super::super::model::{HandlerId, Settlement};
use super::super::jobs::Settle;
use super::super::text;
use super::super::tx::Tx;
use super::{DEAD, cut, is_pending, lanes};

type Result<T> = sqlx::Result<T>;

/// Outcomes, as numbers of the statement.
const MADE: i16 = 0;
const RETRIED: i16 = 1;
const GIVEN_UP: i16 = 2;
const EXHAUSTED: i16 = 3;

/// Records what came of attempts. A delivery that was dropped meanwhile stays dropped; one that was given a fresh allowance
/// meanwhile keeps it, and stays due at once. An attempt whose claim has gone to another replica is not recorded: it is
/// that one's now.
pub(in super::super) async fn settle_all(tx: &mut Tx, batch: &[&Settle]) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let due = |settlement: &Settlement| match settlement {
        Settlement::Retry { due, .. } => Some(due.millis()),
        _ => None,
    };
    let rows = sqlx::query(SETTLE)
        .bind(batch.iter().map(|one| one.key.seq).collect::<Vec<_>>())
        .bind(batch.iter().map(|one| one.key.handler.0).collect::<Vec<_>>())
        .bind(batch.iter().map(|one| one.holder).collect::<Vec<_>>())
        .bind(batch.iter().map(|one| outcome(&one.settlement)).collect::<Vec<_>>())
        .bind(batch.iter().map(|one| due(&one.settlement)).collect::<Vec<_>>())
        .bind(batch.iter().map(|one| one.settlement.error().map(cut).map(text::to_sql)).collect::<Vec<_>>())
        .bind(tx.now.millis())
        .fetch_all(&mut tx.db)
        .await?;
    if rows.len() < batch.len() {
        let attempts = batch.len() - rows.len();
        tracing::warn!(attempts, "attempts whose claims had ended are not recorded: those of a lease that ran out");
    }
    let mut touched = Vec::new();
    for row in &rows {
        let handler = HandlerId(row.try_get(0)?);
        let place = usize::try_from(row.try_get::<i64, _>(1)? - 1).unwrap_or(usize::MAX);
        if let Some(one) = batch.get(place) {
            tx.attempted(handler, one.settlement.error().map(cut));
        }
        let (lane, was, is): (Option<i64>, Option<i16>, Option<i16>) =
            (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        let (Some(was), Some(is)) = (was, is) else {
            continue;
        };
        if is_pending(was) && !is_pending(is) {
            tx.pending(handler, -1);
            tx.dead(handler, i64::from(is == DEAD));
        }
        // Whatever waited for the attempt to end may go on.
        if lane.is_some() || is_pending(is) {
            tx.wake(handler);
        }
        touched.extend(lane.filter(|_| !is_pending(is)).map(|lane| (handler, lane)));
    }
    lanes::mend(tx, &touched).await
}

const fn outcome(settlement: &Settlement) -> i16 {
    match settlement {
        Settlement::Done => MADE,
        Settlement::Retry { .. } => RETRIED,
        Settlement::Dead { exhausted: false, .. } => GIVEN_UP,
        Settlement::Dead { exhausted: true, .. } => EXHAUSTED,
    }
}

/// Ends the claims and changes the deliveries; tells for each its lane and the states before and after, which are null
/// where the event has gone.
const SETTLE: &str = "
WITH ended AS (
    DELETE FROM claims c
    USING unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[], $6::text[])
          WITH ORDINALITY AS w (event, handler, replica, outcome, due, error, n)
    WHERE c.handler = w.handler AND c.event = w.event AND c.replica = w.replica
    RETURNING c.event, c.handler, c.lane, c.renewed, w.outcome, w.due, w.error, w.n
), changed AS (
    UPDATE deliveries d SET
        state = CASE
            WHEN o.state NOT IN (0, 4) THEN o.state
            WHEN w.outcome = 0 THEN 1
            WHEN w.outcome = 2 OR w.outcome = 3 AND NOT w.renewed THEN 2
            ELSE o.state END,
        due = CASE WHEN o.state IN (0, 4) AND w.outcome = 1 AND NOT w.renewed THEN w.due ELSE o.due END,
        attempts = o.attempts + CASE WHEN o.state IN (0, 4) AND w.renewed AND w.outcome IN (1, 3) THEN 0 ELSE 1 END,
        last_error = coalesce(w.error, o.last_error),
        updated_at = $7
    FROM ended w JOIN deliveries o ON o.event = w.event AND o.handler = w.handler
    WHERE d.event = w.event AND d.handler = w.handler
    RETURNING w.n, o.state AS was, d.state AS is_now
)
SELECT e.handler, e.n, e.lane, c.was, c.is_now FROM ended e LEFT JOIN changed c ON c.n = e.n";
