//! `kafka`, against the mock cluster of its client: brokers inside this process that speak the protocol over sockets, forget
//! everything with it, and refuse on demand. No broker of Apache Kafka takes part, so what such a broker says and
//! does of its own is not tried here: its checks of sequence numbers, of rights and of sizes, its replication, SCRAM. TLS and
//! PLAIN are, at a front of our own.

use std::collections::BTreeMap;
use std::time::Duration;

use livehook::handler::Target;
use livehook::handler::kafka::{Login, Mechanism, MessageFormat, Settings, Tls};
use livehook::handler::naming::Template;
use livehook::secret::Secret;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::gate::{Gate, Rules, tls};
use super::process::free_port;
use super::servers::{
    Breakable, assert_all_in_order, connections_to, deliver_through_a_crash, event, made, permanent, transient,
    try_made,
};
use crate::app::{eventually, push};

const TOPIC: &str = "livehook";
const PARTITIONS: i32 = 4;

/// A cluster of the test's own.
struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    fn of(brokers: i32) -> Self {
        let cluster = Self(MockCluster::new(brokers).unwrap());
        cluster.0.create_topic(TOPIC, PARTITIONS, brokers).unwrap();
        cluster
    }

    fn brokers(&self) -> Vec<String> {
        self.0.bootstrap_servers().split(',').map(str::to_owned).collect()
    }

    fn settings(&self) -> Settings {
        settings_at(self.brokers())
    }

    /// The next requests to produce get these answers.
    fn refuse(&self, error: RDKafkaRespErr, times: usize) {
        self.0.request_errors(RDKafkaApiKey::Produce, &vec![error; times]);
    }

    async fn messages(&self) -> Vec<OwnedMessage> {
        self.messages_in(TOPIC, PARTITIONS).await
    }

    /// All that a topic has, partition by partition.
    async fn messages_in(&self, topic: &'static str, partitions: i32) -> Vec<OwnedMessage> {
        let brokers = self.0.bootstrap_servers();
        tokio::task::spawn_blocking(move || read(&brokers, topic, partitions)).await.unwrap()
    }
}

impl Breakable for Cluster {
    fn kill(&mut self) {
        self.0.broker_down(-1).unwrap();
    }

    async fn restart(&mut self) {
        self.0.broker_up(-1).unwrap();
    }

    fn ports(&self) -> Vec<u16> {
        self.brokers().iter().map(|broker| port_of(broker)).collect()
    }
}

fn port_of(broker: &str) -> u16 {
    broker.rsplit_once(':').unwrap().1.parse().unwrap()
}

fn settings_at(brokers: Vec<String>) -> Settings {
    Settings {
        brokers,
        tls: None,
        login: None,
        topic: Template::parse(TOPIC).unwrap(),
        format: MessageFormat::Binary,
        timeout: Duration::from_secs(10),
    }
}

