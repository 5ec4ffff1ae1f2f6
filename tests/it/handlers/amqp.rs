//! `amqp`, against servers of the tests' own. One that starts takes seconds, so most tests share one, each with an
//! exchange and queues of its own.

use std::sync::{Arc, Weak};

use lapin::options::{
    BasicAckOptions, BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ConnectionProperties, ExchangeKind};
use livehook::handler::amqp::Settings;
use livehook::handler::naming::Template;
use livehook::handler::server::ServerUrl;
use livehook::handler::{Format, Target};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::process::free_port;
use super::servers::{Server, assert_all_in_order, deliver_through_a_crash, event, made, permanent, transient};
use crate::app::{eventually, push};

/// One that takes messages of 64 KiB at most, and listens with TLS too, at the port that its folder tells.
async fn server() -> Option<Server> {
    Server::start_rabbitmq(|folder| {
        let made_up = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(format!("{folder}/cert"), made_up.cert.pem()).unwrap();
        std::fs::write(format!("{folder}/key"), made_up.signing_key.serialize_pem()).unwrap();
        let tls_port = free_port();
        std::fs::write(format!("{folder}/tls-port"), tls_port.to_string()).unwrap();
        vec![
            "max_message_size = 65536".to_owned(),
            format!("listeners.ssl.1 = 127.0.0.1:{tls_port}"),
            format!("ssl_options.cacertfile = {folder}/cert"),
            format!("ssl_options.certfile = {folder}/cert"),
            format!("ssl_options.keyfile = {folder}/key"),
        ]
    })
    .await
}

/// The server that tests share while there are any.
async fn shared() -> Option<Arc<Server>> {
    static SHARED: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(server) = shared.upgrade() {
        return Some(server);
    }
    let server = Arc::new(server().await?);
    *shared = Arc::downgrade(&server);
    Some(server)
}

fn settings(server: &Server, exchange: &str) -> Settings {
    settings_at(&format!("amqp://127.0.0.1:{}", server.port), exchange)
}

fn settings_at(url: &str, exchange: &str) -> Settings {
    Settings {
        server: ServerUrl::new(url.parse().unwrap()),
        ca_file: None,
        exchange: exchange.to_owned(),
        routing_key: Template::parse("css.{kind}.{domain}.{app}.{stream}").unwrap(),
        format: Format::CloudEvents,
    }
}

/// Another client. The connection lives as long as the channel.
async fn client(server: &Server) -> (lapin::Connection, Channel) {
    let url = format!("amqp://127.0.0.1:{}", server.port);
    eventually("RabbitMQ answers", async || {
        let connection = lapin::Connection::connect(&url, ConnectionProperties::default()).await.ok()?;
        let channel = connection.create_channel().await.ok()?;
        Some((connection, channel))
    })
    .await
}

async fn declare_exchange(channel: &Channel, exchange: &str) {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default()).await.unwrap();
}

/// A durable queue of the exchange's name that takes everything from it.
async fn bind_queue(channel: &Channel, exchange: &str, arguments: FieldTable) {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(exchange.into(), options, arguments).await.unwrap();
    let options = QueueBindOptions::default();
    channel.queue_bind(exchange.into(), exchange.into(), "#".into(), options, FieldTable::default()).await.unwrap();
}

/// An exchange with its queue.
async fn declare(server: &Server, name: &str) -> (lapin::Connection, Channel) {
    let (connection, channel) = client(server).await;
    declare_exchange(&channel, name).await;
    bind_queue(&channel, name, FieldTable::default()).await;
    (connection, channel)
}

/// Takes everything out of a queue.
async fn messages(channel: &Channel, queue: &str) -> Vec<lapin::message::BasicGetMessage> {
    let mut messages = Vec::new();
    while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap() {
        message.acker.ack(BasicAckOptions::default()).await.unwrap();
        messages.push(message);
    }
    messages
}

#[tokio::test]
async fn an_event_is_a_persistent_message_with_its_id() {
    let Some(server) = shared().await else { return };
    let (_connection, channel) = declare(&server, "plain").await;
    let event = event(7, &push("room 7", 1));
    made(Target::Amqp(settings(&server, "plain"))).await.deliver(&event).await.unwrap();
    let raw = Settings { format: Format::Raw, ..settings(&server, "plain") };
    made(Target::Amqp(raw)).await.deliver(&event).await.unwrap();
    let messages = messages(&channel, "plain").await;
    assert_eq!(messages.len(), 2);
    for message in &messages {
        assert_eq!(message.routing_key.as_str(), "css.stream-push.push_example_com.live.room_7");
        let properties = &message.properties;
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), event.id.to_string());
        assert_eq!(properties.delivery_mode(), &Some(2));
    }
    let sent: Value = serde_json::from_slice(&messages[0].data).unwrap();
    assert_eq!((&sent["id"], &sent["data"]), (&json!(event.id.to_string()), &push("room 7", 1)));
    let type_of = |at: usize| messages[at].properties.content_type().as_ref().unwrap().to_string();
    assert_eq!((&*type_of(0), &*type_of(1)), ("application/cloudevents+json", "application/json"));
    assert_eq!(messages[1].data, event.body);
    let headers = messages[1].properties.headers().as_ref().unwrap();
    let subject = headers.inner().get("cloudEvents_subject");
    assert_eq!(subject, Some(&AMQPValue::LongString("room 7".into())));
}

