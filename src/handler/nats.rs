//! Publishes each event to NATS JetStream, and is done when the stream has acknowledged it. The subject is a template;
//! the event's id is `Nats-Msg-Id`, so that the stream drops a repetition within its duplicate window. The form is that of
//! the CloudEvents NATS binding: JSON in `structured` mode, or the body as received with `ce-…` headers.
//!
//! What an acknowledgement is worth is the stream's own setting: storage on file or in memory, replicas, and the server's
//! `sync_interval`. No stream is created here.
//!
//! What cannot ever be taken ends a delivery: a message larger than the server or the stream allows. All else is tried
//! again, a missing stream and refused credentials included, for somebody may put them right.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::context::{ContextBuilder, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{ConnectErrorKind, ConnectOptions, Event as Happening, HeaderMap};
use futures_util::future::BoxFuture;
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cloudevent::{self, Content};
use super::http::trust;
use super::link::{Dial, Link};
use super::naming::Template;
use super::server::ServerUrl;
use super::{BuildError, Format, Handler, HandlerError, excerpt};
use crate::event::Event;
use crate::secret::Secret;
use crate::telemetry::traces::traceparent;

/// Where events are published, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `nats` or `tls`; may hold a user and a password, or a token in the place of the user.
    pub server: ServerUrl,
    /// The seed of an nkey to authenticate with.
    pub nkey: Option<Secret>,
    /// The text of a credentials file: a JWT and the seed of its nkey.
    pub credentials: Option<Secret>,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// What events are published under.
    pub subject: Template,
    /// The form of the message.
    pub format: Format,
}

/// The `nats` handler.
pub struct Nats {
    link: Link<Dialler>,
    subject: Template,
    format: Format,
}

impl Nats {
    /// Prepares the client, which opens no connection yet.
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        trust::provide();
        let dialler = Dialler::new(settings)?;
        Ok(Self { link: Link::new(dialler), subject: settings.subject.clone(), format: settings.format })
    }

    async fn publish(&self, event: &Event) -> Result<(), HandlerError> {
        let subject = self.subject.fill(event);
        let message = self.message(event);
        let held = self.link.hold().await?;
        let refused = refusal(held.said.clone(), &subject);
        let acknowledged = async { held.context.send_publish(subject.clone(), message).await?.await };
        let outcome = tokio::select! {
            outcome = acknowledged => outcome,
            () = held.ended.cancelled() => {
                return Err(HandlerError::transient("the connection ended before the acknowledgement"));
            }
            said = refused => {
                held.settle();
                return Err(HandlerError::transient(said));
            }
        };
        let outcome = outcome.map(|_| ()).map_err(|error| judge(&error, &subject));
        if !matches!(outcome, Err((_, Answered::No))) {
            held.settle();
        }
        outcome.map_err(|(error, _)| error)
    }

    fn message(&self, event: &Event) -> PublishMessage {
        let Content { media_type, body, attributes } = cloudevent::content(event, self.format);
        let mut headers = HeaderMap::new();
        headers.insert("Content-Type", media_type);
        for (name, value) in &attributes {
            let (name, value) = cloudevent::header(name, value);
            headers.insert(name, value);
        }
        if let Some(place) = traceparent() {
            headers.insert("traceparent", place);
        }
        PublishMessage::build().payload(body).headers(headers).message_id(event.id.to_string())
    }
}

impl Handler for Nats {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(self.publish(event))
    }
}

/// Whether the server has said anything, so that the connection leads somewhere.
enum Answered {
    Yes,
    No,
}

fn judge(error: &PublishError, subject: &str) -> (HandlerError, Answered) {
    let refused = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    let reason = match (error.kind(), refused) {
        (PublishErrorKind::StreamNotFound, _) => format!("no stream takes the subject {subject}"),
        (_, Some(refused)) => format!("refused: {}", excerpt::causes(refused, &[])),
        _ => excerpt::causes(error, &[]),
    };
    let too_large = refused.is_some_and(|refused| refused.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM);
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => (HandlerError::permanent(reason), Answered::Yes),
        _ if too_large => (HandlerError::permanent(reason), Answered::Yes),
        PublishErrorKind::StreamNotFound => (HandlerError::transient(reason), Answered::Yes),
        _ if refused.is_some() => (HandlerError::transient(reason), Answered::Yes),
        _ => (HandlerError::transient(reason), Answered::No),
    }
}

