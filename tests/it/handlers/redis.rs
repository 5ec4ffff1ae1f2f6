//! `redis`, against servers of the tests' own.

use std::collections::HashMap;
use std::time::Duration;

use livehook::handler::naming::Template;
use livehook::handler::redis::{Settings, Trim};
use livehook::handler::server::ServerUrl;
use livehook::handler::{Format, Target};
use redis::streams::StreamRangeReply;
use redis::{AsyncCommands as _, aio::MultiplexedConnection};
use serde_json::{Value, json};

use super::servers::{EVENTS, Server, assert_all_in_order, deliver_through_a_crash, event, made, transient, try_made};
use crate::app::{eventually, push};

fn settings(server: &Server) -> Settings {
    settings_at(&format!("redis://127.0.0.1:{}", server.port))
}

fn settings_at(url: &str) -> Settings {
    Settings {
        server: ServerUrl::new(url.parse().unwrap()),
        ca_file: None,
        key: Template::parse("livehook").unwrap(),
        trim: None,
        dedup_window: None,
        format: Format::CloudEvents,
    }
}

async fn client(server: &Server) -> MultiplexedConnection {
    client_at(&format!("redis://127.0.0.1:{}", server.port)).await
}

async fn client_at(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    eventually("Redis answers", async || client.get_multiplexed_async_connection().await.ok()).await
}

/// The fields of all entries of a stream.
async fn entries(client: &mut MultiplexedConnection, key: &str) -> Vec<HashMap<String, String>> {
    let range: StreamRangeReply = client.xrange_all(key).await.unwrap();
    let text = |value: redis::Value| redis::from_redis_value(value).unwrap();
    let entry =
        |entry: redis::streams::StreamId| entry.map.into_iter().map(|(name, value)| (name, text(value))).collect();
    range.ids.into_iter().map(entry).collect()
}

#[tokio::test]
async fn an_event_is_an_entry_with_its_id_beside_it() {
    let Some(server) = Server::start_redis(&[]).await else { return };
    let event = event(7, &push("room 7", 1));
    made(Target::Redis(settings(&server))).await.deliver(&event).await.unwrap();
    let raw = Settings { format: Format::Raw, key: Template::parse("raw.{kind}").unwrap(), ..settings(&server) };
    made(Target::Redis(raw)).await.deliver(&event).await.unwrap();
    let mut client = client(&server).await;
    let entry = entries(&mut client, "livehook").await.remove(0);
    assert_eq!(entry["id"], event.id.to_string());
    let sent: Value = serde_json::from_str(&entry["event"]).unwrap();
    assert_eq!((&sent["id"], &sent["data"]), (&json!(event.id.to_string()), &push("room 7", 1)));
    let entry = entries(&mut client, "raw.stream-push").await.remove(0);
    assert_eq!((&*entry["id"], &*entry["subject"]), (&*event.id.to_string(), "room 7"));
    assert_eq!(entry["body"].as_bytes(), event.body);
}

#[tokio::test]
async fn within_its_window_a_repetition_appends_nothing() {
    let Some(server) = Server::start_redis(&[]).await else { return };
    let windowed = Settings { dedup_window: Some(Duration::from_mins(1)), ..settings(&server) };
    let handler = made(Target::Redis(windowed)).await;
    for number in [1, 2, 1, 2, 2] {
        handler.deliver(&event(number, &push("room", 1))).await.unwrap();
    }
    let mut client = client(&server).await;
    assert_eq!(entries(&mut client, "livehook").await.len(), 2);
    let plain = made(Target::Redis(settings(&server))).await;
    plain.deliver(&event(1, &push("room", 1))).await.unwrap();
    assert_eq!(entries(&mut client, "livehook").await.len(), 3, "without it, a consumer compares ids");
    // An entry that cannot be appended leaves no marker, or the event would be lost.
    let _: () = client.set("taken", "text").await.unwrap();
    let window = Some(Duration::from_mins(1));
    let wrong = Settings { dedup_window: window, key: Template::parse("taken").unwrap(), ..settings(&server) };
    let handler = made(Target::Redis(wrong)).await;
    for _ in 0..2 {
        let reason = transient(handler.deliver(&event(9, &push("room", 1))).await);
        assert!(reason.contains("wrong kind of value"), "{reason}");
    }
    let _: () = client.del("taken").await.unwrap();
    handler.deliver(&event(9, &push("room", 1))).await.unwrap();
    assert_eq!(entries(&mut client, "taken").await.len(), 1);
}

#[tokio::test]
async fn a_stream_is_trimmed_by_length_or_by_age() {
    let Some(server) = Server::start_redis(&["--stream-node-max-entries", "10"]).await else { return };
    let short = Settings { trim: Some(Trim::Length(20)), ..settings(&server) };
    let handler = made(Target::Redis(short)).await;
    for number in 0..100 {
        handler.deliver(&event(number, &push("room", 1))).await.unwrap();
    }
    let mut client = client(&server).await;
    let kept = entries(&mut client, "livehook").await.len();
    assert!((20..40).contains(&kept), "{kept}");
    // Entries of the year 1970, and one that is appended by the clock of the test.
    for millis in 1..=30 {
        let _: String = client.xadd("aged", format!("{millis}-0"), &[("id", "old")]).await.unwrap();
    }
    let key = Template::parse("aged").unwrap();
    let aged = Settings { trim: Some(Trim::Age(Duration::from_hours(1))), key, ..settings(&server) };
    made(Target::Redis(aged)).await.deliver(&event(1, &push("room", 1))).await.unwrap();
    let kept = entries(&mut client, "aged").await.len();
    assert!(kept <= 11, "{kept}");
}

