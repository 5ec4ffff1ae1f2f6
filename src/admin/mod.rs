//! The admin listener: probes, metrics, the JSON API and the dashboard, for people and their tools. `admin` never sees a
//! callback being taken nor a delivery being made; all it knows stands in the store.

mod config;
mod connections;
mod dashboard;
mod deliveries;
mod events;
mod guard;
mod guesses;
mod handlers;
mod import;
mod openapi;
mod probes;
mod problem;
mod quarantine;
mod query;
mod replay;
mod session;
mod settings;
mod stats;
mod strangers;
mod streams;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::Method;
use axum::middleware;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::config::Reloading;
use self::guesses::Guesses;
use self::problem::Problem;
pub use self::settings::Settings;
use self::strangers::Strangers;
use crate::clock::Timestamp;
use crate::intake::Intake;
use crate::secret::Secret;
use crate::store::Store;
use crate::telemetry::{Metrics, SUMMARY_EVERY};

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
    strangers: Strangers,
    /// Logins that were ended by hand.
    ended: session::Ended,
}

/// What may change while it is served.
struct Terms {
    settings: Settings,
    /// Since when the token is this one, as far as this process knows.
    token_since: Timestamp,
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
        let terms = ArcSwap::from_pointee(Terms { settings, token_since: Timestamp::default(), handlers });
        Self(Arc::new(Parts {
            terms,
            reloading: ArcSwap::default(),
            strangers: Strangers::new(&metrics),
            intake,
            metrics,
            stopping: AtomicBool::new(false),
            guesses: Guesses::default(),
            ended: session::Ended::default(),
        }))
    }

    /// Asks for another token, and knows other handlers, from now on; where it listens stays as it is.
    pub fn reconfigure(&self, settings: Settings, handlers: Vec<Configured>) {
        let before = self.0.terms.load();
        let token_since = if settings.token == before.settings.token { before.token_since } else { self.now() };
        self.0.terms.store(Arc::new(Terms { settings, token_since, handlers }));
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
        let summaries = async {
            let mut ticks = tokio::time::interval(SUMMARY_EVERY);
            loop {
                ticks.tick().await;
                self.0.strangers.sum_up();
            }
        };
        tokio::select! {
            () = connections::serve(listener, router(self.clone()), stop) => {}
            () = summaries => {}
        }
        self.0.strangers.sum_up();
        Ok(())
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
    let guarded = Router::from(calls())
        .fallback(|| async { Problem::not_found("there is no such call") })
        .layer(middleware::from_fn_with_state(admin.clone(), guard::api));
    let door = Router::from(door()).layer(middleware::from_fn_with_state(admin.clone(), guard::door));
    routes(guarded.merge(door))
        .fallback(|| async { Problem::not_found("there is nothing here") })
        .method_not_allowed_fallback(|method: Method| async move { Problem::method_not_allowed(&method) })
        .layer(middleware::map_response(guard::harden))
        .with_state(admin)
}

/// Every path there is, with the calls of the API as they are to be let through.
fn routes(calls: Router<Admin>) -> Router<Admin> {
    Router::from(open()).merge(dashboard::routes()).nest(API, calls)
}

/// What everybody may ask who reaches us.
fn open() -> OpenApiRouter<Admin> {
    OpenApiRouter::default()
        .routes(routes!(probes::live))
        .routes(routes!(probes::ready))
        .routes(routes!(probes::health))
        .routes(routes!(probes::metrics))
        .routes(routes!(openapi::show))
}

/// The calls that let a browser in.
fn door() -> OpenApiRouter<Admin> {
    OpenApiRouter::default().routes(routes!(session::show, session::login, session::logout))
}

/// The calls of the API for whoever is in.
fn calls() -> OpenApiRouter<Admin> {
    OpenApiRouter::default()
        .routes(routes!(events::list))
        .routes(routes!(events::show))
        .routes(routes!(events::body))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::retry_many))
        .routes(routes!(deliveries::drop_many))
        .routes(routes!(deliveries::retry))
        .routes(routes!(deliveries::drop_one))
        .routes(routes!(handlers::list))
        .routes(routes!(handlers::pause))
        .routes(routes!(handlers::resume))
        .routes(routes!(quarantine::list))
        .routes(routes!(quarantine::readmit_many))
        .routes(routes!(quarantine::body))
        .routes(routes!(quarantine::readmit))
        .routes(routes!(replay::list, replay::replay))
        .routes(routes!(replay::show))
        .routes(routes!(replay::cancel))
        .routes(routes!(streams::list))
        .routes(routes!(streams::rebuild_progress, streams::rebuild))
        .routes(routes!(streams::show))
        .routes(routes!(import::import))
        .routes(routes!(stats::show))
        .routes(routes!(config::show))
}

/// What all of this is, as a document.
fn document() -> OpenApi {
    let router = OpenApiRouter::with_openapi(openapi::common()).merge(open()).nest(API, calls().merge(door()));
    openapi::complete(router.into_openapi())
}

const API: &str = "/api/v1";