fn read(brokers: &str, topic: &str, partitions: i32) -> Vec<OwnedMessage> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "test").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    let (mut messages, mut ended) = (Vec::new(), 0);
    while ended < partitions {
        match consumer.poll(Duration::from_secs(30)).expect("the end of each partition") {
            Ok(message) => messages.push(message.detach()),
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    messages.sort_by_key(OwnedMessage::partition);
    messages
}

fn headers(message: &OwnedMessage) -> BTreeMap<&str, &str> {
    let headers = message.headers().unwrap().iter();
    headers.map(|header| (header.key, std::str::from_utf8(header.value.unwrap()).unwrap())).collect()
}

fn json_of(message: &OwnedMessage) -> Value {
    serde_json::from_slice(message.payload().unwrap()).unwrap()
}

#[tokio::test]
async fn an_event_is_a_message_with_its_stream_as_key_and_its_attributes_as_headers() {
    let cluster = Cluster::of(1);
    let mut body = push("房 7", 1);
    body["sign"] = "feedbeef".into();
    let event = event(7, &body);
    for format in [MessageFormat::Binary, MessageFormat::CloudEvents, MessageFormat::Raw] {
        made(Target::Kafka(Settings { format, ..cluster.settings() })).await.deliver(&event).await.unwrap();
    }
    let messages = cluster.messages().await;
    assert_eq!(messages.len(), 3);
    for message in &messages {
        assert_eq!(message.key(), Some("push.example.com/live/房 7".as_bytes()));
        assert_eq!(message.partition(), messages[0].partition());
    }
    let (id, binary) = (event.id.to_string(), headers(&messages[0]));
    for (name, value) in [
        ("content-type", "application/json"),
        ("ce_specversion", "1.0"),
        ("ce_id", &id),
        ("ce_source", "/css/push.example.com/live"),
        ("ce_type", "com.tencentcloud.css.stream-push"),
        ("ce_subject", "房 7"),
        ("ce_verification", "unsigned"),
    ] {
        assert_eq!(binary.get(name), Some(&value), "{name}");
    }
    assert!(binary.contains_key("ce_time") && !binary.contains_key("ce_datacontenttype"), "{binary:?}");
    assert_eq!(json_of(&messages[0]), push("房 7", 1));
    assert_eq!(headers(&messages[1]), BTreeMap::from([("content-type", "application/cloudevents+json")]));
    let object = json_of(&messages[1]);
    assert_eq!((&object["id"], &object["data"]), (&json!(id), &push("房 7", 1)));
    assert_eq!(headers(&messages[2]), binary);
    assert_eq!(messages[2].payload(), Some(&*event.body));
}

#[tokio::test]
async fn an_event_of_no_stream_has_no_key() {
    let cluster = Cluster::of(1);
    let mut body = push("", 1);
    body.as_object_mut().unwrap().remove("stream_id");
    made(Target::Kafka(cluster.settings())).await.deliver(&event(7, &body)).await.unwrap();
    assert_eq!(cluster.messages().await[0].key(), None);
}

#[tokio::test]
async fn hostile_names_stay_inside_their_part_of_the_topic() {
    let cluster = Cluster::of(1);
    let topic = Template::parse("css.{kind}.{domain}.{stream}").unwrap();
    let handler = made(Target::Kafka(Settings { topic, ..cluster.settings() })).await;
    for (name, topic) in [
        ("../..\0", "css.stream-push.push_example_com.______"),
        ("房间:1/2", "css.stream-push.push_example_com.___1_2"),
        ("a.b*c>", "css.stream-push.push_example_com.a_b_c_"),
    ] {
        cluster.0.create_topic(topic, 1, 1).unwrap();
        handler.deliver(&event(1, &push(name, 1))).await.unwrap();
        assert_eq!(cluster.messages_in(topic, 1).await.len(), 1);
    }
}

#[tokio::test]
async fn nothing_is_lost_and_order_stays_when_all_brokers_go_down_in_the_middle() {
    let mut cluster = Cluster::of(3);
    let (format, timeout) = (MessageFormat::CloudEvents, Duration::from_secs(2));
    let target = Target::Kafka(Settings { format, timeout, ..cluster.settings() });
    let ids = deliver_through_a_crash(target, &mut cluster).await;
    let arrived: Vec<_> = cluster.messages().await.iter().map(json_of).collect();
    assert_all_in_order(ids, &arrived, false);
}

#[tokio::test]
async fn a_broker_that_goes_while_others_lead_costs_no_attempt() {
    let cluster = Cluster::of(3);
    let handler = made(Target::Kafka(cluster.settings())).await;
    for broker in 1..=3 {
        for partition in 0..PARTITIONS {
            cluster.0.partition_leader(TOPIC, partition, Some(broker % 3 + 1)).unwrap();
        }
        cluster.0.broker_down(broker).unwrap();
        for number in 0..20 {
            let room = format!("room-{}", number % 5);
            handler.deliver(&event(number, &push(&room, u64::try_from(number).unwrap()))).await.unwrap();
        }
        cluster.0.broker_up(broker).unwrap();
    }
    assert!(cluster.messages().await.len() >= 60);
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named_and_waited_for() {
    let port = free_port();
    let handler = made(Target::Kafka(settings_at(vec![format!("127.0.0.1:{port}")]))).await;
    let event = event(1, &push("room", 1));
    let reason = transient(handler.deliver(&event).await);
    assert!(reason.starts_with(&format!("cannot connect to 127.0.0.1:{port}: ")), "{reason}");
    assert!(reason.contains("Connection refused"), "{reason}");
    let cluster = Cluster::of(1);
    let _gate = Gate::at(port, port_of(&cluster.brokers()[0]), Rules::default()).await;
    eventually("it is taken", async || handler.deliver(&event).await.ok()).await;
    assert_eq!(cluster.messages().await.len(), 1);
}

#[tokio::test]
async fn what_a_broker_refuses_for_a_while_is_sent_again_and_then_tried_again() {
    let cluster = Cluster::of(1);
    let handler = made(Target::Kafka(cluster.settings())).await;
    let event = event(1, &push("room", 1));
    cluster.refuse(RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, 2);
    handler.deliver(&event).await.unwrap();
    cluster.refuse(RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, 100);
    let reason = transient(handler.deliver(&event).await);
    assert!(
        reason.contains("the topic livehook does not take it: ") && reason.contains("in-sync replicas"),
        "{reason}"
    );
    cluster.0.clear_request_errors(RDKafkaApiKey::Produce);
    cluster.refuse(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, 1);
    let reason = transient(handler.deliver(&event).await);
    assert!(reason.contains("no right to write to the topic livehook: "), "{reason}");
    handler.deliver(&event).await.unwrap();
    assert_eq!(cluster.messages().await.len(), 2);
}

#[tokio::test]
async fn what_a_broker_never_takes_is_dead_and_what_is_beside_it_arrives() {
    let cluster = Cluster::of(1);
    let handler = made(Target::Kafka(cluster.settings())).await;
    let event = |number: u128| event(number, &push("room", 1));
    for (error, said) in [
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, "Message size too large"),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD, "failed to validate record"),
    ] {
        cluster.refuse(error, 1);
        let (one, other) = (event(1), event(2));
        let (one, other) = tokio::join!(handler.deliver(&one), handler.deliver(&other));
        let (refused, taken) = if one.is_err() { (one, other) } else { (other, one) };
        let reason = permanent(refused);
        assert!(reason.contains(said), "{reason}");
        taken.unwrap();
    }
    assert_eq!(cluster.messages().await.len(), 2);
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_tried_again_until_it_is() {
    let cluster = Cluster::of(1);
    let topic = Template::parse("later").unwrap();
    let handler = made(Target::Kafka(Settings { topic, ..cluster.settings() })).await;
    let event = event(1, &push("room", 1));
    for _ in 0..2 {
        let reason = transient(handler.deliver(&event).await);
        assert!(reason.starts_with("there is no topic later: "), "{reason}");
    }
    cluster.0.create_topic("later", 1, 1).unwrap();
    eventually("it is taken", async || handler.deliver(&event).await.ok()).await;
    assert_eq!(cluster.messages_in("later", 1).await.len(), 1);
}

#[tokio::test]
async fn a_broker_that_does_not_answer_in_time_may_hold_copies_of_the_same_id() {
    let cluster = Cluster::of(1);
    let timeout = Duration::from_secs(5);
    let handler = made(Target::Kafka(Settings { timeout, ..cluster.settings() })).await;
    let (first, late) = (event(1, &push("room", 1)), event(2, &push("room", 2)));
    handler.deliver(&first).await.unwrap();
    cluster.0.broker_round_trip_time(1, Duration::from_secs(20)).unwrap();
    let reason = transient(handler.deliver(&late).await);
    assert!(reason.starts_with("no acknowledgement within 4.5s"), "{reason}");
    cluster.0.broker_round_trip_time(1, Duration::ZERO).unwrap();
    eventually("it is taken", async || handler.deliver(&late).await.ok()).await;
    let ids: Vec<_> = cluster.messages().await.iter().map(|message| headers(message)["ce_id"].to_owned()).collect();
    let (first, late) = (first.id.to_string(), late.id.to_string());
    assert_eq!(ids[0], first);
    assert!(ids.len() > 1 && ids[1..].iter().all(|id| *id == late), "{ids:?}");
}

#[tokio::test]
async fn a_producer_that_may_not_be_idempotent_says_so_and_is_made_anew() {
    let cluster = Cluster::of(1);
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    cluster.0.request_errors(RDKafkaApiKey::InitProducerId, &[refused]);
    let handler = made(Target::Kafka(cluster.settings())).await;
    let event = event(1, &push("room", 1));
    let reason = transient(handler.deliver(&event).await);
    assert!(reason.contains("Cluster authorization failed"), "{reason}");
    eventually("it is taken", async || handler.deliver(&event).await.ok()).await;
}

fn login(password: &str) -> Login {
    let password = Secret::new(password.to_owned());
    Login { mechanism: Mechanism::Plain, user: "ckafka-7#livehook".to_owned(), password }
}

#[tokio::test]
async fn a_user_with_the_right_password_gets_in_and_a_wrong_one_is_never_said() {
    let cluster = Cluster::of(1);
    let rules = Rules { login: Some(("ckafka-7#livehook", "right-hunter22")), ..Rules::default() };
    let gate = Gate::before(port_of(&cluster.brokers()[0]), rules).await;
    let address = format!("127.0.0.1:{}", gate.port);
    let at = |password: &str| Settings { login: Some(login(password)), ..settings_at(vec![address.clone()]) };
    let event = event(1, &push("room", 1));
    let wrong = at("wrong-hunter22");
    assert!(!format!("{wrong:?}").contains("hunter22"), "{wrong:?}");
    let reason = transient(made(Target::Kafka(wrong)).await.deliver(&event).await);
    assert!(reason.starts_with(&format!("{address} refuses the credentials: ")), "{reason}");
    assert!(!reason.contains("hunter22") && !reason.contains("ckafka-7#"), "{reason}");
    made(Target::Kafka(at("right-hunter22"))).await.deliver(&event).await.unwrap();
    assert_eq!(cluster.messages().await.len(), 1);
}

#[tokio::test]
async fn a_broker_with_a_certificate_of_ones_own_is_trusted_by_ca_file_only() {
    let cluster = Cluster::of(1);
    // As brokers of CKafka: the certificate is of a name, the addresses are numbers.
    let (acceptor, certificate) = tls("ckafka.example");
    let rules = Rules { tls: Some(acceptor), login: Some(("ckafka-7#livehook", "right-hunter22")) };
    let gate = Gate::before(port_of(&cluster.brokers()[0]), rules).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, certificate).unwrap();
    let at = |ca_file: Option<&std::path::Path>, verify_host: bool| Settings {
        tls: Some(Tls { ca_file: ca_file.map(Into::into), verify_host }),
        login: Some(login("right-hunter22")),
        ..settings_at(vec![format!("127.0.0.1:{}", gate.port)])
    };
    let event = event(1, &push("room", 1));
    for refusing in [at(None, false), at(Some(file.path()), true)] {
        let reason = transient(made(Target::Kafka(refusing)).await.deliver(&event).await);
        assert!(reason.contains("cannot connect") && reason.contains("certificate"), "{reason}");
    }
    made(Target::Kafka(at(Some(file.path()), false))).await.deliver(&event).await.unwrap();
    assert_eq!(cluster.messages().await.len(), 1);
}