/// What the server says, from now on, when a client may not publish there. It comes beside the answers, which then never
/// come.
fn refusal(mut said: watch::Receiver<String>, subject: &str) -> impl Future<Output = String> {
    said.mark_unchanged();
    let quoted = format!("\"{subject}\"");
    async move {
        while said.changed().await.is_ok() {
            let what = said.borrow_and_update().clone();
            if what.contains(&quoted) {
                return what;
            }
        }
        // The connection has ended, which is told elsewhere.
        std::future::pending().await
    }
}

/// Makes connections.
struct Dialler {
    server: ServerUrl,
    options: ConnectOptions,
    hidden: Vec<String>,
}

/// A connection and what is heard of it.
struct Connection {
    context: jetstream::Context,
    /// Cancelled when the connection has ended. The client would make another, but whoever waits would not learn it.
    ended: CancellationToken,
    /// What the server complained about last.
    said: watch::Receiver<String>,
}

impl Dialler {
    fn new(settings: &Settings) -> Result<Self, BuildError> {
        let Settings { server, nkey, credentials, ca_file, .. } = settings;
        let mut options = ConnectOptions::new()
            .name("livehook")
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .max_reconnects(1);
        let written = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = written(server.expose().username());
        match server.expose().password().map(written) {
            Some(password) => options = options.user_and_password(user, password),
            // As the clients of NATS have it: what stands alone before the host is a token.
            None if !user.is_empty() => options = options.token(user),
            None => {}
        }
        if let Some(seed) = nkey {
            options = options.nkey(seed.expose().trim().to_owned());
        }
        if let Some(credentials) = credentials {
            let unfit = |_| BuildError("credentials: these are no NATS credentials: a JWT and a seed".to_owned());
            options = options.credentials(credentials.expose()).map_err(unfit)?;
        }
        if let Some(path) = ca_file {
            std::fs::metadata(path).map_err(|e| BuildError(format!("ca_file {}: {e}", path.display())))?;
            options = options.add_root_certificates(path.clone());
        }
        let secrets = [nkey, credentials].into_iter().flatten().map(|secret| secret.expose().to_owned());
        let hidden = server.secrets().into_iter().chain(secrets).collect();
        Ok(Self { server: server.clone(), options, hidden })
    }
}

impl Dial for Dialler {
    type Connection = Connection;

    fn dial(&self) -> BoxFuture<'static, Result<Connection, HandlerError>> {
        let (server, hidden) = (self.server.clone(), self.hidden.clone());
        let (complain, said) = watch::channel(String::new());
        let ended = CancellationToken::new();
        let end = ended.clone();
        let options = self.options.clone().event_callback(move |happening| {
            match happening {
                Happening::Disconnected | Happening::Closed => end.cancel(),
                Happening::ServerError(error) => {
                    complain.send_replace(error.to_string());
                }
                _ => {}
            }
            std::future::ready(())
        });
        Box::pin(async move {
            let connecting = tokio::time::timeout(CONNECT_TIMEOUT, options.connect(server.expose().as_str()));
            let client = match connecting.await {
                Ok(Ok(client)) => client,
                Ok(Err(error)) => return Err(unconnected(&server, error.kind(), &excerpt::causes(&error, &hidden))),
                Err(_) => return Err(unconnected(&server, ConnectErrorKind::TimedOut, "timed out")),
            };
            let context = ContextBuilder::new().timeout(ACK_WAIT).ack_timeout(ACK_WAIT).build(client);
            Ok(Connection { context, ended, said })
        })
    }

    fn is_open(connection: &Connection) -> bool {
        !connection.ended.is_cancelled()
    }
}

fn unconnected(server: &ServerUrl, kind: ConnectErrorKind, what: &str) -> HandlerError {
    HandlerError::transient(match kind {
        ConnectErrorKind::AuthorizationViolation => format!("{server} refuses the credentials: {what}"),
        _ => format!("cannot connect to {server}: {what}"),
    })
}

/// A server that has not greeted us by now will not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection that is silent is looked at.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// The end of waiting for an acknowledgement. The handler's `timeout` usually comes first.
const ACK_WAIT: Duration = Duration::from_mins(1);
