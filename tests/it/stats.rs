//! `/stats`: what the dashboard draws, and what of it outlives a restart.

use std::time::Duration;

use serde_json::{Value, json};

use crate::app::{Setup, TestApp, push};
use crate::recorder::{Act, Recorder};

fn sum(counts: &Value) -> u64 {
    counts.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum()
}

#[tokio::test]
async fn stats_tell_how_things_stand() {
    let recorder =
        Recorder::with(
            |event, _| {
                if event.facts.stream.as_deref() == Some("bad") { Act::Permanent } else { Act::Done }
            },
        );
    let app = Setup::new().handler("rooms", &recorder).start().await;
    for number in [1, 2, 2] {
        app.accept_signed(&push("room", number)).await;
    }
    app.clock.advance(Duration::from_mins(30));
    app.accept_signed(&push("bad", 3)).await;
    app.accept("").await;
    app.accept("{}").await;
    app.accept("{").await;
    app.await_deliveries("dead", 1).await;
    let stats = app.json("/api/v1/stats").await;
    assert_eq!(stats["at"], "2023-12-21T03:42:37.104Z");
    assert_eq!(stats["events"]["total"], 3);
    let pushes = &stats["events"]["by_kind"]["stream-push"];
    assert_eq!((&pushes["count"], &pushes["duplicates"]), (&json!(3), &json!(1)));
    assert_eq!(pushes["last_received_at"], "2023-12-21T03:42:37.104Z");
    assert!(pushes["last_event_at"].is_string());
    let relays = &stats["events"]["by_kind"]["relay"];
    assert_eq!(relays, &json!({"count": 0, "duplicates": 0, "last_event_at": null, "last_received_at": null}));
    assert_eq!(stats["events"]["by_kind"].as_object().unwrap().len(), 19);
    let timeline = &stats["timeline"];
    assert_eq!((&timeline["from"], &timeline["step_seconds"]), (&json!("2023-12-20T03:45:00.000Z"), &json!(900)));
    let counts = timeline["kinds"]["stream-push"].as_array().unwrap();
    assert_eq!((counts.len(), &counts[93], &counts[95]), (96, &json!(2), &json!(1)));
    assert_eq!(timeline["kinds"].as_object().unwrap().len(), 19);
    assert_eq!((&stats["store"]["ready"], &stats["store"]["trouble"]), (&json!(true), &Value::Null));
    assert_eq!(stats["store"]["oldest_received_at"], "2023-12-21T03:12:37.104Z");
    assert_eq!((&stats["store"]["retention_seconds"], &stats["store"]["max_bytes"]), (&json!(2_592_000), &Value::Null));
    assert!(stats["store"]["bytes"].as_u64() > Some(0));
    assert_eq!(stats["queue"]["count_max"], 65_536);
    assert_eq!((&stats["handlers"]["rooms"]["pending"], &stats["handlers"]["rooms"]["dead"]), (&json!(0), &json!(1)));
    assert_eq!((&stats["quarantine"]["total"], &stats["quarantine"]["bytes"]), (&json!(3), &json!(3)));
    assert_eq!(stats["quarantine"]["by_reason"]["empty"], 1);
    assert_eq!(stats["quarantine"]["by_reason"]["token"], 0);
    app.leave().await;
}

#[tokio::test]
async fn each_span_has_its_steps_and_another_is_refused() {
    let app = TestApp::start().await;
    app.accept_signed(&push("room", 1)).await;
    for (span, step, steps) in
        [("1h", 60, 60), ("6h", 300, 72), ("24h", 900, 96), ("7d", 3600, 168), ("30d", 21_600, 120)]
    {
        let timeline = &app.json(&format!("/api/v1/stats?span={span}")).await["timeline"];
        let counts = &timeline["kinds"]["stream-push"];
        assert_eq!((&timeline["step_seconds"], counts.as_array().unwrap().len()), (&json!(step), steps), "{span}");
        assert_eq!((sum(counts), counts[steps - 1].as_u64()), (1, Some(1)), "{span}");
    }
    for query in ["?span=2h", "?span=", "?spam=1h"] {
        assert_eq!(app.get(&format!("/api/v1/stats{query}")).await.status, 400, "{query}");
    }
    app.finish().await;
}

#[tokio::test]
async fn counts_and_the_moment_of_the_last_event_outlive_a_restart() {
    const LAST: &str = "livehook_last_event_timestamp_seconds{kind=\"stream-push\"}";
    let app = TestApp::start().await;
    app.accept_signed(&push("room", 1)).await;
    app.accept_signed(&push("room", 2)).await;
    let app = app.leave().await.start().await;
    assert_eq!(app.metric(LAST).await, Some(1_703_128_357.0));
    let stats = app.json("/api/v1/stats").await;
    assert_eq!(stats["events"]["by_kind"]["stream-push"]["count"], 2);
    app.finish().await;
}

crate::place::also_on_postgres! {
    stats_tell_how_things_stand,
    each_span_has_its_steps_and_another_is_refused,
    counts_and_the_moment_of_the_last_event_outlive_a_restart,
}
