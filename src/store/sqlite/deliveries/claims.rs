//! What may be claimed, and its way into somebody's hands.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use super::super::events;
use super::super::fresh::FreshDelivery;
use super::super::memory::{InHand, Memory};
use super::Result;
use crate::clock::Timestamp;
use crate::store::model::{Claim, ClaimKey, Claimed, HandlerId};

/// Bodies handed out at once; what is above waits for the next claim.
const CLAIM_BYTES_MAX: usize = 4 << 20;

/// A delivery that may be claimed.
struct Candidate {
    due: Timestamp,
    rank: i64,
    seq: i64,
    attempts: u32,
    lane: Option<i64>,
    fresh: Option<FreshDelivery>,
}

/// Hands out deliveries that are due, oldest first, and tells when the next one will be. Writes nothing: what is in hand
/// is known in memory only, so after a crash everything unsettled is there again.
pub(in super::super) fn claim(
    db: &Connection,
    memory: &mut Memory,
    handler: HandlerId,
    now: Timestamp,
    limit: usize,
) -> Result<Claimed> {
    let mut candidates = candidates(db, memory, handler, limit)?;
    let mut claimed = Claimed::default();
    if let Some(beyond) = candidates.iter().enumerate().find(|(at, one)| *at == limit || one.due > now) {
        claimed.next_due = Some(beyond.1.due);
        candidates.truncate(beyond.0);
    }
    let mut bytes = 0;
    let mut taken = Vec::with_capacity(candidates.len());
    for one in candidates {
        if bytes > CLAIM_BYTES_MAX {
            claimed.next_due = Some(now);
            break;
        }
        let event = match &one.fresh {
            Some(fresh) => Arc::clone(&fresh.event),
            None => Arc::new(events::at(db, one.seq)?),
        };
        bytes += event.body.len();
        let key = ClaimKey { handler, seq: one.seq };
        claimed.claims.push(Claim {
            key,
            event,
            attempt: one.attempts + 1,
            called_off: Arc::default(),
            holder: 0,
            release: None,
        });
        taken.push(one);
    }
    // Only now, when nothing can fail any more: what is in hand and in nobody's hands would never be seen again.
    let in_hand = memory.in_hand.entry(handler).or_default();
    for (claim, Candidate { lane, fresh, .. }) in claimed.claims.iter().zip(taken) {
        if let Some(fresh) = &fresh {
            memory.fresh.take(handler, fresh);
        }
        let called_off = Arc::clone(&claim.called_off);
        in_hand.insert(claim.key.seq, InHand { lane, renewed: false, called_off, fresh });
    }
    Ok(claimed)
}

/// What is pending, not in hand and first of its lane, oldest first: `limit` of them and one more to tell when it is due.
fn candidates(db: &Connection, memory: &Memory, handler: HandlerId, limit: usize) -> Result<Vec<Candidate>> {
    let none = HashMap::new();
    let in_hand = memory.in_hand.get(&handler).unwrap_or(&none);
    let busy: HashSet<i64> = in_hand.values().filter_map(|claim| claim.lane).collect();
    let is_free = |lane: Option<i64>| lane.is_none_or(|lane| !busy.contains(&lane));
    let fresh = memory.fresh.ready(handler).filter(|one| is_free(one.lane)).take(limit + 1);
    let mut found: Vec<_> = fresh
        .map(|one| Candidate {
            due: one.due,
            rank: one.seq,
            seq: one.seq,
            attempts: 0,
            lane: one.lane,
            fresh: Some(one.clone()),
        })
        .collect();
    if memory.shelved.get(&handler).is_none_or(|count| *count == 0) {
        return Ok(found);
    }
    let fresh = found.len();
    let mut statement = db.prepare_cached(CLAIM)?;
    // What is in hand stands among the first, so it is read again.
    let mut rows = statement.query(params![handler.0, limit + in_hand.len() + 1])?;
    while let Some(row) = rows.next()? {
        let one = candidate(row)?;
        if !in_hand.contains_key(&one.seq) && is_free(one.lane) {
            found.push(one);
        }
        if found.len() > fresh + limit {
            break;
        }
    }
    found.sort_by_key(|one| (one.due, one.rank));
    Ok(found)
}

fn candidate(row: &Row<'_>) -> Result<Candidate> {
    Ok(Candidate {
        seq: row.get(0)?,
        due: Timestamp::from_millis(row.get(1)?),
        attempts: row.get(2)?,
        lane: row.get(3)?,
        rank: row.get(4)?,
        fresh: None,
    })
}

/// What may be claimed, first come first.
pub(super) const CLAIM: &str = "SELECT event, due, attempts, lane, rank FROM deliveries WHERE handler = ?1 AND state = 0 \
    ORDER BY due, rank LIMIT ?2";
