//! Handlers in the database: their numbers, and who is paused.

use sqlx::PgConnection;

use super::super::model::HandlerId;
use super::text;
use super::tx::Tx;

type Result<T> = sqlx::Result<T>;

/// Gives each of these handlers a number, or finds the one it has.
pub(super) async fn register(db: &mut PgConnection, names: &[String]) -> Result<Vec<HandlerId>> {
    let written: Vec<_> = names.iter().map(|name| text::to_sql(name)).collect();
    let add = "INSERT INTO handlers (name) SELECT name FROM unnest($1::text[]) AS w (name) ORDER BY name \
               ON CONFLICT DO NOTHING";
    sqlx::query(add).bind(&written).execute(&mut *db).await?;
    let find =
        "SELECT h.id FROM unnest($1::text[]) WITH ORDINALITY AS w (name, n) JOIN handlers h USING (name) ORDER BY n";
    let ids: Vec<i64> = sqlx::query_scalar(find).bind(&written).fetch_all(db).await?;
    Ok(ids.into_iter().map(HandlerId).collect())
}

/// Pauses a handler or has it go on, for all replicas. Returns whether there is one of that name.
pub(super) async fn pause(tx: &mut Tx, name: &str, paused: bool) -> Result<bool> {
    let change = "UPDATE handlers SET paused = $2 WHERE name = $1 RETURNING id";
    let id: Option<i64> =
        sqlx::query_scalar(change).bind(text::to_sql(name)).bind(paused).fetch_optional(&mut tx.db).await?;
    let Some(id) = id else {
        return Ok(false);
    };
    tx.refresh_others();
    if !paused {
        tx.wake(HandlerId(id));
    }
    Ok(true)
}
