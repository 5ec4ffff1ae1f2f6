//! What reacts to events. [`Handler`] is the whole contract; the types livehook brings are one file each.

#[cfg(feature = "amqp")]
pub mod amqp;
#[cfg(feature = "chat")]
pub mod chat;
pub mod cloudevent;
mod excerpt;
pub mod exec;
pub mod file;
mod filter;
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats", feature = "redis"))]
mod link;
pub mod log;
#[cfg(feature = "mysql")]
pub mod mysql;
pub mod naming;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
mod seen;
pub mod server;
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub mod sql;
pub mod when;

use std::sync::Arc;
use std::time::Duration;

pub use futures_util::future::BoxFuture;

pub use self::cloudevent::Format;
pub use self::filter::{Candidate, Filter, Unwanted, Verdict};
use crate::clock::Clock;
use crate::event::Event;

/// Reacts to one event. Runs **at least once**: a crash after the effect and before the record of it means a second
/// call with the same `event.id`. Make a second call harmless.
///
/// # Example
///
/// Counts the streams that are live. A stream is in the set or it is not, so a second call changes nothing.
///
/// ```
/// use std::collections::HashSet;
/// use std::sync::Mutex;
///
/// use livehook::event::{Event, Kind};
/// use livehook::handler::{BoxFuture, Handler, HandlerError};
///
/// #[derive(Default)]
/// struct Live(Mutex<HashSet<String>>);
///
/// impl Handler for Live {
///     fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
///         Box::pin(async move {
///             let stream = event.facts.stream.clone().ok_or_else(|| HandlerError::permanent("no stream is named"))?;
///             let mut live = self.0.lock().map_err(|_| HandlerError::transient("the set is broken"))?;
///             match event.facts.kind {
///                 Kind::StreamPush => live.insert(stream),
///                 Kind::StreamInterruption => live.remove(&stream),
///                 other => return Err(HandlerError::permanent(format!("{other} was not asked for"))),
///             };
///             Ok(())
///         })
///     }
/// }
/// #
/// # use livehook::{clock::Timestamp, event::{EventId, Incoming, Verification}};
/// # let event = |body: &'static str| Event {
/// #     id: EventId::from_u128(1),
/// #     facts: Incoming::read(body.as_bytes()).unwrap().facts(),
/// #     received_at: Timestamp::from_secs(1_703_128_357),
/// #     verification: Verification::Unsigned,
/// #     body: body.as_bytes().into(),
/// # };
/// # let push = event(r#"{"event_type":1,"stream_id":"room-7"}"#);
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
///
/// let live = Live::default();
/// live.deliver(&push).await?;
/// live.deliver(&push).await?;
/// assert_eq!(live.0.lock().unwrap().len(), 1);
/// # assert!(live.deliver(&event(r#"{"event_type":100}"#)).await.is_err());
/// # Ok::<(), HandlerError>(())
/// # }).unwrap();
/// ```
pub trait Handler: Send + Sync + 'static {
    /// [`HandlerError::Transient`] asks for another attempt, [`HandlerError::Permanent`] ends the delivery as dead.
    /// The future is dropped at the handler's `timeout`; hold nothing across an `.await` that must not be dropped.
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>>;
}

/// Why an attempt failed, and so what comes next. The texts are shown to operators; keep secrets out of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// Trying again may help.
    #[error("{reason}")]
    Transient {
        /// What went wrong.
        reason: String,
        /// The other side asked to be left alone for this long.
        retry_after: Option<Duration>,
    },
    /// Trying again cannot help.
    #[error("{reason}")]
    Permanent {
        /// What went wrong.
        reason: String,
    },
}

impl HandlerError {
    /// Trying again may help.
    pub fn transient(reason: impl Into<String>) -> Self {
        Self::Transient { reason: reason.into(), retry_after: None }
    }

    /// Trying again cannot help.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self::Permanent { reason: reason.into() }
    }
}

/// A handler as configured: what it gets, how it is treated, and what it is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which events it gets, and how they are brought to it.
    pub policy: Policy,
    /// What it does with them.
    pub target: Target,
}

/// Which events a handler gets, and how they are brought to it.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Stable identity: progress is kept under this name.
    pub name: String,
    /// Which events it gets.
    pub filter: Filter,
    /// Whether the events of one stream wait for each other.
    pub order: Order,
    /// How many attempts run at the same time; at least 1.
    pub concurrency: usize,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// What happens after a failed attempt.
    pub retry: RetryPolicy,
}

impl Policy {
    /// What the configuration defaults to: all events, in order, tried for about a day.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            filter: Filter::default(),
            order: Order::Stream,
            concurrency: DEFAULT_CONCURRENCY,
            timeout: DEFAULT_TIMEOUT,
            retry: RetryPolicy::default(),
        }
    }
}

