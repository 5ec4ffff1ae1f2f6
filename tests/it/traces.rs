//! Traces, as a collector sees them: one for each event, from the request to the last attempt.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use livehook::Config;
use livehook::handler::{Policy, Settings, Target, http};
use livehook::secret::Secret;
use livehook::telemetry::traces;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::app::{Setup, eventually, push};
use crate::recorder::{Act, Recorder};

/// Takes requests of OTLP over HTTP, and whatever else is posted to it.
struct Collector {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    spans: Vec<Span>,
    resources: Vec<(String, String)>,
    /// Heads of all requests, in lower case.
    heads: Vec<String>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Seen::default())));
        let (mut serving, all) = (JoinSet::new(), Arc::clone(&seen));
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(converse(stream, Arc::clone(&all)));
            }
        });
        Self { address, seen, _serving: serving }
    }

    fn settings(&self) -> traces::Settings {
        traces::Settings {
            endpoint: format!("http://{}/v1/traces", self.address).parse().unwrap(),
            headers: vec![("x-tenant".to_owned(), Secret::new("live"))],
            resource: vec![("service.name".to_owned(), "hooks".to_owned())],
            timeout: traces::TIMEOUT,
            ratio: 1.0,
        }
    }

    /// Waits for so many spans of a trace.
    async fn trace(&self, id: &str, count: usize) -> Vec<Span> {
        let trace = uuid::Uuid::parse_str(id).unwrap().into_bytes();
        let of_trace = || -> Vec<Span> {
            self.seen.lock().unwrap().spans.iter().filter(|span| span.trace_id == trace).cloned().collect()
        };
        eventually(&format!("{count} spans"), async || Some(of_trace()).filter(|spans| spans.len() >= count)).await
    }
}

