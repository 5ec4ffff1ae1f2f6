//! The rows of streams in the database.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::super::text;
use super::Result;
use super::pushes::Loaded;
use crate::store::streams::keep::{Kept, Note, Open, State};
use crate::store::streams::pushes::{Facts, PushRow};
use crate::streams::StreamName;

/// What [`read`] reads.
pub(super) const COLUMNS: &str = "s.id, s.state, s.current, s.pushes, s.loose, s.alone, s.recordings, s.events, \
    s.last_event_at, s.outlived_at, s.domain, s.app, s.stream";

/// Stands for the three parts of a name.
pub(super) fn digest(name: &StreamName) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [&name.domain, &name.app, &name.stream] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The rows of these streams; makes them where there are none.
pub(super) async fn open(
    db: &mut PgConnection,
    generation: i64,
    names: &[&StreamName],
) -> Result<BTreeMap<StreamName, Kept>> {
    let sql = format!(
        "WITH wanted AS MATERIALIZED (SELECT * FROM unnest($2::bytea[], $3::text[], $4::text[], $5::text[]) \
         AS w (digest, domain, app, stream)), s AS (INSERT INTO streams (generation, digest, domain, app, stream) \
         SELECT $1, digest, domain, app, stream FROM wanted ON CONFLICT DO NOTHING RETURNING *) \
         SELECT {COLUMNS} FROM s UNION ALL SELECT {COLUMNS} FROM wanted w CROSS JOIN LATERAL \
         (SELECT * FROM streams s WHERE s.generation = $1 AND s.digest = w.digest LIMIT 1) s"
    );
    let part = |of: fn(&StreamName) -> &String| names.iter().map(|name| text::to_sql(of(name))).collect::<Vec<_>>();
    let rows = sqlx::query(&sql)
        .bind(generation)
        .bind(names.iter().map(|name| digest(name)).collect::<Vec<_>>())
        .bind(part(|name| &name.domain))
        .bind(part(|name| &name.app))
        .bind(part(|name| &name.stream))
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| read(row).map(|(kept, name)| (name, kept))).collect()
}

/// Reads [`COLUMNS`].
pub(super) fn read(row: &PgRow) -> Result<(Kept, StreamName)> {
    let words = |at: usize| row.try_get(at).map(text::from_sql);
    let kept = Kept {
        id: row.try_get(0)?,
        state: State::of(i64::from(row.try_get::<i16, _>(1)?)),
        current: row.try_get::<Option<String>, _>(2)?.map(text::from_sql),
        pushes: row.try_get(3)?,
        loose: row.try_get(4)?,
        alone: row.try_get(5)?,
        recordings: row.try_get(6)?,
        events: row.try_get(7)?,
        last_event_at: row.try_get(8)?,
        outlived_at: row.try_get(9)?,
    };
    Ok((kept, StreamName { domain: words(10)?, app: words(11)?, stream: words(12)? }))
}

/// What was changed of streams, to be written together.
#[derive(Debug, Default)]
pub(super) struct Changed {
    kept: Vec<Kept>,
    forgotten: Vec<i64>,
    saved: Vec<(i64, PushRow)>,
    deleted: Vec<(i64, String)>,
    noted: Vec<(i64, Note)>,
    unnoted: Vec<(i64, Note)>,
}

impl Changed {
    /// Takes what became of a stream; of one that is not needed nothing stays.
    pub(super) fn take(&mut self, open: Open<Loaded>, is_needed: bool) {
        let Open { kept, rows, .. } = open;
        if !is_needed {
            self.forgotten.push(kept.id);
            return;
        }
        self.saved.extend(rows.saved.iter().filter_map(|key| Some((kept.id, rows.row(key)?.clone()))));
        self.deleted.extend(rows.deleted.into_iter().map(|key| (kept.id, key)));
        self.noted.extend(rows.noted.into_iter().map(|note| (kept.id, note)));
        self.unnoted.extend(rows.unnoted.into_iter().map(|note| (kept.id, note)));
        self.kept.push(kept);
    }

    pub(super) async fn write(self, db: &mut PgConnection) -> Result<()> {
        save_pushes(db, &self.saved).await?;
        delete_pushes(db, &self.deleted).await?;
        write_notes(db, NOTE, &self.noted).await?;
        write_notes(db, UNNOTE, &self.unnoted).await?;
        save(db, &self.kept).await?;
        forget(db, &self.forgotten).await
    }
}

async fn save(db: &mut PgConnection, kept: &[Kept]) -> Result<()> {
    if kept.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&Kept) -> i64| kept.iter().map(of).collect::<Vec<_>>();
    sqlx::query(SAVE)
        .bind(column(|kept| kept.id))
        .bind(kept.iter().map(|kept| kept.state as i16).collect::<Vec<_>>())
        .bind(kept.iter().map(|kept| kept.current.as_deref().map(text::to_sql)).collect::<Vec<_>>())
        .bind(column(|kept| kept.pushes))
        .bind(column(|kept| kept.loose))
        .bind(column(|kept| kept.alone))
        .bind(column(|kept| kept.recordings))
        .bind(column(|kept| kept.events))
        .bind(column(|kept| kept.last_event_at))
        .bind(kept.iter().map(|kept| kept.outlived_at).collect::<Vec<_>>())
        .execute(db)
        .await?;
    Ok(())
}