#[tokio::test]
async fn hostile_names_choose_no_other_key() {
    let Some(server) = Server::start_redis(&[]).await else { return };
    let key = Template::parse("css:{app}:{stream}").unwrap();
    let handler =
        made(Target::Redis(Settings { key, dedup_window: Some(Duration::from_mins(1)), ..settings(&server) })).await;
    let hostile = ["a:b:{c}", "\r\nFLUSHALL\r\n", "x\0y", "", "a b*"];
    for (number, name) in hostile.iter().enumerate() {
        handler.deliver(&event(number as u128, &push(name, 1))).await.unwrap();
    }
    let keys: Vec<String> = client(&server).await.keys("css:*").await.unwrap();
    assert_eq!(keys.len(), hostile.len(), "{keys:?}");
    for key in keys {
        assert!(key.starts_with("css:live:") && key.split(':').count() == 3, "{key}");
    }
}

#[tokio::test]
async fn nothing_is_lost_and_order_stays_when_the_server_is_killed_in_the_middle() {
    let Some(mut server) = Server::start_redis(&[]).await else { return };
    let windowed = Settings { dedup_window: Some(Duration::from_hours(1)), ..settings(&server) };
    let ids = deliver_through_a_crash(Target::Redis(windowed), &mut server).await;
    let entries = entries(&mut client(&server).await, "livehook").await;
    let arrived: Vec<Value> = entries.iter().map(|entry| serde_json::from_str(&entry["event"]).unwrap()).collect();
    assert_eq!(arrived.len() as u64, EVENTS);
    assert_all_in_order(ids, &arrived, true);
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let Some(mut server) = Server::start_redis(&[]).await else { return };
    server.kill();
    let handler = made(Target::Redis(settings(&server))).await;
    let event = event(1, &push("room", 1));
    let reason = transient(handler.deliver(&event).await);
    let address = format!("cannot connect to redis://127.0.0.1:{}: ", server.port);
    assert!(reason.starts_with(&address) && reason.contains("refused"), "{reason}");
    server.restart().await;
    eventually("it is taken", async || handler.deliver(&event).await.ok()).await;
    assert_eq!(entries(&mut client(&server).await, "livehook").await.len(), 1);
}

#[tokio::test]
async fn wrong_credentials_are_tried_again_and_never_said() {
    let Some(server) = Server::start_redis(&["--requirepass", "right-hunter22"]).await else { return };
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}", server.port);
    let event = event(1, &push("room", 1));
    for wrong in [settings_at(&url("wrong-hunter22")), settings(&server)] {
        let reason = transient(made(Target::Redis(wrong)).await.deliver(&event).await);
        assert!(reason.contains("refuses the credentials") && !reason.contains("hunter22"), "{reason}");
    }
    made(Target::Redis(settings_at(&url("right-hunter22")))).await.deliver(&event).await.unwrap();
    assert_eq!(entries(&mut client_at(&url("right-hunter22")).await, "livehook").await.len(), 1);
}

#[tokio::test]
async fn a_full_server_is_tried_again() {
    let Some(server) = Server::start_redis(&[]).await else { return };
    let mut client = client(&server).await;
    let handler = made(Target::Redis(settings(&server))).await;
    let configure = async |client: &mut MultiplexedConnection, bytes: &str| {
        let set: String =
            redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).query_async(client).await.unwrap();
        assert_eq!(set, "OK");
    };
    configure(&mut client, "1").await;
    let reason = transient(handler.deliver(&event(1, &push("room", 1))).await);
    assert!(reason.starts_with("Redis is full: "), "{reason}");
    configure(&mut client, "0").await;
    handler.deliver(&event(1, &push("room", 1))).await.unwrap();
    assert_eq!(entries(&mut client, "livehook").await.len(), 1);
}

#[tokio::test]
async fn a_server_with_a_certificate_of_ones_own_is_trusted_by_ca_file_only() {
    let made_up = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert"), made_up.cert.pem()).unwrap();
    std::fs::write(path("key"), made_up.signing_key.serialize_pem()).unwrap();
    let tls_port = super::process::free_port();
    let (port, cert, key) = (tls_port.to_string(), path("cert"), path("key"));
    let tls = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let Some(server) = Server::start_redis(&[&tls[..], &["--tls-ca-cert-file", &cert]].concat()).await else { return };
    let settings = settings_at(&format!("rediss://localhost:{tls_port}"));
    let event = event(1, &push("room", 1));
    let reason = transient(made(Target::Redis(settings.clone())).await.deliver(&event).await);
    assert!(reason.contains("certificate"), "{reason}");
    let trusting = Settings { ca_file: Some(path("cert").into()), ..settings.clone() };
    made(Target::Redis(trusting)).await.deliver(&event).await.unwrap();
    assert_eq!(entries(&mut client(&server).await, "livehook").await.len(), 1);
    let absent = Settings { ca_file: Some("/no/such/file".into()), ..settings };
    let error = try_made(Target::Redis(absent)).await.err().unwrap().to_string();
    assert!(error.starts_with("ca_file /no/such/file: "), "{error}");
}

#[tokio::test]
async fn a_handler_that_goes_takes_its_connection_with_it() {
    let Some(server) = Server::start_redis(&[]).await else { return };
    let mut client = client(&server).await;
    let mut connections = async || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut client).await.unwrap();
        list.lines().count() - 1
    };
    let handler = made(Target::Redis(settings(&server))).await;
    handler.deliver(&event(1, &push("room", 1))).await.unwrap();
    assert_eq!(connections().await, 1);
    drop(handler);
    eventually("the connection is closed", async || (connections().await == 0).then_some(())).await;
}
