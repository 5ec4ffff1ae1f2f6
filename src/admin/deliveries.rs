//! `/deliveries`: what is owed, and what people decide about it.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};

use super::query::{Asked, Told, event_id, limit, moment, named};
use super::{Admin, Problem};
use crate::clock::Timestamp;
use crate::store::{Decided, Delivery, DeliveryFilter, DeliveryState, Verdict};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListQuery {
    handler: Option<String>,
    state: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Many {
    handler: Option<String>,
    state: Option<String>,
    since: Option<String>,
    until: Option<String>,
    dry_run: bool,
}

#[derive(Serialize)]
pub(super) struct List {
    deliveries: Vec<DeliveryRow>,
    next: Option<String>,
}

#[derive(Serialize)]
pub(super) struct DeliveryRow {
    event_id: String,
    handler: String,
    state: &'static str,
    replay: bool,
    attempts: u32,
    next_attempt_at: Option<String>,
    last_error: Option<String>,
    updated_at: String,
}

#[derive(Serialize)]
pub(super) struct Changed {
    matched: u64,
    changed: u64,
}

pub(super) async fn list(State(admin): State<Admin>, Asked(query): Asked<ListQuery>) -> Result<Json<List>, Problem> {
    let filter = DeliveryFilter { handler: query.handler, state: state(query.state.as_deref())?, ..Default::default() };
    let page = admin.store().deliveries(filter, limit(query.limit)?, query.cursor.as_deref()).await?;
    Ok(Json(List { deliveries: page.items.into_iter().map(DeliveryRow::from).collect(), next: page.next }))
}

pub(super) async fn retry(
    State(admin): State<Admin>,
    Path((id, handler)): Path<(String, String)>,
) -> Result<Json<DeliveryRow>, Problem> {
    judge(&admin, &id, handler, Verdict::Retry).await
}

pub(super) async fn drop_one(
    State(admin): State<Admin>,
    Path((id, handler)): Path<(String, String)>,
) -> Result<Json<DeliveryRow>, Problem> {
    judge(&admin, &id, handler, Verdict::Drop).await
}

pub(super) async fn retry_many(State(admin): State<Admin>, Told(many): Told<Many>) -> Result<Json<Changed>, Problem> {
    judge_many(&admin, many, Verdict::Retry).await
}

pub(super) async fn drop_many(State(admin): State<Admin>, Told(many): Told<Many>) -> Result<Json<Changed>, Problem> {
    judge_many(&admin, many, Verdict::Drop).await
}

async fn judge(admin: &Admin, id: &str, handler: String, verdict: Verdict) -> Result<Json<DeliveryRow>, Problem> {
    match admin.store().judge(event_id(id)?, handler.clone(), verdict).await? {
        Decided::Is(delivery) => {
            tracing::info!(event = id, handler, ?verdict, "delivery decided by a person");
            Ok(Json(DeliveryRow::from(delivery)))
        }
        Decided::WasDone => Err(Problem::conflict("the delivery is done; to have it made again, replay the event")),
        Decided::Unknown => Err(Problem::not_found(format!("there is no delivery of event `{id}` to `{handler}`"))),
    }
}

async fn judge_many(admin: &Admin, many: Many, verdict: Verdict) -> Result<Json<Changed>, Problem> {
    let filter = DeliveryFilter {
        handler: many.handler,
        state: state(many.state.as_deref())?,
        since: moment("since", many.since.as_deref())?,
        until: moment("until", many.until.as_deref())?,
    };
    let counts = admin.store().judge_many(filter, verdict, many.dry_run).await?;
    tracing::info!(matched = counts.matched, changed = counts.changed, ?verdict, "deliveries decided by a person");
    Ok(Json(Changed { matched: counts.matched, changed: counts.changed }))
}

fn state(slug: Option<&str>) -> Result<Option<DeliveryState>, Problem> {
    named(slug, DeliveryState::from_slug, "state; the states are pending, done, dead and dropped")
}

impl From<Delivery> for DeliveryRow {
    fn from(delivery: Delivery) -> Self {
        Self {
            event_id: delivery.event_id.to_string(),
            handler: delivery.handler,
            state: delivery.state.slug(),
            replay: delivery.replay,
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_attempt_at.map(Timestamp::rfc3339),
            last_error: delivery.last_error,
            updated_at: delivery.updated_at.rfc3339(),
        }
    }
}
