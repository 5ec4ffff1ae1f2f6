//! Composition, and the life of the service: [`Builder::build`] opens and binds, [`Server::run`] lives and drains.

mod handlers;
mod reload;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::handlers::Made;
use self::reload::{Changeable, Present};
pub use self::reload::{ReloadError, Reloaded, Reloader};
use crate::admin::Admin;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::dispatch::{Dispatcher, Subscriber};
use crate::event::{Kind, Reason};
use crate::handler::http::trust;
use crate::handler::{Handler, Policy};
use crate::intake::Intake;
use crate::receive::{self, Receiver, SpillSink, StandardError};
use crate::store::{self, OpenError, Store};
use crate::telemetry::traces::{Exporter, Traces};
use crate::telemetry::{KnownLabels, Metrics};

/// Attempts in hand may take this long after a stop was asked for.
const ATTEMPTS_END: Duration = Duration::from_secs(20);
/// Requests and attempts must have ended this long after a stop was asked for; what has not is cut off.
const TASKS_END: Duration = Duration::from_secs(22);
/// How long requests in hand of the admin listener may take after that.
const ADMIN_END: Duration = Duration::from_millis(500);
/// How long the store may take to close after that; a disk that hangs longer is left behind.
const STORE_END: Duration = Duration::from_secs(2);
/// How often the store is asked to forget what is due to be forgotten.
const PRUNE_EVERY: Duration = Duration::from_mins(1);
/// For the first time it is asked soon: a service that never lives for a minute must forget, too.
const PRUNE_FIRST: Duration = Duration::from_secs(1);

/// How often events are looked for that are not catalogued.
const CATALOGUE_EVERY: Duration = Duration::from_millis(500);
/// While more wait, the pause is this many times as long as the step before it took: callbacks come first.
const CATALOGUE_PAUSE: u32 = 9;
/// With more behind than this, as after a new format, the pause is only as long as the step: lists become slow.
const CATALOGUE_BEHIND_MAX: u64 = 200_000;
/// How often it is said how much is behind then.
const CATALOGUE_TELL_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether streams are to be made anew.
const STREAMS_EVERY: Duration = Duration::from_secs(1);
/// Pause when the store is in trouble.
const CATALOGUE_TROUBLE: Duration = Duration::from_secs(5);

/// A service that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} (`{key}`): {error}")]
    Bind {
        /// The configuration key.
        key: &'static str,
        /// What it says.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// There is no way to the collector of traces.
    #[error("traces: {0}")]
    Traces(String),
    /// A handler cannot be made.
    #[error("handler `{name}`: {reason}")]
    Handler {
        /// Which one.
        name: String,
        /// Why not.
        reason: String,
    },
}

/// Puts a [`Server`] together.
///
/// ```
/// use livehook::event::Event;
/// use livehook::handler::{BoxFuture, Handler, HandlerError, Policy};
/// use livehook::{Config, Server};
///
/// struct Rooms;
///
/// impl Handler for Rooms {
///     fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
///         Box::pin(async move {
///             println!("{} {:?}", event.facts.kind, event.facts.stream);
///             Ok(())
///         })
///     }
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder().config(Config::default()).handler(Policy::new("rooms"), Rooms).build().await?;
/// server.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
/// # Ok(())
/// # }
/// ```
pub struct Builder {
    config: Config,
    subscribers: Vec<Subscriber>,
    clock: Arc<dyn Clock>,
    spills: Arc<dyn SpillSink>,
}

/// A service that has opened its store and bound its ports, and has not begun to serve.
pub struct Server {
    parts: Arc<Changeable>,
    dispatcher: Dispatcher,
    exporter: Option<Exporter>,
    callbacks: (TcpListener, SocketAddr),
    administration: (TcpListener, SocketAddr),
}

impl Builder {
    /// The configuration; the defaults otherwise.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Adds a handler of your own to those of the configuration.
    #[must_use]
    pub fn handler(mut self, policy: Policy, handler: impl Handler) -> Self {
        self.subscribers.push(Subscriber { policy, handler: Arc::new(handler) });
        self
    }

    /// Another clock than the machine's, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another place for spilled callbacks than standard error.
    #[must_use]
    pub fn spills(mut self, sink: Arc<dyn SpillSink>) -> Self {
        self.spills = sink;
        self
    }

