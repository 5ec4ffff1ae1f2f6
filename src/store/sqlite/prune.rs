//! Forgetting: events whose deliveries have all ended go after their time, earlier when the store is too large.

use super::super::model::{Pruned, Pruning};
use super::catalogue;
use super::events::ROW;
use super::identities;
use super::memory::Tx;
use super::streams;
use crate::clock::Timestamp;
use crate::store::catalogue::Entry;

type Result<T> = rusqlite::Result<T>;

/// Events looked at in one transaction: few enough not to keep callbacks waiting.
const STEP: i64 = 500;
/// Bytes of their bodies, after which a transaction ends as well.
const STEP_BYTES: u64 = if cfg!(test) { 256 } else { 4 << 20 };

struct Candidate {
    seq: i64,
    received_at: i64,
    owed: bool,
    bytes: u64,
}

/// Looks at the events behind `after`, in the order of storing.
pub(in crate::store) fn step(tx: &mut Tx<'_>, pruning: Pruning, after: i64) -> Result<Pruned> {
    // Streams that are made anew read every event once, and must not miss what one leaves behind that goes meanwhile.
    if streams::is_under_way(tx.db)? {
        return Ok(Pruned::default());
    }
    let mut candidates = candidates(tx, after)?;
    let mut full = i64::try_from(candidates.len()).is_ok_and(|n| n == STEP);
    let (mut gone, mut bytes) = (Vec::new(), 0);
    for (at, event) in candidates.iter().enumerate() {
        if !event.owed && (pruning.any_age || event.received_at < pruning.received_before.millis()) {
            gone.push(forget(tx, event, pruning.remember_since)?);
            bytes += event.bytes;
        }
        if bytes > STEP_BYTES {
            full = true;
            candidates.truncate(at + 1);
            break;
        }
    }
    let mut pruned = Pruned { events: gone.len() as u64, next: None };
    if !gone.is_empty() {
        catalogue::take_out(tx, &gone)?;
        let last_seq = tx.memory.next_seq - 1;
        tx.db.prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'last_seq'")?.execute([last_seq])?;
    }
    // Order of storing is all but order of receipt, so the first that is too young ends the walk.
    let too_young = |event: &&Candidate| !pruning.any_age && event.received_at >= pruning.received_before.millis();
    pruned.next = candidates.last().filter(|last| full && !too_young(last)).map(|last| last.seq);
    Ok(pruned)
}

/// Drops identities of pruned events whose copies need not be recognised any more. Returns whether there may be more.
pub(in crate::store) fn drop_forgotten(tx: &mut Tx<'_>, before: Timestamp) -> Result<bool> {
    let dropped = tx
        .db
        .prepare_cached(
            "DELETE FROM forgotten WHERE identity IN (SELECT identity FROM forgotten WHERE received_at < ?1 LIMIT ?2)",
        )?
        .execute([before.millis(), STEP])?;
    Ok(i64::try_from(dropped).is_ok_and(|n| n == STEP))
}

/// Only of what is catalogued: an interruption that went unseen would leave its push without an end.
fn candidates(tx: &Tx<'_>, after: i64) -> Result<Vec<Candidate>> {
    tx.db.prepare_cached(
        "SELECT seq, received_at, EXISTS (SELECT 1 FROM deliveries d WHERE d.event = seq AND d.state IN (0, 2, 4, 5)), \
         length(body) FROM events WHERE seq > ?1 AND seq < ?3 ORDER BY seq LIMIT ?2",
    )?
    .query_map([after, STEP, tx.catalogued_before()], |row| {
        Ok(Candidate { seq: row.get(0)?, received_at: row.get(1)?, owed: row.get(2)?, bytes: row.get(3)? })
    })?
    .collect()
}

fn forget(tx: &mut Tx<'_>, event: &Candidate, remember_since: Timestamp) -> Result<Entry> {
    if event.received_at >= remember_since.millis() {
        tx.db
            .prepare_cached("INSERT OR IGNORE INTO forgotten SELECT identity, received_at FROM events WHERE seq = ?1")?
            .execute([event.seq])?;
        tx.effects.forgot = true;
    }
    tx.db.prepare_cached("DELETE FROM deliveries WHERE event = ?1")?.execute([event.seq])?;
    let (gone, identity) = tx
        .db
        .prepare_cached(&format!("DELETE FROM events WHERE seq = ?1 RETURNING {ROW}, body, identity"))?
        .query_row([event.seq], |row| Ok((catalogue::entry(row)?, row.get(14)?)))?;
    identities::remove(tx, identity)?;
    Ok(gone)
}
