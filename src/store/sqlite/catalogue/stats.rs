//! Statistics: the sums, and what is not in them yet.

use rusqlite::{Connection, params};

use super::{moments, reached};
use crate::clock::Timestamp;
use crate::event::Kind;
use crate::store::catalogue::counts::{HOUR, MINUTE};
use crate::store::catalogue::stats::{Single, UNCATALOGUED_MAX, kind};
use crate::store::model::{Stats, Timeline};

type Result<T> = rusqlite::Result<T>;

/// Counts all events, and those received in the `steps` steps of so many seconds, a multiple of 60, of which the last
/// one holds `now`.
pub(in crate::store) fn stats(db: &Connection, now: Timestamp, step: i64, steps: usize) -> Result<Stats> {
    let snapshot = db.unchecked_transaction()?;
    let mut stats = Stats::empty(now, step, steps);
    sums(&snapshot, &mut stats)?;
    timeline(&snapshot, &mut stats.timeline)?;
    stats.oldest_received_at = moments::first(&snapshot)?;
    for single in uncatalogued(&snapshot)? {
        stats.add(&single);
    }
    Ok(stats)
}

/// When the latest event of each kind was received, also of those that are gone.
pub(in crate::store) fn latest(db: &Connection) -> Result<Vec<(Kind, Timestamp)>> {
    let stats = stats(db, Timestamp::from_millis(0), MINUTE, 1)?;
    Ok(stats.kinds.iter().filter_map(|(kind, sum)| Some((*kind, sum.last_received_at?))).collect())
}

fn sums(db: &Connection, stats: &mut Stats) -> Result<()> {
    let mut statement =
        db.prepare_cached("SELECT kind, count, duplicates, last_event_at, last_received_at FROM kinds")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let moment = |at| row.get::<_, Option<i64>>(at).map(|moment| moment.map(Timestamp::from_millis));
        let sum = stats.kinds.entry(kind(&row.get::<_, String>(0)?)).or_default();
        sum.count += row.get::<_, u64>(1)?;
        sum.duplicates += row.get::<_, u64>(2)?;
        sum.last_event_at = sum.last_event_at.max(moment(3)?);
        sum.last_received_at = sum.last_received_at.max(moment(4)?);
    }
    Ok(())
}

fn timeline(db: &Connection, timeline: &mut Timeline) -> Result<()> {
    let step = if timeline.step_seconds % HOUR == 0 { HOUR } else { MINUTE };
    let (from, to) = (timeline.from.secs(), timeline.end().secs());
    let mut statement =
        db.prepare_cached("SELECT at, kind, count FROM counts WHERE step = ?1 AND at >= ?2 AND at < ?3")?;
    let mut rows = statement.query(params![step, from.div_euclid(step), to.div_euclid(step)])?;
    while let Some(row) = rows.next()? {
        let moment = Timestamp::from_secs(row.get::<_, i64>(0)? * step);
        timeline.add(kind(&row.get::<_, String>(1)?), moment, row.get(2)?);
    }
    Ok(())
}

fn uncatalogued(db: &Connection) -> Result<Vec<Single>> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Single {
            kind: kind(&row.get::<_, String>(0)?),
            occurred_at: row.get::<_, Option<i64>>(1)?.map(Timestamp::from_millis),
            received_at: Timestamp::from_millis(row.get(2)?),
            duplicates: row.get(3)?,
        })
    };
    db.prepare_cached(
        "SELECT kind, occurred_at, received_at, duplicates FROM events WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
    )?
    .query_map(params![reached(db)?, UNCATALOGUED_MAX], read)?
    .collect()
}
