//! The callback listener: takes bodies whole under limits, has them stored, and gives the one answer CSS wants. The body
//! decides what an event is, never the path. `receive` knows no handler and never looks at what is delivered.

mod answer;
mod body;
mod budget;
mod connection;
#[cfg(fuzzing)]
mod fuzzing;
mod settings;
mod spill;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::{Failure, Ruled};
use self::body::Limits;
use self::budget::Budget;
use self::connection::{Connections, Origin};
#[cfg(fuzzing)]
pub use self::fuzzing::Door;
pub use self::settings::{Ack, Settings, Unstored};
pub use self::spill::{SpillSink, StandardError};
use crate::clock::Clock;
use crate::event::{KINDS, Kind};
use crate::intake::{Callback, Intake, Ruling};
use crate::signature::LegacyHeaders;
use crate::telemetry::traces::{Place, Role, Span};
use crate::telemetry::{Metrics, Repeats, SUMMARY_EVERY};

/// What the callback listener works with.
#[derive(Clone)]
pub struct Receiver(Arc<Parts>);

struct Parts {
    intake: Arc<Intake>,
    settings: ArcSwap<Settings>,
    connections: Connections,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    spills: Arc<dyn SpillSink>,
    budget: Arc<Budget>,
    /// Large bodies that may be looked at at the same time.
    judges: Arc<Semaphore>,
    /// Rests of bodies that were too large, read on after the answer.
    rests: TaskTracker,
    /// What still waits for the store after its answer.
    late: TaskTracker,
    failures: Repeats<Failure>,
    stopping: AtomicBool,
}

/// The pattern a request was routed by, for metrics.
#[derive(Clone, Copy, Debug)]
struct Route(&'static str);

/// Bodies above this size are looked at away from the threads that serve connections, as many at a time as the machine
/// has processors: more would not be faster, and each takes memory.
const LARGE_BODY: usize = 64 << 10;
/// On the smallest machine one large body shall not hold up all others.
const JUDGES_MIN: usize = 2;
/// How long is waited for what the store has not confirmed in time.
const LATE_PATIENCE: Duration = Duration::from_millis(500);
/// How long requests in hand may still take when the listener closes.
const CLOSE_PATIENCE: Duration = Duration::from_secs(15);

impl Receiver {
    /// A receiver that hands callbacks to `intake`, and to `spills` what cannot be stored in time.
    pub fn new(
        intake: Arc<Intake>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        spills: Arc<dyn SpillSink>,
    ) -> Self {
        let budget = Arc::new(Budget::new(settings.body_bytes_in_flight));
        let judges = Arc::new(Semaphore::new(available_parallelism().map_or(JUDGES_MIN, usize::from).max(JUDGES_MIN)));
        let (rests, late, stopping) = (TaskTracker::new(), TaskTracker::new(), AtomicBool::new(false));
        Self(Arc::new(Parts {
            intake,
            connections: Connections::new(&settings, metrics.clone()),
            settings: ArcSwap::from_pointee(settings),
            clock,
            metrics,
            spills,
            budget,
            judges,
            rests,
            late,
            failures: Repeats::default(),
            stopping,
        }))
    }

    /// Works by other limits from now on; where it listens stays as it is. What is being taken, and connections beyond a
    /// lower number, end as they would have.
    pub fn reconfigure(&self, settings: Settings) {
        self.0.budget.resize(settings.body_bytes_in_flight);
        self.0.connections.reconfigure(&settings);
        self.0.settings.store(Arc::new(settings));
    }

    /// From now on load balancers are told to look elsewhere; callbacks are still taken.
    pub fn announce_stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Serves until `stop`, then finishes the requests in hand.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let connections = self.0.connections.clone();
        tokio::select! {
            () = connections.serve(listener, router(self.clone()), stop) => {}
            () = self.keep_summing_up(&connections) => {}
        }
        let finish = async {
            connections.finish().await;
            self.0.rests.close();
            self.0.rests.wait().await;
        };
        if tokio::time::timeout(CLOSE_PATIENCE, finish).await.is_err() {
            tracing::warn!("requests in hand did not end in time and are cut off");
            connections.cut();
        }
        // A store that does not confirm them now is told to close next, and lets go of them.
        self.0.late.close();
        let _ = tokio::time::timeout(LATE_PATIENCE, self.0.late.wait()).await;
        self.sum_up();
        Ok(())
    }

    /// Never completes.
    async fn keep_summing_up(&self, connections: &Connections) {
        loop {
            tokio::time::sleep(SUMMARY_EVERY).await;
            self.sum_up();
            connections.sum_up();
        }
    }
}

/// The callback routes: the one for all kinds, and one for each name of each kind.
static CALLBACK_ROUTES: LazyLock<Vec<(Option<Kind>, String)>> = LazyLock::new(|| {
    let named = KINDS.iter().filter(|facts| facts.kind != Kind::Unknown).flat_map(|facts| {
        let names = std::iter::once(facts.slug).chain(facts.alias);
        names.map(|name| (Some(facts.kind), format!("/callbacks/{name}")))
    });
    std::iter::once((None, "/callbacks".to_owned())).chain(named).collect()
});
/// What load balancers ask.
const HEALTH_ROUTE: &str = "/healthz";

/// The patterns of all routes, as they appear in metrics.
pub fn routes() -> Vec<&'static str> {
    CALLBACK_ROUTES.iter().map(|(_, path)| path.as_str()).chain([HEALTH_ROUTE]).collect()
}

