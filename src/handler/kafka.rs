//! Produces each event to a topic of Kafka, and is done when the broker has acknowledged it for all replicas that are in
//! sync (`acks=all`). The producer is idempotent: its own repetitions leave no copies and change no order. The key is the
//! stream, so that the events of one stream stay in one partition; `murmur2` chooses it, as in the Java clients.
//!
//! What was sent and not acknowledged in time is sent again by another attempt, which the broker cannot know for a
//! repetition: consumers compare `ce_id`. The next event of a stream is sent when the one before is acknowledged.
//!
//! The client is librdkafka. Brokers that come and go, leaders that move and connections that break are its business within
//! an attempt. A request carries one event, so that a refusal concerns it alone.
//!
//! An event that the broker can never take ends a delivery: one that is too large, or that it does not find valid. All else
//! is tried again, a missing topic, missing rights and refused credentials included, for somebody may put them right. No
//! topic is created here.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cloudevent::{self, Content, Format};
use super::link::{Dial, Held, Link};
use super::naming::Template;
use super::{BuildError, Handler, HandlerError, excerpt};
use crate::event::Event;
use crate::secret::Secret;
use crate::telemetry::traces::traceparent;

/// Where events are produced, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host:port` of some brokers, from which the client learns of all.
    pub brokers: Vec<String>,
    /// TLS; none: in plain text.
    pub tls: Option<Tls>,
    /// Who we are; none: nobody in particular.
    pub login: Option<Login>,
    /// What events are produced to.
    pub topic: Template,
    /// The form of the message.
    pub format: MessageFormat,
    /// How long an attempt may take.
    pub timeout: Duration,
}

/// How brokers prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether a certificate must be for the host that is connected to.
    pub verify_host: bool,
}

/// A user of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// How the password is shown to the broker.
    pub mechanism: Mechanism,
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// A mechanism of SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they have no other names")]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// The form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageFormat {
    /// CloudEvents binding in binary mode: `data` as the value, the attributes as `ce_…` headers.
    Binary,
    /// CloudEvents binding in structured mode: a CloudEvents JSON object as the value.
    CloudEvents,
    /// The body as received as the value, the attributes as `ce_…` headers.
    Raw,
}

/// The `kafka` handler.
pub struct Kafka {
    link: Link<Dialler>,
    topic: Template,
    format: MessageFormat,
    patience: Duration,
    hidden: Vec<String>,
}

impl Kafka {
    /// Prepares the client, which opens no connection yet.
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        // Before the client does it, in whose way what OpenSSL holds is freed when the process ends, under threads that
        // still use it.
        openssl_sys::init();
        let dialler = Dialler::new(settings)?;
        let hidden = dialler.hidden.clone();
        let (topic, format) = (settings.topic.clone(), settings.format);
        Ok(Self { link: Link::new(dialler), topic, format, patience: patience(settings.timeout), hidden })
    }

    async fn produce(&self, event: &Event) -> Result<(), HandlerError> {
        let begun = Instant::now();
        let topic = fit(&self.topic.fill(event));
        let (headers, body) = message(event, self.format);
        let key = key(event);
        let held = self.link.hold().await?;
        let record = FutureRecord { key: key.as_deref(), ..FutureRecord::to(&topic) }.payload(&*body).headers(headers);
        let answer = tokio::time::timeout_at(begun + self.patience, held.send(record)).await;
        match answer {
            Ok(Ok(())) => {
                held.settle();
                Ok(())
            }
            Ok(Err(error)) => Err(self.judge(held, &error, &topic, begun)),
            Err(_) => Err(self.unacknowledged(&held, begun)),
        }
    }

    fn judge(&self, held: Held<'_, Dialler>, error: &KafkaError, topic: &str, begun: Instant) -> HandlerError {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        if let Some(what) = held.fatal() {
            return HandlerError::transient(self.excerpt(&what));
        }
        let said = self.excerpt(&code.to_string());
        let reason = match code {
            Code::MessageTimedOut => return self.unacknowledged(&held, begun),
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
                format!("there is no topic {topic}: {said}")
            }
            Code::TopicAuthorizationFailed => format!("no right to write to the topic {topic}: {said}"),
            _ => format!("the topic {topic} does not take it: {said}"),
        };
        if leads_somewhere(code) {
            held.settle();
        }
        if is_forever(code) { HandlerError::permanent(reason) } else { HandlerError::transient(reason) }
    }

    /// Nobody knows whether the broker has it.
    fn unacknowledged(&self, connection: &Connection, begun: Instant) -> HandlerError {
        let heard = connection.heard.borrow();
        let why = if heard.at.is_some_and(|at| at >= begun) {
            format!("; connection: {}", heard.what)
        } else {
            String::new()
        };
        HandlerError::transient(format!("no acknowledgement within {:?}{why}", self.patience))
    }

    fn excerpt(&self, text: &str) -> String {
        excerpt::excerpt(text.as_bytes(), &self.hidden, REASON_CHARS)
    }
}

impl Handler for Kafka {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(self.produce(event))
    }
}

