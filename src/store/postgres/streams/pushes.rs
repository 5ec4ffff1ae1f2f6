//! The rows of pushes, and of interruptions that name none: read from the database, changed in memory.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::super::text;
use super::Result;
use crate::clock::Timestamp;
use crate::store::streams::keep::{Kept, Note, Rows};
use crate::store::streams::pushes::{Facts, PUSHES, PushRow, is_loose, later, loose_key};
use crate::streams::End;

/// Rows of one stream.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    rows: BTreeMap<String, PushRow>,
    /// Keys that were asked for and have no row.
    missing: BTreeSet<String>,
    /// Whether all rows of the stream are here.
    is_whole: bool,
    /// Whether all are here that know of events that are gone.
    has_outliving: bool,
    pub(super) saved: BTreeSet<String>,
    pub(super) deleted: BTreeSet<String>,
    pub(super) noted: BTreeSet<Note>,
    pub(super) unnoted: BTreeSet<Note>,
}

/// More rows are needed than were read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incomplete;

type Known<T> = std::result::Result<T, Incomplete>;

impl Loaded {
    /// Of a stream that has no rows yet.
    pub(super) fn of_none() -> Self {
        Self { is_whole: true, ..Self::default() }
    }

    /// A row that was saved.
    pub(super) fn row(&self, key: &str) -> Option<&PushRow> {
        self.rows.get(key)
    }

    fn whole(&self) -> Known<impl Iterator<Item = &PushRow>> {
        if self.is_whole { Ok(self.rows.values()) } else { Err(Incomplete) }
    }
}

impl Rows for Loaded {
    type Error = Incomplete;

    fn find(&mut self, key: &str) -> Known<Option<PushRow>> {
        let found = self.rows.get(key).cloned();
        if found.is_some() || self.is_whole || self.missing.contains(key) { Ok(found) } else { Err(Incomplete) }
    }

    fn save(&mut self, row: &PushRow) -> Known<()> {
        self.saved.insert(row.key.clone());
        self.deleted.remove(&row.key);
        self.rows.insert(row.key.clone(), row.clone());
        Ok(())
    }

    fn delete(&mut self, key: &str) -> Known<()> {
        self.rows.remove(key);
        self.saved.remove(key);
        self.missing.insert(key.to_owned());
        self.deleted.insert(key.to_owned());
        Ok(())
    }

    fn note(&mut self, note: Note) -> Known<()> {
        self.noted.insert(note);
        Ok(())
    }

    fn unnote(&mut self, note: Note) -> Known<()> {
        self.unnoted.insert(note);
        Ok(())
    }

    fn newest(&mut self) -> Known<Option<PushRow>> {
        Ok(self.whole()?.cloned().fold(None, later))
    }

    fn outliving(&mut self) -> Known<Vec<PushRow>> {
        if !self.is_whole && !self.has_outliving {
            return Err(Incomplete);
        }
        Ok(self.rows.values().filter(|row| row.outlived.is_some()).cloned().collect())
    }

    fn last_loose(&mut self) -> Known<Option<End>> {
        Ok(self.whole()?.filter(|row| is_loose(&row.key)).last().and_then(PushRow::end))
    }

    fn alone_before(&mut self) -> Known<String> {
        let mut first: Option<Timestamp> = None;
        for row in self.whole()?.filter(|row| !is_loose(&row.key)) {
            // One of unknown beginning began before all others.
            let Some(beginning) = row.push().beginning() else {
                return Ok(String::new());
            };
            first = Some(first.map_or(beginning, |first| first.min(beginning)));
        }
        Ok(first.map_or_else(|| PUSHES.to_owned(), loose_key))
    }

    fn count_before(&mut self, key: &str) -> Known<i64> {
        let before = self.whole()?.filter(|row| is_loose(&row.key) && row.key.as_str() < key).count();
        Ok(i64::try_from(before).unwrap_or(i64::MAX))
    }
}

pub(super) const COLUMNS: &str = "p.stream, coalesce(p.name, p.key), p.began, p.ended, p.errcode, p.lasted, p.outlived, \
    p.old_began, p.old_ended, p.old_errcode, p.old_lasted, p.events";