#[tokio::test]
async fn hostile_names_stay_inside_their_part_of_the_routing_key() {
    let Some(server) = shared().await else { return };
    let (_connection, channel) = declare(&server, "hostile").await;
    let handler = made(Target::Amqp(settings(&server, "hostile"))).await;
    let hostile = ["#", "*", "a.b.c", "", "x\r\n\0y", &"長".repeat(80), &"x".repeat(250)];
    for (number, name) in hostile.iter().enumerate() {
        let mut body = push(name, number as u64);
        body["appname"] = "y".repeat(200).into();
        handler.deliver(&event(number as u128, &body)).await.unwrap();
    }
    let messages = messages(&channel, "hostile").await;
    assert_eq!(messages.len(), hostile.len());
    for message in &messages {
        assert_eq!(message.routing_key.as_str().split('.').count(), 5, "{}", message.routing_key);
    }
}

#[tokio::test]
async fn what_no_queue_takes_is_tried_again_until_one_does() {
    let Some(server) = shared().await else { return };
    let handler = made(Target::Amqp(settings(&server, "late"))).await;
    let event = event(1, &push("room", 1));
    let reason = transient(handler.deliver(&event).await);
    assert!(reason.contains("no exchange 'late'"), "{reason}");
    let (_connection, channel) = client(&server).await;
    declare_exchange(&channel, "late").await;
    let reason = transient(handler.deliver(&event).await);
    let expected = "no queue takes the routing key css.stream-push.push_example_com.live.room: NO_ROUTE";
    assert_eq!(reason, expected);
    bind_queue(&channel, "late", FieldTable::default()).await;
    handler.deliver(&event).await.unwrap();
    assert_eq!(messages(&channel, "late").await.len(), 1);
}

#[tokio::test]
async fn a_full_queue_is_tried_again() {
    let Some(server) = shared().await else { return };
    let (_connection, channel) = client(&server).await;
    declare_exchange(&channel, "full").await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    bind_queue(&channel, "full", arguments).await;
    let handler = made(Target::Amqp(settings(&server, "full"))).await;
    handler.deliver(&event(1, &push("room", 1))).await.unwrap();
    let full = event(2, &push("room", 2));
    let reason = eventually("it is full", async || handler.deliver(&full).await.err()).await;
    assert!(transient(Err(reason)).contains("the queue is full"));
    channel.queue_purge("full".into(), QueuePurgeOptions::default()).await.unwrap();
    handler.deliver(&full).await.unwrap();
}

#[tokio::test]
async fn a_message_too_large_is_dead_and_those_beside_it_are_not() {
    let Some(server) = shared().await else { return };
    let (_connection, channel) = declare(&server, "large").await;
    let handler = made(Target::Amqp(settings(&server, "large"))).await;
    let mut body = push("room", 1);
    body["padding"] = "x".repeat(70_000).into();
    let (large, good) = (event(1, &body), event(2, &push("other", 2)));
    for _ in 0..20 {
        let (large, good) = tokio::join!(handler.deliver(&large), handler.deliver(&good));
        let reason = permanent(large);
        assert!(reason.contains("larger than configured max size 65536"), "{reason}");
        if let Err(beside) = good {
            transient(Err(beside));
        }
    }
    handler.deliver(&good).await.unwrap();
    assert!(!messages(&channel, "large").await.is_empty());
}

#[tokio::test]
async fn wrong_credentials_are_tried_again_and_never_said() {
    let Some(server) = shared().await else { return };
    let url = format!("amqp://guest:wrong-hunter22@127.0.0.1:{}", server.port);
    let handler = made(Target::Amqp(settings_at(&url, "any"))).await;
    let reason = transient(handler.deliver(&event(1, &push("room", 1))).await);
    assert!(reason.contains("refuses the credentials") && !reason.contains("hunter22"), "{reason}");
}

#[tokio::test]
async fn a_server_with_a_certificate_of_ones_own_is_trusted_by_ca_file_only() {
    let Some(server) = shared().await else { return };
    let (_connection, channel) = declare(&server, "secure").await;
    let tls_port = std::fs::read_to_string(server.directory.path().join("tls-port")).unwrap();
    let settings = settings_at(&format!("amqps://localhost:{tls_port}"), "secure");
    let event = event(1, &push("room", 1));
    let refused = made(Target::Amqp(settings.clone())).await;
    let reason = eventually("it listens", async || {
        let reason = transient(refused.deliver(&event).await);
        (!reason.contains("Connection refused")).then_some(reason)
    });
    let reason = reason.await;
    assert!(reason.contains("certificate"), "{reason}");
    let ca_file = Some(server.directory.path().join("cert"));
    made(Target::Amqp(Settings { ca_file, ..settings })).await.deliver(&event).await.unwrap();
    assert_eq!(messages(&channel, "secure").await.len(), 1);
}

#[tokio::test]
async fn nothing_is_lost_and_order_stays_when_the_server_is_killed_in_the_middle() {
    let Some(mut server) = server().await else { return };
    drop(declare(&server, "crash").await);
    let ids = deliver_through_a_crash(Target::Amqp(settings(&server, "crash")), &mut server).await;
    let (_connection, channel) = client(&server).await;
    let messages = messages(&channel, "crash").await;
    let arrived: Vec<Value> = messages.iter().map(|message| serde_json::from_slice(&message.data).unwrap()).collect();
    assert_all_in_order(ids, &arrived, false);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let port = free_port();
    let handler = made(Target::Amqp(settings_at(&format!("amqp://u:hunter22@127.0.0.1:{port}/v"), "x"))).await;
    let reason = transient(handler.deliver(&event(1, &push("room", 1))).await);
    assert!(reason.starts_with(&format!("cannot connect to amqp://127.0.0.1:{port}: ")), "{reason}");
    assert!(reason.contains("refused") && !reason.contains("hunter22"), "{reason}");
}
