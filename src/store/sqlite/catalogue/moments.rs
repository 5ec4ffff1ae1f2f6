//! Where in the order of storing the events of a span of time are.

use rusqlite::{Connection, params};

use super::super::memory::Tx;
use crate::clock::Timestamp;
use crate::store::catalogue::Entry;
use crate::store::catalogue::moments::{self, BLOCK_BITS, Span};

type Result<T> = rusqlite::Result<T>;

/// Notes when events were received.
pub(super) fn add(tx: &Tx<'_>, entries: &[Entry]) -> Result<()> {
    for (block, mut spans) in moments::by_block(entries) {
        let before: Vec<Span> = tx
            .db
            .prepare_cached("SELECT first, last FROM moments WHERE block = ?1")?
            .query_map([block], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_>>()?;
        spans.extend(&before);
        let spans = moments::joined(spans);
        if spans == before {
            continue;
        }
        tx.db.prepare_cached("DELETE FROM moments WHERE block = ?1")?.execute([block])?;
        for (first, last) in spans {
            tx.db
                .prepare_cached("INSERT INTO moments (block, first, last) VALUES (?1, ?2, ?3)")?
                .execute([block, first, last])?;
        }
    }
    Ok(())
}

/// Forgets the blocks of which these were the last events.
pub(super) fn remove(tx: &Tx<'_>, entries: &[Entry]) -> Result<()> {
    let mut blocks: Vec<i64> = entries.iter().map(|entry| entry.row.seq >> BLOCK_BITS).collect();
    blocks.dedup();
    for block in blocks {
        tx.db
            .prepare_cached(
                "DELETE FROM moments WHERE block = ?1 AND NOT EXISTS (SELECT 1 FROM events WHERE seq >= ?2 AND seq < ?3)",
            )?
            .execute([block, block << BLOCK_BITS, (block + 1) << BLOCK_BITS])?;
    }
    Ok(())
}

/// Where events received from `since` on and before `until` may be: places from the first on and before the second, the
/// newest last. Elsewhere are none.
pub(super) fn places(db: &Connection, since: Option<Timestamp>, until: Option<Timestamp>) -> Result<Vec<(i64, i64)>> {
    if since.is_none() && until.is_none() {
        return Ok(vec![(i64::MIN, i64::MAX)]);
    }
    let since = since.map_or(i64::MIN, Timestamp::millis);
    let until = until.map_or(i64::MAX, Timestamp::millis);
    let mut statement =
        db.prepare_cached("SELECT block FROM moments WHERE last >= ?1 AND first < ?2 ORDER BY block")?;
    let blocks = statement.query_map(params![since, until], |row| row.get(0))?;
    Ok(moments::places(blocks.collect::<Result<Vec<i64>>>()?))
}

/// When the event was received that was received first; somewhat early where some of a block have been pruned.
pub(super) fn first(db: &Connection) -> Result<Option<Timestamp>> {
    let first: Option<i64> = db.prepare_cached("SELECT min(first) FROM moments")?.query_row([], |row| row.get(0))?;
    Ok(first.map(Timestamp::from_millis))
}
