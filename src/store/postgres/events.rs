//! Events in the database, as they are read.

use std::borrow::Cow;

use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::deliveries;
use super::rows::{count, moment, moment_or_none, words_or_none};
use super::text;
use crate::clock::Timestamp;
use crate::event::{Event, EventId, Facts, Kind, Verification};
use crate::store::catalogue::Entry;
use crate::store::model::{EventRow, Stored};
use crate::store::streams::Told;

type Result<T> = sqlx::Result<T>;

/// The columns of an [`EventRow`] of `events e`, in the order [`row`] reads them.
pub(super) const ROW: &str = "e.seq, e.id, e.kind, e.event_type, e.domain, e.app, e.stream, e.sequence, \
    e.occurred_at, e.received_at, e.verification, e.duplicates, octet_length(e.body)::bigint";
/// Where what is selected behind them stands.
pub(super) const BEHIND_ROW: usize = 13;

/// Everything known of one event.
pub(in crate::store) async fn find(db: &mut PgConnection, id: EventId) -> Result<Option<Stored>> {
    let sql = format!("SELECT {ROW}, e.body, e.drift FROM events e WHERE e.id = $1");
    let found = sqlx::query(&sql).bind(id.as_bytes().as_slice()).fetch_optional(&mut *db).await?;
    let Some(line) = found else {
        return Ok(None);
    };
    let row = row(&line)?;
    let event = event(&row, &line)?;
    let drift = words_or_none(&line, BEHIND_ROW + 1)?;
    let drift = drift.map_or_else(Vec::new, |drift| drift.lines().map(str::to_owned).collect());
    let deliveries = deliveries::of_event(db, row.seq).await?;
    Ok(Some(Stored { row, event, drift, deliveries }))
}

/// Reads the columns of [`ROW`].
pub(super) fn row(line: &PgRow) -> Result<EventRow> {
    let id: &[u8] = line.try_get(1)?;
    let (kind, verification): (&str, &str) = (line.try_get(2)?, line.try_get(10)?);
    Ok(EventRow {
        seq: line.try_get(0)?,
        id: EventId::from_slice(id).map_err(|error| sqlx::Error::Decode(error.into()))?,
        facts: Facts {
            // A slug this version does not know was written by a newer one.
            kind: kind.parse().unwrap_or(Kind::Unknown),
            event_type: line.try_get(3)?,
            domain: words_or_none(line, 4)?,
            app: words_or_none(line, 5)?,
            stream: words_or_none(line, 6)?,
            sequence: words_or_none(line, 7)?,
            occurred_at: moment_or_none(line, 8)?,
        },
        received_at: moment(line, 9)?,
        verification: Verification::from_slug(verification).unwrap_or(Verification::Unsigned),
        duplicates: count(line, 11)?,
        bytes: count(line, 12)?,
    })
}

/// The event of a row whose body stands behind the columns of [`ROW`].
pub(super) fn event(row: &EventRow, line: &PgRow) -> Result<Event> {
    let EventRow { id, received_at, verification, .. } = *row;
    let body = Bytes::from(line.try_get::<Vec<u8>, _>(BEHIND_ROW)?);
    Ok(Event { id, facts: row.facts.clone(), received_at, verification, body })
}

/// Reads the columns of [`ROW`] and the body behind them.
pub(super) fn entry(line: &PgRow) -> Result<Entry> {
    let row = row(line)?;
    let told = Told::of(row.seq, &event(&row, line)?);
    let slug = row.facts.kind.slug();
    let kind: &str = line.try_get(2)?;
    let kind = if kind == slug { Cow::Borrowed(slug) } else { Cow::Owned(kind.to_owned()) };
    Ok(Entry { row, kind, told })
}

/// A value that a condition compares with.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Number(i64),
    Numbers(Vec<i64>),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text::to_sql(text).into_owned())
    }

    pub(super) fn moment(moment: Timestamp) -> Self {
        Self::Number(moment.millis())
    }
}

/// A statement that is put together from its conditions.
#[derive(Debug, Default)]
pub(super) struct Statement {
    values: Vec<Value>,
}

impl Statement {
    /// Takes a value, and returns the name by which the statement calls it.
    pub(super) fn value(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// Asks. The plan is made for these very values: the best way depends on them.
    pub(super) async fn fetch(self, db: &mut PgConnection, sql: String) -> Result<Vec<PgRow>> {
        let mut query = sqlx::query(&sql).persistent(false);
        for value in self.values {
            query = match value {
                Value::Number(number) => query.bind(number),
                Value::Numbers(numbers) => query.bind(numbers),
                Value::Text(text) => query.bind(text),
                Value::Bytes(bytes) => query.bind(bytes),
            };
        }
        query.fetch_all(db).await
    }
}
