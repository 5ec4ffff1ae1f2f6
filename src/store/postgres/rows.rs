//! What rows hold, in our own types.

use sqlx::postgres::PgRow;
use sqlx::{Connection as _, PgConnection, Postgres, Row as _, Transaction};

use super::text;
use crate::clock::Timestamp;

type Result<T> = sqlx::Result<T>;

/// A number that is never negative.
pub(super) fn count(row: &PgRow, at: usize) -> Result<u64> {
    Ok(u64::try_from(row.try_get::<i64, _>(at)?).unwrap_or(0))
}

/// Milliseconds since 1970.
pub(super) fn moment(row: &PgRow, at: usize) -> Result<Timestamp> {
    row.try_get(at).map(Timestamp::from_millis)
}

/// Milliseconds since 1970, or null.
pub(super) fn moment_or_none(row: &PgRow, at: usize) -> Result<Option<Timestamp>> {
    Ok(row.try_get::<Option<i64>, _>(at)?.map(Timestamp::from_millis))
}

/// Text that was written by [`text::to_sql`].
pub(super) fn words(row: &PgRow, at: usize) -> Result<String> {
    row.try_get(at).map(text::from_sql)
}

/// The same, or null.
pub(super) fn words_or_none(row: &PgRow, at: usize) -> Result<Option<String>> {
    Ok(row.try_get::<Option<String>, _>(at)?.map(text::from_sql))
}

/// Sees the store as of one moment, in whatever is asked. Ends when it is dropped, better when it is rolled back.
pub(super) async fn snapshot(db: &mut PgConnection) -> Result<Transaction<'_, Postgres>> {
    db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
}
