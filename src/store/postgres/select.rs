//! Lists of events, the newest first, each answered by an index that holds its events in the order of storing: that of
//! all, that of a [group](super::groups), or that of a name.
//!
//! The order never changes, and what is new comes before everything else: somebody who reads page by page meets each
//! event once that was there when he began.

use sqlx::PgConnection;

use super::catalogue;
use super::events::{ROW, Statement, Value, row};
use super::groups::{self, Match};
use crate::store::model::{EventFilter, EventRow, Page, page};
use crate::store::names::{Of, digest};

type Result<T> = sqlx::Result<T>;

/// Places in the order of storing that are looked at by one statement: from the first on and before the second of each.
const PLACES_AT_ONCE: usize = 16;
/// A list of a name holds the places that differ in this many bits only, so that what is stored at the same time changes
/// few pages of its index.
const PART_BITS: u32 = if cfg!(test) { 3 } else { 13 };

/// The index of names is divided as [`PART_BITS`] says.
pub(super) const VERSION_1: &str = if cfg!(test) {
    "CREATE INDEX events_by_group ON events (grp, seq);
     CREATE INDEX events_by_name ON events ((seq >> 3), name, seq) WHERE name IS NOT NULL;"
} else {
    "CREATE INDEX events_by_group ON events (grp, seq);
     CREATE INDEX events_by_name ON events ((seq >> 13), name, seq) WHERE name IS NOT NULL;"
};

/// A page of rows. The cursor is the place of the last row of the page before.
pub(in crate::store) async fn list(
    db: &mut PgConnection,
    filter: &EventFilter,
    limit: usize,
    before: Option<i64>,
) -> Result<Page<EventRow>> {
    let filter = filter.trimmed();
    // Events keep their places and groups, so what is asked need not be as of one moment.
    let mut places = catalogue::places(db, filter.since, filter.until).await?;
    let end = before.unwrap_or(i64::MAX);
    places.retain_mut(|place| {
        place.1 = place.1.min(end);
        place.0 < place.1
    });
    let source = Source::of(db, &filter).await?;
    let mut found = Vec::new();
    while found.len() <= limit && !places.is_empty() {
        let near = places.split_off(places.len().saturating_sub(PLACES_AT_ONCE));
        let left = limit + 1 - found.len();
        found.extend(source.newest(db, &filter, &near, left).await?);
    }
    Ok(page(found, limit, |row| row.seq.to_string()))
}

/// Where the events of a filter are found.
#[derive(Debug)]
enum Source {
    Nothing,
    Everything,
    /// In these groups; of those in the second list only events that are found by the number of a name.
    Groups(Vec<i64>, Vec<i64>, Option<i64>),
    Name(i64),
}

impl Source {
    async fn of(db: &mut PgConnection, filter: &EventFilter) -> Result<Self> {
        // Nothing has an empty name.
        if [&filter.domain, &filter.app, &filter.stream].iter().any(|name| name.as_deref() == Some("")) {
            return Ok(Self::Nothing);
        }
        if let Some(stream) = &filter.stream {
            return Ok(Self::Name(digest(Of::Stream, stream)));
        }
        let name = match (&filter.domain, &filter.app) {
            (Some(domain), _) => Some(digest(Of::Domain, domain)),
            (None, Some(app)) => Some(digest(Of::App, app)),
            (None, None) if filter.kind.is_none() && filter.verification.is_none() => return Ok(Self::Everything),
            (None, None) => None,
        };
        let matching = groups::matching(db, filter).await?;
        let (others, own): (Vec<Match>, Vec<Match>) =
            matching.into_iter().partition(|found| found.is_others && name.is_some());
        let ids = |matches: Vec<Match>| matches.into_iter().map(|found| found.id).collect();
        Ok(Self::Groups(ids(own), ids(others), name))
    }

