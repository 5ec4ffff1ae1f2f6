//! Statistics: the sums, and what is not in them yet.

use sqlx::{PgConnection, Row as _};

use super::{moments, reached};
use crate::clock::Timestamp;
use crate::event::Kind;
use crate::store::catalogue::counts::{HOUR, MINUTE};
use crate::store::catalogue::stats::{Single, UNCATALOGUED_MAX, kind};
use crate::store::model::{Stats, Timeline};
use crate::store::postgres::rows::{count, moment, moment_or_none, snapshot};

type Result<T> = sqlx::Result<T>;

/// Counts all events, and those received in the `steps` steps of so many seconds, a multiple of 60, of which the last
/// one holds `now`.
pub(in crate::store) async fn stats(db: &mut PgConnection, now: Timestamp, step: i64, steps: usize) -> Result<Stats> {
    let mut snapshot = snapshot(db).await?;
    let mut stats = Stats::empty(now, step, steps);
    sums(&mut snapshot, &mut stats).await?;
    timeline(&mut snapshot, &mut stats.timeline).await?;
    stats.oldest_received_at = moments::first(&mut snapshot).await?;
    for single in uncatalogued(&mut snapshot).await? {
        stats.add(&single);
    }
    snapshot.rollback().await?;
    Ok(stats)
}

/// When the latest event of each kind was received, also of those that are gone.
pub(in crate::store) async fn latest(db: &mut PgConnection) -> Result<Vec<(Kind, Timestamp)>> {
    let stats = stats(db, Timestamp::from_millis(0), MINUTE, 1).await?;
    Ok(stats.kinds.iter().filter_map(|(kind, sum)| Some((*kind, sum.last_received_at?))).collect())
}

async fn sums(db: &mut PgConnection, stats: &mut Stats) -> Result<()> {
    let rows = sqlx::query(
        "SELECT kind, count, duplicates, last_event_at, last_received_at FROM kinds \
         UNION ALL SELECT kind, 0, n, NULL, NULL FROM copies",
    )
    .fetch_all(db)
    .await?;
    let mut copies = std::collections::BTreeMap::new();
    for row in &rows {
        let kind = kind(row.try_get(0)?);
        let sum = stats.kinds.entry(kind).or_default();
        sum.count += count(row, 1)?;
        *copies.entry(kind).or_insert(0) += row.try_get::<i64, _>(2)?;
        sum.last_event_at = sum.last_event_at.max(moment_or_none(row, 3)?);
        sum.last_received_at = sum.last_received_at.max(moment_or_none(row, 4)?);
    }
    for (kind, copies) in copies {
        stats.kinds.entry(kind).or_default().duplicates += u64::try_from(copies).unwrap_or(0);
    }
    Ok(())
}

async fn timeline(db: &mut PgConnection, timeline: &mut Timeline) -> Result<()> {
    let step = if timeline.step_seconds % HOUR == 0 { HOUR } else { MINUTE };
    let (from, to) = (timeline.from.secs(), timeline.end().secs());
    let rows = sqlx::query("SELECT at, kind, count FROM counts WHERE step = $1 AND at >= $2 AND at < $3")
        .bind(step)
        .bind(from.div_euclid(step))
        .bind(to.div_euclid(step))
        .fetch_all(db)
        .await?;
    for row in &rows {
        let moment = Timestamp::from_secs(row.try_get::<i64, _>(0)? * step);
        timeline.add(kind(row.try_get(1)?), moment, count(row, 2)?);
    }
    Ok(())
}

async fn uncatalogued(db: &mut PgConnection) -> Result<Vec<Single>> {
    let reached = reached(db).await?;
    let rows = sqlx::query("SELECT kind, occurred_at, received_at FROM events WHERE seq >= $1 ORDER BY seq LIMIT $2")
        .bind(reached)
        .bind(UNCATALOGUED_MAX)
        .fetch_all(db)
        .await?;
    // Copies are in the sums, whatever they are of.
    let single = |row: &sqlx::postgres::PgRow| {
        Ok(Single {
            kind: kind(row.try_get(0)?),
            occurred_at: moment_or_none(row, 1)?,
            received_at: moment(row, 2)?,
            duplicates: 0,
        })
    };
    rows.iter().map(single).collect()
}
