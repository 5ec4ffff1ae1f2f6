//! `/config`: whether the service works by the configuration it was last given. Never what stands in it.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Admin;
use crate::clock::Timestamp;

/// What became of the configuration.
#[derive(Clone, Debug)]
pub struct Reloading {
    /// When the present one was taken over.
    pub loaded_at: Timestamp,
    /// When one was last to be.
    pub last_attempt_at: Timestamp,
    /// What was wrong with that one; empty when it is the present one.
    pub faults: Vec<String>,
    /// Keys that are different in the file and count after a restart only.
    pub needs_restart: Vec<&'static str>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Configuration)]
pub(super) struct Document {
    loaded_at: String,
    last_attempt_at: String,
    successful: bool,
    faults: Vec<String>,
    needs_restart: Vec<&'static str>,
}

/// Tells whether the configuration is the one that was last given.
#[utoipa::path(
    get,
    path = "/config",
    tag = "config",
    operation_id = "config",
    responses((status = OK, description = "What became of it", body = Document)),
)]
pub(super) async fn show(State(admin): State<Admin>) -> Json<Document> {
    let Reloading { loaded_at, last_attempt_at, faults, needs_restart } = Reloading::clone(&admin.0.reloading.load());
    Json(Document {
        loaded_at: loaded_at.rfc3339(),
        last_attempt_at: last_attempt_at.rfc3339(),
        successful: faults.is_empty(),
        faults,
        needs_restart,
    })
}

impl Default for Reloading {
    fn default() -> Self {
        let never = Timestamp::from_secs(0);
        Self { loaded_at: never, last_attempt_at: never, faults: Vec::new(), needs_restart: Vec::new() }
    }
}
