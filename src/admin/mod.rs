//! The admin listener: probes, metrics, the JSON API and the dashboard, for people and their tools. `admin` never sees a
//! callback being taken nor a delivery being made; all it knows stands in the store.

mod config;
mod dashboard;
mod deliveries;
mod events;
mod guard;
mod guesses;
mod handlers;
mod import;
mod probes;
mod problem;
mod quarantine;
mod query;
mod replay;
mod session;
mod settings;
mod stats;
mod streams;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::Method;
use axum::middleware;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::config::Reloading;
use self::guesses::Guesses;
use self::problem::Problem;
pub use self::settings::Settings;
use crate::clock::Timestamp;
use crate::intake::Intake;
use crate::secret::Secret;
use crate::store::Store;
use crate::telemetry::Metrics;

/// What the admin listener works with.
#[derive(Clone)]
pub struct Admin(Arc<Parts>);

struct Parts {
    terms: ArcSwap<Terms>,
    reloading: ArcSwap<Reloading>,
    intake: Arc<Intake>,
    metrics: Metrics,
    stopping: AtomicBool,
    guesses: Guesses,
    /// Logins that were ended by hand.
    ended: session::Ended,
}

/// What may change while it is served.
struct Terms {
    settings: Settings,
    handlers: Vec<Configured>,
}

/// A handler of the configuration.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Its name.
    pub name: String,
    /// What it is, in the word of the configuration.
    pub type_name: &'static str,
}

impl Admin {
    /// An admin side over the store of `intake`.
    pub fn new(settings: Settings, intake: Arc<Intake>, metrics: Metrics, handlers: Vec<Configured>) -> Self {
        let terms = ArcSwap::from_pointee(Terms { settings, handlers });
        Self(Arc::new(Parts {
            terms,
            reloading: ArcSwap::default(),
            intake,
            metrics,
            stopping: AtomicBool::new(false),
            guesses: Guesses::default(),
            ended: session::Ended::default(),
        }))
    }

    /// Asks for another token, and knows other handlers, from now on; where it listens stays as it is.
    pub fn reconfigure(&self, settings: Settings, handlers: Vec<Configured>) {
        self.0.terms.store(Arc::new(Terms { settings, handlers }));
    }

    /// What became of the configuration, for those who ask.
    pub fn announce_configuration(&self, reloading: Reloading) {
        self.0.reloading.store(Arc::new(reloading));
    }

    /// From now on we are not ready.
    pub fn announce_stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Serves until `stop`, then finishes the requests in hand.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        axum::serve(listener, router(self)).with_graceful_shutdown(stop.cancelled_owned()).await
    }

    /// Its routes, without a port.
    #[cfg(fuzzing)]
    pub fn routes(self) -> Router {
        router(self)
    }

    fn store(&self) -> &Store {
        self.0.intake.store()
    }

    /// What the API asks for at the moment.
    fn token(&self) -> Option<Secret> {
        self.0.terms.load().settings.token.clone()
    }

    fn now(&self) -> Timestamp {
        self.0.intake.now()
    }
}

fn router(admin: Admin) -> Router {
    let api = Router::new()
        .route("/config", get(config::show))
        .route("/events", get(events::list))
        .route("/events/{id}", get(events::show))
        .route("/events/{id}/body", get(events::body))
        .route("/deliveries", get(deliveries::list))
        .route("/deliveries/retry", post(deliveries::retry_many))
        .route("/deliveries/drop", post(deliveries::drop_many))
        .route("/deliveries/{event_id}/{handler}/retry", post(deliveries::retry))
        .route("/deliveries/{event_id}/{handler}/drop", post(deliveries::drop_one))
        .route("/handlers", get(handlers::list))
        .route("/handlers/{name}/pause", post(handlers::pause))
        .route("/handlers/{name}/resume", post(handlers::resume))
        .route("/quarantine", get(quarantine::list))
        .route("/quarantine/readmit", post(quarantine::readmit_many))
        .route("/quarantine/{id}/body", get(quarantine::body))
        .route("/quarantine/{id}/readmit", post(quarantine::readmit))
        .route("/streams", get(streams::list))
        .route("/streams/rebuild", get(streams::rebuild_progress).post(streams::rebuild))
        .route("/streams/{domain}/{app}/{stream}", get(streams::show))
        .route("/replay", get(replay::list).post(replay::replay))
        .route("/replay/{id}", get(replay::show))
        .route("/replay/{id}/cancel", post(replay::cancel))
        .route("/import", post(import::import))
        .route("/stats", get(stats::show))
        .fallback(|| async { Problem::not_found("there is no such call") })
        .layer(middleware::from_fn_with_state(admin.clone(), guard::api));
    let session = Router::new()
        .route("/session", get(session::show).post(session::login).delete(session::logout))
        .layer(middleware::from_fn_with_state(admin.clone(), guard::door));
    Router::new()
        .merge(dashboard::routes())
        .nest("/api/v1", api.merge(session))
        .route("/livez", get(probes::live))
        .route("/readyz", get(probes::ready))
        .route("/healthz", get(probes::health))
        .route("/metrics", get(probes::metrics))
        .fallback(|| async { Problem::not_found("there is nothing here") })
        .method_not_allowed_fallback(|method: Method| async move { Problem::method_not_allowed(&method) })
        .layer(middleware::map_response(guard::harden))
        .with_state(admin)
}
