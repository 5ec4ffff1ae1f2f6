//! Statistics: the sums, and what is not in them yet.

use rusqlite::{Connection, params};

use super::counts::{HOUR, MINUTE};
use super::{moments, reached};
use crate::clock::Timestamp;
use crate::event::Kind;
use crate::store::model::{KindStats, Stats, Timeline};

type Result<T> = rusqlite::Result<T>;

/// Events that are counted one by one. There are more of them only under a flood, and after a new format.
const UNCATALOGUED_MAX: usize = 20_000;

/// An event that is in no sum yet.
struct Single {
    kind: Kind,
    occurred_at: Option<i64>,
    received_at: i64,
    duplicates: u64,
}

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
        let sum = KindStats {
            count: row.get(1)?,
            duplicates: row.get(2)?,
            last_event_at: moment(3)?,
            last_received_at: moment(4)?,
        };
        stats.kinds.insert(kind(&row.get::<_, String>(0)?), sum);
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
            occurred_at: row.get(1)?,
            received_at: row.get(2)?,
            duplicates: row.get(3)?,
        })
    };
    db.prepare_cached(
        "SELECT kind, occurred_at, received_at, duplicates FROM events WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
    )?
    .query_map(params![reached(db)?, UNCATALOGUED_MAX], read)?
    .collect()
}

/// Only kinds of the table are ever written, by this version and earlier ones.
fn kind(slug: &str) -> Kind {
    slug.parse().unwrap_or(Kind::Unknown)
}

impl Stats {
    fn empty(now: Timestamp, step: i64, steps: usize) -> Self {
        let last = now.secs().div_euclid(step);
        let from = last - i64::try_from(steps).unwrap_or(0) + 1;
        let counts = || Kind::all().map(|kind| (kind, vec![0; steps])).collect();
        Self {
            at: now,
            kinds: Kind::all().map(|kind| (kind, KindStats::default())).collect(),
            timeline: Timeline { from: Timestamp::from_secs(from * step), step_seconds: step, kinds: counts() },
            oldest_received_at: None,
        }
    }

    fn add(&mut self, single: &Single) {
        let received_at = Timestamp::from_millis(single.received_at);
        let sum = self.kinds.entry(single.kind).or_default();
        sum.count += 1;
        sum.duplicates += single.duplicates;
        sum.last_event_at = sum.last_event_at.max(single.occurred_at.map(Timestamp::from_millis));
        sum.last_received_at = sum.last_received_at.max(Some(received_at));
        self.oldest_received_at = Some(self.oldest_received_at.map_or(received_at, |oldest| oldest.min(received_at)));
        self.timeline.add(single.kind, received_at, 1);
    }
}

impl Timeline {
    /// The end of the last step.
    fn end(&self) -> Timestamp {
        let steps = self.kinds.values().next().map_or(0, Vec::len);
        Timestamp::from_secs(self.from.secs() + self.step_seconds * i64::try_from(steps).unwrap_or(0))
    }

    fn add(&mut self, kind: Kind, moment: Timestamp, count: u64) {
        let at = (moment.secs() - self.from.secs()).div_euclid(self.step_seconds);
        let step = self.kinds.get_mut(&kind).and_then(|steps| steps.get_mut(usize::try_from(at).ok()?));
        if let Some(step) = step {
            *step += count;
        }
    }
}
