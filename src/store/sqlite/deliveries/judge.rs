//! What people decide about deliveries.

use rusqlite::{OptionalExtension as _, params};

use super::super::fresh::Which;
use super::super::memory::Tx;
use super::{BLOCKED, DEAD, DONE, DROPPED, FRESH, READY, Result};
use super::{first_of, fresh_in_lane, of_event, promote, set_state, shelve, state_of};
use crate::event::EventId;
use crate::store::Decided;
use crate::store::model::{ClaimKey, DeliveryState, HandlerId, Verdict};

/// Applies a person's decision to one delivery.
pub(in crate::store) fn judge(tx: &mut Tx<'_>, id: EventId, handler: &str, verdict: Verdict) -> Result<Decided> {
    let found = tx
        .db
        .prepare_cached(
            "SELECT d.event, d.handler FROM deliveries d JOIN events e ON e.seq = d.event \
             JOIN handlers h ON h.id = d.handler WHERE e.id = ?1 AND h.name = ?2",
        )?
        .query_row(params![id.as_bytes(), handler], |row| {
            Ok(ClaimKey { seq: row.get(0)?, handler: HandlerId(row.get(1)?) })
        })
        .optional()?;
    let Some(key) = found else {
        return Ok(Decided::Unknown);
    };
    let Some(state) = state_at_rest(tx, key)?.filter(|state| *state != DONE) else {
        return Ok(Decided::WasDone);
    };
    apply(tx, key, state, verdict)?;
    let now = of_event(tx.db, key.seq)?.into_iter().find(|delivery| delivery.handler == handler);
    Ok(now.map_or(Decided::Unknown, Decided::Is))
}

/// Applies a person's decision to deliveries that were found in `state`, where one was asked for, and still are. Returns
/// how many it changed.
pub(in crate::store) fn judge_all(
    tx: &mut Tx<'_>,
    keys: &[ClaimKey],
    state: Option<DeliveryState>,
    verdict: Verdict,
) -> Result<u64> {
    let mut changed = 0;
    for key in keys {
        let now = state_at_rest(tx, *key)?;
        let Some(now) = now.filter(|now| *now != DONE && state.is_none_or(|state| state == state_of(*now))) else {
            continue;
        };
        changed += u64::from(apply(tx, *key, now, verdict)?);
    }
    Ok(changed)
}

/// The state of a delivery a person decides about. Nothing of its lane is fresh then.
fn state_at_rest(tx: &mut Tx<'_>, key: ClaimKey) -> Result<Option<i64>> {
    let look = |tx: &Tx<'_>| -> Result<Option<(i64, Option<i64>)>> {
        tx.db
            .prepare_cached("SELECT state, lane FROM deliveries WHERE event = ?1 AND handler = ?2")?
            .query_row(params![key.seq, key.handler.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    };
    let Some((state, lane)) = look(tx)? else {
        return Ok(None);
    };
    if state != FRESH && lane.is_none_or(|lane| fresh_in_lane(tx, key.handler, lane) == 0) {
        return Ok(Some(state));
    }
    shelve(tx, key.handler, Which::of(lane, key.seq))?;
    Ok(look(tx)?.map(|(state, _)| state))
}

/// Returns whether anything is different now.
fn apply(tx: &mut Tx<'_>, key: ClaimKey, state: i64, verdict: Verdict) -> Result<bool> {
    match (verdict, state) {
        (Verdict::Drop, READY | BLOCKED | DEAD) => drop_one(tx, key, state).map(|()| true),
        (Verdict::Retry, _) => retry_one(tx, key, state).map(|()| true),
        (Verdict::Drop, _) => Ok(false),
    }
}

fn drop_one(tx: &mut Tx<'_>, key: ClaimKey, state: i64) -> Result<()> {
    let lane = set_state(tx, key, DROPPED)?;
    if state == DEAD {
        tx.dead(key.handler, -1);
        return Ok(());
    }
    tx.effects.dropped.push(key);
    tx.pending(key.handler, -1);
    tx.shelved(key.handler, -1);
    promote(tx, key.handler, lane)
}

fn retry_one(tx: &mut Tx<'_>, key: ClaimKey, state: i64) -> Result<()> {
    tx.db
        .prepare_cached("UPDATE deliveries SET due = ?3, attempts = 0 WHERE event = ?1 AND handler = ?2")?
        .execute(params![key.seq, key.handler.0, tx.now.millis()])?;
    tx.effects.renewed.push(key);
    match state {
        DEAD => tx.dead(key.handler, -1),
        READY | BLOCKED => {
            tx.wake(key.handler);
            return set_state(tx, key, state).map(|_| ());
        }
        _ => {}
    }
    tx.pending(key.handler, 1);
    tx.shelved(key.handler, 1);
    let lane = set_state(tx, key, BLOCKED)?;
    enter_lane(tx, key, lane)
}

/// Finds the place of a delivery that has become pending again: first of its lane if it is the oldest there.
fn enter_lane(tx: &mut Tx<'_>, key: ClaimKey, lane: Option<i64>) -> Result<()> {
    let first = lane.map_or(Ok(None), |lane| first_of(tx.db, key.handler, lane))?;
    if let Some((seq, rank)) = first {
        let other = ClaimKey { handler: key.handler, seq };
        let own_rank: i64 = tx
            .db
            .prepare_cached("SELECT rank FROM deliveries WHERE event = ?1 AND handler = ?2")?
            .query_row(params![key.seq, key.handler.0], |row| row.get(0))?;
        if rank < own_rank {
            return Ok(());
        }
        set_state(tx, other, BLOCKED)?;
    }
    set_state(tx, key, READY)?;
    tx.wake(key.handler);
    Ok(())
}
