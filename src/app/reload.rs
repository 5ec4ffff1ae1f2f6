//! Another configuration for a running service: taken over whole, or not at all.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};

use super::handlers::{self, Made};
use super::stall;
use crate::admin::{Admin, Reloading};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Faults};
use crate::dispatch::Subscriber;
use crate::handler::Policy;
use crate::intake::Intake;
use crate::receive::Receiver;
use crate::store::{HandlerRow, Store};
use crate::telemetry::{KnownLabels, Metrics};

/// Gives a running [`Server`](super::Server) another configuration: keys, tokens, limits and handlers change without a
/// request refused or a delivery lost. Requests and attempts in hand end as they began.
///
/// ```
/// # async fn example(sources: livehook::config::Sources) -> Result<(), Box<dyn std::error::Error>> {
/// let server = livehook::Server::builder().config(livehook::config::load(&sources)?.config).build().await?;
/// let reloader = server.reloader();
/// let serving = server.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() });
/// let reloading = async {
///     let reloaded = reloader.reload(livehook::config::load(&sources).map(|loaded| loaded.config)).await?;
///     println!("counts after a restart only: {:?}", reloaded.needs_restart);
///     Ok::<_, livehook::ReloadError>(())
/// };
/// let (served, reloaded) = tokio::join!(serving, reloading);
/// # served?;
/// # Ok(reloaded?)
/// # }
/// ```
#[derive(Clone)]
pub struct Reloader(pub(super) Weak<Changeable>);

/// What became of a configuration that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys that are different now and count after a restart only.
    pub needs_restart: Vec<&'static str>,
}

/// A configuration was not taken over; the service goes on with the one it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.join("\n"))]
pub struct ReloadError {
    /// Everything that is wrong with it.
    pub faults: Vec<String>,
}

/// The parts of a service that can be given other settings.
pub(super) struct Changeable {
    /// One reload at a time.
    pub(super) turn: Semaphore,
    pub(super) present: ArcSwap<Present>,
    pub(super) store: Store,
    pub(super) intake: Arc<Intake>,
    pub(super) receiver: Receiver,
    pub(super) admin: Admin,
    pub(super) subscribers: watch::Sender<Vec<Subscriber>>,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
}

/// The configuration the service works by.
pub(super) struct Present {
    pub(super) config: Config,
    pub(super) handlers: Vec<Made>,
    pub(super) loaded_at: Timestamp,
    pub(super) needs_restart: Vec<&'static str>,
}

/// How long a store in trouble is waited for, which must write down the names of new handlers.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

impl Reloader {
    /// Has the server work by `config`, or, if that is faulty, go on as it does. Either way the log, the metrics and the
    /// admin API tell. Handlers that were given to the builder stay.
    pub async fn reload(&self, config: Result<Config, Faults>) -> Result<Reloaded, ReloadError> {
        let Some(parts) = self.0.upgrade() else {
            return Err(ReloadError { faults: vec!["the service has ended".to_owned()] });
        };
        // Never closed.
        let _turn = parts.turn.acquire().await;
        let outcome = match config {
            Ok(config) => parts.take_over(config).await,
            Err(faults) => Err(faults.iter().map(ToString::to_string).collect()),
        };
        parts.tell(outcome.as_ref().err().cloned().unwrap_or_default());
        match outcome {
            Ok(()) => Ok(Reloaded { needs_restart: parts.present.load().needs_restart.clone() }),
            Err(faults) => Err(ReloadError { faults }),
        }
    }
}

