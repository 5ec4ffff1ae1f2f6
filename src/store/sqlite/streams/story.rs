//! Everything about one stream: its newest pushes, and what belongs to each.

use rusqlite::{Connection, params};

use super::keep::find;
use super::{Result, list, pushes, rebuild};
use crate::event::Event;
use crate::store::model::{Picture, StreamStory};
use crate::store::sqlite::events;
use crate::store::streams::keep::{Sort, State};
use crate::store::streams::story::{EVENTS, EVENTS_BYTES, Newest, bounds, tell};
use crate::streams::StreamName;

/// Tells of a stream; none if nothing is known of any push of it.
pub(in crate::store) fn story(db: &Connection, name: &StreamName) -> Result<Option<StreamStory>> {
    let snapshot = db.unchecked_transaction()?;
    let generation = rebuild::generation(&snapshot)?;
    let Some(kept) = find(&snapshot, generation, name)?.filter(|kept| kept.state != State::Hidden) else {
        return Ok(None);
    };
    let mut newest = Newest::default();
    pushes::each(&snapshot, kept.id, |row| newest.see(&row))?;
    let timeline = newest.timeline();
    let (mut events, mut bytes) = (Vec::new(), 0);
    for sort in [Sort::Recording, Sort::Problem] {
        events.extend(newest_events(&snapshot, kept.id, sort, &mut bytes)?);
    }
    let mut story = tell(list::row(&snapshot, &kept, name.clone())?, &timeline, events);
    for (push, at) in story.timeline.iter_mut().zip(bounds(&timeline)) {
        push.screencapture = picture(&snapshot, kept.id, at)?;
    }
    Ok(Some(story))
}

/// The newest first.
fn newest_events(db: &Connection, stream: i64, sort: Sort, bytes: &mut usize) -> Result<Vec<Event>> {
    let seqs: Vec<i64> = db
        .prepare_cached(
            "SELECT event FROM stream_notes WHERE stream = ?1 AND sort = ?2 ORDER BY at DESC, event DESC LIMIT ?3",
        )?
        .query_map(params![stream, sort as i64, EVENTS], |row| row.get(0))?
        .collect::<Result<_>>()?;
    let mut found = Vec::new();
    for seq in seqs {
        let event = events::at(db, seq)?;
        *bytes += event.body.len();
        if *bytes > EVENTS_BYTES {
            break;
        }
        found.push(event);
    }
    Ok(found)
}

/// The newest picture from one moment on and before another.
fn picture(db: &Connection, stream: i64, (from, before): (i64, i64)) -> Result<Option<Picture>> {
    let mut statement = db.prepare_cached(
        "SELECT event FROM stream_notes WHERE stream = ?1 AND sort = ?2 AND at >= ?3 AND at < ?4 \
         ORDER BY at DESC, event DESC LIMIT 1",
    )?;
    let mut rows = statement.query(params![stream, Sort::Screencapture as i64, from, before])?;
    rows.next()?.map(|row| Ok(Picture::of(&events::at(db, row.get(0)?)?))).transpose()
}