/// Whether the broker has answered and the producer is good for another attempt. What it has heard of a topic that it may
/// not use it believes for minutes, so then another producer asks anew.
fn leads_somewhere(code: Code) -> bool {
    code as i32 > 0 && !matches!(code, Code::UnknownTopicOrPartition | Code::TopicAuthorizationFailed)
}

/// Whether the broker will never take it.
fn is_forever(code: Code) -> bool {
    let too_large = matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize);
    too_large || code == Code::InvalidRecord
}

/// The part of an attempt's time that is waited for an acknowledgement, so that an attempt ends with a reason before it is
/// ended.
fn patience(timeout: Duration) -> Duration {
    timeout / 10 * 9
}

/// What a topic may be called. Names in events may be of any script.
fn fit(topic: &str) -> String {
    let character = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    topic.chars().take(TOPIC_CHARS_MAX).map(character).collect()
}

/// What brokers take for the longest name of a topic.
pub const TOPIC_CHARS_MAX: usize = 249;

/// What keeps the events of a stream together; none where no stream is named.
fn key(event: &Event) -> Option<String> {
    let facts = &event.facts;
    let [domain, app, stream] =
        [&facts.domain, &facts.app, &facts.stream].map(|name| name.as_deref().map_or("", str::trim));
    (!stream.is_empty()).then(|| format!("{domain}/{app}/{stream}"))
}

/// Headers and value (CloudEvents 1.0 Kafka binding, section 3).
fn message(event: &Event, format: MessageFormat) -> (OwnedHeaders, Bytes) {
    let Content { media_type, body, attributes } = match format {
        MessageFormat::CloudEvents => cloudevent::content(event, Format::CloudEvents),
        MessageFormat::Raw => cloudevent::content(event, Format::Raw),
        MessageFormat::Binary => {
            Content { body: cloudevent::data(event).into(), ..cloudevent::content(event, Format::Raw) }
        }
    };
    let attributes = attributes.into_iter().map(|(name, value)| (format!("ce_{name}"), value));
    let content_type = ("content-type".to_owned(), media_type.to_owned());
    let place = traceparent().map(|place| ("traceparent".to_owned(), place));
    let headers = std::iter::once(content_type).chain(attributes).chain(place);
    let headers = headers
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key: &key, value: Some(&value) }));
    (headers, body)
}

/// Makes producers, each with connections of its own.
struct Dialler {
    brokers: String,
    config: ClientConfig,
    /// Asked about to learn whether a broker answers. It need not exist.
    topic: String,
    hidden: Vec<String>,
}

type Producer = FutureProducer<Ear>;

/// A producer, which has found a broker that answers.
struct Connection {
    /// None when it ends.
    producer: Option<Producer>,
    heard: watch::Receiver<Heard>,
}

impl Dialler {
    fn new(settings: &Settings) -> Result<Self, BuildError> {
        let brokers = settings.brokers.join(",");
        let mut config = producer_config(&brokers, patience(settings.timeout));
        let protocol = match (&settings.tls, &settings.login) {
            (None, None) => "plaintext",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), None) => "ssl",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &settings.tls {
            secure(&mut config, tls)?;
        }
        let mut hidden = Vec::new();
        if let Some(Login { mechanism, user, password }) = &settings.login {
            config.set("sasl.mechanism", mechanism.name()).set("sasl.username", user);
            config.set("sasl.password", password.expose());
            hidden.extend([password.expose().to_owned(), user.clone()]);
        }
        let refused = |e: KafkaError| BuildError(excerpt::excerpt(e.to_string().as_bytes(), &hidden, REASON_CHARS));
        config.create_native_config().map_err(refused)?;
        Ok(Self { brokers, config, topic: fit(&settings.topic.bare()), hidden })
    }
}

fn producer_config(brokers: &str, patience: Duration) -> ClientConfig {
    let mut config = ClientConfig::new();
    let patience = patience.as_millis().max(1).to_string();
    let keys = [
        ("bootstrap.servers", brokers),
        ("client.id", "livehook"),
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("message.timeout.ms", &patience),
        // Few, so that an attempt ends with what the broker says and not with the time that has passed.
        ("retries", "5"),
        ("batch.num.messages", "1"),
        ("linger.ms", "0"),
        // What is too large is for the broker to say. Larger requests it would not read at all.
        ("message.max.bytes", "100000000"),
        ("partitioner", "murmur2_random"),
        ("allow.auto.create.topics", "false"),
        ("topic.metadata.propagation.max.ms", "0"),
        ("socket.connection.setup.timeout.ms", "5000"),
        ("socket.keepalive.enable", "true"),
        ("reconnect.backoff.max.ms", "1000"),
        ("enable.metrics.push", "false"),
        ("log.thread.name", "false"),
    ];
    for (key, value) in keys {
        config.set(key, value);
    }
    // So much tells how connections fail, whatever of it is logged.
    config.set_log_level(RDKafkaLogLevel::Info);
    config
}