/// Reads rows of streams by their keys, and with `outliving` all that know of events that are gone.
pub(super) async fn load(
    db: &mut PgConnection,
    wanted: Vec<(i64, String)>,
    outliving: bool,
    streams: impl Iterator<Item = &Kept>,
) -> Result<BTreeMap<i64, Loaded>> {
    let mut loaded: BTreeMap<i64, Loaded> = BTreeMap::new();
    for kept in streams {
        let own = loaded.entry(kept.id).or_default();
        (own.is_whole, own.has_outliving) = (kept.pushes + kept.loose == 0, outliving);
    }
    for row in find(db, &wanted).await? {
        take(&mut loaded, row);
    }
    if outliving {
        let sql = format!("SELECT {COLUMNS} FROM pushes p WHERE p.stream = ANY ($1) AND p.outlived");
        let streams: Vec<i64> = loaded.keys().copied().collect();
        let rows = sqlx::query(&sql).bind(streams).fetch_all(db).await?;
        for row in &rows {
            take(&mut loaded, read(row)?);
        }
    }
    for (stream, key) in wanted {
        if let Some(own) = loaded.get_mut(&stream).filter(|own| !own.rows.contains_key(&key)) {
            own.missing.insert(key);
        }
    }
    Ok(loaded)
}

/// Reads all rows of streams.
pub(super) async fn load_whole(db: &mut PgConnection, streams: Vec<i64>) -> Result<BTreeMap<i64, Loaded>> {
    let whole = |stream: &i64| (*stream, Loaded::of_none());
    let mut loaded: BTreeMap<i64, Loaded> = streams.iter().map(whole).collect();
    if streams.is_empty() {
        return Ok(loaded);
    }
    let sql = format!("SELECT {COLUMNS} FROM pushes p WHERE p.stream = ANY ($1)");
    let rows = sqlx::query(&sql).bind(streams).fetch_all(db).await?;
    for row in &rows {
        take(&mut loaded, read(row)?);
    }
    Ok(loaded)
}

fn take(loaded: &mut BTreeMap<i64, Loaded>, (stream, row): (i64, PushRow)) {
    if let Some(own) = loaded.get_mut(&stream) {
        own.rows.insert(row.key.clone(), row);
    }
}

/// Reads rows by stream and key.
pub(super) async fn find(db: &mut PgConnection, wanted: &[(i64, String)]) -> Result<Vec<(i64, PushRow)>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM unnest($1::bigint[], $2::text[]) AS w (stream, key) JOIN LATERAL \
         (SELECT * FROM pushes p WHERE p.stream = w.stream AND p.key = w.key LIMIT 1) p ON true"
    );
    let rows = sqlx::query(&sql)
        .bind(wanted.iter().map(|(stream, _)| *stream).collect::<Vec<_>>())
        .bind(wanted.iter().map(|(_, key)| text::key(key)).collect::<Vec<_>>())
        .fetch_all(db)
        .await?;
    rows.iter().map(read).collect()
}

/// The latest of the interruptions that name no push, of each of these streams.
pub(super) async fn last_loose(db: &mut PgConnection, streams: &[i64]) -> Result<BTreeMap<i64, End>> {
    if streams.is_empty() {
        return Ok(BTreeMap::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM unnest($1::bigint[]) AS w (stream) JOIN LATERAL (SELECT * FROM pushes p \
         WHERE p.stream = w.stream AND p.key < $2 ORDER BY p.key DESC LIMIT 1) p ON true"
    );
    let rows = sqlx::query(&sql).bind(streams).bind(PUSHES).fetch_all(db).await?;
    let ends = rows.iter().map(|row| read(row).map(|(stream, row)| Some((stream, row.end()?))));
    Ok(ends.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Reads [`COLUMNS`]: the stream, and the row.
pub(super) fn read(row: &PgRow) -> Result<(i64, PushRow)> {
    let facts = |from: usize| -> Result<Facts> {
        let columns = [row.try_get(from)?, row.try_get(from + 1)?, row.try_get(from + 2)?, row.try_get(from + 3)?];
        Ok(Facts::of_columns(columns))
    };
    let outlived: bool = row.try_get(6)?;
    let push = PushRow {
        key: text::from_sql(row.try_get(1)?),
        told: facts(2)?,
        outlived: outlived.then(|| facts(7)).transpose()?,
        events: row.try_get(11)?,
    };
    Ok((row.try_get(0)?, push))
}
