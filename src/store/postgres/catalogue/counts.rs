//! How many events there are of each kind, in the database.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::store::catalogue::Entry;
use crate::store::catalogue::counts::Change;

type Result<T> = sqlx::Result<T>;

/// Counts events that are taken in. What came last of a kind stays known when it is pruned.
pub(super) async fn add(db: &mut PgConnection, entries: &[Entry]) -> Result<()> {
    let change = Change::of(entries);
    let column = |of: fn(&crate::store::catalogue::counts::KindChange) -> Option<i64>| {
        change.kinds.values().map(of).collect::<Vec<_>>()
    };
    sqlx::query(
        "INSERT INTO kinds (kind, count, duplicates, last_event_at, last_received_at) \
         SELECT w.kind, w.count, 0, w.last_event_at, w.last_received_at \
         FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) \
         AS w (kind, count, last_event_at, last_received_at) \
         ON CONFLICT (kind) DO UPDATE SET count = kinds.count + excluded.count, \
         last_event_at = greatest(kinds.last_event_at, excluded.last_event_at), \
         last_received_at = greatest(kinds.last_received_at, excluded.last_received_at)",
    )
    .bind(change.kinds.keys().copied().collect::<Vec<_>>())
    .bind(column(|sum| Some(sum.count)))
    .bind(column(|sum| sum.last_event_at))
    .bind(column(|sum| sum.last_received_at))
    .execute(&mut *db)
    .await?;
    count_steps(db, &change, 1).await
}

/// Takes events out of the sums again.
pub(super) async fn remove(db: &mut PgConnection, entries: &[Entry]) -> Result<()> {
    let change = Change::of(entries);
    sqlx::query(
        "UPDATE kinds k SET count = k.count - w.count FROM unnest($1::text[], $2::bigint[]) AS w (kind, count) \
         WHERE k.kind = w.kind",
    )
    .bind(change.kinds.keys().copied().collect::<Vec<_>>())
    .bind(change.kinds.values().map(|sum| sum.count).collect::<Vec<_>>())
    .execute(&mut *db)
    .await?;
    count_steps(db, &change, -1).await?;
    sqlx::query(
        "DELETE FROM counts WHERE count <= 0 AND (step, at) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[]))",
    )
    .bind(change.steps.keys().map(|key| key.0).collect::<Vec<_>>())
    .bind(change.steps.keys().map(|key| key.1).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

/// `sign` is 1 for events that come, -1 for events that go.
async fn count_steps(db: &mut PgConnection, change: &Change<'_>, sign: i64) -> Result<()> {
    sqlx::query(
        "INSERT INTO counts (step, at, kind, count) \
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[]) \
         ON CONFLICT (step, at, kind) DO UPDATE SET count = counts.count + excluded.count",
    )
    .bind(change.steps.keys().map(|key| key.0).collect::<Vec<_>>())
    .bind(change.steps.keys().map(|key| key.1).collect::<Vec<_>>())
    .bind(change.steps.keys().map(|key| key.2).collect::<Vec<_>>())
    .bind(change.steps.values().map(|count| sign * count).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

/// Adds up the copies that were noted since.
pub(super) async fn fold_copies(db: &mut PgConnection) -> Result<()> {
    sqlx::query(
        "WITH gone AS (DELETE FROM copies RETURNING kind, n) \
         INSERT INTO kinds (kind, count, duplicates) SELECT kind, 0, sum(n)::bigint FROM gone GROUP BY kind \
         ON CONFLICT (kind) DO UPDATE SET duplicates = kinds.duplicates + excluded.duplicates",
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Takes the copies of events out that go. They may have been noted and not been added up yet.
pub(super) async fn remove_copies(db: &mut PgConnection, entries: &[Entry]) -> Result<()> {
    let mut copies: BTreeMap<&str, i64> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.row.duplicates > 0) {
        *copies.entry(&entry.kind).or_default() -= i64::try_from(entry.row.duplicates).unwrap_or(i64::MAX);
    }
    if copies.is_empty() {
        return Ok(());
    }
    sqlx::query("INSERT INTO copies (kind, n) SELECT * FROM unnest($1::text[], $2::bigint[])")
        .bind(copies.keys().copied().collect::<Vec<_>>())
        .bind(copies.values().copied().collect::<Vec<_>>())
        .execute(db)
        .await?;
    Ok(())
}