    /// The newest events at these places that a filter matches.
    async fn newest(
        &self,
        db: &mut PgConnection,
        filter: &EventFilter,
        places: &[(i64, i64)],
        limit: usize,
    ) -> Result<Vec<EventRow>> {
        let mut asked = Statement::default();
        let limit = asked.value(Value::Number(i64::try_from(limit).unwrap_or(i64::MAX)));
        let starts = asked.value(Value::Numbers(places.iter().rev().map(|place| place.0).collect()));
        let ends = asked.value(Value::Numbers(places.iter().rev().map(|place| place.1).collect()));
        let wanted = conditions(filter, &mut asked);
        // Each part is read from an index in its order, and no further than it can be needed; the newest places come first.
        let part = |from: &str, condition: &str| {
            format!(
                "SELECT p.start AS place, x.seq FROM unnest({starts}::bigint[], {ends}::bigint[]) AS p (start, past) \
                 CROSS JOIN {from} CROSS JOIN LATERAL (SELECT e.seq FROM events e WHERE {condition} \
                 AND e.seq >= p.start AND e.seq < p.past{wanted} ORDER BY e.seq DESC LIMIT {limit}) x"
            )
        };
        let parts = match self {
            Self::Nothing => return Ok(Vec::new()),
            Self::Everything => part("(SELECT) w", "true"),
            Self::Name(name) => {
                let name = asked.value(Value::Number(*name));
                // Of parts without end only those are looked at that there are.
                let (first, last) = ends_of(db).await?;
                let (first, last) = (asked.value(Value::Number(first)), asked.value(Value::Number(last)));
                let parts = format!(
                    "LATERAL generate_series(least(p.past - 1, {last}) >> {PART_BITS}, \
                     greatest(p.start, {first}) >> {PART_BITS}, -1) AS part"
                );
                part(&parts, &format!("(e.seq >> {PART_BITS}) = part AND e.name = {name}"))
            }
            Self::Groups(own, others, name) => {
                let own = asked.value(Value::Numbers(own.clone()));
                let mut all = part(&format!("unnest({own}::bigint[]) AS g (id)"), "e.grp = g.id");
                if let Some(name) = name.filter(|_| !others.is_empty()) {
                    let (others, name) =
                        (asked.value(Value::Numbers(others.clone())), asked.value(Value::Number(name)));
                    let _ = std::fmt::Write::write_fmt(
                        &mut all,
                        format_args!(
                            " UNION ALL SELECT p.start, x.seq FROM unnest({starts}::bigint[], {ends}::bigint[]) \
                             AS p (start, past) CROSS JOIN LATERAL (SELECT o.event AS seq FROM others o \
                             JOIN events e ON e.seq = o.event WHERE o.name = {name} AND o.event >= p.start \
                             AND o.event < p.past AND e.grp = ANY({others}){wanted} ORDER BY o.event DESC LIMIT {limit}) x"
                        ),
                    );
                }
                all
            }
        };
        // The parts of a name come in order, and once enough is found no further one is looked at.
        let order = if matches!(self, Self::Name(_)) { "" } else { "ORDER BY y.seq DESC " };
        let sql = format!(
            "SELECT {ROW} FROM (SELECT y.seq FROM ({parts}) y {order}LIMIT {limit}) z \
             JOIN events e ON e.seq = z.seq ORDER BY e.seq DESC"
        );
        asked.fetch(db, sql).await?.iter().map(row).collect()
    }
}

/// The first place and the last.
async fn ends_of(db: &mut PgConnection) -> Result<(i64, i64)> {
    sqlx::query_as("SELECT coalesce((SELECT min(seq) FROM events), 0), coalesce((SELECT max(seq) FROM events), 0)")
        .fetch_one(db)
        .await
}

/// What must be true of an event's own row, each behind ` AND `.
fn conditions(filter: &EventFilter, asked: &mut Statement) -> String {
    let text = |name: &Option<String>| name.as_deref().map(Value::text);
    let slug = |slug: &str| Value::Text(slug.to_owned());
    [
        ("kind =", filter.kind.map(|kind| slug(kind.slug()))),
        ("domain =", text(&filter.domain)),
        ("app =", text(&filter.app)),
        ("stream =", text(&filter.stream)),
        ("verification =", filter.verification.map(|verification| slug(verification.slug()))),
        ("received_at >=", filter.since.map(Value::moment)),
        ("received_at <", filter.until.map(Value::moment)),
    ]
    .into_iter()
    .filter_map(|(compare, value)| Some(format!(" AND e.{compare} {}", asked.value(value?))))
    .collect()
}
