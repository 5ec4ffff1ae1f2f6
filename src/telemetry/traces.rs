//! Traces of OpenTelemetry: spans on their way to a collector, as OTLP (protobuf over HTTP).
//!
//! The trace of an event is its id: both are 128 bits. The span of the request that brought the event is the last half of
//! it. So an attempt made days and restarts later hangs where it belongs, and the store keeps nothing about traces. What a
//! stranger says of traces in his request counts for nothing.
//!
//! Nobody waits for a span. What the collector does not take is dropped, counted, and told now and then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Encoded, Status, span, status};
use prost::Message as _;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::secret::Secret;

/// Where spans go, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The URL spans are posted to, whole.
    pub endpoint: url::Url,
    /// Headers of these requests: name, value.
    pub headers: Vec<(String, Secret)>,
    /// What the collector is told of this service: `service.name` and further attributes.
    pub resource: Vec<(String, String)>,
    /// How long the collector may take over a request.
    pub timeout: Duration,
    /// The part of all traces that is taken, from 0 to 1. The id decides, so a trace is taken whole or not at all.
    pub ratio: f64,
}

/// Takes spans; without a collector there is nobody who does, and nothing costs anything.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Encoded>,
    dropped: AtomicU64,
    ratio: f64,
}

/// Where in which trace somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The trace.
    pub trace: u128,
    /// The span in it; not 0.
    pub span: u64,
}

/// Something that has just ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its own place.
    pub place: Place,
    /// The span around it, of the same trace.
    pub parent: Option<u64>,
    /// What it has to do with, in another trace.
    pub link: Option<Place>,
    /// What it is called: few different names.
    pub name: &'static str,
    /// Its part in a conversation.
    pub role: Role,
    /// When it began.
    pub begun: Instant,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// The part a span has in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Answers somebody.
    Server,
    /// Asks somebody.
    Client,
    /// Talks to nobody.
    Internal,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl Place {
    /// The request that brought the event with this id.
    pub fn of_request(id: u128) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the last half is meant, where ids have their chance")]
        let span = id as u64;
        Self { trace: id, span: span.max(1) }
    }

    /// A new span in the trace of the event with this id.
    pub fn within(id: u128) -> Self {
        Self { trace: id, span: fastrand::u64(1..) }
    }

    /// A trace of its own, of what is no event.
    pub fn alone() -> Self {
        Self::of_request(fastrand::u128(1..))
    }
}

impl Traces {
    /// Traces for these settings, and what brings them to the collector with this client.
    pub fn start(settings: Settings, client: reqwest::Client) -> (Self, Exporter) {
        let (queue, spans) = mpsc::channel(QUEUE_SPANS);
        let inner = Arc::new(Inner { queue, dropped: AtomicU64::new(0), ratio: settings.ratio });
        (
            Self(Some(Arc::clone(&inner))),
            Exporter { spans, inner, settings, client, troubled_since: None, overflow_told: None },
        )
    }

    /// Whether there is a collector.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the trace of this id is taken.
    pub fn takes(&self, trace: u128) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.takes(trace))
    }

    /// Takes a span that ends now. Waits for nothing.
    pub fn record(&self, span: Span) {
        if let Some(inner) = self.0.as_ref().filter(|inner| inner.takes(span.place.trace))
            && inner.queue.try_send(encode(span)).is_err()
        {
            inner.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs `work` at a place that [`traceparent`] tells to whoever it asks.
    pub async fn at<F: Future>(&self, place: Option<Place>, work: F) -> F::Output {
        match place.filter(|_| self.0.is_some()) {
            Some(place) => HERE.scope((place, self.takes(place.trace)), work).await,
            None => work.await,
        }
    }
}

impl Inner {
    /// The beginning of an id is its time, and part of its middle is fixed: the last bits are chance.
    fn takes(&self, trace: u128) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "the last bits are meant")]
        let chance = trace as u32;
        f64::from(chance) < self.ratio * (f64::from(u32::MAX) + 1.0)
    }
}

tokio::task_local! {
    static HERE: (Place, bool);
}

