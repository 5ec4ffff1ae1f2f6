//! `nats`, against servers of the tests' own.

use std::time::Duration;

use async_nats::jetstream::{self, consumer, stream};
use futures_util::StreamExt as _;
use livehook::handler::naming::Template;
use livehook::handler::nats::Settings;
use livehook::handler::server::ServerUrl;
use livehook::handler::{Format, Target};
use livehook::secret::Secret;
use serde_json::{Value, json};

use super::process::free_port;
use super::servers::{
    EVENTS, Server, assert_all_in_order, deliver_through_a_crash, event, made, permanent, transient, try_made,
};
use crate::app::{eventually, push};
use crate::http::{ask, request};

const STREAM: &str = "CSS";

/// One with a configuration file.
async fn configured(text: &str) -> Option<Server> {
    Server::start("nats-server", "nats-server", |folder, port| {
        let path = format!("{folder}/nats.conf");
        let text = format!("host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: \"{folder}\" }}\n{text}\n");
        std::fs::write(&path, text).unwrap();
        vec!["-c".to_owned(), path]
    })
    .await
}

fn settings(server: &Server) -> Settings {
    settings_at(&format!("nats://127.0.0.1:{}", server.port))
}

fn settings_at(url: &str) -> Settings {
    Settings {
        server: ServerUrl::new(url.parse().unwrap()),
        nkey: None,
        credentials: None,
        ca_file: None,
        subject: Template::parse("css.{kind}.{domain}.{app}.{stream}").unwrap(),
        format: Format::CloudEvents,
    }
}

/// Another client of the server, with the stream that takes our subjects.
async fn stream_of(options: async_nats::ConnectOptions, port: u16, config: stream::Config) -> stream::Stream {
    stream_at(options, &format!("127.0.0.1:{port}"), config).await
}

async fn stream_at(options: async_nats::ConnectOptions, address: &str, config: stream::Config) -> stream::Stream {
    // The server listens a moment before its JetStream answers.
    eventually("JetStream answers", async || {
        let client = options.clone().connect(address).await.ok()?;
        jetstream::new(client).get_or_create_stream(config.clone()).await.ok()
    })
    .await
}

fn config() -> stream::Config {
    stream::Config { name: STREAM.to_owned(), subjects: vec!["css.>".to_owned()], ..stream::Config::default() }
}

async fn with_stream(server: &Server) -> stream::Stream {
    stream_of(async_nats::ConnectOptions::new(), server.port, config()).await
}

/// Everything in the stream, from its beginning.
async fn messages(stream: &mut stream::Stream) -> Vec<jetstream::Message> {
    let count = stream.info().await.unwrap().state.messages;
    let config = consumer::pull::OrderedConfig::default();
    let messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    messages.take(usize::try_from(count).unwrap()).map(Result::unwrap).collect().await
}

fn json_of(message: &jetstream::Message) -> Value {
    serde_json::from_slice(&message.payload).unwrap()
}

#[tokio::test]
async fn an_event_is_in_the_stream_once_with_its_subject_and_its_id() {
    let Some(server) = Server::start_nats(&[]).await else { return };
    let mut stream = with_stream(&server).await;
    let handler = made(Target::Nats(settings(&server))).await;
    let event = event(7, &push("room 7", 1));
    handler.deliver(&event).await.unwrap();
    handler.deliver(&event).await.unwrap();
    let messages = messages(&mut stream).await;
    assert_eq!(messages.len(), 1, "the second is dropped by its id");
    assert_eq!(messages[0].subject.as_str(), "css.stream-push.push_example_com.live.room_7");
    let headers = messages[0].headers.as_ref().unwrap();
    assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), event.id.to_string());
    assert_eq!(headers.get("Content-Type").unwrap().as_str(), "application/cloudevents+json");
    let sent = json_of(&messages[0]);
    assert_eq!((&sent["id"], &sent["subject"]), (&json!(event.id.to_string()), &json!("room 7")));
    assert_eq!(sent["data"], push("room 7", 1));
}

#[tokio::test]
async fn a_raw_event_is_the_body_with_its_attributes_as_headers() {
    let Some(server) = Server::start_nats(&[]).await else { return };
    let mut stream = with_stream(&server).await;
    let handler = made(Target::Nats(Settings { format: Format::Raw, ..settings(&server) })).await;
    let event = event(7, &push("房 7", 1));
    handler.deliver(&event).await.unwrap();
    let message = messages(&mut stream).await.remove(0);
    assert_eq!(message.payload, event.body);
    let headers = message.headers.as_ref().unwrap();
    let header = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
    assert_eq!(header("Content-Type"), Some("application/json"));
    assert_eq!(header("ce-type"), Some("com.tencentcloud.css.stream-push"));
    assert_eq!(header("ce-subject"), Some("%E6%88%BF%207"));
}

