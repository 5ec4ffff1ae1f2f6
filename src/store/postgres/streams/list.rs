//! The list of streams, by name.
//!
//! Names do not change while events arrive, so a page begins where the one before it ended, whatever became live
//! meanwhile. The index holds the streams of each state in the order of their names, of each part as much as an index can
//! hold; a list of both is two that are merged, and one of an app alone goes from domain to domain.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::super::events::{BEHIND_ROW, ROW, Statement, Value, event, row as event_row};
use super::super::rows::snapshot;
use super::super::text;
use super::keep::{COLUMNS, digest, read};
use super::{Result, pushes, rebuild};
use crate::store::model::{Page, Picture, StreamFilter, StreamRow, page};
use crate::store::streams::keep::{Kept, Sort, State};
use crate::store::streams::pushes::PushRow;
use crate::store::streams::{cursor, story};
use crate::streams::StreamName;

/// Characters of a part of a name that stand in the index.
const INDEXED: usize = 200;

/// The body of the event of a picture. Those that are far larger than any that CSS sends are left out: a page holds many.
pub(super) const PICTURE_BODY: &str = "CASE WHEN octet_length(e.body) <= 65536 THEN e.body ELSE ''::bytea END";

/// The place of a stream in the list: what the index holds of the parts of its name, and its digest.
type Place = (String, String, String, [u8; 32]);

/// A page of streams. The cursor is the name of the last one of the page before.
pub(in super::super) async fn list(
    db: &mut PgConnection,
    filter: &StreamFilter,
    limit: usize,
    after: Option<&StreamName>,
) -> Result<Page<StreamRow>> {
    let mut snapshot = snapshot(db).await?;
    let generation = rebuild::generation(&mut snapshot).await?;
    let states: &[State] = match filter.live {
        Some(true) => &[State::Live],
        Some(false) => &[State::Ended],
        None => &[State::Live, State::Ended],
    };
    let mut found = Vec::new();
    for state in states {
        let wanted = Wanted { filter, place: [generation, *state as i64], after, limit: limit + 1 };
        let (asked, sql) = wanted.statement();
        for row in asked.fetch(&mut snapshot, sql).await? {
            found.push(read(&row)?);
        }
    }
    found.sort_by_cached_key(|(_, name)| place(name));
    let page = page(found, limit, |(_, name)| cursor(name));
    let items = rows(&mut snapshot, page.items).await?;
    snapshot.rollback().await?;
    Ok(Page { items, next: page.next })
}

fn indexed(part: &str) -> String {
    text::to_sql(part).chars().take(INDEXED).collect()
}

fn place(name: &StreamName) -> Place {
    (indexed(&name.domain), indexed(&name.app), indexed(&name.stream), digest(name))
}

/// What is read of the streams of one state.
struct Wanted<'a> {
    filter: &'a StreamFilter,
    /// Generation and state.
    place: [i64; 2],
    after: Option<&'a StreamName>,
    limit: usize,
}

const DOMAIN: &str = "left(s.domain, 200)";
const APP: &str = "left(s.app, 200)";
const STREAM: &str = "left(s.stream, 200)";