fn router(receiver: Receiver) -> Router {
    let health = get(|State(receiver): State<Receiver>| async move { receiver.health() });
    let router = with_slash(Router::new(), HEALTH_ROUTE, health);
    let add =
        |router, (kind, path): &'static (Option<Kind>, String)| with_slash(router, path, callback_route(*kind, path));
    CALLBACK_ROUTES.iter().fold(router, add).with_state(receiver)
}

fn with_slash(router: Router<Receiver>, path: &str, methods: MethodRouter<Receiver>) -> Router<Receiver> {
    router.route(path, methods.clone()).route(&format!("{path}/"), methods)
}

fn callback_route(kind: Option<Kind>, pattern: &'static str) -> MethodRouter<Receiver> {
    post(move |State(receiver): State<Receiver>, request: Request| async move {
        let mut response = receiver.take(kind, request).await;
        response.extensions_mut().insert(Route(pattern));
        response
    })
    .fallback(move |_: Method| async move {
        let allow = [(header::ALLOW, "POST")];
        let mut response = (StatusCode::METHOD_NOT_ALLOWED, allow).into_response();
        response.extensions_mut().insert(Route(pattern));
        response
    })
}

impl Parts {
    /// For a request whose first byte came then.
    fn limits(&self, begun: Instant) -> Limits {
        let settings = self.settings.load();
        Limits { body: settings.body_limit, until: begun + settings.read_timeout }
    }
}

impl Receiver {
    fn health(&self) -> Response {
        let stopping = self.0.stopping.load(Ordering::Relaxed);
        let status = if stopping { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        let mut response = (status, if stopping { "stopping\n" } else { "ok\n" }).into_response();
        response.extensions_mut().insert(Route(HEALTH_ROUTE));
        response
    }

    /// Reads a callback and answers it.
    async fn take(&self, route: Option<Kind>, request: Request) -> Response {
        let parts = &self.0;
        let (head, body) = request.into_parts();
        let origin = head.extensions.get::<Origin>();
        let begun = origin.map_or_else(Instant::now, Origin::first_byte);
        let limits = parts.limits(begun);
        let mut read = match body::read(body, limits, &parts.budget).await {
            Ok(read) => read,
            Err(error) => return answer::unread(error),
        };
        let last_byte = Instant::now();
        if let Some(origin) = origin {
            origin.body_complete();
        }
        let rest = read.rest.take();
        let callback = Callback {
            received_at: parts.clock.now(),
            path: head.uri.path().to_owned(),
            route,
            token: head.uri.query().and_then(token),
            headers: legacy_headers(&head.headers),
            body: read.bytes,
            excess: read.excess,
        };
        let (callback, ruled) = (Arc::new(callback), Arc::new(OnceLock::new()));
        let answered = self.answer(Arc::clone(&callback), read.share, last_byte, &ruled).await;
        if parts.intake.traces().is_on() {
            self.trace(&callback, ruled.get().copied(), begun, answered.status());
        }
        match rest {
            Some(rest) => {
                parts.rests.spawn(body::drain(rest));
                answer::and_close(answered)
            }
            None => answered,
        }
    }

    fn trace(&self, callback: &Callback, ruled: Option<Ruled>, begun: Instant, status: StatusCode) {
        let id = ruled.and_then(|ruled| ruled.id);
        let mut attributes = vec![
            ("http.request.method", "POST".into()),
            ("http.response.status_code", i64::from(status.as_u16()).into()),
            ("url.path", callback.path.as_str().into()),
        ];
        attributes
            .extend(ruled.and_then(|ruled| ruled.refusal).map(|reason| ("livehook.refused", reason.slug().into())));
        self.0.intake.traces().record(Span {
            place: id.map_or_else(Place::alone, |id| Place::of_request(id.as_u128())),
            parent: None,
            link: None,
            name: "callback",
            role: Role::Server,
            begun,
            attributes,
            failure: status.is_server_error().then(|| "refused, so that it comes again".to_owned()),
        });
    }

    /// Looks at a callback; none if that panicked, which must cost no more than this one its ruling.
    async fn rule(&self, callback: &Arc<Callback>) -> Option<Ruling> {
        let (intake, callback) = (Arc::clone(&self.0.intake), Arc::clone(callback));
        if callback.body.len() <= LARGE_BODY {
            return catch_unwind(AssertUnwindSafe(|| intake.rule(&callback))).ok();
        }
        // The semaphore is never closed.
        let place = Arc::clone(&self.0.judges).acquire_owned().await.ok()?;
        let judged = tokio::task::spawn_blocking(move || {
            let _place = place;
            intake.rule(&callback)
        });
        judged.await.ok()
    }
}

/// The first `token` of a query, decoded.
fn token(query: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token").map(|(_, value)| value.into_owned())
}

/// Bytes of a header that signs: an id of 36, an HMAC-SHA1 in Base64 of 28. A longer one is none, and is not kept.
const LEGACY_HEADER_MAX: usize = 256;

fn legacy_headers(headers: &axum::http::HeaderMap) -> LegacyHeaders {
    let fits = |text: &&str| text.len() <= LEGACY_HEADER_MAX;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).filter(fits).map(str::to_owned);
    LegacyHeaders { secret_id: text("tpd-secretid"), auth: text("tpd-callback-auth") }
}