#[tokio::test]
async fn hostile_names_stay_inside_their_part_of_the_subject() {
    let Some(server) = Server::start_nats(&[]).await else { return };
    let mut stream = with_stream(&server).await;
    let handler = made(Target::Nats(settings(&server))).await;
    let hostile =
        [">", "*", "a.b.c", "$JS.API.STREAM.DELETE.CSS", "x\r\nPUB css.y 0\r\n\r\n", "", "\u{0}", &"長".repeat(999)];
    for (number, name) in hostile.iter().enumerate() {
        handler.deliver(&event(number as u128, &push(name, number as u64))).await.unwrap();
    }
    let messages = messages(&mut stream).await;
    assert_eq!(messages.len(), hostile.len());
    for message in &messages {
        assert_eq!(message.subject.split('.').count(), 5, "{}", message.subject);
        assert!(message.subject.starts_with("css.stream-push.push_example_com.live."), "{}", message.subject);
    }
}

#[tokio::test]
async fn nothing_is_lost_and_order_stays_when_the_server_is_killed_in_the_middle() {
    let Some(mut server) = Server::start_nats(&[]).await else { return };
    drop(with_stream(&server).await);
    let ids = deliver_through_a_crash(Target::Nats(settings(&server)), &mut server).await;
    let mut stream = with_stream(&server).await;
    let arrived: Vec<_> = messages(&mut stream).await.iter().map(json_of).collect();
    assert_eq!(arrived.len() as u64, EVENTS);
    assert_all_in_order(ids, &arrived, true);
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let Some(mut server) = Server::start_nats(&[]).await else { return };
    drop(with_stream(&server).await);
    server.kill();
    let handler = made(Target::Nats(settings(&server))).await;
    let event = event(1, &push("room", 1));
    let reason = transient(handler.deliver(&event).await);
    let address = format!("cannot connect to nats://127.0.0.1:{}: ", server.port);
    assert!(reason.starts_with(&address) && reason.contains("refused"), "{reason}");
    server.restart().await;
    eventually("it is taken", async || handler.deliver(&event).await.ok()).await;
    assert_eq!(messages(&mut with_stream(&server).await).await.len(), 1);
}

#[tokio::test]
async fn wrong_credentials_are_tried_again_and_never_said() {
    let Some(server) = Server::start_nats(&["--user", "livehook", "--pass", "right-hunter22"]).await else { return };
    let url = |password: &str| format!("nats://livehook:{password}@127.0.0.1:{}", server.port);
    let client = async_nats::ConnectOptions::with_user_and_password("livehook".to_owned(), "right-hunter22".to_owned());
    let mut stream = stream_of(client, server.port, config()).await;
    let event = event(1, &push("room", 1));
    for wrong in [settings_at(&url("wrong-hunter22")), settings(&server)] {
        assert!(!format!("{wrong:?}").contains("hunter22"), "{wrong:?}");
        let reason = transient(made(Target::Nats(wrong)).await.deliver(&event).await);
        assert!(reason.contains("refuses the credentials: authorization violation"), "{reason}");
        assert!(!reason.contains("hunter22"), "{reason}");
    }
    made(Target::Nats(settings_at(&url("right-hunter22")))).await.deliver(&event).await.unwrap();
    assert_eq!(messages(&mut stream).await.len(), 1);
}

#[tokio::test]
async fn tokens_and_nkeys_open_the_door() {
    let event = event(1, &push("room", 1));
    let Some(with_token) = Server::start_nats(&["--auth", "token-hunter22"]).await else { return };
    let client = async_nats::ConnectOptions::with_token("token-hunter22".to_owned());
    let mut stream = stream_of(client, with_token.port, config()).await;
    let in_url = settings_at(&format!("nats://token-hunter22@127.0.0.1:{}", with_token.port));
    made(Target::Nats(in_url)).await.deliver(&event).await.unwrap();
    assert_eq!(messages(&mut stream).await.len(), 1);

    // A pair of keys that the client is tested with.
    let seed = "SUACH75SWCM5D2JMJM6EKLR2WDARVGZT4QC6LX3AGHSWOMVAKERABBBRWM";
    let public = "UAFHG6FUD2UU4SDFVAFUL5LDFO2XM4WYM76UNXTPJYJK7EEMYRBHT2VE";
    let Some(with_nkey) = configured(&format!("authorization {{ users = [ {{ nkey: {public} }} ] }}")).await else {
        return;
    };
    let nkey = Some(Secret::new(format!("{seed}\n")));
    let client = async_nats::ConnectOptions::with_nkey(seed.to_owned());
    let mut stream = stream_of(client, with_nkey.port, config()).await;
    made(Target::Nats(Settings { nkey, ..settings(&with_nkey) })).await.deliver(&event).await.unwrap();
    assert_eq!(messages(&mut stream).await.len(), 1);
}

