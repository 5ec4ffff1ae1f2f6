//! `/quarantine`: what was refused, and second looks at it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};

use super::query::{Asked, Told, limit, named};
use super::{Admin, Problem};
use crate::event::Reason;
use crate::intake::Readmitted;
use crate::store::{QuarantineFilter, Quarantined};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListQuery {
    reason: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct One {
    force: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Many {
    reason: Option<String>,
    force: bool,
}

#[derive(Serialize)]
pub(super) struct List {
    items: Vec<Item>,
    next: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Item {
    id: String,
    received_at: String,
    reason: &'static str,
    path: String,
    bytes: u64,
    truncated: bool,
    detail: String,
}

#[derive(Serialize)]
pub(super) struct Outcome {
    readmitted: u64,
    refused: u64,
}

pub(super) async fn list(State(admin): State<Admin>, Asked(query): Asked<ListQuery>) -> Result<Json<List>, Problem> {
    let filter = QuarantineFilter { reason: reason(query.reason.as_deref())? };
    let page = admin.store().quarantine(filter, limit(query.limit)?, query.cursor.as_deref()).await?;
    Ok(Json(List { items: page.items.into_iter().map(Item::from).collect(), next: page.next }))
}

pub(super) async fn body(State(admin): State<Admin>, Path(id): Path<String>) -> Result<impl IntoResponse, Problem> {
    let found = admin.store().refused(number(&id)?).await?;
    let (_, body) = found.ok_or_else(|| missing(&id))?;
    // Whatever it is, it is nothing a browser should show.
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body))
}

pub(super) async fn readmit(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    Told(one): Told<One>,
) -> Result<Json<Outcome>, Problem> {
    let readmitted = admin.0.intake.readmit(number(&id)?, one.force).await?;
    Ok(Json(readmitted.ok_or_else(|| missing(&id))?.into()))
}

pub(super) async fn readmit_many(State(admin): State<Admin>, Told(many): Told<Many>) -> Result<Json<Outcome>, Problem> {
    let reason = reason(many.reason.as_deref())?;
    Ok(Json(admin.0.intake.readmit_all(reason, many.force).await?.into()))
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