/// The header `traceparent` (W3C Trace Context, version 00) of the place we are at; none without traces.
pub fn traceparent() -> Option<String> {
    let header = |(place, taken): &(Place, bool)| {
        format!("00-{:032x}-{:016x}-{:02x}", place.trace, place.span, u8::from(*taken))
    };
    HERE.try_with(header).ok()
}

/// Brings spans to the collector, many at a time.
#[derive(Debug)]
pub struct Exporter {
    spans: mpsc::Receiver<Encoded>,
    inner: Arc<Inner>,
    settings: Settings,
    client: reqwest::Client,
    /// Since when the collector does not take them, and when that was last told.
    troubled_since: Option<Instant>,
    /// When it was last told that spans found no room.
    overflow_told: Option<Instant>,
}

/// Spans that wait for the collector; what comes above is dropped. A few MiB at most.
const QUEUE_SPANS: usize = 8192;
/// Spans in one request.
const BATCH_SPANS: usize = 512;
/// How long the first span of a request waits for others.
const BATCH_WAIT: Duration = Duration::from_millis(500);
/// How long a collector may take over a request where nobody says, as the specification of OTLP exporters has it.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is told that it takes none.
const TROUBLE_TOLD_EVERY: Duration = Duration::from_mins(1);

impl Exporter {
    /// Works until `stop`; then brings what waits.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_SPANS);
        while !stop.is_cancelled() {
            tokio::select! {
                _ = self.spans.recv_many(&mut batch, BATCH_SPANS) => {}
                () = stop.cancelled() => {}
            }
            let more = async {
                while batch.len() < BATCH_SPANS {
                    let room = BATCH_SPANS - batch.len();
                    self.spans.recv_many(&mut batch, room).await;
                }
            };
            tokio::select! {
                () = more => {}
                () = tokio::time::sleep(BATCH_WAIT) => {}
                () = stop.cancelled() => {}
            }
            self.bring(std::mem::take(&mut batch)).await;
        }
        let mut rest = VecDeque::new();
        while let Ok(span) = self.spans.try_recv() {
            rest.push_back(span);
        }
        while !rest.is_empty() {
            let batch = rest.drain(..rest.len().min(BATCH_SPANS)).collect();
            self.bring(batch).await;
        }
    }

    async fn bring(&mut self, spans: Vec<Encoded>) {
        if spans.is_empty() {
            return;
        }
        let count = spans.len() as u64;
        match self.post(spans).await {
            Ok(()) => {
                if self.troubled_since.take().is_some() {
                    let dropped = self.inner.dropped.swap(0, Ordering::Relaxed);
                    tracing::info!(dropped, "the collector of traces takes spans again");
                }
                self.tell_overflow();
            }
            Err(error) => {
                let dropped = self.inner.dropped.fetch_add(count, Ordering::Relaxed) + count;
                if self.troubled_since.is_none_or(|told| told.elapsed() > TROUBLE_TOLD_EVERY) {
                    tracing::warn!(error, dropped, "the collector of traces takes no spans; they are dropped");
                    self.troubled_since = Some(Instant::now());
                }
            }
        }
    }

    /// Tells of spans that found no room while the collector was busy with others.
    fn tell_overflow(&mut self) {
        if self.overflow_told.is_some_and(|told| told.elapsed() < TROUBLE_TOLD_EVERY) {
            return;
        }
        let dropped = self.inner.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "there are more spans than the collector of traces takes; they are dropped");
            self.overflow_told = Some(Instant::now());
        }
    }

    async fn post(&self, spans: Vec<Encoded>) -> Result<(), String> {
        let mut request = self.client.post(self.settings.endpoint.clone()).timeout(self.settings.timeout);
        for (name, value) in &self.settings.headers {
            request = request.header(name, value.expose());
        }
        let body = self.request(spans).encode_to_vec();
        let answer = request.header(CONTENT_TYPE, "application/x-protobuf").body(body).send().await;
        // Without the URL: it may hold a password.
        let answer = answer.map_err(|error| error.without_url().to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("it answered {}", answer.status())) }
    }

    fn request(&self, spans: Vec<Encoded>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let attributes = self.settings.resource.iter().map(|(key, text)| attribute(key, Value::Text(text.clone())));
        let resource = Resource { attributes: attributes.collect(), ..Resource::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let of_us = ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![of_us] }
    }
}

