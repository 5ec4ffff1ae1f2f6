//! Publishes each event to an exchange of RabbitMQ, or another server of AMQP 0-9-1 that confirms, and is done when the
//! server has confirmed it. Messages are persistent and mandatory: one that no queue takes comes back and is tried again.
//! RabbitMQ confirms a persistent message when every durable queue it went to has it on disk, or, in quorum queues, on a
//! majority of replicas.
//!
//! The event's id is `message-id`. Queues know no repetitions, so consumers compare it. No exchange and no queue is made
//! here.
//!
//! Only a message larger than the server allows ends a delivery. A missing exchange, a missing binding, refused
//! credentials and a full queue may be put right.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, ConnectionProperties, ErrorKind};

use super::cloudevent::{self, Content};
use super::http::trust;
use super::link::{Dial, Link};
use super::naming::Template;
use super::server::ServerUrl;
use super::{BuildError, Format, Handler, HandlerError, excerpt};
use crate::event::Event;
use crate::telemetry::traces::traceparent;

/// Where events are published, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `amqp` or `amqps`; may hold a user and a password. The path is the virtual host.
    pub server: ServerUrl,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The exchange, at most 255 bytes; empty: the one by which a routing key is the name of a queue.
    pub exchange: String,
    /// What messages are routed by.
    pub routing_key: Template,
    /// The form of the message.
    pub format: Format,
}

/// The `amqp` handler.
pub struct Amqp {
    link: Link<Dialler>,
    exchange: ShortString,
    routing_key: Template,
    format: Format,
    hidden: Vec<String>,
}

impl Amqp {
    /// Prepares the client, which opens no connection yet.
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        trust::provide();
        let hidden = settings.server.secrets();
        let exchange = ShortString::try_new(settings.exchange.clone())
            .map_err(|_| BuildError("exchange: is longer than 255 bytes".to_owned()))?;
        Ok(Self {
            link: Link::new(Dialler::new(settings, hidden.clone())?),
            exchange,
            routing_key: settings.routing_key.clone(),
            format: settings.format,
            hidden,
        })
    }

    async fn publish(&self, event: &Event) -> Result<(), HandlerError> {
        let Content { media_type, body, attributes } = cloudevent::content(event, self.format);
        let properties = properties(event, media_type, attributes)?;
        let mut routing_key = self.routing_key.fill(event);
        routing_key.truncate(routing_key.floor_char_boundary(SHORT_BYTES_MAX));
        let key = short(routing_key.clone())?;
        let held = self.link.hold().await?;
        if held.connection.status().blocked() {
            let reason = "the server takes nothing: it is short of memory or disk";
            held.settle();
            return Err(HandlerError::transient(reason));
        }
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirmed =
            async { held.channel.basic_publish(self.exchange.clone(), key, options, &body, properties).await?.await };
        match confirmed.await {
            Ok(confirmation) => {
                held.settle();
                judge(confirmation, &routing_key)
            }
            // The channel, which is all others' too, has ended.
            Err(error) => Err(self.failure(&error, body.len())),
        }
    }

    fn failure(&self, error: &lapin::Error, body_bytes: usize) -> HandlerError {
        let reason = excerpt::causes(error, &self.hidden);
        // All attempts on the channel hear of the one message that ended it: only what is of our size is of us.
        let is_ours = reason.contains(&format!("message size {body_bytes} is larger than"));
        if is_ours { HandlerError::permanent(reason) } else { HandlerError::transient(reason) }
    }
}

impl Handler for Amqp {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(self.publish(event))
    }
}

fn judge(confirmation: Confirmation, routing_key: &str) -> Result<(), HandlerError> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            let what = returned.reply_text;
            Err(HandlerError::transient(format!("no queue takes the routing key {routing_key}: {what}")))
        }
        Confirmation::Nack(None) => Err(HandlerError::transient("refused: the queue is full, or could not store it")),
        Confirmation::NotRequested => Err(HandlerError::transient("the server does not confirm")),
    }
}

