//! What is counted, under which names, and from zero.

use crate::app::{Setup, TestApp, eventually, push};
use crate::recorder::{Act, Recorder};

#[tokio::test]
async fn every_metric_there_is_starts_at_zero_with_its_known_labels() {
    let app = Setup::new().handler("rooms", &Recorder::new()).start().await;
    let text = app.get("/metrics").await.text();
    let kinds = livehook::event::Kind::all().map(livehook::event::Kind::slug);
    let mut expected =
        vec!["callbacks_spilled_total".to_owned(), "signature_key_matches_total{key=\"main\"}".to_owned()];
    for kind in kinds {
        for name in [
            "events_received_total",
            "events_duplicate_total",
            "events_drift_total",
            "last_event_timestamp_seconds",
            "event_lag_seconds_count",
        ] {
            expected.push(format!("{name}{{kind=\"{kind}\"}}"));
        }
    }
    for reason in livehook::event::Reason::ALL {
        expected.push(format!("callbacks_quarantined_total{{reason=\"{reason}\"}}"));
    }
    for outcome in ["done", "retry", "dead"] {
        expected.push(format!("handler_attempts_total{{handler=\"rooms\",outcome=\"{outcome}\"}}"));
    }
    for name in ["queue_depth", "queue_oldest_timestamp_seconds", "dead_letters", "handler_duration_seconds_count"] {
        expected.push(format!("{name}{{handler=\"rooms\"}}"));
    }
    for reason in ["missing", "token", "too-many"] {
        expected.push(format!("admin_refused_total{{reason=\"{reason}\"}}"));
    }
    expected.push("store_append_duration_seconds_count".to_owned());
    for name in expected {
        assert!(text.lines().any(|line| line == format!("livehook_{name} 0")), "{name}\n{text}");
    }
    assert!(text.contains("livehook_build_info{"));
    assert!(app.metric("livehook_store_bytes").await.is_some_and(|bytes| bytes > 0.0));
    assert!(app.metric("livehook_start_timestamp_seconds").await.is_some_and(|start| start > 0.0));
    app.finish().await;
}

#[tokio::test]
async fn requests_are_counted_by_the_pattern_of_their_route() {
    let app = TestApp::start().await;
    app.accept_signed(&push("room", 1)).await;
    app.post("/callbacks/stream-push/?x=1", app.signed(&push("room", 2))).await;
    app.post("/callbacks/nothing", "").await;
    app.post("/secret-path", "").await;
    let count = async |route: &str, code: u16| {
        app.metric(&format!("livehook_http_requests_total{{code=\"{code}\",route=\"{route}\"}}")).await
    };
    assert_eq!(count("/callbacks", 200).await, Some(1.0));
    assert_eq!(count("/callbacks/stream-push", 200).await, Some(1.0));
    assert_eq!(count("other", 404).await, Some(2.0));
    assert_eq!(app.metric("livehook_http_request_duration_seconds_count{route=\"other\"}").await, Some(2.0));
    assert!(!app.get("/metrics").await.text().contains("secret-path"));
    app.finish().await;
}

#[tokio::test]
async fn first_copies_refusals_lag_and_depth_are_told() {
    let recorder = Recorder::with(|event, _| {
        if event.facts.stream.as_deref() == Some("bad") {
            Act::FailFor(std::time::Duration::from_mins(1))
        } else {
            Act::Done
        }
    });
    let app = Setup::new().handler("rooms", &recorder).start().await;
    for _ in 0..3 {
        app.accept_signed(&push("room", 7)).await;
    }
    app.accept_signed(&push("bad", 8)).await;
    app.accept("").await;
    let metric = async |name: &str| app.metric(&format!("livehook_{name}")).await;
    assert_eq!(metric("events_received_total{kind=\"stream-push\"}").await, Some(2.0));
    assert_eq!(metric("events_duplicate_total{kind=\"stream-push\"}").await, Some(2.0));
    assert_eq!(metric("callbacks_quarantined_total{reason=\"empty\"}").await, Some(1.0));
    assert_eq!(metric("signature_key_matches_total{key=\"main\"}").await, Some(4.0));
    assert_eq!(metric("last_event_timestamp_seconds{kind=\"stream-push\"}").await, Some(1_703_128_357.0));
    let lag = metric("event_lag_seconds_sum{kind=\"stream-push\"}").await.unwrap();
    assert!((lag - (3.0 * 350.104 + 349.104)).abs() < 0.001, "{lag}");
    eventually("one left", async || (metric("queue_depth{handler=\"rooms\"}").await == Some(1.0)).then_some(())).await;
    assert_eq!(metric("queue_oldest_timestamp_seconds{handler=\"rooms\"}").await, Some(1_703_128_357.0));
    assert_eq!(metric("store_append_duration_seconds_count").await, Some(4.0));
    app.leave().await;
}

crate::place::also_on_postgres! {
    every_metric_there_is_starts_at_zero_with_its_known_labels,
    requests_are_counted_by_the_pattern_of_their_route,
    first_copies_refusals_lag_and_depth_are_told,
}
