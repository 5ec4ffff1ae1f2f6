//! Lists of deliveries for people, the newest events first, and what a decision about many of them is to change.
//!
//! Pending, dead and dropped ones stand in indexes in this order, by handler. Those that are done, and all of a handler,
//! do not: they are looked for one by one, for so long, and a page that finds fewer says where the next one goes on.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::super::super::model::{ClaimKey, Delivery, DeliveryFilter, DeliveryState, HandlerId, Page, page};
use super::super::catalogue;
use super::super::events::{Statement, Value};
use super::super::rows::{moment, words, words_or_none};
use super::{DEAD, DONE, DROPPED};
use crate::event::EventId;

type Result<T> = sqlx::Result<T>;

/// Deliveries that are looked at one by one for a page.
const REACH: i64 = if cfg!(test) { 6 } else { 100_000 };

const COLUMNS: &str =
    "d.event, d.handler, e.id, h.name, d.state, d.replay, d.attempts, d.due, d.last_error, d.updated_at";

/// The parts of the deliveries that have an index by handler and event.
const PENDING: &str = "d.state IN (0, 4)";
const ARE_DEAD: &str = "d.state = 2";
const ARE_DROPPED: &str = "d.state = 3";

/// The deliveries of one event.
pub(in super::super) async fn of_event(db: &mut PgConnection, seq: i64) -> Result<Vec<Delivery>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM deliveries d JOIN events e ON e.seq = d.event JOIN handlers h ON h.id = d.handler \
         WHERE d.event = $1 ORDER BY h.name"
    );
    sqlx::query(&sql).bind(seq).fetch_all(db).await?.iter().map(delivery).collect()
}

/// A page of deliveries. The cursor names event and handler of the last row before.
pub(in super::super) async fn list(
    db: &mut PgConnection,
    filter: &DeliveryFilter,
    limit: usize,
    before: Option<(i64, i64)>,
) -> Result<Page<Delivery>> {
    let before = before.unwrap_or((i64::MAX, i64::MAX));
    let handlers = handlers(db, filter).await?;
    let (part, looked_to) = match filter.state {
        Some(DeliveryState::Pending) => (PENDING, None),
        Some(DeliveryState::Dead) => (ARE_DEAD, None),
        Some(DeliveryState::Dropped) => (ARE_DROPPED, None),
        Some(DeliveryState::Done) => ("d.state = 1", Some(near(db, before).await?)),
        None => ("true", Some(near(db, before).await?)),
    };
    let mut asked = Statement::default();
    let handlers = asked.value(Value::Numbers(handlers));
    let event = asked.value(Value::Number(before.0));
    let handler = asked.value(Value::Number(before.1));
    let many = asked.value(Value::Number(i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1));
    let keys = match looked_to {
        None => format!(
            "SELECT x.event, x.handler FROM unnest({handlers}::bigint[]) AS w (id) CROSS JOIN LATERAL (\
             SELECT d.event, d.handler FROM deliveries d WHERE d.handler = w.id AND {part} AND d.event <= {event} \
             AND (d.event, d.handler) < ({event}, {handler}) ORDER BY d.event DESC LIMIT {many}) x"
        ),
        Some(start) => {
            let start = asked.value(Value::Number(start.unwrap_or(i64::MIN)));
            format!(
                "SELECT d.event, d.handler FROM deliveries d WHERE (d.event, d.handler) < ({event}, {handler}) \
                 AND d.event >= {start} AND {part} AND d.handler = ANY ({handlers}::bigint[])"
            )
        }
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM (SELECT k.event, k.handler FROM ({keys}) k ORDER BY k.event DESC, k.handler DESC \
         LIMIT {many}) k JOIN deliveries d ON d.event = k.event AND d.handler = k.handler \
         JOIN events e ON e.seq = k.event JOIN handlers h ON h.id = k.handler ORDER BY k.event DESC, k.handler DESC"
    );
    let rows = asked.fetch(db, sql).await?;
    let found = rows.iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), delivery(row)?)));
    let found: Vec<((i64, i64), Delivery)> = found.collect::<Result<_>>()?;
    let cursor = |(seq, handler): (i64, i64)| format!("{seq}.{handler}");
    let page = page(found, limit, |(key, _)| cursor(*key));
    // All of the event at the start are looked at, and no handler has this number.
    let further = looked_to.flatten().map(|start| cursor((start, 0)));
    Ok(Page { items: page.items.into_iter().map(|(_, delivery)| delivery).collect(), next: page.next.or(further) })
}