const SAVE: &str = "
UPDATE streams s SET state = w.state, current = w.current, pushes = w.pushes, loose = w.loose, alone = w.alone,
    recordings = w.recordings, events = w.events, last_event_at = w.last_event_at, outlived_at = w.outlived_at
FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::bigint[], $10::bigint[])
    AS w (id, state, current, pushes, loose, alone, recordings, events, last_event_at, outlived_at)
WHERE s.id = w.id";

async fn save_pushes(db: &mut PgConnection, saved: &[(i64, PushRow)]) -> Result<()> {
    if saved.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = saved.iter().map(|(_, row)| text::key(&row.key)).collect();
    let names = saved.iter().zip(&keys).map(|((_, row), key)| Some(text::to_sql(&row.key)).filter(|name| name != key));
    let names: Vec<_> = names.collect();
    let fact = |at: usize| saved.iter().map(|(_, row)| row.told.columns()[at]).collect::<Vec<_>>();
    let old = |at: usize| {
        let columns = |row: &PushRow| row.outlived.map(Facts::columns).unwrap_or_default();
        saved.iter().map(|(_, row)| columns(row)[at]).collect::<Vec<_>>()
    };
    sqlx::query(SAVE_PUSHES)
        .bind(saved.iter().map(|(stream, _)| *stream).collect::<Vec<_>>())
        .bind(keys)
        .bind(names)
        .bind(fact(0))
        .bind(fact(1))
        .bind(fact(2))
        .bind(fact(3))
        .bind(saved.iter().map(|(_, row)| row.outlived.is_some()).collect::<Vec<_>>())
        .bind(old(0))
        .bind(old(1))
        .bind(old(2))
        .bind(old(3))
        .bind(saved.iter().map(|(_, row)| row.events).collect::<Vec<_>>())
        .execute(db)
        .await?;
    Ok(())
}

const SAVE_PUSHES: &str = "
INSERT INTO pushes (stream, key, name, began, ended, errcode, lasted, outlived, old_began, old_ended, old_errcode,
                    old_lasted, events)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                     $8::boolean[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
ON CONFLICT (stream, key) DO UPDATE SET began = excluded.began, ended = excluded.ended, errcode = excluded.errcode,
    lasted = excluded.lasted, outlived = excluded.outlived, old_began = excluded.old_began,
    old_ended = excluded.old_ended, old_errcode = excluded.old_errcode, old_lasted = excluded.old_lasted,
    events = excluded.events";

async fn delete_pushes(db: &mut PgConnection, deleted: &[(i64, String)]) -> Result<()> {
    if deleted.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM pushes p USING unnest($1::bigint[], $2::text[]) AS w (stream, key) \
         WHERE p.stream = w.stream AND p.key = w.key",
    )
    .bind(deleted.iter().map(|(stream, _)| *stream).collect::<Vec<_>>())
    .bind(deleted.iter().map(|(_, key)| text::key(key)).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(())
}

async fn write_notes(db: &mut PgConnection, sql: &'static str, notes: &[(i64, Note)]) -> Result<()> {
    if notes.is_empty() {
        return Ok(());
    }
    sqlx::query(sql)
        .bind(notes.iter().map(|(stream, _)| *stream).collect::<Vec<_>>())
        .bind(notes.iter().map(|(_, note)| note.sort as i16).collect::<Vec<_>>())
        .bind(notes.iter().map(|(_, note)| note.at).collect::<Vec<_>>())
        .bind(notes.iter().map(|(_, note)| note.event).collect::<Vec<_>>())
        .execute(db)
        .await?;
    Ok(())
}

const NOTE: &str = "
INSERT INTO stream_notes (stream, sort, at, event)
SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[]) ON CONFLICT DO NOTHING";
const UNNOTE: &str = "
DELETE FROM stream_notes n USING unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[])
    AS w (stream, sort, at, event)
WHERE n.stream = w.stream AND n.sort = w.sort AND n.at = w.at AND n.event = w.event";

/// Forgets all of these streams.
async fn forget(db: &mut PgConnection, streams: &[i64]) -> Result<()> {
    if streams.is_empty() {
        return Ok(());
    }
    for sql in [
        "DELETE FROM pushes WHERE stream = ANY ($1)",
        "DELETE FROM stream_notes WHERE stream = ANY ($1)",
        "DELETE FROM streams WHERE id = ANY ($1)",
    ] {
        sqlx::query(sql).bind(streams).execute(&mut *db).await?;
    }
    Ok(())
}
