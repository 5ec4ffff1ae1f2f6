//! `/deliveries`: what is owed, and what people decide about it.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::openapi;
use super::query::{Asked, Named, Told, event_id, limit, moment, named};
use super::{Admin, Problem};
use crate::clock::Timestamp;
use crate::store::{Decided, Delivery, DeliveryFilter, DeliveryState, Verdict};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    #[param(schema_with = openapi::text)]
    handler: Option<String>,
    #[param(schema_with = openapi::delivery_state)]
    state: Option<String>,
    #[param(schema_with = openapi::limit)]
    limit: Option<usize>,
    /// `next` of the page before.
    #[param(schema_with = openapi::text)]
    cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ManyDeliveries)]
pub(super) struct Many {
    handler: Option<String>,
    #[schema(schema_with = openapi::delivery_state)]
    state: Option<String>,
    /// Of events received at or after.
    #[schema(schema_with = openapi::moment)]
    since: Option<String>,
    /// Of events received before.
    #[schema(schema_with = openapi::moment)]
    until: Option<String>,
    /// Counts, and changes nothing.
    dry_run: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryList)]
pub(super) struct List {
    deliveries: Vec<DeliveryRow>,
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(super) struct DeliveryRow {
    event_id: String,
    handler: String,
    #[schema(schema_with = openapi::delivery_state)]
    state: &'static str,
    replay: bool,
    attempts: u32,
    next_attempt_at: Option<String>,
    last_error: Option<String>,
    updated_at: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Changed {
    matched: u64,
    changed: u64,
}

/// Lists deliveries, those of the newest events first.
#[utoipa::path(
    get,
    path = "/deliveries",
    tag = "deliveries",
    operation_id = "listDeliveries",
    params(ListQuery),
    responses((status = OK, description = "A page", body = List)),
)]
pub(super) async fn list(State(admin): State<Admin>, Asked(query): Asked<ListQuery>) -> Result<Json<List>, Problem> {
    let filter = DeliveryFilter { handler: query.handler, state: state(query.state.as_deref())?, ..Default::default() };
    let page = admin.store().deliveries(filter, limit(query.limit)?, query.cursor.as_deref()).await?;
    Ok(Json(List { deliveries: page.items.into_iter().map(DeliveryRow::from).collect(), next: page.next }))
}

/// Makes a delivery pending and due now, with a fresh allowance of attempts.
#[utoipa::path(
    post,
    path = "/deliveries/{event_id}/{handler}/retry",
    tag = "deliveries",
    operation_id = "retryDelivery",
    request_body = openapi::Empty,
    params(
        ("event_id" = String, Path, description = "The event's id"),
        ("handler" = String, Path, description = "The handler's name"),
    ),
    responses((status = OK, description = "The delivery", body = DeliveryRow)),
)]
pub(super) async fn retry(
    State(admin): State<Admin>,
    Named((id, handler)): Named<(String, String)>,
) -> Result<Json<DeliveryRow>, Problem> {
    judge(&admin, &id, handler, Verdict::Retry).await
}

/// Gives a delivery up.
#[utoipa::path(
    post,
    path = "/deliveries/{event_id}/{handler}/drop",
    tag = "deliveries",
    operation_id = "dropDelivery",
    request_body = openapi::Empty,
    params(
        ("event_id" = String, Path, description = "The event's id"),
        ("handler" = String, Path, description = "The handler's name"),
    ),
    responses((status = OK, description = "The delivery", body = DeliveryRow)),
)]
pub(super) async fn drop_one(
    State(admin): State<Admin>,
    Named((id, handler)): Named<(String, String)>,
) -> Result<Json<DeliveryRow>, Problem> {
    judge(&admin, &id, handler, Verdict::Drop).await
}

/// Makes all that match pending and due now.
#[utoipa::path(
    post,
    path = "/deliveries/retry",
    tag = "deliveries",
    operation_id = "retryDeliveries",
    request_body = Many,
    responses((status = OK, description = "How many", body = Changed)),
)]
pub(super) async fn retry_many(State(admin): State<Admin>, Told(many): Told<Many>) -> Result<Json<Changed>, Problem> {
    judge_many(&admin, many, Verdict::Retry).await
}

/// Gives all up that match.
#[utoipa::path(
    post,
    path = "/deliveries/drop",
    tag = "deliveries",
    operation_id = "dropDeliveries",
    request_body = Many,
    responses((status = OK, description = "How many", body = Changed)),
)]
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
    if let Some(handler) = &filter.handler {
        check_handler(admin, handler).await?;
    }
    let counts = admin.store().judge_many(filter.clone(), verdict, many.dry_run).await?;
    if !many.dry_run {
        tracing::info!(
            ?verdict,
            handler = filter.handler,
            state = filter.state.map(DeliveryState::slug),
            since = filter.since.map(Timestamp::rfc3339),
            until = filter.until.map(Timestamp::rfc3339),
            matched = counts.matched,
            changed = counts.changed,
            "deliveries decided by a person"
        );
    }
    Ok(Json(Changed { matched: counts.matched, changed: counts.changed }))
}

/// A name that was mistyped is no success without deliveries. One that has left the configuration is known by what is
/// kept of it.
async fn check_handler(admin: &Admin, name: &str) -> Result<(), Problem> {
    let store = admin.store();
    if store.handlers().await?.iter().any(|row| row.name == name) {
        return Ok(());
    }
    let filter = DeliveryFilter { handler: Some(name.to_owned()), ..Default::default() };
    if !store.deliveries(filter, 1, None).await?.items.is_empty() {
        return Ok(());
    }
    Err(Problem::not_found(format!("there is no handler `{name}`, nor a delivery to one of that name")))
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