fn secure(config: &mut ClientConfig, tls: &Tls) -> Result<(), BuildError> {
    match &tls.ca_file {
        Some(path) => {
            let fault = |what: String| BuildError(format!("ca_file {}: {what}", path.display()));
            let pem = std::fs::read_to_string(path).map_err(|e| fault(e.to_string()))?;
            if !pem.contains("-----BEGIN CERTIFICATE-----") {
                return Err(fault("it holds no certificate in PEM".to_owned()));
            }
            config.set("ssl.ca.pem", pem);
        }
        // Where the system has them, and not where OpenSSL was built to look.
        None => {
            config.set("ssl.ca.location", "probe");
        }
    }
    let check = if tls.verify_host { "https" } else { "none" };
    config.set("ssl.endpoint.identification.algorithm", check);
    Ok(())
}

impl Dial for Dialler {
    type Connection = Connection;

    fn dial(&self) -> BoxFuture<'static, Result<Connection, HandlerError>> {
        let (brokers, config, topic) = (self.brokers.clone(), self.config.clone(), self.topic.clone());
        let (speak, mut heard) = watch::channel(Heard::default());
        let ear = Ear { speak, hidden: self.hidden.clone() };
        Box::pin(async move {
            let listener = heard.clone();
            let connecting = tokio::task::spawn_blocking(move || connect(&config, ear, listener, &topic));
            let error = tokio::select! {
                connected = connecting => match connected {
                    Ok(Ok(connection)) => return Ok(connection),
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                },
                _ = heard.wait_for(|heard| heard.is_hopeless) => "no broker can be reached".to_owned(),
            };
            Err(unconnected(&brokers, &heard.borrow(), &error))
        })
    }

    fn is_open(connection: &Connection) -> bool {
        connection.fatal().is_none()
    }
}

/// Waits for a broker to answer. The connection is dropped where it does not.
fn connect(config: &ClientConfig, ear: Ear, heard: watch::Receiver<Heard>, topic: &str) -> KafkaResult<Connection> {
    let producer: Producer = config.create_with_context(ear)?;
    let metadata = producer.client().fetch_metadata(Some(topic), CONNECT_TIMEOUT).map(drop);
    let connection = Connection { producer: Some(producer), heard };
    metadata.map(|()| connection)
}

fn unconnected(brokers: &str, heard: &Heard, error: &str) -> HandlerError {
    let said = if heard.what.is_empty() { error } else { &heard.what };
    HandlerError::transient(if heard.is_refused {
        format!("{brokers} refuses the credentials: {said}")
    } else {
        let hint = if said.contains("Disconnected") { "; the broker may want tls or a user" } else { "" };
        format!("cannot connect to {brokers}: {said}{hint}")
    })
}

impl Connection {
    /// Returns when all replicas in sync have it.
    async fn send(&self, record: FutureRecord<'_, str, [u8]>) -> Result<(), KafkaError> {
        let producer = self.producer.as_ref().ok_or(KafkaError::Canceled)?;
        let sent = producer.send_result(record).map_err(|(error, _)| error)?;
        match sent.await {
            Ok(delivered) => delivered.map(drop).map_err(|(error, _)| error),
            Err(_) => Err(KafkaError::Canceled),
        }
    }

    /// Why the producer can send nothing any more.
    fn fatal(&self) -> Option<String> {
        self.producer.as_ref()?.client().fatal_error().map(|(_, what)| what)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The end of a producer is waited for, which no task may do.
        let producer = self.producer.take();
        let _ = std::thread::Builder::new().name("kafka-end".to_owned()).spawn(move || drop(producer));
    }
}

/// What the client said last about its connections.
#[derive(Default)]
struct Heard {
    what: String,
    at: Option<Instant>,
    /// No broker is left to try.
    is_hopeless: bool,
    /// It is about the user or the password.
    is_refused: bool,
}

/// Listens to the client.
struct Ear {
    speak: watch::Sender<Heard>,
    hidden: Vec<String>,
}

impl Ear {
    fn hear(&self, what: &str) {
        let what = excerpt::excerpt(what.as_bytes(), &self.hidden, REASON_CHARS);
        self.speak.send_modify(|heard| {
            heard.what = what;
            heard.at = Some(Instant::now());
        });
    }
}

impl ClientContext for Ear {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        // That the other side has closed a connection, and what may be the cause, is told here only.
        if facility == "FAIL" {
            self.hear(line);
        }
        // What matters of it becomes the reason of an attempt.
        tracing::debug!(facility, "{}", excerpt::excerpt(line.as_bytes(), &self.hidden, REASON_CHARS));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        let is_refused = matches!(code, Code::Authentication | Code::SaslAuthenticationFailed);
        let is_down = code == Code::AllBrokersDown;
        // That all are down says nothing of the cause, which was told before.
        if !is_down {
            self.hear(reason);
        }
        self.speak.send_modify(|heard| {
            heard.is_refused |= is_refused;
            heard.is_hopeless |= is_down || is_refused;
        });
    }
}

/// How much of what was said stands in a reason.
const REASON_CHARS: usize = 300;
/// Brokers that have not answered by now will not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