fn encode(ended: Span) -> Encoded {
    let Span { place, parent, link, name, role, begun, attributes, failure } = ended;
    let kind = match role {
        Role::Server => span::SpanKind::Server,
        Role::Client => span::SpanKind::Client,
        Role::Internal => span::SpanKind::Internal,
    };
    let link = link.map(|place| span::Link {
        trace_id: place.trace.to_be_bytes().to_vec(),
        span_id: place.span.to_be_bytes().to_vec(),
        ..span::Link::default()
    });
    Encoded {
        trace_id: place.trace.to_be_bytes().to_vec(),
        span_id: place.span.to_be_bytes().to_vec(),
        parent_span_id: parent.map(|span| span.to_be_bytes().to_vec()).unwrap_or_default(),
        name: name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: clock::unix_nanos(begun),
        end_time_unix_nano: clock::unix_nanos(Instant::now()),
        attributes: attributes.into_iter().map(|(key, value)| attribute(key, value)).collect(),
        links: link.into_iter().collect(),
        status: failure.map(|message| Status { message, code: status::StatusCode::Error.into() }),
        ..Encoded::default()
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text),
        Value::Number(number) => any_value::Value::IntValue(number),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(ratio: f64) -> (Traces, Exporter) {
        let endpoint = "http://127.0.0.1:1/v1/traces".parse().unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        Traces::start(Settings { endpoint, headers: Vec::new(), resource: Vec::new(), timeout: TIMEOUT, ratio }, client)
    }

    fn span(trace: u128) -> Span {
        Span {
            place: Place::of_request(trace),
            parent: None,
            link: None,
            name: "x",
            role: Role::Internal,
            begun: Instant::now(),
            attributes: Vec::new(),
            failure: None,
        }
    }

    #[tokio::test]
    async fn without_a_collector_nothing_is_taken() {
        let traces = Traces::default();
        traces.record(span(1));
        assert!(!traces.takes(1));
        assert_eq!(traces.at(Some(Place::of_request(1)), async { traceparent() }).await, None);
    }

    #[test]
    fn what_a_full_queue_does_not_take_is_counted() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (traces, exporter) = traces(1.0);
        (0..QUEUE_SPANS + 7).for_each(|_| traces.record(span(1)));
        assert_eq!(exporter.inner.dropped.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn what_found_no_room_is_told_once_and_then_after_a_while() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (traces, mut exporter) = traces(1.0);
        (0..QUEUE_SPANS + 7).for_each(|_| traces.record(span(1)));
        exporter.tell_overflow();
        assert_eq!(exporter.inner.dropped.load(Ordering::Relaxed), 0);
        traces.record(span(1));
        exporter.tell_overflow();
        assert_eq!(exporter.inner.dropped.load(Ordering::Relaxed), 1, "kept for the next time");
    }

    #[test]
    fn of_ids_made_by_time_the_wanted_part_is_taken() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ids: Vec<_> = (0..4000).map(|_| uuid::Uuid::now_v7().as_u128()).collect();
        for (ratio, least, most) in [(0.0, 0, 0), (0.1, 300, 500), (0.9, 3500, 3700), (1.0, 4000, 4000)] {
            let (traces, _exporter) = traces(ratio);
            let taken = ids.iter().filter(|id| traces.takes(**id)).count();
            assert!((least..=most).contains(&taken), "{taken} of 4000 at {ratio}");
        }
    }

    #[tokio::test]
    async fn a_place_is_told_in_the_form_of_the_standard() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (traces, _exporter) = traces(1.0);
        let place = Place { trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span: 0xb7ad_6b71_6920_3331 };
        let told = traces.at(Some(place), async { traceparent() }).await;
        assert_eq!(told.as_deref(), Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        assert_eq!(traceparent(), None);
    }
}
