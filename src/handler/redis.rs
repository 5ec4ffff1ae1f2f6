//! Appends each event to a stream of Redis with `XADD`, and is done when Redis has answered with the entry's id.
//!
//! What that answer is worth is the server's setting: with `appendonly yes` and `appendfsync always` the entry is on disk by
//! then, with `everysec` a loss of power may cost the last second, without `appendonly` everything since the last snapshot.
//! Where the append-only file is off, that is said once in the log.
//!
//! `XADD` alone appends a repetition again; the event's id is the field `id`. With `dedup_window` a marker per event is
//! kept for so long, written in one step with the entry, and a repetition appends nothing.
//!
//! Nothing Redis answers ends a delivery: all of it may be put right there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, TlsCertificates, Value};

use super::cloudevent::{self, Content};
use super::http::trust;
use super::link::{Dial, Link};
use super::naming::Template;
use super::server::ServerUrl;
use super::{BuildError, Format, Handler, HandlerError, excerpt};
use crate::clock::Clock;
use crate::event::Event;

/// Where events are appended, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `redis` or `rediss`; may hold a user, a password and the number of a database.
    pub server: ServerUrl,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The key of the stream.
    pub key: Template,
    /// What is cut off the stream's beginning.
    pub trim: Option<Trim>,
    /// For so long a repetition of an event appends nothing; at least a second.
    pub dedup_window: Option<Duration>,
    /// The form of the entry: fields `id` and `event`, or the attributes and `body`.
    pub format: Format,
}

/// What is cut off a stream's beginning. Redis cuts in whole blocks, so somewhat more stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// What exceeds so many entries.
    Length(u64),
    /// What was appended longer ago than that, by our clock against that of the server.
    Age(Duration),
}

/// The `redis` handler.
pub struct Redis {
    link: Link<Dialler>,
    key: Template,
    trim: Option<Trim>,
    dedup_window: Option<Duration>,
    format: Format,
    hidden: Vec<String>,
    clock: Arc<dyn Clock>,
}

impl Redis {
    /// Prepares the client, which opens no connection yet.
    pub fn new(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Self, BuildError> {
        trust::provide();
        let hidden = settings.server.secrets();
        Ok(Self {
            link: Link::new(Dialler::new(settings, hidden.clone())?),
            key: settings.key.clone(),
            trim: settings.trim,
            dedup_window: settings.dedup_window,
            format: settings.format,
            hidden,
            clock: Arc::clone(clock),
        })
    }

    async fn append(&self, event: &Event) -> Result<(), HandlerError> {
        let command = self.command(event);
        let held = self.link.hold().await?;
        let answer: Result<Value, _> = command.query_async(&mut held.0.clone()).await;
        let Err(error) = answer else {
            held.settle();
            return Ok(());
        };
        // A server that has become a replica is another behind the same name; its connection is of no use.
        if error.code().is_some_and(|code| code != "READONLY") {
            held.settle();
        }
        Err(HandlerError::transient(self.reason(&error)))
    }

    fn command(&self, event: &Event) -> Cmd {
        let (key, id) = (self.key.fill(event), event.id.to_string());
        let Some(window) = self.dedup_window else {
            let mut command = redis::cmd("XADD");
            command.arg(key);
            self.entry(event, &id, &mut command);
            return command;
        };
        let mut command = redis::cmd("EVAL");
        // Braces, which no template has, keep both keys on one node.
        let marker = format!("{{{key}}}:{id}");
        command.arg(APPEND_ONCE).arg(2).arg(key).arg(marker).arg(window.as_secs().max(1));
        self.entry(event, &id, &mut command);
        command
    }

    /// The arguments of `XADD` behind the key.
    fn entry(&self, event: &Event, id: &str, command: &mut Cmd) {
        match self.trim {
            Some(Trim::Length(entries)) => {
                command.arg("MAXLEN").arg("~").arg(entries);
            }
            Some(Trim::Age(age)) => {
                let oldest = self.clock.now().minus(age).millis().max(0);
                command.arg("MINID").arg("~").arg(oldest);
            }
            None => {}
        }
        command.arg("*");
        let Content { body, attributes, .. } = cloudevent::content(event, self.format);
        match self.format {
            Format::CloudEvents => {
                command.arg("id").arg(id).arg("event").arg(&body[..]);
            }
            Format::Raw => {
                for (name, value) in &attributes {
                    command.arg(*name).arg(value);
                }
                command.arg("body").arg(&body[..]);
            }
        }
    }

    fn reason(&self, error: &RedisError) -> String {
        let said = excerpt::causes(error, &self.hidden);
        match error.code() {
            Some("MOVED" | "ASK" | "CROSSSLOT") => format!("{said}: a cluster of Redis is not supported"),
            Some("OOM") => format!("Redis is full: {said}"),
            _ => said,
        }
    }
}

impl Handler for Redis {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(self.append(event))
    }
}