    /// Makes the handlers, binds the ports and opens the store, in this order.
    pub async fn build(self) -> Result<Server, BuildError> {
        let Self { config, subscribers, clock, spills } = self;
        let own = subscribers.into_iter().map(Made::own).collect();
        let made = handlers::make(config.handlers.clone(), own, Arc::clone(&clock)).await;
        let handlers = made.map_err(|mut faults| faults.swap_remove(0))?;
        let names: Vec<_> = handlers.iter().map(|made| made.name().to_owned()).collect();
        let callbacks = bind("server.listen", config.server.listen)?;
        let administration = bind("admin.listen", config.admin.listen)?;
        let metrics = metrics(&config, &names);
        metrics.start_timestamp_seconds.set(clock.now().secs());
        let store = Store::open(config.store.clone(), &names, stall(&config), Arc::clone(&clock))?;
        // Silence is told from when an event came last, also when that was before the start.
        for (kind, received_at) in store.latest().await.unwrap_or_default() {
            metrics.note_event(kind.slug(), received_at);
        }
        let policies: Vec<_> = handlers.iter().map(|made| made.subscriber.policy.clone()).collect();
        let intake =
            Intake::new(store.clone(), config.signature.clone(), &policies, Arc::clone(&clock), metrics.clone());
        let (traces, exporter) = traces(&config)?;
        let intake = Arc::new(intake.traced(traces.clone()));
        let server = config.server.clone();
        let configured = handlers.iter().map(Made::configured).collect();
        let subscribers = handlers.iter().map(|made| made.subscriber.clone()).collect();
        let parts = Arc::new(Changeable {
            turn: Semaphore::new(1),
            receiver: Receiver::new(Arc::clone(&intake), server, Arc::clone(&clock), metrics.clone(), spills),
            admin: Admin::new(config.admin.clone(), Arc::clone(&intake), metrics.clone(), configured),
            present: ArcSwap::from_pointee(Present {
                config,
                handlers,
                loaded_at: clock.now(),
                needs_restart: Vec::new(),
            }),
            store: store.clone(),
            intake,
            subscribers: watch::Sender::new(subscribers),
            metrics: metrics.clone(),
            clock: Arc::clone(&clock),
        });
        parts.tell(Vec::new());
        Ok(Server {
            parts,
            dispatcher: Dispatcher { store, clock, metrics, traces },
            exporter,
            callbacks,
            administration,
        })
    }
}

impl Server {
    /// Begins to put one together.
    pub fn builder() -> Builder {
        Builder {
            config: Config::default(),
            subscribers: Vec::new(),
            clock: Arc::new(SystemClock),
            spills: Arc::new(StandardError),
        }
    }

    /// Where callbacks are taken.
    pub fn callback_address(&self) -> SocketAddr {
        self.callbacks.1
    }

    /// Where the admin listener is.
    pub fn admin_address(&self) -> SocketAddr {
        self.administration.1
    }

    /// What changes its configuration, before and while it runs.
    pub fn reloader(&self) -> Reloader {
        Reloader(Arc::downgrade(&self.parts))
    }

    /// Serves until `stop` completes, then drains: not ready at once, callbacks taken for `drain_delay`, requests in hand
    /// answered, attempts in hand settled, the store closed. Work that is not done stays in the store.
    ///
    /// An error means that a part of the service ended by itself; the rest was drained all the same.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { parts, dispatcher, exporter, callbacks, administration } = self;
        let (store, receiver, admin) = (parts.store.clone(), &parts.receiver, &parts.admin);
        let url = store::shown_url(&parts.present.load().config.store.url);
        tracing::info!(callbacks = %callbacks.1, admin = %administration.1, store = url, "ready");
        let (no_claims, no_callbacks, no_admin) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(dispatcher.run(parts.subscribers.subscribe(), no_claims.clone(), ATTEMPTS_END).boxed());
        tasks.spawn(serve("callbacks", receiver.clone().serve(callbacks.0, no_callbacks.clone())).boxed());
        let (mut exporting, no_traces) = (JoinSet::new(), CancellationToken::new());
        exporter.into_iter().map(|exporter| exporting.spawn(exporter.run(no_traces.clone()))).for_each(drop);
        let mut background = JoinSet::new();
        background.spawn(serve("admin", admin.clone().serve(administration.0, no_admin.clone())).boxed());
        background.spawn(prune(store.clone()).boxed());
        background.spawn(catalogue(store.clone()).boxed());
        background.spawn(streams(store.clone()).boxed());
        let intake = Arc::clone(&parts.intake);
        background.spawn(async move { intake.run_replays().await }.boxed());

