//! Makes all streams anew from the events that are stored and what outlived others, beside those that are in use.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::super::catalogue;
use super::super::rows::snapshot;
use super::keep::{self, COLUMNS, Changed};
use super::pushes::{self, Loaded};
use super::{Result, add_to, note_live};
use crate::store::model::StreamsRebuild;
use crate::store::streams::keep::{Kept, Open};
use crate::store::streams::pushes::PushRow;
use crate::streams::StreamName;

/// Events read at once.
const EVENTS: i64 = if cfg!(test) { 5 } else { 1024 };
/// Streams looked at in one transaction.
const STREAMS: i64 = if cfg!(test) { 3 } else { 500 };
/// Rows deleted in one transaction, about.
const ROWS: i64 = 2000;

/// The generation that is in use.
pub(super) async fn generation(db: &mut PgConnection) -> Result<i64> {
    number(db, "streams_generation").await
}

/// Whether a new generation is being filled.
pub(in super::super) async fn is_under_way(db: &mut PgConnection) -> Result<bool> {
    Ok(number(db, "streams_next").await? > 0)
}

/// Begins a new generation, unless one is being filled already. Returns how far it is filled.
pub(in super::super) async fn begin(db: &mut PgConnection) -> Result<StreamsRebuild> {
    if !is_under_way(db).await? {
        let next = generation(db).await? + 1;
        set(db, &[("streams_next", next), ("streams_carried", 0), ("streams_from", 0)]).await?;
    }
    filled(db).await
}

/// How far a new generation is filled; none when none is.
pub(in super::super) async fn progress(db: &mut PgConnection) -> Result<Option<StreamsRebuild>> {
    let mut snapshot = snapshot(db).await?;
    let progress = if is_under_way(&mut snapshot).await? { Some(filled(&mut snapshot).await?) } else { None };
    snapshot.rollback().await?;
    Ok(progress)
}

async fn filled(db: &mut PgConnection) -> Result<StreamsRebuild> {
    let first: i64 = sqlx::query_scalar("SELECT coalesce(min(seq), 0) FROM events").fetch_one(&mut *db).await?;
    let behind_first = |place: i64| u64::try_from(place - first).unwrap_or(0);
    let total = behind_first(catalogue::reached(&mut *db).await?);
    let done = behind_first(number(db, "streams_from").await?).min(total);
    Ok(StreamsRebuild { done, total })
}

/// Does what is to be done next: deletes streams of former generations, carries what outlived its events into the new
/// generation, adds events to it. Returns whether there was anything to do.
pub(in super::super) async fn step(db: &mut PgConnection) -> Result<bool> {
    let next = number(db, "streams_next").await?;
    if next == 0 {
        return clear(db).await;
    }
    match number(db, "streams_carried").await? {
        carried @ 0.. => carry(db, next, carried).await?,
        _ => add(db, next).await?,
    }
    Ok(true)
}

async fn add(db: &mut PgConnection, next: i64) -> Result<()> {
    let (from, end) = (number(db, "streams_from").await?, catalogue::reached(db).await?);
    let mut entries = catalogue::read(db, from, EVENTS).await?;
    entries.retain(|entry| entry.row.seq < end);
    let reached = match entries.last() {
        Some(last) => last.row.seq + 1,
        None => end,
    };
    add_to(db, next, &entries).await?;
    set(db, &[("streams_from", reached)]).await?;
    if reached < end {
        return Ok(());
    }
    let live: i64 = sqlx::query_scalar("SELECT count(*) FROM streams WHERE generation = $1 AND state = 2")
        .bind(next)
        .fetch_one(&mut *db)
        .await?;
    let change = live - number(db, "streams_live").await?;
    note_live(db, change).await?;
    set(db, &[("streams_generation", next), ("streams_next", 0)]).await
}