impl Changeable {
    /// Everything that can fail comes first.
    async fn take_over(&self, config: Config) -> Result<(), Vec<String>> {
        let present = self.present.load_full();
        let (config, needs_restart) = as_bound(config, &present.config);
        let mut faults: Vec<String> =
            config.judged().err().iter().flat_map(Faults::iter).map(ToString::to_string).collect();
        let made = handlers::make(config.handlers.clone(), present.handlers.clone(), Arc::clone(&self.clock)).await;
        let handlers = made.unwrap_or_else(|more| {
            faults.extend(more.iter().map(ToString::to_string));
            Vec::new()
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let names: Vec<_> = handlers.iter().map(|made| made.name().to_owned()).collect();
        self.reconfigure_store(&config, &names).await.map_err(|fault| vec![fault])?;
        self.change(&config, &handlers);
        warn_of_open_doors(&config, &present.config);
        let gone = |name: &str| {
            present.handlers.iter().any(|made| made.name() == name) && !names.iter().any(|own| own == name)
        };
        self.warn_of_work_left(gone).await;
        self.present.store(Arc::new(Present { config, handlers, loaded_at: self.clock.now(), needs_restart }));
        Ok(())
    }

    async fn reconfigure_store(&self, config: &Config, names: &[String]) -> Result<(), String> {
        let reconfigured = self.store.reconfigure(config.store.clone(), names, stall(config));
        match tokio::time::timeout(STORE_PATIENCE, reconfigured).await {
            Ok(outcome) => outcome.map_err(|error| format!("handlers: {error}")),
            Err(_) => {
                Err("handlers: the store cannot be written at present, and must know a new handler first".to_owned())
            }
        }
    }

    /// Says which handlers have left with something that nobody delivers now.
    async fn warn_of_work_left(&self, gone: impl Fn(&str) -> bool) {
        let rows = match tokio::time::timeout(STORE_PATIENCE, self.store.handlers()).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        for HandlerRow { name, pending, dead, .. } in rows.into_iter().filter(|row| gone(&row.name)) {
            tracing::warn!(handler = name, pending, dead, "a handler has left the configuration; its deliveries wait");
        }
    }

    fn change(&self, config: &Config, handlers: &[Made]) {
        let policies: Vec<Policy> = handlers.iter().map(|made| made.subscriber.policy.clone()).collect();
        let keys: Vec<_> = config.signature.keys.iter().map(|key| key.name.as_str()).collect();
        let names: Vec<_> = handlers.iter().map(Made::name).collect();
        self.metrics.start_at_zero(KnownLabels { keys: &keys, handlers: &names, ..KnownLabels::default() });
        self.intake.reconfigure(config.signature.clone(), &policies);
        self.receiver.reconfigure(config.server.clone());
        self.subscribers.send_replace(handlers.iter().map(|made| made.subscriber.clone()).collect());
        self.admin.reconfigure(config.admin.clone(), handlers.iter().map(Made::configured).collect());
    }

    /// Says what became of the last reload: everywhere.
    pub(super) fn tell(&self, faults: Vec<String>) {
        let (present, now) = (self.present.load(), self.clock.now());
        self.metrics.config_last_reload_successful.set(i64::from(faults.is_empty()));
        self.metrics.config_last_reload_success_timestamp_seconds.set(present.loaded_at.secs());
        if faults.is_empty() {
            tracing::info!(needs_restart = ?present.needs_restart, "configuration loaded");
        }
        for fault in &faults {
            tracing::error!(fault, "the configuration is faulty; the one before it stays");
        }
        let needs_restart = present.needs_restart.clone();
        self.admin.announce_configuration(Reloading {
            loaded_at: present.loaded_at,
            last_attempt_at: now,
            faults,
            needs_restart,
        });
    }
}

/// Says what is no longer asked of those who come.
fn warn_of_open_doors(config: &Config, before: &Config) {
    if config.signature.keys.is_empty() && !before.signature.keys.is_empty() {
        tracing::warn!("no callback key is configured any more: callbacks are taken unsigned");
    }
    if config.admin.token.is_none() && before.admin.token.is_some() {
        tracing::warn!("no admin token is configured any more: the admin API asks for none");
    }
}

/// The configuration with what cannot change in place as it is, and the keys of what would have changed.
fn as_bound(mut config: Config, present: &Config) -> (Config, Vec<&'static str>) {
    let mut differ = Vec::new();
    hold("server.listen", &mut config.server.listen, &present.server.listen, &mut differ);
    hold("admin.listen", &mut config.admin.listen, &present.admin.listen, &mut differ);
    hold("store.url", &mut config.store.url, &present.store.url, &mut differ);
    hold("log.format", &mut config.log.format, &present.log.format, &mut differ);
    (config, differ)
}

fn hold<T: PartialEq + Clone>(key: &'static str, wanted: &mut T, present: &T, differ: &mut Vec<&'static str>) {
    if wanted != present {
        differ.push(key);
        wanted.clone_from(present);
    }
}