#[tokio::test]
async fn a_server_with_a_certificate_of_ones_own_is_trusted_by_ca_file_only() {
    let made_up = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert"), made_up.cert.pem()).unwrap();
    std::fs::write(path("key"), made_up.signing_key.serialize_pem()).unwrap();
    let tls = format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", path("cert"), path("key"));
    let Some(server) = configured(&tls).await else { return };
    let settings = settings_at(&format!("tls://localhost:{}", server.port));
    let event = event(1, &push("room", 1));
    let reason = transient(made(Target::Nats(settings.clone())).await.deliver(&event).await);
    assert!(reason.contains("certificate"), "{reason}");
    let settings = Settings { ca_file: Some(path("cert").into()), ..settings };
    let client = async_nats::ConnectOptions::new().require_tls(true).add_root_certificates(path("cert").into());
    let mut stream = stream_at(client, &format!("localhost:{}", server.port), config()).await;
    made(Target::Nats(settings)).await.deliver(&event).await.unwrap();
    assert_eq!(messages(&mut stream).await.len(), 1);
}

#[tokio::test]
async fn faulty_credentials_are_refused_when_the_handler_is_made() {
    let at = settings_at("nats://127.0.0.1:1");
    let credentials = Some(Secret::new("no credentials hunter22"));
    let error = try_made(Target::Nats(Settings { credentials, ..at.clone() })).await.err().unwrap().to_string();
    assert!(error.starts_with("credentials: ") && !error.contains("hunter22"), "{error}");
    let ca_file = Some("/no/such/file".into());
    let error = try_made(Target::Nats(Settings { ca_file, ..at })).await.err().unwrap().to_string();
    assert!(error.starts_with("ca_file /no/such/file: "), "{error}");
}

#[tokio::test]
async fn a_subject_that_no_stream_takes_is_tried_again_until_one_does() {
    let Some(server) = Server::start_nats(&[]).await else { return };
    let handler = made(Target::Nats(settings(&server))).await;
    let event = event(1, &push("room", 1));
    let reason = transient(handler.deliver(&event).await);
    assert_eq!(reason, "no stream takes the subject css.stream-push.push_example_com.live.room");
    let mut stream = with_stream(&server).await;
    handler.deliver(&event).await.unwrap();
    assert_eq!(messages(&mut stream).await.len(), 1);
}

#[tokio::test]
async fn a_full_stream_is_tried_again_and_a_message_too_large_is_not() {
    let Some(server) = Server::start_nats(&[]).await else { return };
    let config =
        stream::Config { max_messages: 1, max_message_size: 4096, discard: stream::DiscardPolicy::New, ..config() };
    let mut stream = stream_of(async_nats::ConnectOptions::new(), server.port, config).await;
    let handler = made(Target::Nats(settings(&server))).await;
    let padded = |bytes: usize| {
        let mut body = push("room", 9);
        body["padding"] = "x".repeat(bytes).into();
        event(9, &body)
    };
    let reason = permanent(handler.deliver(&padded(8192)).await);
    assert!(reason.contains("message size exceeds maximum"), "{reason}");
    let reason = permanent(handler.deliver(&padded(2 << 20)).await);
    assert!(reason.contains("max payload size exceeded"), "{reason}");
    handler.deliver(&event(1, &push("room", 1))).await.unwrap();
    let reason = transient(handler.deliver(&event(2, &push("room", 2))).await);
    assert!(reason.contains("maximum messages exceeded"), "{reason}");
    stream.purge().await.unwrap();
    handler.deliver(&event(2, &push("room", 2))).await.unwrap();
    assert_eq!(messages(&mut stream).await.len(), 1);
}

#[tokio::test]
async fn a_subject_that_may_not_be_published_to_is_said_at_once() {
    let permissions = r#"authorization { users = [
        { user: livehook, password: p, permissions: { publish: ["other.>"], subscribe: ">" } }
    ] }"#;
    let Some(server) = configured(permissions).await else { return };
    let handler = made(Target::Nats(settings_at(&format!("nats://livehook:p@127.0.0.1:{}", server.port)))).await;
    for number in 1..3 {
        let reason = transient(handler.deliver(&event(number, &push("room", 1))).await);
        assert!(reason.to_lowercase().contains("permissions violation for publish"), "{reason}");
    }
}

#[tokio::test]
async fn a_handler_that_goes_takes_its_connection_with_it() {
    let monitor = free_port();
    let Some(server) = Server::start_nats(&["-m", &monitor.to_string()]).await else { return };
    let connections = async || {
        let answer = ask(([127, 0, 0, 1], monitor).into(), &request("GET", "/connz", &[], b"")).await.json();
        answer["connections"].as_array().unwrap().iter().filter(|row| row["name"] == "livehook").count()
    };
    let handler = made(Target::Nats(settings(&server))).await;
    transient(handler.deliver(&event(1, &push("room", 1))).await);
    assert_eq!(connections().await, 1);
    drop(handler);
    eventually("the connection is closed", async || (connections().await == 0).then_some(())).await;
    let waiting = made(Target::Nats(settings(&server))).await;
    let event = event(1, &push("room", 1));
    let attempt = tokio::time::timeout(Duration::ZERO, waiting.deliver(&event)).await;
    assert!(attempt.is_err(), "an attempt that is given up in the middle");
    drop(waiting);
    eventually("the connection is closed", async || (connections().await == 0).then_some(())).await;
}