async fn converse(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let head = end.map(|end| String::from_utf8_lossy(&bytes[..end]).to_lowercase());
        let length = head.as_ref().and_then(|head| head.split("content-length: ").nth(1)?.lines().next()?.parse().ok());
        if let (Some(end), Some(head), Some(length)) = (end, head, length.or(Some(0_usize)))
            && bytes.len() >= end + 4 + length
        {
            let body = bytes.drain(..end + 4 + length).skip(end + 4).collect::<Vec<_>>();
            seen.lock().unwrap().note(head, &body);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        } else if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

impl Seen {
    fn note(&mut self, head: String, body: &[u8]) {
        if head.starts_with("post /v1/traces ") {
            assert!(head.contains("content-type: application/x-protobuf") && head.contains("x-tenant: live"), "{head}");
            for of_us in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
                let attributes = of_us.resource.unwrap().attributes.into_iter();
                self.resources.extend(attributes.map(|one| (one.key, text(one.value.unwrap().value))));
                self.spans.extend(of_us.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        self.heads.push(head);
    }
}

fn text(value: Option<Attribute>) -> String {
    match value {
        Some(Attribute::StringValue(text)) => text,
        Some(Attribute::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|one| one.key == key).unwrap_or_else(|| panic!("no {key}: {span:?}"));
    text(found.value.clone().unwrap().value)
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[tokio::test]
async fn one_trace_holds_the_request_the_store_and_every_attempt_also_after_a_restart() {
    let collector = Collector::start().await;
    let failing = Recorder::with(|_, _| Act::FailFor(Duration::from_mins(1)));
    let traced = |config: &mut Config| config.traces = Some(collector.settings());
    let app = Setup::new().configured(traced).handler("rooms", &failing).start().await;
    app.accept_signed(&push("room", 1)).await;
    eventually("an attempt", async || (failing.calls().len() == 1).then_some(())).await;
    let id = app.only_event().await["id"].as_str().unwrap().to_owned();
    let next = app.leave().await;
    let good = Recorder::new();
    let app = next.handler("rooms", &good).start().await;
    app.clock.advance(Duration::from_mins(1));
    app.await_deliveries("done", 1).await;

    let spans = collector.trace(&id, 4).await;
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let request = named(&spans, "callback")[0];
    assert_eq!((request.kind(), request.parent_span_id.len()), (SpanKind::Server, 0));
    assert_eq!(attribute(request, "http.response.status_code"), "200");
    let id_bytes = uuid::Uuid::parse_str(&id).unwrap().into_bytes();
    assert_eq!(request.span_id, id_bytes[8..], "whoever knows the id knows the span");
    let append = named(&spans, "append")[0];
    assert_eq!(
        (&append.parent_span_id, attribute(append, "livehook.outcome")),
        (&request.span_id, "stored".to_owned())
    );
    assert!(request.start_time_unix_nano <= append.start_time_unix_nano + 1_000_000);
    assert!(append.end_time_unix_nano <= request.end_time_unix_nano + 1_000_000);
    let mut attempts = named(&spans, "attempt");
    attempts.sort_by_key(|span| span.start_time_unix_nano);
    let numbers: Vec<_> = attempts.iter().map(|span| attribute(span, "livehook.attempt")).collect();
    assert_eq!(numbers, ["1", "2"]);
    assert!(attempts.iter().all(|span| span.parent_span_id == request.span_id));
    assert_eq!(attempts[0].status.as_ref().unwrap().message, "told to wait");
    assert_eq!(attempts[1].status, None);
    let resources = collector.seen.lock().unwrap().resources.clone();
    assert!(resources.contains(&("service.name".to_owned(), "hooks".to_owned())), "{resources:?}");
    app.finish().await;
}

#[tokio::test]
async fn a_copy_is_linked_to_the_first_and_a_refused_callback_is_a_trace_of_its_own() {
    let collector = Collector::start().await;
    let app = Setup::new().configured(|config| config.traces = Some(collector.settings())).start().await;
    app.accept_signed(&push("room", 1)).await;
    app.accept_signed(&push("room", 1)).await;
    app.accept("not json").await;
    let id = app.only_event().await["id"].as_str().unwrap().to_owned();
    let first = collector.trace(&id, 2).await;
    let request = named(&first, "callback")[0];
    let all = eventually("all spans", async || {
        Some(collector.seen.lock().unwrap().spans.clone()).filter(|spans| spans.len() == 5)
    })
    .await;
    let linked: Vec<_> = all.iter().filter(|span| !span.links.is_empty()).collect();
    assert_eq!((linked.len(), attribute(linked[0], "livehook.outcome")), (1, "copy".to_owned()));
    let link = &linked[0].links[0];
    assert_eq!((&link.trace_id, &link.span_id), (&request.trace_id, &request.span_id));
    let refused: Vec<_> =
        all.iter().filter(|span| span.attributes.iter().any(|one| one.key == "livehook.refused")).collect();
    assert_eq!((refused.len(), attribute(refused[0], "livehook.refused")), (1, "malformed-json".to_owned()));
    app.finish().await;
}

#[tokio::test]
async fn what_is_posted_names_the_attempt_it_belongs_to() {
    let collector = Collector::start().await;
    let target = Target::Http(http::Settings {
        url: format!("http://{}/hook", collector.address).parse().unwrap(),
        format: http::Format::CloudEvents,
        secret: None,
        headers: Vec::new(),
        ca_file: None,
    });
    let handler = Settings { policy: Policy::new("rooms"), target };
    let without = Setup::new().configured(|config| config.handlers = vec![handler.clone()]).start().await;
    without.accept_signed(&push("room", 1)).await;
    without.finish().await;
    let configure = |config: &mut Config| {
        config.handlers = vec![handler.clone()];
        config.traces = Some(collector.settings());
    };
    let app = Setup::new().configured(configure).start().await;
    app.accept_signed(&push("room", 1)).await;
    let id = app.only_event().await["id"].as_str().unwrap().to_owned();
    let spans = collector.trace(&id, 3).await;
    let attempt = named(&spans, "attempt")[0];
    let expected = format!("traceparent: 00-{}-{}-01", hex::encode(&attempt.trace_id), hex::encode(&attempt.span_id));
    let heads = collector.seen.lock().unwrap().heads.clone();
    let hooks: Vec<_> = heads.iter().filter(|head| head.starts_with("post /hook ")).collect();
    assert!(!hooks[0].contains("traceparent"), "there are no traces: {hooks:?}");
    assert!(hooks[1].contains(&expected), "{expected}: {hooks:?}");
    app.finish().await;
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_its_spans_and_nothing_else() {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("http://{}/v1/traces", nobody.local_addr().unwrap()).parse().unwrap();
    drop(nobody);
    let settings = patient_for(traces::TIMEOUT, endpoint);
    let recorder = Recorder::new();
    let setup = Setup::new().configured(|config| config.traces = Some(settings)).handler("rooms", &recorder);
    let app = setup.start().await;
    for number in 0..50 {
        app.accept_signed(&push("room", number)).await;
    }
    app.await_deliveries("done", 50).await;
    app.finish().await;
}

fn patient_for(timeout: Duration, endpoint: url::Url) -> traces::Settings {
    traces::Settings { endpoint, headers: Vec::new(), resource: Vec::new(), timeout, ratio: 1.0 }
}

#[tokio::test]
async fn a_collector_that_does_not_answer_is_left_after_its_time_and_asked_again_with_other_spans() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("http://{}/v1/traces", silent.local_addr().unwrap()).parse().unwrap();
    let settings = patient_for(Duration::from_millis(100), endpoint);
    let app = Setup::new().configured(|config| config.traces = Some(settings)).start().await;
    let mut asked = Vec::new();
    for number in 0..3 {
        app.accept_signed(&push("room", number)).await;
        let asking = tokio::time::timeout(Duration::from_secs(30), silent.accept());
        asked.push(asking.await.expect("it is asked again").unwrap());
    }
    app.finish().await;
}
