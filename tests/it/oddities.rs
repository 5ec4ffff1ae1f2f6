//! Bodies that no page documents and that arrive all the same.

use serde_json::{Value, json};

use crate::app::{TestApp, push, sign};

/// The body with `t` and `sign` in front, its text otherwise untouched.
fn signed_text(app: &TestApp, body: &str) -> String {
    let t = app.t();
    body.replacen('{', &format!("{{\"t\":{t},\"sign\":\"{}\",", sign(t)), 1)
}

async fn stored(app: &TestApp, body: &str) -> Value {
    let sent = signed_text(app, body);
    app.accept(&sent).await;
    let row = app.json("/api/v1/events?limit=1").await["events"][0].clone();
    let id = row["id"].as_str().unwrap();
    assert_eq!(app.get(&format!("/api/v1/events/{id}/body")).await.text(), sent, "the exact bytes");
    let shown = app.get(&format!("/api/v1/events/{id}")).await;
    assert_eq!(shown.status, 200);
    row
}

#[tokio::test]
async fn numbers_that_are_no_kind_of_ours_are_unknown_and_kept() {
    let app = TestApp::start().await;
    for (number, event_type, kind) in [
        ("8", json!(8), "unknown"),
        ("329", json!(329), "unknown"),
        ("-1", json!(-1), "unknown"),
        ("\"1\"", json!(1), "stream-push"),
        ("\" 100 \"", json!(100), "recording"),
        ("1.0", json!(1), "stream-push"),
        ("1e2", json!(100), "recording"),
        ("1.5", Value::Null, "unknown"),
        ("1e400", Value::Null, "unknown"),
        ("99999999999999999999", Value::Null, "unknown"),
    ] {
        let row = stored(&app, &format!("{{\"event_type\":{number},\"mark\":\"{}\"}}", number.len())).await;
        assert_eq!((&row["event_type"], &row["kind"]), (&event_type, &kind.into()), "{number}");
    }
    assert!(app.refused().await.is_empty());
    app.finish().await;
}

#[tokio::test]
async fn digits_and_types_are_kept_as_they_were_sent() {
    let app = TestApp::start().await;
    let body = r#"{"event_type":1,"app":"10.1.2.3 ","appname":" live","stream_id":18446744073709551999,
        "sequence":99999999999999999999999,"event_time":"1703128000","errcode":"0","extra":1.10,"big":1e400,
        "list":null,"nested":{"b":1,"a":2}}"#;
    let row = stored(&app, body).await;
    assert_eq!((&row["domain"], &row["app"]), (&"10.1.2.3".into(), &"live".into()));
    assert_eq!(row["stream"], "18446744073709551999");
    assert_eq!(row["sequence"], "99999999999999999999999");
    assert_eq!(row["occurred_at"], "2023-12-21T03:06:40.000Z");
    let shown = app.get(&format!("/api/v1/events/{}", row["id"].as_str().unwrap())).await.text();
    for kept in
        ["\"app\":\"10.1.2.3 \"", "\"extra\":1.10", "\"big\":1e400", "99999999999999999999999,", "\"list\":null"]
    {
        assert!(shown.contains(kept), "{kept} in {shown}");
    }
    let data = shown.split("\"data\":").nth(1).unwrap();
    assert!(!data.contains("\"sign\""), "{data}");
    app.finish().await;
}

#[tokio::test]
async fn what_differs_from_the_documentation_is_told_as_drift() {
    let app = TestApp::start().await;
    app.accept_signed(&push("room", 1)).await;
    assert_eq!(app.metric("livehook_events_drift_total{kind=\"stream-push\"}").await, Some(0.0));
    let mut odd = push("room", 2);
    odd["brand_new"] = 1.into();
    odd["errcode"] = "0".into();
    odd.as_object_mut().unwrap().remove("node");
    app.accept_signed(&odd).await;
    assert_eq!(app.metric("livehook_events_drift_total{kind=\"stream-push\"}").await, Some(1.0));
    let row = app.events().await[0].clone();
    let drift = app.json(&format!("/api/v1/events/{}", row["id"].as_str().unwrap())).await["drift"].to_string();
    for name in ["brand_new", "node", "errcode"] {
        assert!(drift.contains(name), "{name} in {drift}");
    }
    app.finish().await;
}

#[tokio::test]
async fn strange_text_comes_back_as_it_was() {
    let app = TestApp::start().await;
    for body in [
        r#"{"event_type":1,"stream_id":"\ud800 lone","app":"a"}"#,
        r#"{"event_type":1,"stream_id":"\udc00\ud800","app":"a"}"#,
        r#"{"event_type":1,"stream_id":"\u0000\n\t\"","app":"a/b?c#d"}"#,
        r#"{"event_type":1,"stream_id":"直播间","app":"推流.example"}"#,
        r#"{"event_type":1,"stream_id":{"no":"name"},"app":["a"]}"#,
        r#"{"event_type":1,"":"","app":"x","app":"y"}"#,
        r#"{"event_type":317,"streamId":"s","result":null,"ocrResults":null,"faceDetails":[null]}"#,
        r#"{"event_type":315,"stream_id":"s","result":null,"asr":{"results":null}}"#,
    ] {
        stored(&app, body).await;
    }
    assert_eq!(app.events().await.len(), 8);
    app.finish().await;
}

#[tokio::test]
async fn the_source_is_a_uri_reference_whatever_the_names_hold() {
    let app = TestApp::start().await;
    let row =
        stored(&app, r#"{"event_type":1,"app":" a b/c%?#é ","appname":"x:@!$&'()*+,;=-._~","stream_id":" s "}"#).await;
    let event = app.json(&format!("/api/v1/events/{}", row["id"].as_str().unwrap())).await;
    assert_eq!(event["cloudevent"]["source"], "/css/a%20b%2Fc%25%3F%23%C3%A9/x:@!$&'()*+,;=-._~");
    assert_eq!(event["cloudevent"]["subject"], "s");
    assert_eq!(event["cloudevent"]["data"]["stream_id"], " s ");
    let found = app.json("/api/v1/events?domain=%20a%20b/c%25%3F%23%C3%A9&stream=s").await;
    assert_eq!(found["events"].as_array().unwrap().len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn nesting_of_any_depth_costs_no_stack() {
    const DEPTH: usize = 30_000;
    let app = TestApp::start().await;
    let lists = format!("{{\"event_type\":1,\"x\":{}{}}}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    let objects = format!("{{\"event_type\":1,\"x\":{}1{}}}", "{\"y\":".repeat(DEPTH), "}".repeat(DEPTH));
    stored(&app, &lists).await;
    stored(&app, &objects).await;
    app.accept(signed_text(&app, &lists)).await;
    app.accept(format!("{{\"event_type\":1,\"x\":{}", "[".repeat(DEPTH))).await;
    assert_eq!((app.events().await.len(), app.refused().await.len()), (2, 1));
    app.finish().await;
}

crate::place::also_on_postgres! {
    numbers_that_are_no_kind_of_ours_are_unknown_and_kept,
    digits_and_types_are_kept_as_they_were_sent,
    what_differs_from_the_documentation_is_told_as_drift,
    strange_text_comes_back_as_it_was,
    the_source_is_a_uri_reference_whatever_the_names_hold,
    nesting_of_any_depth_costs_no_stack,
}
