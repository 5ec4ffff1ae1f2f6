//! Refused callbacks in the database, within bounds.

use std::collections::BTreeMap;

use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::events::{Statement, Value};
use super::rows::{count, moment, words, words_or_none};
use super::text;
use super::tx::Tx;
use crate::event::Reason;
use crate::store::model::{NewRefused, Page, QuarantineFilter, Quarantined, page};

type Result<T> = sqlx::Result<T>;

/// `refusals` says how many there are of each reason, and how many bytes of bodies.
pub(super) const VERSION_1: &str = r#"
CREATE TABLE quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at bigint NOT NULL,
    reason text COLLATE "C" NOT NULL,
    detail text COLLATE "C" NOT NULL,
    path text COLLATE "C" NOT NULL,
    bytes bigint NOT NULL,
    headers text COLLATE "C",
    body bytea NOT NULL
);
CREATE INDEX quarantine_by_reason ON quarantine (reason, id);
CREATE INDEX quarantine_by_time ON quarantine (received_at);
CREATE TABLE refusals (
    reason text COLLATE "C" PRIMARY KEY,
    count bigint NOT NULL,
    bytes bigint NOT NULL
) WITH (fillfactor = 50);
"#;

const COLUMNS: &str = "id, received_at, reason, detail, path, bytes, headers, octet_length(body)::bigint";

/// Callbacks that make room in one statement.
const REMOVED_AT_ONCE: i64 = 1000;

/// Keeps a refused callback and makes room for it. Returns false when the same one is already kept, as happens when a
/// spilled callback was stored after all and is imported.
pub(super) async fn keep(tx: &mut Tx, new: &NewRefused, unless_known: bool) -> Result<bool> {
    let headers = (!new.headers.is_empty()).then(|| serde_json::to_string(&new.headers).unwrap_or_default());
    let rows = sqlx::query(KEEP)
        .bind(new.received_at.millis())
        .bind(new.reason.slug())
        .bind(text::to_sql(&new.detail))
        .bind(text::to_sql(&new.path))
        .bind(i64::try_from(new.bytes).unwrap_or(i64::MAX))
        .bind(headers.as_deref().map(text::to_sql))
        .bind(&new.body[..])
        .bind(unless_known)
        .fetch_all(&mut tx.db)
        .await?;
    let mut sums = BTreeMap::new();
    let mut is_new = false;
    for row in &rows {
        is_new |= row.try_get::<Option<bool>, _>(3)?.unwrap_or(false);
        let reason: Option<&str> = row.try_get(0)?;
        if let Some(reason) = reason.and_then(|slug| slug.parse::<Reason>().ok()) {
            sums.insert(reason, (row.try_get(1)?, row.try_get(2)?));
        }
    }
    if is_new {
        tx.refused(new.reason, 1, i64::try_from(new.body.len()).unwrap_or(i64::MAX));
        make_room(tx, &sums).await?;
    }
    Ok(is_new)
}

/// Returns the sums as they were before the transaction, and a row of its own where it was kept.
const KEEP: &str = "
WITH kept AS (
    INSERT INTO quarantine (received_at, reason, detail, path, bytes, headers, body)
    SELECT $1, $2, $3, $4, $5, $6, $7
    WHERE NOT $8 OR NOT EXISTS (
        SELECT FROM quarantine q WHERE q.received_at = $1 AND q.reason = $2 AND q.path = $4 AND q.body = $7)
    RETURNING true AS is_new
)
SELECT reason, count, bytes, NULL::boolean FROM refusals UNION ALL SELECT NULL, NULL, NULL, is_new FROM kept";