impl Wanted<'_> {
    fn statement(&self) -> (Statement, String) {
        let mut asked = Statement::default();
        let [generation, state] = self.place.map(|number| asked.value(Value::Number(number)));
        let limit = asked.value(Value::Number(i64::try_from(self.limit).unwrap_or(i64::MAX)));
        let of_state = format!("s.generation = {generation} AND s.state = {state}");
        let mut wanted = of_state.clone();
        for (column, part, name) in [("domain", DOMAIN, &self.filter.domain), ("app", APP, &self.filter.app)] {
            if let Some(name) = name.as_deref().map(str::trim) {
                let (name, head) = (asked.value(Value::text(name)), asked.value(Value::Text(indexed(name))));
                wanted = format!("{wanted} AND {part} = {head} AND s.{column} = {name}");
            }
        }
        let mut from = String::new();
        if let Some(after) = self.after {
            let (domain, app, stream, digest) = place(after);
            from.clone_from(&domain);
            let values = [Value::Text(domain), Value::Text(app), Value::Text(stream), Value::Bytes(digest.to_vec())];
            let [domain, app, stream, digest] = values.map(|value| asked.value(value));
            let behind = format!("({DOMAIN}, {APP}, {STREAM}, s.digest) > ({domain}, {app}, {stream}, {digest})");
            wanted = format!("{wanted} AND {behind}");
        }
        let order = format!("ORDER BY {DOMAIN}, {APP}, {STREAM}, s.digest LIMIT {limit}");
        if self.filter.domain.is_some() || self.filter.app.is_none() {
            return (asked, format!("SELECT {COLUMNS} FROM streams s WHERE {wanted} {order}"));
        }
        // From domain to domain, until enough is found.
        let from = asked.value(Value::Text(from));
        let next = |condition: &str| {
            format!(
                "SELECT {DOMAIN} FROM streams s WHERE {of_state} AND {DOMAIN} {condition} ORDER BY {DOMAIN} LIMIT 1"
            )
        };
        let (first, further) = (next(&format!(">= {from}")), next("> d.domain"));
        let sql = format!(
            "WITH RECURSIVE domains (domain) AS (({first}) UNION ALL SELECT ({further}) FROM domains d \
             WHERE d.domain IS NOT NULL) SELECT {COLUMNS} FROM domains d CROSS JOIN LATERAL \
             (SELECT s.* FROM streams s WHERE {wanted} AND {DOMAIN} = d.domain {order}) s LIMIT {limit}"
        );
        (asked, sql)
    }
}

/// Streams as they are listed.
pub(super) async fn rows(db: &mut PgConnection, streams: Vec<(Kept, StreamName)>) -> Result<Vec<StreamRow>> {
    let ids: Vec<i64> = streams.iter().map(|(kept, _)| kept.id).collect();
    let wanted = streams.iter().filter_map(|(kept, _)| Some((kept.id, kept.current.clone()?)));
    let current: BTreeMap<i64, PushRow> = pushes::find(db, &wanted.collect::<Vec<_>>()).await?.into_iter().collect();
    let with_loose = streams.iter().filter(|(kept, _)| kept.loose > 0).map(|(kept, _)| kept.id);
    let loose = pushes::last_loose(db, &with_loose.collect::<Vec<_>>()).await?;
    let mut pictures = newest_pictures(db, &ids).await?;
    let row = |(kept, name): (Kept, StreamName)| {
        let (current, loose) = (current.get(&kept.id), loose.get(&kept.id).copied());
        story::row(&kept, name, current, loose, pictures.remove(&kept.id))
    };
    Ok(streams.into_iter().map(row).collect())
}

async fn newest_pictures(db: &mut PgConnection, streams: &[i64]) -> Result<BTreeMap<i64, Picture>> {
    let mut asked = Statement::default();
    let (streams, sort) = (asked.value(Value::Numbers(streams.to_vec())), Sort::Screencapture as i64);
    let sql = format!(
        "SELECT {ROW}, {PICTURE_BODY}, w.stream FROM unnest({streams}::bigint[]) AS w (stream) CROSS JOIN LATERAL \
         (SELECT event FROM stream_notes n WHERE n.stream = w.stream AND n.sort = {sort} \
         ORDER BY n.at DESC, n.event DESC LIMIT 1) n JOIN events e ON e.seq = n.event"
    );
    let read = |line: &sqlx::postgres::PgRow| {
        let row = event_row(line)?;
        Ok((sqlx::Row::try_get(line, BEHIND_ROW + 1)?, Picture::of(&event(&row, line)?)))
    };
    asked.fetch(db, sql).await?.iter().map(read).collect()
}
