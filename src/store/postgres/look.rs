//! What the other replicas did: read once a second, and when one of them calls.

use std::collections::HashSet;

use sqlx::{PgConnection, Row as _};

use super::super::counted::Counted;
use super::super::model::{ClaimKey, HandlerId};

type Result<T> = sqlx::Result<T>;

/// How things are.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) counted: Counted,
    /// Handlers to which nothing is handed out.
    pub(super) paused: HashSet<HandlerId>,
    /// Claims of this replica that a person does not want made any more.
    pub(super) called_off: HashSet<ClaimKey>,
}

/// Looks around, with one statement. A server that takes no writes any more, as a standby, is an error here.
pub(super) async fn look(db: &mut PgConnection, replica: i64) -> Result<Look> {
    let mut look = Look::default();
    for row in sqlx::query(LOOK).bind(replica).fetch_all(db).await? {
        let (what, name): (&str, Option<&str>) = (row.try_get(0)?, row.try_get(1)?);
        let (id, first, second): (i64, i64, i64) = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        let handler = HandlerId(id);
        match what {
            "handler" => {
                look.counted.pending.insert(handler, first);
                look.counted.dead.insert(handler, second);
            }
            "paused" => drop(look.paused.insert(handler)),
            "refused" => {
                if let Some(reason) = name.and_then(|slug| slug.parse().ok()) {
                    look.counted.refuse(reason, first, second);
                }
            }
            "live" => look.counted.streams_live = first,
            "off" => drop(look.called_off.insert(ClaimKey { handler, seq: first })),
            _ if first != 0 => {
                return Err(sqlx::Error::Protocol(
                    "the server takes no writes: it is a standby, or read-only".to_owned(),
                ));
            }
            _ => {}
        }
    }
    Ok(look)
}

const LOOK: &str = "
SELECT 'handler', NULL::text, id, pending, dead FROM handlers
UNION ALL SELECT 'paused', NULL, id, 0, 0 FROM handlers WHERE paused
UNION ALL SELECT 'refused', reason, 0, count, bytes FROM refusals
UNION ALL SELECT 'live', NULL, 0, value, 0 FROM meta WHERE key = 'streams_live'
UNION ALL SELECT 'off', NULL, handler, event, 0 FROM claims WHERE replica = $1 AND called_off
UNION ALL SELECT 'read only', NULL, 0, (current_setting('transaction_read_only') = 'on')::int::bigint, 0";

/// Bytes of all tables with their indexes.
pub(super) async fn measure(db: &mut PgConnection, schema: &str) -> Result<u64> {
    let bytes: Option<i64> = sqlx::query_scalar(MEASURE).bind(schema).fetch_one(db).await?;
    Ok(bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0))
}

const MEASURE: &str = "
SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind = 'r'";