/// While there is too much, the oldest of the reason that holds most go. `sums` is as of before the transaction.
async fn make_room(tx: &mut Tx, sums: &BTreeMap<Reason, (i64, i64)>) -> Result<()> {
    let bound = |bound: u64| i64::try_from(bound).unwrap_or(i64::MAX);
    let (count_max, bytes_max) = (bound(tx.bounds.max_count), bound(tx.bounds.max_bytes));
    loop {
        let mut now = sums.clone();
        for (reason, (count, bytes)) in &tx.effects.counted.refused {
            let sum = now.entry(*reason).or_default();
            *sum = (sum.0 + count, sum.1 + bytes);
        }
        let all = now.values().fold((0, 0), |all, (count, bytes)| (all.0 + count, all.1 + bytes));
        let by_count = all.0 > count_max;
        if !by_count && all.1 <= bytes_max {
            return Ok(());
        }
        let excess = if by_count { all.0 - count_max } else { all.1 - bytes_max };
        let mut held: Vec<(i64, Reason)> =
            now.iter().map(|(reason, (count, bytes))| (if by_count { *count } else { *bytes }, *reason)).collect();
        held.sort_unstable();
        let Some((most, reason)) = held.pop() else {
            return Ok(());
        };
        // So much that another reason holds as much, at most.
        let second = held.last().map_or(0, |(second, _)| *second);
        let part = excess.min(most - second).max(1);
        let (many, bytes) = if by_count { (part, i64::MAX) } else { (REMOVED_AT_ONCE, part) };
        let removed: Vec<i64> = sqlx::query_scalar(REMOVE_OLDEST)
            .bind(reason.slug())
            .bind(many.min(REMOVED_AT_ONCE))
            .bind(bytes)
            .fetch_all(&mut tx.db)
            .await?;
        if removed.is_empty() {
            return Ok(());
        }
        tx.refused(reason, -i64::try_from(removed.len()).unwrap_or(i64::MAX), -removed.iter().sum::<i64>());
    }
}

/// So many of a reason, and of these not more than hold so many bytes.
const REMOVE_OLDEST: &str = "
DELETE FROM quarantine q USING (
    SELECT w.id FROM (
        SELECT id, sum(octet_length(body)) OVER (ORDER BY id) - octet_length(body) AS before
        FROM (SELECT id, body FROM quarantine WHERE reason = $1 ORDER BY id LIMIT $2) o
    ) w WHERE w.before < $3
) gone WHERE q.id = gone.id RETURNING octet_length(q.body)::bigint";

/// Takes callbacks out; no harm if they are gone already.
pub(super) async fn remove(tx: &mut Tx, ids: &[i64]) -> Result<()> {
    let gone = sqlx::query("DELETE FROM quarantine WHERE id = ANY ($1) RETURNING reason, octet_length(body)::bigint")
        .bind(ids)
        .fetch_all(&mut tx.db)
        .await?;
    for row in &gone {
        if let Ok(reason) = row.try_get::<&str, _>(0)?.parse::<Reason>() {
            tx.refused(reason, -1, -row.try_get::<i64, _>(1)?);
        }
    }
    Ok(())
}

/// A page of refused callbacks, newest first. The cursor is the id of the last one before.
pub(super) async fn list(
    db: &mut PgConnection,
    filter: QuarantineFilter,
    limit: usize,
    before: Option<i64>,
) -> Result<Page<Quarantined>> {
    let mut asked = Statement::default();
    let before = asked.value(Value::Number(before.unwrap_or(i64::MAX)));
    let many = asked.value(Value::Number(i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1));
    let reason = filter.reason.map(|reason| asked.value(Value::Text(reason.slug().to_owned())));
    let reason = reason.map_or_else(String::new, |reason| format!(" AND reason = {reason}"));
    let sql = format!("SELECT {COLUMNS} FROM quarantine WHERE id < {before}{reason} ORDER BY id DESC LIMIT {many}");
    let items = asked.fetch(db, sql).await?.iter().map(item).collect::<Result<_>>()?;
    Ok(page(items, limit, |item: &Quarantined| item.id.to_string()))
}

/// One refused callback with its body.
pub(super) async fn find(db: &mut PgConnection, id: i64) -> Result<Option<(Quarantined, Bytes)>> {
    let sql = format!("SELECT {COLUMNS}, body FROM quarantine WHERE id = $1");
    let found = sqlx::query(&sql).bind(id).fetch_optional(db).await?;
    found.map(|row| Ok((item(&row)?, Bytes::from(row.try_get::<Vec<u8>, _>(8)?)))).transpose()
}

fn item(row: &PgRow) -> Result<Quarantined> {
    let (bytes, kept) = (count(row, 5)?, count(row, 7)?);
    // Only reasons of this list are ever written.
    let reason = row.try_get::<&str, _>(2)?.parse().unwrap_or(Reason::MalformedJson);
    Ok(Quarantined {
        id: row.try_get(0)?,
        received_at: moment(row, 1)?,
        reason,
        detail: words(row, 3)?,
        path: words(row, 4)?,
        bytes,
        truncated: reason == Reason::TooLarge || kept < bytes,
        headers: words_or_none(row, 6)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
    })
}