/// The form of the CloudEvents AMQP binding, in the properties and headers that this version of AMQP has.
fn properties(
    event: &Event,
    media_type: &'static str,
    attributes: Vec<(&'static str, String)>,
) -> Result<BasicProperties, HandlerError> {
    let place = traceparent().map(|place| ("traceparent".to_owned(), place));
    let mut headers = FieldTable::default();
    for (name, value) in attributes.into_iter().map(|(name, value)| (format!("cloudEvents_{name}"), value)).chain(place)
    {
        headers.insert(short(name)?, AMQPValue::LongString(value.into()));
    }
    Ok(BasicProperties::default()
        .with_content_type(short(media_type.to_owned())?)
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(event.id.to_string())?)
        .with_type(short(cloudevent::type_of(event))?)
        .with_app_id(short("livehook".to_owned())?)
        .with_headers(headers))
}

fn short(text: String) -> Result<ShortString, HandlerError> {
    ShortString::try_new(text).map_err(|error| HandlerError::permanent(error.to_string()))
}

/// Makes connections.
struct Dialler {
    server: ServerUrl,
    uri: AMQPUri,
    ca: Option<String>,
    hidden: Vec<String>,
}

/// A connection and its only channel, which confirms.
struct Connection {
    connection: lapin::Connection,
    channel: Channel,
}

impl Dialler {
    fn new(settings: &Settings, hidden: Vec<String>) -> Result<Self, BuildError> {
        let unfit = |e: String| BuildError(format!("url: {}", excerpt::excerpt(e.as_bytes(), &hidden, REASON_CHARS)));
        let uri = settings.server.expose().as_str().parse().map_err(unfit)?;
        let ca = settings.ca_file.as_ref().map(|path| {
            std::fs::read_to_string(path).map_err(|e| BuildError(format!("ca_file {}: {e}", path.display())))
        });
        Ok(Self { server: settings.server.clone(), uri, ca: ca.transpose()?, hidden })
    }
}

impl Dial for Dialler {
    type Connection = Connection;

    fn dial(&self) -> BoxFuture<'static, Result<Connection, HandlerError>> {
        let (server, uri, hidden) = (self.server.clone(), self.uri.clone(), self.hidden.clone());
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.ca.clone() };
        Box::pin(async move {
            let connecting = async {
                let runtime = lapin::runtime::default_runtime()?;
                let properties = ConnectionProperties::default().with_connection_name("livehook".into());
                let connection = lapin::Connection::connect_uri_with_config(uri, properties, tls, runtime).await?;
                let channel = connection.create_channel().await?;
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                Ok(Connection { connection, channel })
            };
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(connected) => connected.map_err(|error| unconnected(&server, &error, &hidden)),
                Err(_) => Err(HandlerError::transient(format!("cannot connect to {server}: timed out"))),
            }
        })
    }

    fn is_open(connection: &Connection) -> bool {
        connection.connection.status().connected() && connection.channel.status().connected()
    }
}

fn unconnected(server: &ServerUrl, error: &lapin::Error, hidden: &[String]) -> HandlerError {
    let said = excerpt::causes(error, hidden);
    HandlerError::transient(match error.kind() {
        ErrorKind::ProtocolError(refused) if refused.get_id() == ACCESS_REFUSED => {
            format!("{server} refuses the credentials: {said}")
        }
        _ => format!("cannot connect to {server}: {said}"),
    })
}

/// The delivery mode of messages that survive a restart of the server.
const PERSISTENT: u8 = 2;
/// Bytes of a name in this protocol.
const SHORT_BYTES_MAX: usize = 255;
/// What the server answers to a wrong user or password.
const ACCESS_REFUSED: u16 = 403;
/// How much of an error stands in a reason.
const REASON_CHARS: usize = 300;
/// A server that has not let us in by now will not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
