//! Where in the order of storing the events of a span of time are, in the database.

use sqlx::PgConnection;

use crate::clock::Timestamp;
use crate::store::catalogue::Entry;
use crate::store::catalogue::moments::{self, BLOCK_BITS, Span};

type Result<T> = sqlx::Result<T>;

/// Notes when events were received.
pub(super) async fn add(db: &mut PgConnection, entries: &[Entry]) -> Result<()> {
    let mut blocks = moments::by_block(entries);
    let numbers: Vec<i64> = blocks.keys().copied().collect();
    let before: Vec<(i64, i64, i64)> =
        sqlx::query_as("SELECT block, first, last FROM moments WHERE block = ANY($1) ORDER BY block, first")
            .bind(&numbers)
            .fetch_all(&mut *db)
            .await?;
    let spans_before = |block: i64| -> Vec<Span> {
        before.iter().filter(|known| known.0 == block).map(|known| (known.1, known.2)).collect()
    };
    blocks.retain(|block, spans| {
        let before = spans_before(*block);
        *spans = moments::joined(spans.iter().copied().chain(before.iter().copied()).collect());
        *spans != before
    });
    let changed: Vec<i64> = blocks.keys().copied().collect();
    sqlx::query("DELETE FROM moments WHERE block = ANY($1)").bind(&changed).execute(&mut *db).await?;
    let rows: Vec<_> = blocks.iter().flat_map(|(block, spans)| spans.iter().map(|span| (*block, *span))).collect();
    sqlx::query(
        "INSERT INTO moments (block, first, last) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])",
    )
    .bind(rows.iter().map(|row| row.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.1.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.1.1).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets the blocks of which these were the last events.
pub(super) async fn remove(db: &mut PgConnection, entries: &[Entry]) -> Result<()> {
    let mut blocks: Vec<i64> = entries.iter().map(|entry| entry.row.seq >> BLOCK_BITS).collect();
    blocks.dedup();
    sqlx::query(
        "DELETE FROM moments WHERE block = ANY($1) \
         AND NOT EXISTS (SELECT FROM events WHERE seq >= block << $2 AND seq < (block + 1) << $2)",
    )
    .bind(blocks)
    .bind(BLOCK_BITS.cast_signed())
    .execute(db)
    .await?;
    Ok(())
}

/// Where events received from `since` on and before `until` may be: places from the first on and before the second, the
/// newest last. Elsewhere are none.
pub(super) async fn places(
    db: &mut PgConnection,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Vec<(i64, i64)>> {
    let blocks: Vec<i64> =
        sqlx::query_scalar("SELECT DISTINCT block FROM moments WHERE last >= $1 AND first < $2 ORDER BY block")
            .bind(since.map_or(i64::MIN, Timestamp::millis))
            .bind(until.map_or(i64::MAX, Timestamp::millis))
            .fetch_all(db)
            .await?;
    Ok(moments::places(blocks))
}

/// When the event was received that was received first; somewhat early where some of a block have been pruned.
pub(super) async fn first(db: &mut PgConnection) -> Result<Option<Timestamp>> {
    let first: Option<i64> = sqlx::query_scalar("SELECT min(first) FROM moments").fetch_one(db).await?;
    Ok(first.map(Timestamp::from_millis))
}