/// Appends unless there is a marker, and leaves one. An entry that cannot be appended ends the script before the marker.
const APPEND_ONCE: &str = "if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end \
    redis.call('XADD', KEYS[1], unpack(ARGV, 2)) \
    redis.call('SET', KEYS[2], '', 'EX', ARGV[1]) \
    return 1";

/// Makes connections.
struct Dialler {
    server: ServerUrl,
    client: Client,
    hidden: Vec<String>,
    /// Whether it has been said what the server does not keep.
    is_told: Arc<AtomicBool>,
}

impl Dialler {
    fn new(settings: &Settings, hidden: Vec<String>) -> Result<Self, BuildError> {
        let url = settings.server.expose().clone();
        let root_cert = settings
            .ca_file
            .as_ref()
            .map(|path| std::fs::read(path).map_err(|e| BuildError(format!("ca_file {}: {e}", path.display()))));
        let certificates = TlsCertificates { client_tls: None, root_cert: root_cert.transpose()? };
        let client =
            if url.scheme() == "rediss" { Client::build_with_tls(url, certificates) } else { Client::open(url) };
        let client = client.map_err(|error| BuildError(format!("url: {}", excerpt::causes(&error, &hidden))))?;
        Ok(Self { server: settings.server.clone(), client, hidden, is_told: Arc::default() })
    }
}

impl Dial for Dialler {
    type Connection = Connection;

    fn dial(&self) -> BoxFuture<'static, Result<Connection, HandlerError>> {
        let (client, server, hidden) = (self.client.clone(), self.server.clone(), self.hidden.clone());
        let is_told = Arc::clone(&self.is_told);
        Box::pin(async move {
            let waits = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(Some(ANSWER_WAIT));
            let connecting = client.get_multiplexed_async_connection_with_config(&waits);
            // The library's own limit leaves out what is said after the connection stands.
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, async {
                let mut connection = connecting.await?;
                let answer: Result<String, _> =
                    redis::cmd("INFO").arg("persistence").query_async(&mut connection).await;
                match answer {
                    Ok(info) => warn_of_losses(&server, &info, &is_told),
                    // Who may append need not be allowed to ask; who is not let in hears of it here.
                    Err(error) if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => return Err(error),
                    Err(_) => {}
                }
                Ok(connection)
            });
            match connected.await {
                Ok(Ok(connection)) => Ok(Connection(connection)),
                Ok(Err(error)) => Err(unconnected(&server, &error, &hidden)),
                Err(_) => Err(HandlerError::transient(format!("cannot connect to {server}: timed out"))),
            }
        })
    }

    fn is_open(_: &Connection) -> bool {
        // A connection that has ended fails the next exchange at once, and is forgotten then.
        true
    }
}

/// Shared by all attempts, each with a clone.
struct Connection(MultiplexedConnection);

fn unconnected(server: &ServerUrl, error: &RedisError, hidden: &[String]) -> HandlerError {
    let said = excerpt::causes(error, hidden);
    let is_refused =
        error.kind() == redis::ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"));
    HandlerError::transient(if is_refused {
        format!("{server} refuses the credentials: {said}")
    } else {
        format!("cannot connect to {server}: {said}")
    })
}

fn warn_of_losses(server: &ServerUrl, info: &str, is_told: &AtomicBool) {
    if info.lines().any(|line| line == "aof_enabled:0") && !is_told.swap(true, Ordering::Relaxed) {
        tracing::warn!(%server, "this Redis has no append-only file: what it has taken is lost when it is killed");
    }
}

/// A server that has not answered by now will not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The end of waiting for an answer. The handler's `timeout` usually comes first.
const ANSWER_WAIT: Duration = Duration::from_mins(1);
