//! `/handlers`: who gets events, how that goes, and pausing them.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi;
use super::query::Named;
use super::{Admin, Problem};
use crate::clock::Timestamp;
use crate::store::HandlerRow;

#[derive(Serialize, ToSchema)]
pub(super) struct Handler {
    name: String,
    /// None for one that has left the configuration.
    r#type: Option<&'static str>,
    #[schema(schema_with = openapi::handler_state)]
    state: &'static str,
    pending: u64,
    dead: u64,
    oldest_pending_at: Option<String>,
    last_success_at: Option<String>,
    last_error: Option<String>,
}

/// Lists the handlers of the configuration, and those that have left it with something pending or dead.
#[utoipa::path(
    get,
    path = "/handlers",
    tag = "handlers",
    operation_id = "listHandlers",
    responses((status = OK, description = "All of them", body = [Handler])),
)]
pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<Vec<Handler>>, Problem> {
    let rows = admin.store().handlers().await?;
    Ok(Json(rows.into_iter().map(|row| Handler::of(&admin, row)).collect()))
}

/// Hands nothing more out to a handler; what is owed to it waits.
#[utoipa::path(
    post,
    path = "/handlers/{name}/pause",
    tag = "handlers",
    operation_id = "pauseHandler",
    request_body = openapi::Empty,
    params(("name" = String, Path, description = "The handler's name")),
    responses((status = OK, description = "The handler", body = Handler)),
)]
pub(super) async fn pause(State(admin): State<Admin>, Named(name): Named<String>) -> Result<Json<Handler>, Problem> {
    set(&admin, name, true).await
}

/// Has a paused handler go on.
#[utoipa::path(
    post,
    path = "/handlers/{name}/resume",
    tag = "handlers",
    operation_id = "resumeHandler",
    request_body = openapi::Empty,
    params(("name" = String, Path, description = "The handler's name")),
    responses((status = OK, description = "The handler", body = Handler)),
)]
pub(super) async fn resume(State(admin): State<Admin>, Named(name): Named<String>) -> Result<Json<Handler>, Problem> {
    set(&admin, name, false).await
}

async fn set(admin: &Admin, name: String, paused: bool) -> Result<Json<Handler>, Problem> {
    let row = find(admin, &name).await?;
    if !row.is_configured {
        return Err(Problem::conflict(format!(
            "handler `{name}` has left the configuration and gets nothing until it returns"
        )));
    }
    admin.store().pause(name.clone(), paused).await?;
    tracing::info!(handler = name, paused, "handler paused or resumed by a person");
    Ok(Json(Handler::of(admin, find(admin, &name).await?)))
}

async fn find(admin: &Admin, name: &str) -> Result<HandlerRow, Problem> {
    let found = admin.store().handlers().await?.into_iter().find(|row| row.name == name);
    found.ok_or_else(|| Problem::not_found(format!("there is no handler `{name}`")))
}

impl Handler {
    fn of(admin: &Admin, row: HandlerRow) -> Self {
        let terms = admin.0.terms.load();
        let configured = terms.handlers.iter().find(|own| own.name == row.name);
        Self {
            r#type: configured.map(|own| own.type_name),
            // Nothing is handed out to one that has left the configuration either.
            state: if row.is_paused || !row.is_configured { "paused" } else { "running" },
            name: row.name,
            pending: row.pending,
            dead: row.dead,
            oldest_pending_at: row.oldest_pending_at.map(Timestamp::rfc3339),
            last_success_at: row.last_success_at.map(Timestamp::rfc3339),
            last_error: row.last_error,
        }
    }
}
