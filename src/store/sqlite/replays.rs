//! Replays in the database. A step and how far the replay has come are one transaction, so that nothing is queued twice,
//! whenever the process ends.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::super::model::{EventRow, Owed};
use super::super::replays::{KEPT, RUNNING_MAX, Replay, ReplayId, ReplayState, Wish};
use super::deliveries;
use super::memory::Tx;
use crate::clock::Timestamp;

type Result<T> = rusqlite::Result<T>;

const COLUMNS: &str =
    "id, wish, state, matched, replayed, queued, reached, last, started_at, ended_at, detail FROM replays";

/// Notes a new replay; none when as many run as may.
pub(in crate::store) fn begin(tx: &mut Tx<'_>, wish: &Wish, matched: u64, last: i64) -> Result<Option<Replay>> {
    let running = "SELECT count(*) FROM replays WHERE state = 'running'";
    if tx.db.query_row(running, [], |row| row.get::<_, i64>(0))? >= RUNNING_MAX {
        return Ok(None);
    }
    tx.db.execute(
        "INSERT INTO replays (wish, state, matched, last, started_at) VALUES (?1, 'running', ?2, ?3, ?4)",
        params![wish.written(), matched, last, tx.now.millis()],
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
    let (wish, state): (String, String) = (row.get(1)?, row.get(2)?);
    let replay = Replay {
        id: ReplayId(row.get(0)?),
        wish: Wish::default(),
        state: ReplayState::from_slug(&state).unwrap_or(ReplayState::Failed),
        matched: row.get(3)?,
        replayed: row.get(4)?,
        queued: row.get(5)?,
        reached: row.get(6)?,
        last: row.get(7)?,
        started_at: Timestamp::from_millis(row.get(8)?),
        ended_at: row.get::<_, Option<i64>>(9)?.map(Timestamp::from_millis),
        detail: row.get(10)?,
    };
    Ok(replay.of(Wish::from_written(&wish)))
}
