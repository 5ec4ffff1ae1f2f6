//! Where events can be delivered to: one outlet of each type of handler, on servers that are started for it.

use std::any::Any;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::process::Server;
use crate::sink::Sink;

/// All types, in the order in which they are measured.
pub(crate) const TYPES: [&str; 9] = ["file", "http", "exec", "nats", "redis", "amqp", "kafka", "postgres", "mysql"];
/// A server that listens may take this long until it does what it is asked.
#[cfg(any(feature = "amqp", feature = "mysql", feature = "nats", feature = "postgres"))]
const READY_MAX: Duration = Duration::from_mins(1);
/// Of what reaches a broker.
#[cfg(any(feature = "amqp", feature = "nats"))]
const SUBJECT: &str = "css.{kind}.{domain}.{app}.{stream}";

/// A place that takes events. It ends with its server.
pub(crate) struct Outlet {
    /// What the configuration of its handler says.
    pub(crate) settings: String,
    _server: Box<dyn Any>,
}

impl Outlet {
    /// What a type of handler needs. None: the type is not built in, or, said aloud, its server is not installed.
    pub(crate) async fn start(kind: &str, dir: &Path, sink: &Sink) -> io::Result<Option<Self>> {
        match kind {
            "file" => Ok(Some(Self::new(kind, &format!("path = \"{}/outlet.jsonl\"", dir.display()), ()))),
            "http" => Ok(Some(Self::new(kind, &format!("url = \"http://{}/events\"", sink.address), ()))),
            "exec" => Ok(Some(Self::new(kind, "command = [\"/bin/cat\"]", ()))),
            #[cfg(feature = "nats")]
            "nats" => nats(kind).await,
            #[cfg(feature = "redis")]
            "redis" => {
                let settings = |port| format!("url = \"redis://127.0.0.1:{port}\"\nkey = \"livehook\"");
                let server = Server::start_redis(&[]).await;
                Ok(server.map(|server| Self::new(kind, &settings(server.port), server)))
            }
            #[cfg(feature = "amqp")]
            "amqp" => amqp(kind).await,
            #[cfg(feature = "kafka")]
            "kafka" => kafka(kind).map(Some),
            #[cfg(feature = "postgres")]
            "postgres" => postgres(kind).await,
            #[cfg(feature = "mysql")]
            "mysql" => mysql(kind).await,
            _ => Ok(None),
        }
    }

    fn new(kind: &str, lines: &str, server: impl Any) -> Self {
        Self { settings: format!("type = {kind:?}\n{lines}"), _server: Box::new(server) }
    }
}

/// A stream, on a server as it is by default: what it acknowledges is written, and synced later.
#[cfg(feature = "nats")]
async fn nats(kind: &str) -> io::Result<Option<Outlet>> {
    use async_nats::jetstream::{self, stream};
    let Some(server) = Server::start_nats(&[]).await else { return Ok(None) };
    let url = format!("nats://127.0.0.1:{}", server.port);
    ready(async || {
        let client = async_nats::connect(&url).await.map_err(io::Error::other)?;
        let name = "CSS".to_owned();
        let config = stream::Config { name, subjects: vec!["css.>".to_owned()], ..stream::Config::default() };
        jetstream::new(client).get_or_create_stream(config).await.map(drop).map_err(io::Error::other)
    })
    .await?;
    Ok(Some(Outlet::new(kind, &format!("url = {url:?}\nsubject = {SUBJECT:?}"), server)))
}

/// A durable queue that takes everything.
#[cfg(feature = "amqp")]
async fn amqp(kind: &str) -> io::Result<Option<Outlet>> {
    use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
    use lapin::types::FieldTable;
    let Some(server) = Server::start_rabbitmq(|_| Vec::new()).await else { return Ok(None) };
    let url = format!("amqp://127.0.0.1:{}", server.port);
    let made = async || -> Result<(), lapin::Error> {
        let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare("css".into(), lapin::ExchangeKind::Topic, durable, FieldTable::default()).await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare("css".into(), durable, FieldTable::default()).await?;
        let (all, options) = ("#".into(), QueueBindOptions::default());
        channel.queue_bind("css".into(), "css".into(), all, options, FieldTable::default()).await
    };
    ready(async || made().await.map_err(io::Error::other)).await?;
    let lines = format!("url = {url:?}\nexchange = \"css\"\nrouting_key = {SUBJECT:?}");
    Ok(Some(Outlet::new(kind, &lines, server)))
}

/// A topic of the client's mock cluster: a broker in this process that keeps all in memory, since none of Apache Kafka
/// comes as a package. It tells the cost on our side, not how fast a broker is.
#[cfg(feature = "kafka")]
fn kafka(kind: &str) -> io::Result<Outlet> {
    use rdkafka::mocking::MockCluster;
    let cluster = MockCluster::new(1).map_err(io::Error::other)?;
    cluster.create_topic("css", 4, 1).map_err(io::Error::other)?;
    let lines = format!("brokers = [{:?}]\ntopic = \"css\"", cluster.bootstrap_servers());
    Ok(Outlet::new(kind, &lines, cluster))
}

/// The ready-made table.
#[cfg(feature = "postgres")]
async fn postgres(kind: &str) -> io::Result<Option<Outlet>> {
    use crate::process::ready_made_table;
    let Some(server) = Server::start_postgres().await else { return Ok(None) };
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    ready(async || {
        let mut db = crate::stores::connect(&url).await?;
        sqlx::raw_sql(ready_made_table(kind)).execute(&mut db).await.map(drop).map_err(io::Error::other)
    })
    .await?;
    Ok(Some(Outlet::new(kind, &format!("url = {url:?}\ntable = \"css_events\""), server)))
}

/// The ready-made table.
#[cfg(feature = "mysql")]
async fn mysql(kind: &str) -> io::Result<Option<Outlet>> {
    use sqlx::Connection as _;

    use crate::process::ready_made_table;
    let Some(server) = Server::start_mariadb().await else { return Ok(None) };
    let url = format!("mysql://root@127.0.0.1:{}/", server.port);
    ready(async || {
        let mut db = sqlx::MySqlConnection::connect(&format!("{url}mysql")).await.map_err(io::Error::other)?;
        for statement in ["CREATE DATABASE live", "USE live", ready_made_table(kind)] {
            sqlx::raw_sql(statement).execute(&mut db).await.map_err(io::Error::other)?;
        }
        Ok(())
    })
    .await?;
    Ok(Some(Outlet::new(kind, &format!("url = \"{url}live\"\ntable = \"css_events\""), server)))
}

/// Tries until it is done.
#[cfg(any(feature = "amqp", feature = "mysql", feature = "nats", feature = "postgres"))]
async fn ready(attempt: impl AsyncFn() -> io::Result<()>) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Err(_) if begun.elapsed() < READY_MAX => tokio::time::sleep(Duration::from_millis(200)).await,
            outcome => return outcome,
        }
    }
}
