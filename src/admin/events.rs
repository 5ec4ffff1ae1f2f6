//! `/events`: what arrived.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::deliveries::DeliveryRow;
use super::openapi;
use super::query::{Asked, Named, event_id, limit, moment, named};
use super::{Admin, Problem};
use crate::clock::Timestamp;
use crate::event::Verification;
use crate::handler::cloudevent;
use crate::store::{EventFilter, EventRow, Stored};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    #[param(schema_with = openapi::kind)]
    kind: Option<String>,
    /// Push domain.
    #[param(schema_with = openapi::text)]
    domain: Option<String>,
    #[param(schema_with = openapi::text)]
    app: Option<String>,
    #[param(schema_with = openapi::text)]
    stream: Option<String>,
    /// Received at or after.
    #[param(schema_with = openapi::moment)]
    since: Option<String>,
    /// Received before.
    #[param(schema_with = openapi::moment)]
    until: Option<String>,
    #[param(schema_with = openapi::verification)]
    verification: Option<String>,
    #[param(schema_with = openapi::limit)]
    limit: Option<usize>,
    /// `next` of the page before.
    #[param(schema_with = openapi::text)]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EventList)]
pub(super) struct List {
    events: Vec<Row>,
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EventRow)]
pub(super) struct Row {
    id: String,
    #[schema(schema_with = openapi::kind)]
    kind: &'static str,
    event_type: Option<i64>,
    domain: Option<String>,
    app: Option<String>,
    stream: Option<String>,
    sequence: Option<String>,
    occurred_at: Option<String>,
    received_at: String,
    #[schema(schema_with = openapi::verification)]
    verification: &'static str,
    duplicates: u64,
    bytes: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EventDetail)]
pub(super) struct Detail {
    #[serde(flatten)]
    row: Row,
    /// A CloudEvents 1.0 object.
    #[schema(value_type = Object)]
    cloudevent: Box<RawValue>,
    deliveries: Vec<DeliveryRow>,
    /// How it differs from its documentation.
    drift: Vec<String>,
}

/// Lists events, newest first.
#[utoipa::path(
    get,
    path = "/events",
    tag = "events",
    operation_id = "listEvents",
    params(ListQuery),
    responses((status = OK, description = "A page", body = List)),
)]
pub(super) async fn list(State(admin): State<Admin>, Asked(query): Asked<ListQuery>) -> Result<Json<List>, Problem> {
    let filter = EventFilter {
        kind: named(query.kind.as_deref(), |slug| slug.parse().ok(), "kind")?,
        domain: query.domain,
        app: query.app,
        stream: query.stream,
        verification: named(query.verification.as_deref(), Verification::from_slug, "verification")?,
        since: moment("since", query.since.as_deref())?,
        until: moment("until", query.until.as_deref())?,
    };
    let page = admin.store().events(filter, limit(query.limit)?, query.cursor.as_deref()).await?;
    Ok(Json(List { events: page.items.into_iter().map(Row::from).collect(), next: page.next }))
}

/// Shows one event with its deliveries.
#[utoipa::path(
    get,
    path = "/events/{id}",
    tag = "events",
    operation_id = "showEvent",
    params(("id" = String, Path, description = "An event's id")),
    responses((status = OK, description = "The event", body = Detail)),
)]
pub(super) async fn show(State(admin): State<Admin>, Named(id): Named<String>) -> Result<Json<Detail>, Problem> {
    let stored = find(&admin, &id).await?;
    // Our own writing is valid JSON; should it not be, the call says `null` rather than nothing.
    let cloudevent =
        RawValue::from_string(cloudevent::json(&stored.event)).unwrap_or_else(|_| RawValue::NULL.to_owned());
    Ok(Json(Detail {
        row: Row::from(stored.row),
        cloudevent,
        deliveries: stored.deliveries.into_iter().map(DeliveryRow::from).collect(),
        drift: stored.drift,
    }))
}

/// Gives the exact bytes received.
#[utoipa::path(
    get,
    path = "/events/{id}/body",
    tag = "events",
    operation_id = "eventBody",
    params(("id" = String, Path, description = "An event's id")),
    responses((status = OK, description = "The body of the callback", body = inline(Object), content_type = "application/json")),
)]
pub(super) async fn body(State(admin): State<Admin>, Named(id): Named<String>) -> Result<impl IntoResponse, Problem> {
    let stored = find(&admin, &id).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], stored.event.body))
}

async fn find(admin: &Admin, id: &str) -> Result<Stored, Problem> {
    let found = admin.store().event(event_id(id)?).await?;
    found.ok_or_else(|| Problem::not_found(format!("there is no event `{id}`")))
}

impl From<EventRow> for Row {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id.to_string(),
            kind: row.facts.kind.slug(),
            event_type: row.facts.event_type,
            domain: row.facts.domain,
            app: row.facts.app,
            stream: row.facts.stream,
            sequence: row.facts.sequence,
            occurred_at: row.facts.occurred_at.map(Timestamp::rfc3339),
            received_at: row.received_at.rfc3339(),
            verification: row.verification.slug(),
            duplicates: row.duplicates,
            bytes: row.bytes,
        }
    }
}
