//! Handlers in the database: who is paused, and how the latest attempts went.
//!
//! That something was delivered is told to memory, and written down once in a while with whatever is being written: a
//! delivery costs no write of its own. A crash may take the last [`NOTED_EVERY`] of it.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::counted::Counted;
use super::super::model::{HandlerId, HandlerRow};
use super::deliveries;
use super::memory::{Effects, Memory, Tx};
use crate::clock::Timestamp;

type Result<T> = rusqlite::Result<T>;

/// How all handlers stand, those that have left the configuration included.
pub(in crate::store) type Standings = BTreeMap<HandlerId, Standing>;

/// How a handler stands, as of the last commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Standing {
    pub(super) paused: bool,
    latest: Latest,
    /// When the latest was written down.
    noted_at: Option<Timestamp>,
}

/// How the latest attempts went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Latest {
    succeeded_at: Option<Timestamp>,
    failed: Option<(Timestamp, String)>,
}

/// What a transaction changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    paused: BTreeMap<HandlerId, bool>,
    latest: BTreeMap<HandlerId, Latest>,
    noted: Vec<HandlerId>,
}

/// How long what is written down may lag behind.
const NOTED_EVERY: Duration = Duration::from_mins(1);

/// Pauses a handler or has it go on. Returns whether there is one of that name.
pub(in crate::store) fn pause(tx: &mut Tx<'_>, name: &str, paused: bool) -> Result<bool> {
    let id = tx
        .db
        .prepare_cached("UPDATE handlers SET paused = ?2 WHERE name = ?1 RETURNING id")?
        .query_row(params![name, paused], |row| row.get(0).map(HandlerId))
        .optional()?;
    let Some(id) = id else {
        return Ok(false);
    };
    tx.effects.handlers.paused.insert(id, paused);
    if !paused {
        tx.wake(id);
    }
    Ok(true)
}

/// Notes how an attempt went; `error` says why it failed.
pub(super) fn attempted(tx: &mut Tx<'_>, handler: HandlerId, error: Option<&str>) {
    let now = tx.now;
    let latest = tx.effects.handlers.latest.entry(handler).or_default();
    match error {
        None => latest.succeeded_at = Some(now),
        Some(error) => latest.failed = Some((now, error.to_owned())),
    }
}

/// Writes down what has not been for a while.
pub(super) fn note(tx: &mut Tx<'_>) -> Result<()> {
    let Tx { db, memory, effects: Effects { handlers, .. }, now, .. } = tx;
    for (id, latest) in &handlers.latest {
        let noted_at = memory.handlers.get(id).and_then(|standing| standing.noted_at);
        if noted_at.is_none_or(|noted_at| noted_at.plus(NOTED_EVERY) <= *now) {
            write(db, *id, latest)?;
            handlers.noted.push(*id);
        }
    }
    Ok(())
}

/// Makes the changes of a committed transaction true.
pub(super) fn apply(memory: &mut Memory, changes: Changes, now: Timestamp) {
    for (id, latest) in changes.latest {
        let own = &mut memory.handlers.entry(id).or_default().latest;
        own.succeeded_at = latest.succeeded_at.or(own.succeeded_at);
        own.failed = latest.failed.or(own.failed.take());
    }
    for id in changes.noted {
        memory.handlers.entry(id).or_default().noted_at = Some(now);
    }
    for (id, paused) in changes.paused {
        memory.handlers.entry(id).or_default().paused = paused;
        if paused {
            memory.call_off(id);
        }
    }
}

/// Writes down everything, at the end.
pub(super) fn write_all(db: &Connection, standings: &Standings) -> Result<()> {
    let tx = db.unchecked_transaction()?;
    for (id, standing) in standings.iter().filter(|(_, standing)| standing.latest != Latest::default()) {
        write(&tx, *id, &standing.latest)?;
    }
    tx.commit()
}

fn write(db: &Connection, id: HandlerId, latest: &Latest) -> Result<()> {
    let failed_at = latest.failed.as_ref().map(|(at, _)| at.millis());
    let error = latest.failed.as_ref().map(|(_, error)| error);
    db.prepare_cached(
        "UPDATE handlers SET succeeded_at = coalesce(?2, succeeded_at), failed_at = coalesce(?3, failed_at), \
         last_error = coalesce(?4, last_error) WHERE id = ?1",
    )?
    .execute(params![id.0, latest.succeeded_at.map(Timestamp::millis), failed_at, error])?;
    Ok(())
}

/// What was written down.
pub(super) fn recall(db: &Connection) -> Result<Standings> {
    let moment = |millis: Option<i64>| millis.map(Timestamp::from_millis);
    db.prepare("SELECT id, paused, succeeded_at, failed_at, last_error FROM handlers")?
        .query_map([], |row| {
            let failed = moment(row.get(3)?).zip(row.get(4)?);
            let latest = Latest { succeeded_at: moment(row.get(2)?), failed };
            Ok((HandlerId(row.get(0)?), Standing { paused: row.get(1)?, latest, noted_at: None }))
        })?
        .collect()
}

/// The handlers of the configuration, in its order, and those that have left it with something pending or dead.
pub(in crate::store) fn list(
    db: &Connection,
    configured: &[HandlerId],
    standings: &Standings,
    counted: &Counted,
) -> Result<Vec<HandlerRow>> {
    let named: Vec<(HandlerId, String)> = db
        .prepare_cached("SELECT id, name FROM handlers ORDER BY name")?
        .query_map([], |row| Ok((HandlerId(row.get(0)?), row.get(1)?)))?
        .collect::<Result<_>>()?;
    let place = |id: &HandlerId| configured.iter().position(|own| own == id);
    let mut rows = Vec::new();
    for (id, name) in named {
        let count = |of: &BTreeMap<HandlerId, i64>| u64::try_from(of.get(&id).copied().unwrap_or(0)).unwrap_or(0);
        let (pending, dead) = (count(&counted.pending), count(&counted.dead));
        let place = place(&id);
        if place.is_none() && pending + dead == 0 {
            continue;
        }
        let standing = standings.get(&id).cloned().unwrap_or_default();
        let row = HandlerRow {
            name,
            is_configured: place.is_some(),
            is_paused: standing.paused,
            pending,
            dead,
            oldest_pending_at: if pending > 0 { deliveries::oldest_pending(db, id)? } else { None },
            last_success_at: standing.latest.succeeded_at,
            last_error: standing.latest.error(dead > 0),
        };
        rows.push((place.unwrap_or(usize::MAX), row));
    }
    rows.sort_by_key(|(place, _)| *place);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

impl Latest {
    /// Why the last failed attempt failed. A later success clears it, unless something is dead.
    fn error(self, any_dead: bool) -> Option<String> {
        let Self { succeeded_at, failed } = self;
        let (failed_at, error) = failed?;
        (any_dead || succeeded_at.is_none_or(|succeeded_at| succeeded_at < failed_at)).then_some(error)
    }
}
