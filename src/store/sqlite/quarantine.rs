//! Refused callbacks in the database, within bounds.

use bytes::Bytes;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use super::super::model::page;
use super::super::model::{NewRefused, Page, QuarantineFilter, Quarantined};
use super::events::where_clause;
use super::memory::Tx;
use crate::clock::Timestamp;
use crate::event::Reason;

type Result<T> = rusqlite::Result<T>;

const COLUMNS: &str = "id, received_at, reason, detail, path, bytes, headers, length(body)";

/// Keeps a refused callback and makes room for it. Returns false when the same one is already kept, as happens when a
/// spilled callback was stored after all and is imported.
pub(in crate::store) fn keep(tx: &mut Tx<'_>, new: &NewRefused, unless_known: bool) -> Result<bool> {
    if unless_known && is_known(tx.db, new)? {
        return Ok(false);
    }
    let headers = (!new.headers.is_empty()).then(|| serde_json::to_string(&new.headers).unwrap_or_default());
    tx.db
        .prepare_cached(
            "INSERT INTO quarantine (received_at, reason, detail, path, bytes, headers, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            new.received_at.millis(),
            new.reason.slug(),
            new.detail,
            new.path,
            new.bytes,
            headers,
            &new.body[..]
        ])?;
    tx.refused(new.reason, 1, length(&new.body));
    make_room(tx).map(|()| true)
}

fn is_known(db: &Connection, new: &NewRefused) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM quarantine WHERE received_at = ?1 AND reason = ?2 AND path = ?3 AND body = ?4")?
        .exists(params![new.received_at.millis(), new.reason.slug(), new.path, &new.body[..]])
}

/// While there is too much, the oldest of the reason that holds most goes.
fn make_room(tx: &mut Tx<'_>) -> Result<()> {
    loop {
        let mut counted = tx.memory.counted.clone();
        counted.add(&tx.effects.counted);
        let sum = counted.refused.values().fold((0, 0), |sum, (count, bytes)| (sum.0 + count, sum.1 + bytes));
        let over = |have: i64, bound: u64| u64::try_from(have).is_ok_and(|have| have > bound);
        let largest = if over(sum.0, tx.bounds.max_count) {
            counted.refused.iter().max_by_key(|(_, (count, _))| *count)
        } else if over(sum.1, tx.bounds.max_bytes) {
            counted.refused.iter().max_by_key(|(_, (_, bytes))| *bytes)
        } else {
            return Ok(());
        };
        let oldest = match largest {
            Some((reason, _)) => oldest_of(tx.db, *reason)?,
            None => None,
        };
        let Some(id) = oldest else {
            return Ok(());
        };
        remove(tx, id)?;
    }
}

fn oldest_of(db: &Connection, reason: Reason) -> Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM quarantine WHERE reason = ?1 ORDER BY id LIMIT 1")?
        .query_row([reason.slug()], |row| row.get(0))
        .optional()
}

/// Takes a callback out; no harm if it is gone already.
pub(super) fn remove(tx: &mut Tx<'_>, id: i64) -> Result<()> {
    let gone = tx
        .db
        .prepare_cached("DELETE FROM quarantine WHERE id = ?1 RETURNING reason, length(body)")?
        .query_row([id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    if let Some((Ok(reason), bytes)) = gone.map(|(reason, bytes)| (reason.parse::<Reason>(), bytes)) {
        tx.refused(reason, -1, -bytes);
    }
    Ok(())
}

/// A page of refused callbacks, newest first. The cursor is the id of the last one before.
pub(in crate::store) fn list(
    db: &Connection,
    filter: QuarantineFilter,
    limit: usize,
    before: Option<i64>,
) -> Result<Page<Quarantined>> {
    let reason = filter.reason.map(|reason| ("reason = ?", Sql::from(reason.slug().to_owned())));
    let conditions: Vec<_> = reason.into_iter().chain(before.map(|id| ("id < ?", Sql::from(id)))).collect();
    let wanted = where_clause(conditions.iter().map(|(condition, _)| *condition));
    let sql = format!("SELECT {COLUMNS} FROM quarantine {wanted} ORDER BY id DESC LIMIT {}", limit + 1);
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(conditions.into_iter().map(|(_, value)| value)), item)?;
    Ok(page(rows.collect::<Result<_>>()?, limit, |item| item.id.to_string()))
}

/// One refused callback with its body.
pub(in crate::store) fn find(db: &Connection, id: i64) -> Result<Option<(Quarantined, Bytes)>> {
    db.prepare_cached(&format!("SELECT {COLUMNS}, body FROM quarantine WHERE id = ?1"))?
        .query_row([id], |row| Ok((item(row)?, Bytes::from(row.get::<_, Vec<u8>>(8)?))))
        .optional()
}

fn item(row: &Row<'_>) -> Result<Quarantined> {
    let (reason, headers): (String, Option<String>) = (row.get(2)?, row.get(6)?);
    let (bytes, kept): (u64, u64) = (row.get(5)?, row.get(7)?);
    // Only reasons of this list are ever written.
    let reason = reason.parse().unwrap_or(Reason::MalformedJson);
    Ok(Quarantined {
        id: row.get(0)?,
        received_at: Timestamp::from_millis(row.get(1)?),
        reason,
        detail: row.get(3)?,
        path: row.get(4)?,
        bytes,
        truncated: reason == Reason::TooLarge || kept < bytes,
        headers: headers.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
    })
}

fn length(body: &[u8]) -> i64 {
    i64::try_from(body.len()).unwrap_or(i64::MAX)
}