/// Where those begin that are looked at one by one, before a place; none where there are fewer.
async fn near(db: &mut PgConnection, before: (i64, i64)) -> Result<Option<i64>> {
    sqlx::query_scalar(NEAR).bind(before.0).bind(before.1).bind(REACH).fetch_optional(db).await
}

const NEAR: &str = "SELECT event FROM deliveries WHERE (event, handler) < ($1, $2) \
    ORDER BY event DESC, handler DESC LIMIT 1 OFFSET $3";

/// The numbers of the handlers a filter matches.
async fn handlers(db: &mut PgConnection, filter: &DeliveryFilter) -> Result<Vec<i64>> {
    sqlx::query_scalar("SELECT id FROM handlers WHERE $1::text IS NULL OR name = $1 ORDER BY id")
        .bind(filter.handler.as_deref().map(super::super::text::to_sql))
        .fetch_all(db)
        .await
}

/// The deliveries a filter matches that are not done, behind `after`, at most `limit` of them, the oldest first.
pub(in super::super) async fn undone(
    db: &mut PgConnection,
    filter: &DeliveryFilter,
    after: Option<ClaimKey>,
    limit: usize,
) -> Result<Vec<ClaimKey>> {
    let parts: &[&str] = match filter.state {
        Some(DeliveryState::Done) => return Ok(Vec::new()),
        Some(DeliveryState::Pending) => &[PENDING],
        Some(DeliveryState::Dead) => &[ARE_DEAD],
        Some(DeliveryState::Dropped) => &[ARE_DROPPED],
        None => &[PENDING, ARE_DEAD, ARE_DROPPED],
    };
    let handlers = handlers(db, filter).await?;
    let places = catalogue::places(db, filter.since, filter.until).await?;
    let mut asked = Statement::default();
    let numbers = [
        places.first().map_or(0, |place| place.0),
        places.last().map_or(0, |place| place.1),
        after.map_or(i64::MIN, |key| key.seq),
        after.map_or(i64::MIN, |key| key.handler.0),
        i64::try_from(limit).unwrap_or(i64::MAX),
    ];
    let [start, end, event, handler, limit] = numbers.map(|number| asked.value(Value::Number(number)));
    let handlers = asked.value(Value::Numbers(handlers));
    let mut time = String::new();
    for (compare, moment) in [(">=", filter.since), ("<", filter.until)] {
        if let Some(moment) = moment {
            let moment = asked.value(Value::moment(moment));
            time = format!("{time} AND e.received_at {compare} {moment}");
        }
    }
    if !time.is_empty() {
        time = format!(" AND EXISTS (SELECT FROM events e WHERE e.seq = d.event{time})");
    }
    let one = |part: &&str| {
        format!(
            "SELECT x.event, x.handler FROM unnest({handlers}::bigint[]) AS w (id) CROSS JOIN LATERAL (\
             SELECT d.event, d.handler FROM deliveries d WHERE d.handler = w.id AND {part} AND d.event >= {event} \
             AND d.event >= {start} AND d.event < {end} AND (d.event, d.handler) > ({event}, {handler}){time} \
             ORDER BY d.event LIMIT {limit}) x"
        )
    };
    let parts = parts.iter().map(one).collect::<Vec<_>>().join(" UNION ALL ");
    let sql = format!("SELECT k.event, k.handler FROM ({parts}) k ORDER BY k.event, k.handler LIMIT {limit}");
    let rows = asked.fetch(db, sql).await?;
    rows.iter().map(|row| Ok(ClaimKey { seq: row.try_get(0)?, handler: HandlerId(row.try_get(1)?) })).collect()
}

/// Reads [`COLUMNS`].
fn delivery(row: &PgRow) -> Result<Delivery> {
    let id: &[u8] = row.try_get(2)?;
    let state = match row.try_get(4)? {
        DONE => DeliveryState::Done,
        DEAD => DeliveryState::Dead,
        DROPPED => DeliveryState::Dropped,
        _ => DeliveryState::Pending,
    };
    let due = moment(row, 7)?;
    Ok(Delivery {
        event_id: EventId::from_slice(id).map_err(|error| sqlx::Error::Decode(error.into()))?,
        handler: words(row, 3)?,
        state,
        replay: row.try_get(5)?,
        attempts: u32::try_from(row.try_get::<i32, _>(6)?).unwrap_or(0),
        next_attempt_at: (state == DeliveryState::Pending).then_some(due),
        last_error: words_or_none(row, 8)?,
        updated_at: moment(row, 9)?,
    })
}
