//! Two callbacks are one event when only what a retry changes is different.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, assert_answered, eventually, push, sign, signed_at};
use crate::recorder::Recorder;

#[tokio::test]
async fn a_retry_is_counted_and_not_stored_or_delivered_again() {
    let recorder = Recorder::new();
    let app = Setup::new().handler("rooms", &recorder).start().await;
    let first = r#"{"event_type":317,"app":"a.example","appname":"live","streamId":"é/","screenshotTime":1703128000,
        "img":"http://x/1.jpg","sendTime":1,"score":1.10,"result":[{"a":1,"b":"\/"}],"t":@T,"sign":"@S"}"#;
    let retries = [
        first.replace("\"sendTime\":1", "\"sendTime\":2"),
        first.replace("\"sendTime\":1,", ""),
        first.replace([' ', '\n'], ""),
        first.replace('é', "\\u00E9"),
        first.replace("\"app\"", "\"\\u0061pp\""),
        first.replace("{\"a\":1,\"b\":\"\\/\"}", "{ \"b\" : \"/\" , \"a\" : 1 }"),
        r#"{"sign":"@S","t":"@T","score":1.10,"result":[{"b":"/","a":1}],"img":"http:\/\/x\/1.jpg","appname":"live",
            "app":"a.example","screenshotTime":1703128000,"streamId":"é/","event_type":317}"#
            .to_owned(),
    ];
    let at = |body: &str, t: i64| body.replace("@T", &t.to_string()).replace("@S", &sign(t));
    app.accept(at(first, app.t())).await;
    for (later, retry) in (1..).zip(&retries) {
        app.accept(at(retry, app.t() + later)).await;
    }
    let event = app.only_event().await;
    assert_eq!(event["duplicates"], retries.len());
    let id = event["id"].as_str().unwrap();
    assert_eq!(app.get(&format!("/api/v1/events/{id}/body")).await.text(), at(first, app.t()), "the first is kept");
    let count = async |name: &str| app.metric(&format!("livehook_{name}{{kind=\"image-audit\"}}")).await;
    assert_eq!(count("events_received_total").await, Some(1.0));
    assert_eq!(count("events_duplicate_total").await, Some(7.0));
    eventually("a delivery", async || (recorder.done().len() == 1).then_some(())).await;
    app.finish().await;
    assert_eq!(recorder.calls().len(), 1);
}

#[tokio::test]
async fn any_other_difference_makes_another_event() {
    let app = TestApp::start().await;
    let first =
        json!({"event_type": 1, "app": "a", "n": 1, "list": [1, 2], "deep": {"t": 1, "sign": "a"}, "nul": null});
    app.accept_signed(&first).await;
    let differing = [
        ("n", json!(1.0)),
        ("n", json!("1")),
        ("list", json!([2, 1])),
        ("deep", json!({"t": 2, "sign": "a"})),
        ("deep", json!({"t": 1, "sign": "b"})),
        ("deep", json!({"t": 1, "sign": "a", "sendTime": 1})),
        ("nul", json!("")),
        ("app", json!("a ")),
        ("app", json!("A")),
    ];
    for (name, value) in &differing {
        let mut body = first.clone();
        body[*name] = value.clone();
        app.accept_signed(&body).await;
    }
    let mut shorter = first.clone();
    shorter.as_object_mut().unwrap().remove("nul");
    app.accept_signed(&shorter).await;
    let events = app.events().await;
    assert_eq!(events.len(), differing.len() + 2);
    assert!(events.iter().all(|event| event["duplicates"] == 0));
    app.finish().await;
}

#[tokio::test]
async fn repeated_members_are_compared_in_their_order() {
    let app = TestApp::start().await;
    for (body, events) in [
        ("{\"event_type\":328,\"x\":1,\"x\":2}", 1),
        ("{\"x\":1,\"event_type\":328,\"x\":2}", 1),
        ("{\"event_type\":328,\"x\":2,\"x\":1}", 2),
        ("{\"event_type\":328,\"x\":2}", 3),
    ] {
        app.accept(body).await;
        assert_eq!(app.events().await.len(), events, "{body}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_namesake_with_other_content_is_kept_and_says_so() {
    let app = TestApp::start().await;
    let mut second = push("room", 1);
    second["errmsg"] = "another text".into();
    app.accept_signed(&push("room", 1)).await;
    app.accept_signed(&second).await;
    let events = app.events().await;
    assert_eq!(events.len(), 2);
    let drift = async |event: &Value| {
        let id = event["id"].as_str().unwrap();
        app.json(&format!("/api/v1/events/{id}")).await["drift"].to_string()
    };
    assert_eq!(drift(&events[1]).await, "[]");
    assert!(drift(&events[0]).await.contains(events[1]["id"].as_str().unwrap()), "it names the first");
    assert_eq!(app.metric("livehook_events_drift_total{kind=\"stream-push\"}").await, Some(1.0));
    app.finish().await;
}

#[tokio::test]
async fn copies_at_the_same_moment_are_one_event() {
    let app = TestApp::start().await;
    for number in 0..10 {
        let body = app.signed(&push("room", number));
        for response in join_all((0..8).map(|_| app.post("/callbacks", &body))).await {
            assert_answered(&response);
        }
    }
    let events = app.events().await;
    assert_eq!(events.len(), 10);
    assert!(events.iter().all(|event| event["duplicates"] == 7), "{events:?}");
    app.finish().await;
}

#[tokio::test]
async fn a_forged_copy_does_not_shadow_the_real_event() {
    let app = TestApp::start().await;
    let mut forged = push("room", 1);
    forged["user_ip"] = "6.6.6.6".into();
    app.accept(signed_at(&forged, app.t())).await;
    app.accept(signed_at(&push("room", 1), app.t())).await;
    assert_eq!(app.events().await.len(), 2);
    app.accept(signed_at(&forged, app.t()).replace(&sign(app.t()), &sign(5))).await;
    assert!(app.events().await.iter().all(|event| event["duplicates"] == 0), "a refused copy counts for nothing");
    app.clock.advance(Duration::from_secs(1));
    app.finish().await;
}

#[tokio::test]
async fn a_copy_after_a_restart_is_still_a_copy() {
    let app = TestApp::start().await;
    app.accept_signed(&push("room", 1)).await;
    let app = app.leave().await.start().await;
    app.clock.advance(Duration::from_secs(30));
    app.accept_signed(&push("room", 1)).await;
    assert_eq!(app.only_event().await["duplicates"], 1);
    app.finish().await;
}

crate::place::also_on_postgres! {
    a_retry_is_counted_and_not_stored_or_delivered_again,
    any_other_difference_makes_another_event,
    repeated_members_are_compared_in_their_order,
    a_namesake_with_other_content_is_kept_and_says_so,
    copies_at_the_same_moment_are_one_event,
    a_forged_copy_does_not_shadow_the_real_event,
    a_copy_after_a_restart_is_still_a_copy,
}