        let ended = tokio::select! {
            () = stop => None,
            Some(ended) = tasks.join_next() => Some(ended),
            Some(ended) = background.join_next() => Some(ended),
            () = store.died() => Some(Ok(())),
        };
        let outcome = ended.map_or(Ok(()), |ended| Err(RunError::of(ended)));
        let drain_delay = parts.present.load().config.server.drain_delay;
        tracing::info!(?drain_delay, "stopping");
        admin.announce_stop();
        receiver.announce_stop();
        no_claims.cancel();
        let drained = async {
            tokio::time::sleep(drain_delay).await;
            no_callbacks.cancel();
            while tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(TASKS_END, drained).await.is_err() {
            tracing::warn!("not everything ended in time");
        }
        tasks.shutdown().await;
        no_admin.cancel();
        // Pruning and cataloguing never end by themselves, and whoever reads an answer slowly has had his time.
        let _ = tokio::time::timeout(ADMIN_END, background.join_next()).await;
        background.shutdown().await;
        no_traces.cancel();
        // Spans have no more time than the store takes at most.
        let exported = tokio::time::timeout(STORE_END, exporting.join_next());
        let _ = tokio::join!(store.close(STORE_END), exported);
        exporting.shutdown().await;
        tracing::info!("stopped");
        outcome
    }
}

/// A part of the service ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("the service cannot go on: {0}")]
pub struct RunError(String);

impl RunError {
    fn of(ended: Result<(), JoinError>) -> Self {
        let reason =
            ended.map_or_else(|error| error.to_string(), |()| "a listener, a worker or the store ended".to_owned());
        tracing::error!(reason, "a part of the service ended by itself");
        Self(reason)
    }
}

/// How long a write may take: by the time callbacks are spilled for want of an answer, probes must have seen that
/// something is wrong.
pub(crate) fn stall(config: &Config) -> Duration {
    config.server.ack.deadline / 2
}

fn metrics(config: &Config, handlers: &[String]) -> Metrics {
    let kinds: Vec<_> = Kind::all().map(Kind::slug).collect();
    let keys: Vec<_> = config.signature.keys.iter().map(|key| key.name.as_str()).collect();
    let handlers: Vec<_> = handlers.iter().map(String::as_str).collect();
    let reasons = Reason::ALL.map(Reason::slug);
    let routes = receive::routes();
    Metrics::new(KnownLabels { kinds: &kinds, reasons: &reasons, keys: &keys, handlers: &handlers, routes: &routes })
}

fn traces(config: &Config) -> Result<(Traces, Option<Exporter>), BuildError> {
    let Some(settings) = config.traces.clone() else { return Ok((Traces::default(), None)) };
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    let client = trust::settle(client, &settings.endpoint, None).map_err(|error| BuildError::Traces(error.0))?;
    let client = client.build().map_err(|error| BuildError::Traces(error.without_url().to_string()))?;
    let (traces, exporter) = Traces::start(settings, client);
    Ok((traces, Some(exporter)))
}

/// Connections that may wait to be taken: more than this at one moment come again a second later. The system may have a
/// lower bound (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // What is left of the connections of a former process is in nobody's way.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), BuildError> {
    let fault = |error| BuildError::Bind { key, address, error };
    let listener = listen(address).map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    Ok((listener, bound))
}

async fn serve(name: &str, serving: impl Future<Output = io::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!(listener = name, %error, "a listener ended");
    }
}

async fn prune(store: Store) {
    let mut wait = PRUNE_FIRST;
    loop {
        tokio::time::sleep(std::mem::replace(&mut wait, PRUNE_EVERY)).await;
        match store.prune().await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "events pruned"),
            Err(error) => tracing::warn!(%error, "events could not be pruned"),
        }
    }
}

async fn catalogue(store: Store) {
    let mut told = None;
    loop {
        let begun = Instant::now();
        let wait = match store.catalogue().await {
            Ok(Some(step)) if step.behind > CATALOGUE_BEHIND_MAX => {
                if told.is_none_or(|at: Instant| at.elapsed() > CATALOGUE_TELL_EVERY) {
                    tracing::info!(events = step.behind, "events are to be catalogued; lists may be slow until then");
                    told = Some(Instant::now());
                }
                begun.elapsed()
            }
            Ok(Some(step)) if step.behind > 0 => begun.elapsed() * CATALOGUE_PAUSE,
            Ok(_) => {
                if told.take().is_some() {
                    tracing::info!("all events are catalogued");
                }
                CATALOGUE_EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "events could not be catalogued");
                CATALOGUE_TROUBLE
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Makes streams anew when that was asked for, with pauses as long as the steps between: callbacks come first.
async fn streams(store: Store) {
    loop {
        let begun = Instant::now();
        let wait = match store.rebuild_streams().await {
            Ok(true) => begun.elapsed(),
            Ok(false) => STREAMS_EVERY,
            Err(error) => {
                tracing::warn!(%error, "streams could not be made anew");
                CATALOGUE_TROUBLE
            }
        };
        tokio::time::sleep(wait).await;
    }
}