#[tokio::test]
async fn who_speaks_otherwise_than_the_broker_is_told_what_may_be_wrong() {
    let cluster = Cluster::of(1);
    let broker = port_of(&cluster.brokers()[0]);
    let (acceptor, _) = tls("localhost");
    let encrypted = Gate::before(broker, Rules { tls: Some(acceptor), login: None }).await;
    let guarded = Gate::before(broker, Rules { tls: None, login: Some(("u", "p")) }).await;
    let plain = |port: u16| settings_at(vec![format!("127.0.0.1:{port}")]);
    let tls = Some(Tls { ca_file: None, verify_host: true });
    for (settings, said) in [
        (Settings { tls, ..plain(broker) }, "SSL"),
        (plain(encrypted.port), "; the broker may want tls or a user"),
        (plain(guarded.port), "; the broker may want tls or a user"),
    ] {
        let reason = transient(made(Target::Kafka(settings)).await.deliver(&event(1, &push("room", 1))).await);
        assert!(reason.starts_with("cannot connect to 127.0.0.1:") && reason.contains(said), "{reason}");
    }
}

#[tokio::test]
async fn faulty_certificates_are_refused_when_the_handler_is_made() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (path, said) in [("/no/such/file".into(), "No such file"), (file.path().to_owned(), "no certificate")] {
        let tls = Some(Tls { ca_file: Some(path.clone()), verify_host: true });
        let target = Target::Kafka(Settings { tls, ..settings_at(vec!["127.0.0.1:1".to_owned()]) });
        let error = try_made(target).await.err().unwrap().to_string();
        assert!(error.starts_with(&format!("ca_file {}: ", path.display())) && error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn every_mechanism_is_built_in() {
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let login = Some(Login { mechanism, ..login("right-hunter22") });
        let port = free_port();
        let handler = made(Target::Kafka(Settings { login, ..settings_at(vec![format!("127.0.0.1:{port}")]) })).await;
        let reason = transient(handler.deliver(&event(1, &push("room", 1))).await);
        assert!(reason.contains("Connection refused"), "{reason}");
    }
}

#[tokio::test]
async fn a_handler_that_goes_takes_its_connections_with_it() {
    let cluster = Cluster::of(1);
    let port = port_of(&cluster.brokers()[0]);
    let handler = made(Target::Kafka(cluster.settings())).await;
    handler.deliver(&event(1, &push("room", 1))).await.unwrap();
    assert!(connections_to(port) > 0);
    drop(handler);
    eventually("the connections are closed", async || (connections_to(port) == 0).then_some(())).await;
    let waiting = made(Target::Kafka(cluster.settings())).await;
    let event = event(2, &push("room", 2));
    let attempt = tokio::time::timeout(Duration::ZERO, waiting.deliver(&event)).await;
    assert!(attempt.is_err(), "an attempt that is given up in the middle");
    drop(waiting);
    eventually("the connections are closed", async || (connections_to(port) == 0).then_some(())).await;
}
