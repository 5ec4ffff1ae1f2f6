//! Replays in the database. A step and how far the replay has come are one transaction, so that nothing is queued twice,
//! whenever the process ends.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};

use super::super::model::{EventFilter, EventRow, Owed};
use super::super::replays::{Replay, ReplayId, ReplayState, Wanted, Wish};
use super::deliveries;
use super::memory::Tx;
use crate::clock::Timestamp;
use crate::event::{EventId, Verification};

type Result<T> = rusqlite::Result<T>;

/// Replays that run at the same time.
const RUNNING_MAX: i64 = 16;
/// Replays that are remembered.
const KEPT: i64 = 100;

const COLUMNS: &str =
    "id, wish, state, matched, replayed, queued, reached, last, started_at, ended_at, detail FROM replays";

/// A wish as it is written down.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Written {
    kind: Option<String>,
    domain: Option<String>,
    app: Option<String>,
    stream: Option<String>,
    verification: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
    ids: Option<Vec<String>>,
    handlers: Option<Vec<String>>,
    rate: Option<u32>,
}

/// Notes a new replay; none when as many run as may.
pub(in crate::store) fn begin(tx: &mut Tx<'_>, wish: &Wish, matched: u64, last: i64) -> Result<Option<Replay>> {
    let running = "SELECT count(*) FROM replays WHERE state = 'running'";
    if tx.db.query_row(running, [], |row| row.get::<_, i64>(0))? >= RUNNING_MAX {
        return Ok(None);
    }
    tx.db.execute(
        "INSERT INTO replays (wish, state, matched, last, started_at) VALUES (?1, 'running', ?2, ?3, ?4)",
        params![written(wish), matched, last, tx.now.millis()],
    )?;
    let id = tx.db.last_insert_rowid();
    tx.db.execute("DELETE FROM replays WHERE id <= ?1 AND state <> 'running'", [id - KEPT])?;
    find(tx.db, ReplayId(id))
}

/// Makes what is owed of these events pending once more. Returns false when the replay has ended meanwhile.
pub(in crate::store) fn step(tx: &mut Tx<'_>, id: ReplayId, events: &[(EventRow, Vec<Owed>)]) -> Result<bool> {
    let running = "SELECT 1 FROM replays WHERE id = ?1 AND state = 'running'";
    if !tx.db.prepare_cached(running)?.exists([id.0])? {
        return Ok(false);
    }
    let mut queued = 0_u64;
    for (row, owed) in events {
        for owed in owed {
            queued += u64::from(deliveries::owe_again(tx, row.seq, *owed, &row.facts)?);
        }
    }
    let reached = events.last().map(|(row, _)| row.seq);
    tx.db
        .prepare_cached(
            "UPDATE replays SET replayed = replayed + ?2, queued = queued + ?3, reached = coalesce(?4, reached) \
             WHERE id = ?1",
        )?
        .execute(params![id.0, events.len() as u64, queued, reached])?;
    if queued > 0 {
        // What is stored after a restart must not come before it.
        let last_seq = tx.memory.next_seq - 1;
        tx.db.prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'last_seq'")?.execute([last_seq])?;
    }
    Ok(true)
}

/// Ends one that runs, and tells how it stands.
pub(in crate::store) fn end(
    tx: &mut Tx<'_>,
    id: ReplayId,
    state: ReplayState,
    detail: Option<&str>,
) -> Result<Option<Replay>> {
    tx.db.execute(
        "UPDATE replays SET state = ?2, detail = ?3, ended_at = ?4 WHERE id = ?1 AND state = 'running'",
        params![id.0, state.slug(), detail, tx.now.millis()],
    )?;
    find(tx.db, id)
}

/// Those that run and those that are remembered, newest first.
pub(in crate::store) fn list(db: &Connection) -> Result<Vec<Replay>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} ORDER BY id DESC"))?.query_map([], replay)?.collect()
}

/// One of them.
pub(in crate::store) fn find(db: &Connection, id: ReplayId) -> Result<Option<Replay>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} WHERE id = ?1"))?.query_row([id.0], replay).optional()
}

fn replay(row: &Row<'_>) -> Result<Replay> {
    let wish: String = row.get(1)?;
    let state: String = row.get(2)?;
    Ok(Replay {
        id: ReplayId(row.get(0)?),
        wish: read(&wish).map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, error.into()))?,
        state: ReplayState::from_slug(&state).unwrap_or(ReplayState::Failed),
        matched: row.get(3)?,
        replayed: row.get(4)?,
        queued: row.get(5)?,
        reached: row.get(6)?,
        last: row.get(7)?,
        started_at: Timestamp::from_millis(row.get(8)?),
        ended_at: row.get::<_, Option<i64>>(9)?.map(Timestamp::from_millis),
        detail: row.get(10)?,
    })
}

fn written(wish: &Wish) -> String {
    let mut written = Written { handlers: wish.handlers.clone(), rate: wish.rate, ..Written::default() };
    match &wish.events {
        Wanted::These(ids) => written.ids = Some(ids.iter().map(ToString::to_string).collect()),
        Wanted::Matching(filter) => {
            written.kind = filter.kind.map(|kind| kind.slug().to_owned());
            written.domain.clone_from(&filter.domain);
            written.app.clone_from(&filter.app);
            written.stream.clone_from(&filter.stream);
            written.verification = filter.verification.map(|verification| verification.slug().to_owned());
            written.since = filter.since.map(Timestamp::millis);
            written.until = filter.until.map(Timestamp::millis);
        }
    }
    // Texts and numbers can always be written.
    serde_json::to_string(&written).unwrap_or_default()
}

/// Reads what [`written`] wrote. A kind or id that is none is an error: it must not make all of a few.
fn read(text: &str) -> std::result::Result<Wish, String> {
    let written: Written = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Written { handlers, rate, .. } = written;
    let events = match written.ids {
        Some(ids) => {
            let id = |text: String| text.parse::<EventId>().map_err(|_| format!("`{text}` is no id"));
            Wanted::These(ids.into_iter().map(id).collect::<std::result::Result<_, _>>()?)
        }
        None => Wanted::Matching(EventFilter {
            kind: written.kind.map(|slug| slug.parse().map_err(|_| format!("`{slug}` is no kind"))).transpose()?,
            domain: written.domain,
            app: written.app,
            stream: written.stream,
            verification: written
                .verification
                .map(|slug| Verification::from_slug(&slug).ok_or_else(|| format!("`{slug}` is no verification")))
                .transpose()?,
            since: written.since.map(Timestamp::from_millis),
            until: written.until.map(Timestamp::from_millis),
        }),
    };
    Ok(Wish { events, handlers, rate })
}
