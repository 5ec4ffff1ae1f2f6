//! `/quarantine`: what was refused, and second looks at it.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::openapi;
use super::query::{Added, Asked, IDS_MAX, Named, Told, limit, named, some_of};
use super::{Admin, Problem};
use crate::event::Reason;
use crate::intake::Readmitted;
use crate::store::{QuarantineFilter, Quarantined};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    #[param(schema_with = openapi::reason)]
    reason: Option<String>,
    #[param(schema_with = openapi::limit)]
    limit: Option<usize>,
    /// `next` of the page before.
    #[param(schema_with = openapi::text)]
    cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Readmit)]
pub(super) struct One {
    /// Overlooks token and signature.
    force: bool,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ReadmitMany)]
pub(super) struct Many {
    #[schema(schema_with = openapi::reason)]
    reason: Option<String>,
    /// Instead of a reason: these, in this order. Those that are no longer there count as neither.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<String>>,
    /// Overlooks token and signature.
    force: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = QuarantineList)]
pub(super) struct List {
    items: Vec<Item>,
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Refused)]
pub(super) struct Item {
    id: String,
    received_at: String,
    #[schema(schema_with = openapi::reason)]
    reason: &'static str,
    path: String,
    bytes: u64,
    truncated: bool,
    detail: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Readmitted)]
pub(super) struct Outcome {
    readmitted: u64,
    refused: u64,
}

/// Lists callbacks that were refused, newest first.
#[utoipa::path(
    get,
    path = "/quarantine",
    tag = "quarantine",
    operation_id = "listRefused",
    params(ListQuery),
    responses((status = OK, description = "A page", body = List)),
)]
pub(super) async fn list(State(admin): State<Admin>, Asked(query): Asked<ListQuery>) -> Result<Json<List>, Problem> {
    let filter = QuarantineFilter { reason: reason(query.reason.as_deref())? };
    let page = admin.store().quarantine(filter, limit(query.limit)?, query.cursor.as_deref()).await?;
    Ok(Json(List { items: page.items.into_iter().map(Item::from).collect(), next: page.next }))
}

/// Gives the part of a refused body that was kept.
#[utoipa::path(
    get,
    path = "/quarantine/{id}/body",
    tag = "quarantine",
    operation_id = "refusedBody",
    params(("id" = String, Path, description = "The number of the refused callback")),
    responses((status = OK, description = "The bytes", content_type = "application/octet-stream")),
)]
pub(super) async fn body(State(admin): State<Admin>, Named(id): Named<String>) -> Result<impl IntoResponse, Problem> {
    let found = admin.store().refused(number(&id)?).await?;
    let (_, body) = found.ok_or_else(|| missing(&id))?;
    // Whatever it is, it is nothing a browser should show.
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body))
}

/// Checks a refused callback again with the configuration of today.
#[utoipa::path(
    post,
    path = "/quarantine/{id}/readmit",
    tag = "quarantine",
    operation_id = "readmit",
    params(("id" = String, Path, description = "The number of the refused callback")),
    request_body = One,
    responses((status = OK, description = "What came of it", body = Outcome)),
)]
pub(super) async fn readmit(
    State(admin): State<Admin>,
    Named(id): Named<String>,
    Added(one): Added<One>,
) -> Result<Json<Outcome>, Problem> {
    let readmitted = admin.0.intake.readmit(number(&id)?, one.force).await?;
    Ok(Json(readmitted.ok_or_else(|| missing(&id))?.into()))
}

/// Checks refused callbacks again, those first that came first.
///
/// Answers when it has come to its end, which takes a while where there are thousands; whoever wants to see how it goes on
/// names them some at a time. A caller who hangs up ends it: what is left stays in quarantine.
#[utoipa::path(
    post,
    path = "/quarantine/readmit",
    tag = "quarantine",
    operation_id = "readmitMany",
    request_body = Many,
    responses((status = OK, description = "What came of it", body = Outcome)),
)]
pub(super) async fn readmit_many(State(admin): State<Admin>, Told(many): Told<Many>) -> Result<Json<Outcome>, Problem> {
    let reason = reason(many.reason.as_deref())?;
    let intake = &admin.0.intake;
    let outcome = match (some_of("ids", many.ids)?, reason) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("`ids` names the callbacks; leave out what else would choose them"));
        }
        (Some(ids), None) => intake.readmit_these(numbers(&ids)?, many.force).await?,
        (None, reason) => intake.readmit_all(reason, many.force).await?,
    };
    Ok(Json(outcome.into()))
}

fn numbers(ids: &[String]) -> Result<Vec<i64>, Problem> {
    if ids.len() > IDS_MAX {
        return Err(Problem::bad_request(format!("`ids` names more than {IDS_MAX} callbacks")));
    }
    let wrong = |id| Problem::bad_request(format!("`ids`: `{id}` is no id of a refused callback"));
    ids.iter().map(|id| id.parse().map_err(|_| wrong(id))).collect()
}

fn reason(slug: Option<&str>) -> Result<Option<Reason>, Problem> {
    named(slug, |slug| slug.parse().ok(), "quarantine reason")
}

fn number(id: &str) -> Result<i64, Problem> {
    id.parse().map_err(|_| missing(id))
}

fn missing(id: &str) -> Problem {
    Problem::not_found(format!("there is no refused callback `{id}`"))
}

impl From<Quarantined> for Item {
    fn from(item: Quarantined) -> Self {
        Self {
            id: item.id.to_string(),
            received_at: item.received_at.rfc3339(),
            reason: item.reason.slug(),
            path: item.path,
            bytes: item.bytes,
            truncated: item.truncated,
            detail: item.detail,
        }
    }
}

impl From<Readmitted> for Outcome {
    fn from(outcome: Readmitted) -> Self {
        Self { readmitted: outcome.readmitted, refused: outcome.refused }
    }
}
