//! Any call of the admin API: the method and the target on a line, then the body. It is answered, or said to be wrong;
//! it is never our fault, and what is answered is JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use livehook::admin::{Admin, Configured, Settings};
use livehook::clock::{ManualClock, Timestamp};
use livehook::handler::Policy;
use livehook::intake::{Callback, Intake};
use livehook::signature::{self, LegacyHeaders};
use livehook::store::{self, QuarantineSettings, Store};
use livehook::telemetry::{KnownLabels, Metrics};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

const STATUSES: [StatusCode; 8] = [
    StatusCode::OK,
    StatusCode::BAD_REQUEST,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::CONFLICT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
];

pub(crate) fn holds(data: &[u8]) {
    let (line, body) = data.split_at(data.iter().position(|b| *b == b'\n').unwrap_or(data.len()));
    let Some((method, target)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')) else { return };
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Body::from(Bytes::copy_from_slice(body.get(1..).unwrap_or_default())));
    let Ok(request) = request else { return };
    // A path that is not UTF-8 once decoded is refused in plain text.
    let path = request.uri().path();
    let raw = path.contains("/body") || method == "HEAD" || !path.starts_with("/api/v1/") || path.contains('%');
    BENCH.with(|bench| {
        let (status, answer) = bench.runtime.block_on(async {
            let response = bench.routes.clone().oneshot(request).await.expect("an answer");
            let status = response.status();
            (status, to_bytes(response.into_body(), usize::MAX).await.expect("a whole answer"))
        });
        assert!(STATUSES.contains(&status), "{status}: {}", String::from_utf8_lossy(&answer));
        let is_json = serde_json::from_slice::<serde_json::Value>(&answer).is_ok();
        assert!(raw || is_json, "{status}: {}", String::from_utf8_lossy(&answer));
    });
}

struct Bench {
    runtime: Runtime,
    routes: Router,
    _directory: TempDir,
}

thread_local! {
    static BENCH: Bench = Bench::new();
}

impl Bench {
    /// With some events, each owed to two handlers, and some refused callbacks.
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_703_128_357_104)));
        let quarantine = QuarantineSettings { max_count: 100, max_bytes: 1 << 20 };
        let url = format!("sqlite:{}", directory.path().join("s.db").display());
        let settings = store::Settings { url, quarantine, ..store::Settings::default() };
        let names = ["rooms".to_owned(), "log".to_owned()];
        let store = Store::open(settings, &names, Duration::from_mins(1), clock.clone()).expect("a store");
        let metrics = Metrics::new(KnownLabels::default());
        let policies = names.clone().map(Policy::new);
        let intake = Arc::new(Intake::new(store, signature::Settings::default(), &policies, clock, metrics.clone()));
        for number in 0..8 {
            let event =
                format!(r#"{{"event_type":1,"app":"a.b","appname":"live","stream_id":"s","sequence":"{number}"}}"#);
            for body in [event, format!("nonsense {number}")] {
                let callback = Callback {
                    received_at: Timestamp::from_millis(1_703_128_357_104),
                    path: "/callbacks".to_owned(),
                    route: None,
                    token: None,
                    headers: LegacyHeaders::default(),
                    body: body.into(),
                    excess: None,
                };
                runtime.block_on(intake.keep(intake.rule(&callback))).expect("a store that takes it");
            }
        }
        let handlers = names.map(|name| Configured { name, type_name: "log" }).into();
        let routes = Admin::new(Settings::default(), intake, metrics, handlers).routes();
        Self { runtime, routes, _directory: directory }
    }
}
