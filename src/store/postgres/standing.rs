//! How handlers stand, for people.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _};

use super::rows::{count, moment_or_none, words, words_or_none};
use crate::store::model::{HandlerId, HandlerRow};

type Result<T> = sqlx::Result<T>;

/// The handlers of the configuration, in its order, and those that have left it with something pending or dead.
pub(super) async fn list(db: &mut PgConnection, configured: &[HandlerId]) -> Result<Vec<HandlerRow>> {
    let places: BTreeMap<HandlerId, usize> = configured.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let found = sqlx::query(LIST).bind(configured.iter().map(|id| id.0).collect::<Vec<_>>()).fetch_all(db).await?;
    let mut rows = Vec::with_capacity(found.len());
    for row in &found {
        let place = places.get(&HandlerId(row.try_get(0)?)).copied();
        let (succeeded_at, failed_at) = (moment_or_none(row, 5)?, moment_or_none(row, 6)?);
        let dead = count(row, 4)?;
        // A later success clears it, unless something is dead.
        let stands = dead > 0 || failed_at.is_some_and(|failed_at| succeeded_at.is_none_or(|at| at < failed_at));
        let handler = HandlerRow {
            name: words(row, 1)?,
            is_configured: place.is_some(),
            is_paused: row.try_get(2)?,
            pending: count(row, 3)?,
            dead,
            oldest_pending_at: moment_or_none(row, 8)?,
            last_success_at: succeeded_at,
            last_error: words_or_none(row, 7)?.filter(|_| stands),
        };
        rows.push((place.unwrap_or(usize::MAX), handler));
    }
    rows.sort_by_key(|(place, _)| *place);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

const LIST: &str = "
SELECT h.id, h.name, h.paused, h.pending, h.dead, h.succeeded_at, h.failed_at, h.last_error,
    (SELECT e.received_at FROM (SELECT d.event FROM deliveries d WHERE d.handler = h.id AND d.state IN (0, 4)
                                ORDER BY d.event LIMIT 1) d JOIN events e ON e.seq = d.event)
FROM handlers h WHERE h.id = ANY ($1) OR h.pending + h.dead > 0 ORDER BY h.name";
