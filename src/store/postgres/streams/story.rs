//! Everything about one stream: its newest pushes, and what belongs to each.

use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};

use super::super::events::{BEHIND_ROW, ROW, event, row};
use super::super::rows::snapshot;
use super::keep::{COLUMNS, digest, read};
use super::list::PICTURE_BODY as BODY;
use super::{Result, list, pushes, rebuild};
use crate::event::Event;
use crate::store::model::{Picture, StreamStory};
use crate::store::streams::keep::{Sort, State};
use crate::store::streams::story::{EVENTS, EVENTS_BYTES, Newest, bounds, tell};
use crate::streams::{Span, StreamName};

/// Tells of a stream; none if nothing is known of any push of it.
pub(in super::super) async fn story(db: &mut PgConnection, name: &StreamName) -> Result<Option<StreamStory>> {
    let mut snapshot = snapshot(db).await?;
    let generation = rebuild::generation(&mut snapshot).await?;
    let sql = format!("SELECT {COLUMNS} FROM streams s WHERE s.generation = $1 AND s.digest = $2");
    let found = sqlx::query(&sql).bind(generation).bind(digest(name).to_vec()).fetch_optional(&mut *snapshot).await?;
    let Some((kept, name)) = found.map(|row| read(&row)).transpose()? else {
        return Ok(None);
    };
    if kept.state == State::Hidden {
        return Ok(None);
    }
    let timeline = timeline(&mut snapshot, kept.id).await?;
    let events = newest_events(&mut snapshot, kept.id).await?;
    let pictures = pictures(&mut snapshot, kept.id, &timeline).await?;
    let row = list::rows(&mut snapshot, vec![(kept, name)]).await?.pop();
    snapshot.rollback().await?;
    Ok(row.map(|row| {
        let mut story = tell(row, &timeline, events);
        for (at, picture) in pictures {
            if let Some(push) = story.timeline.get_mut(at) {
                push.screencapture = Some(picture);
            }
        }
        story
    }))
}

async fn timeline(db: &mut PgConnection, stream: i64) -> Result<Vec<Span>> {
    let sql = format!("SELECT {} FROM pushes p WHERE p.stream = $1", pushes::COLUMNS);
    let mut newest = Newest::default();
    let mut rows = sqlx::query(&sql).bind(stream).fetch(db);
    while let Some(row) = rows.try_next().await? {
        newest.see(&pushes::read(&row)?.1);
    }
    Ok(newest.timeline())
}

/// The newest files, then the newest faults, each the newest first, as far as they are not too much together.
async fn newest_events(db: &mut PgConnection, stream: i64) -> Result<Vec<Event>> {
    let of = |sort: Sort| {
        format!(
            "(SELECT event, sort, row_number() OVER (ORDER BY at DESC, event DESC) AS n FROM stream_notes \
             WHERE stream = $1 AND sort = {} ORDER BY at DESC, event DESC LIMIT $2)",
            sort as i16
        )
    };
    let sql = format!(
        "SELECT {ROW}, e.body FROM (SELECT n.event, n.sort, n.n, sum(octet_length(e.body)) OVER (ORDER BY n.sort, n.n) \
         AS bytes FROM ({} UNION ALL {}) n JOIN events e ON e.seq = n.event) n JOIN events e ON e.seq = n.event \
         WHERE n.bytes <= $3 ORDER BY n.sort, n.n",
        of(Sort::Recording),
        of(Sort::Problem)
    );
    let rows = sqlx::query(&sql)
        .bind(stream)
        .bind(i64::try_from(EVENTS).unwrap_or(i64::MAX))
        .bind(i64::try_from(EVENTS_BYTES).unwrap_or(i64::MAX))
        .fetch_all(db)
        .await?;
    rows.iter().map(|line| event(&row(line)?, line)).collect()
}

/// The newest picture of each push that has one.
async fn pictures(db: &mut PgConnection, stream: i64, timeline: &[Span]) -> Result<Vec<(usize, Picture)>> {
    let (from, before): (Vec<i64>, Vec<i64>) = bounds(timeline).unzip();
    let sql = format!(
        "SELECT {ROW}, {BODY}, w.push FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS w (start, past, push) \
         CROSS JOIN LATERAL (SELECT event FROM stream_notes n WHERE n.stream = $1 AND n.sort = {} AND n.at >= w.start \
         AND n.at < w.past ORDER BY n.at DESC, n.event DESC LIMIT 1) n JOIN events e ON e.seq = n.event",
        Sort::Screencapture as i16
    );
    let rows = sqlx::query(&sql).bind(stream).bind(from).bind(before).fetch_all(db).await?;
    let picture = |line: &sqlx::postgres::PgRow| {
        let push = usize::try_from(line.try_get::<i64, _>(BEHIND_ROW + 1)? - 1).unwrap_or(usize::MAX);
        Ok((push, Picture::of(&event(&row(line)?, line)?)))
    };
    rows.iter().map(picture).collect()
}
