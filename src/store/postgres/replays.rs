//! Replays in the database. A step and how far the replay has come are one transaction, so that nothing is queued twice,
//! whenever the process ends.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::deliveries;
use super::rows::{count, moment, moment_or_none, words, words_or_none};
use super::text;
use super::tx::Tx;
use crate::store::model::{EventRow, Owed};
use crate::store::replays::{KEPT, RUNNING_MAX, Replay, ReplayId, ReplayState, Wish};

type Result<T> = sqlx::Result<T>;

/// What is wished for as JSON, and how far it has come: `reached` is the place of the last event that is done, `last` that
/// of the last it is about.
pub(super) const VERSION_1: &str = r#"
CREATE TABLE replays (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    wish text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    matched bigint NOT NULL,
    replayed bigint NOT NULL DEFAULT 0,
    queued bigint NOT NULL DEFAULT 0,
    reached bigint NOT NULL DEFAULT 0,
    last bigint NOT NULL,
    started_at bigint NOT NULL,
    ended_at bigint,
    detail text COLLATE "C"
);
"#;

const COLUMNS: &str =
    "id, wish, state, matched, replayed, queued, reached, last, started_at, ended_at, detail FROM replays";

/// Notes a new replay; none when as many run as may.
pub(super) async fn begin(tx: &mut Tx, wish: &Wish, matched: u64, last: i64) -> Result<Option<Replay>> {
    let running: i64 =
        sqlx::query_scalar("SELECT count(*) FROM replays WHERE state = 'running'").fetch_one(&mut tx.db).await?;
    if running >= RUNNING_MAX {
        return Ok(None);
    }
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO replays (wish, state, matched, last, started_at) VALUES ($1, 'running', $2, $3, $4) RETURNING id",
    )
    .bind(text::to_sql(&wish.written()))
    .bind(i64::try_from(matched).unwrap_or(i64::MAX))
    .bind(last)
    .bind(tx.now.millis())
    .fetch_one(&mut tx.db)
    .await?;
    sqlx::query("DELETE FROM replays WHERE id <= $1 AND state <> 'running'")
        .bind(id - KEPT)
        .execute(&mut tx.db)
        .await?;
    find(&mut tx.db, ReplayId(id)).await
}

/// Makes what is owed of these events pending once more. Returns false when the replay has ended meanwhile.
pub(super) async fn step(tx: &mut Tx, id: ReplayId, events: &[(EventRow, Vec<Owed>)]) -> Result<bool> {
    let running = "SELECT EXISTS (SELECT FROM replays WHERE id = $1 AND state = 'running')";
    if !sqlx::query_scalar::<_, bool>(running).bind(id.0).fetch_one(&mut tx.db).await? {
        return Ok(false);
    }
    let owed: Vec<_> =
        events.iter().flat_map(|(row, owed)| owed.iter().map(|owed| (row.seq, *owed, &row.facts))).collect();
    let queued = deliveries::owe_again(tx, &owed).await?;
    sqlx::query(
        "UPDATE replays SET replayed = replayed + $2, queued = queued + $3, reached = coalesce($4, reached) \
         WHERE id = $1",
    )
    .bind(id.0)
    .bind(i64::try_from(events.len()).unwrap_or(i64::MAX))
    .bind(i64::try_from(queued).unwrap_or(i64::MAX))
    .bind(events.last().map(|(row, _)| row.seq))
    .execute(&mut tx.db)
    .await?;
    Ok(true)
}

/// Ends one that runs, and tells how it stands.
pub(super) async fn end(tx: &mut Tx, id: ReplayId, state: ReplayState, detail: Option<&str>) -> Result<Option<Replay>> {
    sqlx::query("UPDATE replays SET state = $2, detail = $3, ended_at = $4 WHERE id = $1 AND state = 'running'")
        .bind(id.0)
        .bind(state.slug())
        .bind(detail.map(text::to_sql))
        .bind(tx.now.millis())
        .execute(&mut tx.db)
        .await?;
    find(&mut tx.db, id).await
}

/// Those that run and those that are remembered, newest first.
pub(super) async fn list(db: &mut PgConnection) -> Result<Vec<Replay>> {
    let sql = format!("SELECT {COLUMNS} ORDER BY id DESC");
    sqlx::query(&sql).fetch_all(db).await?.iter().map(replay).collect()
}

/// One of them.
pub(super) async fn find(db: &mut PgConnection, id: ReplayId) -> Result<Option<Replay>> {
    let sql = format!("SELECT {COLUMNS} WHERE id = $1");
    sqlx::query(&sql).bind(id.0).fetch_optional(db).await?.as_ref().map(replay).transpose()
}

fn replay(row: &PgRow) -> Result<Replay> {
    let replay = Replay {
        id: ReplayId(row.try_get(0)?),
        wish: Wish::default(),
        state: ReplayState::from_slug(row.try_get(2)?).unwrap_or(ReplayState::Failed),
        matched: count(row, 3)?,
        replayed: count(row, 4)?,
        queued: count(row, 5)?,
        reached: row.try_get(6)?,
        last: row.try_get(7)?,
        started_at: moment(row, 8)?,
        ended_at: moment_or_none(row, 9)?,
        detail: words_or_none(row, 10)?,
    };
    Ok(replay.of(Wish::from_written(&words(row, 1)?)))
}