/// Enough to hide a sink's latency, few enough not to flood it.
pub const DEFAULT_CONCURRENCY: usize = 16;
/// Longer than any healthy sink takes, short enough that a dead one is noticed.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether deliveries of one stream wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One at a time per (domain, app, stream), in order of storing. Events that name no stream wait for none.
    Stream,
    /// Free.
    None,
}

/// After a failed attempt: exponential delays with full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all before the delivery is dead; at least 1.
    pub max_attempts: u32,
    /// Upper bound of the first delay.
    pub min_delay: Duration,
    /// Upper bound of all delays.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    /// About a day.
    fn default() -> Self {
        Self { max_attempts: 300, min_delay: Duration::from_secs(1), max_delay: Duration::from_mins(10) }
    }
}

/// The handler types livehook brings, with their settings.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented in its module")]
pub enum Target {
    Log(log::Settings),
    File(file::Settings),
    Http(http::Settings),
    Exec(exec::Settings),
    #[cfg(feature = "chat")]
    Chat(chat::Settings),
    #[cfg(feature = "nats")]
    Nats(nats::Settings),
    #[cfg(feature = "mysql")]
    Mysql(mysql::Settings),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Settings),
    #[cfg(feature = "amqp")]
    Amqp(amqp::Settings),
    #[cfg(feature = "kafka")]
    Kafka(kafka::Settings),
    #[cfg(feature = "redis")]
    Redis(redis::Settings),
}

impl Target {
    /// The word used for `type` in the configuration.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Log(_) => "log",
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
            #[cfg(feature = "chat")]
            Self::Chat(_) => "chat",
            #[cfg(feature = "nats")]
            Self::Nats(_) => "nats",
            #[cfg(feature = "mysql")]
            Self::Mysql(_) => "mysql",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "postgres",
            #[cfg(feature = "amqp")]
            Self::Amqp(_) => "amqp",
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => "kafka",
            #[cfg(feature = "redis")]
            Self::Redis(_) => "redis",
        }
    }

    /// Whether what is made of these settings depends on a file that may have changed since.
    pub fn depends_on_files(&self) -> bool {
        match self {
            Self::Http(settings) => settings.ca_file.is_some(),
            #[cfg(feature = "nats")]
            Self::Nats(settings) => settings.ca_file.is_some(),
            #[cfg(feature = "amqp")]
            Self::Amqp(settings) => settings.ca_file.is_some(),
            #[cfg(feature = "kafka")]
            Self::Kafka(settings) => settings.tls.as_ref().is_some_and(|tls| tls.ca_file.is_some()),
            #[cfg(feature = "redis")]
            Self::Redis(settings) => settings.ca_file.is_some(),
            #[cfg(feature = "chat")]
            Self::Chat(settings) => settings.ca_file.is_some(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => false,
            #[cfg(feature = "mysql")]
            Self::Mysql(_) => false,
            Self::Log(_) | Self::File(_) | Self::Exec(_) => false,
        }
    }

    /// The same for attempts that take so long at most.
    #[cfg(feature = "kafka")]
    pub(crate) fn within(self, timeout: Duration) -> Self {
        match self {
            Self::Kafka(settings) => Self::Kafka(kafka::Settings { timeout, ..settings }),
            other => other,
        }
    }

    /// Makes the handler: opens its file, reads its certificates. The error says what could not be done.
    pub fn build(&self, clock: &Arc<dyn Clock>) -> Result<Box<dyn Handler>, BuildError> {
        Ok(match self {
            Self::Log(settings) => Box::new(log::Log::new(settings)),
            Self::File(settings) => Box::new(file::File::open(settings)?),
            Self::Http(settings) => Box::new(http::Http::new(settings, clock)?),
            Self::Exec(settings) => Box::new(exec::Exec::new(settings)),
            #[cfg(feature = "redis")]
            Self::Redis(settings) => Box::new(redis::Redis::new(settings, clock)?),
            #[cfg(feature = "amqp")]
            Self::Amqp(settings) => Box::new(amqp::Amqp::new(settings)?),
            #[cfg(feature = "kafka")]
            Self::Kafka(settings) => Box::new(kafka::Kafka::new(settings)?),
            #[cfg(feature = "chat")]
            Self::Chat(settings) => Box::new(chat::Chat::new(settings, clock)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(settings) => Box::new(postgres::Postgres::new(settings)?),
            #[cfg(feature = "mysql")]
            Self::Mysql(settings) => Box::new(mysql::Mysql::new(settings)?),
            #[cfg(feature = "nats")]
            Self::Nats(settings) => Box::new(nats::Nats::new(settings)?),
        })
    }
}

/// A handler could not be made from its settings.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(pub String);