async fn carry(db: &mut PgConnection, next: i64, after: i64) -> Result<()> {
    let generation = generation(db).await?;
    let sql = format!("SELECT {COLUMNS} FROM streams s WHERE s.id > $1 AND s.generation = $2 ORDER BY s.id LIMIT $3");
    let rows = sqlx::query(&sql).bind(after).bind(generation).bind(STREAMS).fetch_all(&mut *db).await?;
    let streams: Vec<(Kept, StreamName)> = rows.iter().map(keep::read).collect::<Result<_>>()?;
    let outlived: Vec<&(Kept, StreamName)> = streams.iter().filter(|(kept, _)| kept.outlived_at.is_some()).collect();
    if !outlived.is_empty() {
        carry_all(db, next, &outlived).await?;
    }
    set(db, &[("streams_carried", streams.last().map_or(-1, |(kept, _)| kept.id))]).await
}

async fn carry_all(db: &mut PgConnection, next: i64, streams: &[&(Kept, StreamName)]) -> Result<()> {
    let sql = format!("SELECT {} FROM pushes p WHERE p.stream = ANY ($1) AND p.outlived", pushes::COLUMNS);
    let ids: Vec<i64> = streams.iter().map(|(kept, _)| kept.id).collect();
    let mut rows: BTreeMap<i64, Vec<PushRow>> = BTreeMap::new();
    for row in sqlx::query(&sql).bind(ids).fetch_all(&mut *db).await? {
        let (stream, row) = pushes::read(&row)?;
        rows.entry(stream).or_default().push(row);
    }
    let names: Vec<_> = streams.iter().map(|(_, name)| name).collect();
    let mut made = keep::open(db, next, &names).await?;
    let mut changed = Changed::default();
    for (former, name) in streams {
        let outlived = rows.remove(&former.id).unwrap_or_default();
        if let Some(open) = made.remove(name).and_then(|kept| carry_one(kept, former, outlived).ok()) {
            changed.take(open, true);
        }
    }
    changed.write(db).await
}

/// Into a stream that is new: nothing of it is missing.
fn carry_one(
    kept: Kept,
    former: &Kept,
    outlived: Vec<PushRow>,
) -> std::result::Result<Open<Loaded>, pushes::Incomplete> {
    let mut open = Open::new(kept, Loaded::of_none())?;
    (open.kept.last_event_at, open.kept.outlived_at) = (former.outlived_at.unwrap_or_default(), former.outlived_at);
    outlived.into_iter().try_for_each(|row| open.carry(row))?;
    open.close()?;
    Ok(open)
}

/// Deletes a part of what is left of former generations. Returns whether there was any.
async fn clear(db: &mut PgConnection) -> Result<bool> {
    let generation = generation(db).await?;
    let former: Vec<i64> = sqlx::query_scalar("SELECT id FROM streams WHERE generation < $1 LIMIT $2")
        .bind(generation)
        .bind(STREAMS)
        .fetch_all(&mut *db)
        .await?;
    if former.is_empty() {
        return Ok(false);
    }
    let mut left = ROWS;
    for sql in [
        "DELETE FROM pushes p USING (SELECT stream, key FROM pushes WHERE stream = ANY ($1) LIMIT $2) w \
         WHERE p.stream = w.stream AND p.key = w.key",
        "DELETE FROM stream_notes n USING (SELECT stream, sort, at, event FROM stream_notes WHERE stream = ANY ($1) \
         LIMIT $2) w WHERE (n.stream, n.sort, n.at, n.event) = (w.stream, w.sort, w.at, w.event)",
    ] {
        let deleted = sqlx::query(sql).bind(&former).bind(left).execute(&mut *db).await?.rows_affected();
        left = left.saturating_sub(i64::try_from(deleted).unwrap_or(i64::MAX));
    }
    if left > 0 {
        sqlx::query("DELETE FROM streams WHERE id = ANY ($1)").bind(&former).execute(db).await?;
    }
    Ok(true)
}

async fn number(db: &mut PgConnection, key: &str) -> Result<i64> {
    sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(key).fetch_one(db).await
}

async fn set(db: &mut PgConnection, values: &[(&str, i64)]) -> Result<()> {
    let (keys, numbers): (Vec<&str>, Vec<i64>) = values.iter().copied().unzip();
    sqlx::query(
        "UPDATE meta m SET value = w.value FROM unnest($1::text[], $2::bigint[]) AS w (key, value) WHERE m.key = w.key",
    )
    .bind(keys)
    .bind(numbers)
    .execute(db)
    .await?;
    Ok(())
}
