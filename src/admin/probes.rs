//! What machines ask: is it alive, is it ready, how much is there.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use super::Admin;

/// 200 while the process makes progress: an answer is the proof.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "probes",
    operation_id = "live",
    security(()),
    responses(
        (status = OK, description = "Alive", body = String, content_type = "text/plain; charset=utf-8"),
    ),
)]
pub(super) async fn live() -> &'static str {
    "alive\n"
}

/// 503 while the store cannot take an event, or a stop has begun. Trouble with handlers never makes it red.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "probes",
    operation_id = "ready",
    security(()),
    responses(
        (status = OK, description = "Ready", body = String, content_type = "text/plain; charset=utf-8"),
        (status = SERVICE_UNAVAILABLE, description = "Not ready, and why", body = String, content_type = "text/plain; charset=utf-8"),
    ),
)]
pub(super) async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    match admin.obstacle() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(obstacle) => (StatusCode::SERVICE_UNAVAILABLE, format!("{obstacle}\n")),
    }
}

/// For load balancers: 200 while callbacks are taken, spilling included.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "probes",
    operation_id = "health",
    security(()),
    responses(
        (status = OK, description = "Callbacks are taken", body = String, content_type = "text/plain; charset=utf-8"),
        (status = SERVICE_UNAVAILABLE, description = "Stopping", body = String, content_type = "text/plain; charset=utf-8"),
    ),
)]
pub(super) async fn health(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.is_stopping() { (StatusCode::SERVICE_UNAVAILABLE, "stopping\n") } else { (StatusCode::OK, "ok\n") }
}

/// The metrics; what only the store knows is looked up now.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "probes",
    operation_id = "metrics",
    security(()),
    responses(
        (status = OK, description = "Metrics in the Prometheus text format", body = String, content_type = "text/plain; charset=utf-8"),
    ),
)]
pub(super) async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    admin.refresh().await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.0.metrics.render())
}

impl Admin {
    fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// Why we are not ready.
    fn obstacle(&self) -> Option<String> {
        if self.is_stopping() {
            return Some("stopping".to_owned());
        }
        self.store().trouble().map(|trouble| format!("the store cannot take an event: {trouble}"))
    }

    async fn refresh(&self) {
        let (metrics, store) = (&self.0.metrics, self.store());
        metrics.ready.set(i64::from(self.obstacle().is_none()));
        metrics.store_bytes.set(i64::try_from(store.bytes()).unwrap_or(i64::MAX));
        let tally = store.tally();
        metrics.streams_live.set(i64::try_from(tally.streams_live).unwrap_or(i64::MAX));
        let stored = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let Ok(rows) = store.handlers().await else {
            // A store that cannot be read has counted along; of those that have left, the last known stays.
            for (name, pending) in tally.pending {
                metrics.queue_depth.with_label_values(&[&name]).set(stored(pending));
                metrics
                    .dead_letters
                    .with_label_values(&[&name])
                    .set(stored(tally.dead.get(&name).copied().unwrap_or(0)));
            }
            return;
        };
        for row in &rows {
            let label = [row.name.as_str()];
            metrics.queue_depth.with_label_values(&label).set(stored(row.pending));
            metrics.dead_letters.with_label_values(&label).set(stored(row.dead));
            #[expect(clippy::cast_precision_loss, reason = "seconds of our time are exact in an f64")]
            let secs = row.oldest_pending_at.map_or(0.0, |moment| moment.secs() as f64);
            metrics.queue_oldest_timestamp_seconds.with_label_values(&label).set(secs);
        }
        metrics.keep_queues_of(|name| rows.iter().any(|row| row.name == name));
    }
}
