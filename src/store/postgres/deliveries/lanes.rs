//! The order in lanes.

use sqlx::Row as _;

use super::super::tx::Tx;
use crate::store::model::HandlerId;

type Result<T> = sqlx::Result<T>;

/// Has of the pending deliveries of each of these lanes the one of the lowest rank be first and the others wait behind
/// it, whatever was changed before, and has the handlers look.
pub(in super::super) async fn mend(tx: &mut Tx, lanes: &[(HandlerId, i64)]) -> Result<()> {
    if lanes.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(MEND)
        .bind(lanes.iter().map(|(handler, _)| handler.0).collect::<Vec<_>>())
        .bind(lanes.iter().map(|(_, lane)| *lane).collect::<Vec<_>>())
        .fetch_all(&mut tx.db)
        .await?;
    for row in rows {
        tx.wake(HandlerId(row.try_get(0)?));
    }
    Ok(())
}

/// Lanes may be long, so none is looked through: those that are ready, of which there are few, and the first of those that
/// are blocked each stand at one place of the index. Returns the handlers that have anything pending there.
const MEND: &str = "
WITH lanes AS MATERIALIZED (
    SELECT DISTINCT handler, lane FROM unnest($1::bigint[], $2::bigint[]) AS l (handler, lane)
), firsts AS MATERIALIZED (
    SELECT l.handler, l.lane, f.event
    FROM lanes l CROSS JOIN LATERAL (
        SELECT x.event FROM (
            (SELECT event, rank FROM deliveries d WHERE d.handler = l.handler AND d.lane = l.lane AND d.state = 0
                AND d.state IN (0, 4) AND d.lane IS NOT NULL ORDER BY rank LIMIT 1)
            UNION ALL
            (SELECT event, rank FROM deliveries d WHERE d.handler = l.handler AND d.lane = l.lane AND d.state = 4
                AND d.state IN (0, 4) AND d.lane IS NOT NULL ORDER BY rank LIMIT 1)
        ) x ORDER BY x.rank LIMIT 1
    ) f
), others AS MATERIALIZED (
    SELECT o.event, f.handler
    FROM firsts f CROSS JOIN LATERAL (
        SELECT d.event FROM deliveries d WHERE d.handler = f.handler AND d.lane = f.lane AND d.state = 0
            AND d.state IN (0, 4) AND d.lane IS NOT NULL AND d.event <> f.event
    ) o
), demoted AS (
    UPDATE deliveries d SET state = 4 FROM others o WHERE d.event = o.event AND d.handler = o.handler
), promoted AS (
    UPDATE deliveries d SET state = 0 FROM firsts f
    WHERE d.event = f.event AND d.handler = f.handler AND d.state <> 0
)
SELECT DISTINCT handler FROM firsts";
