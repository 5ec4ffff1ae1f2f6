//! The doors: which paths and methods there are, and that none of them decides what an event is.

use serde_json::json;

use crate::app::{TestApp, assert_answered, push};
use crate::http::{ask, request};

const SLUGS: [&str; 19] = [
    "stream-push",
    "stream-interruption",
    "recording",
    "recording-status",
    "recording-exception",
    "screencapture",
    "image-audit",
    "audio-audit",
    "push-error",
    "relay",
    "monitor",
    "quality-control",
    "evaluation-threshold",
    "evaluation-average",
    "smart-erase",
    "subtitles",
    "summary",
    "highlight",
    "porn-detection",
];

fn routes() -> Vec<String> {
    let kinds = SLUGS.iter().map(|slug| format!("/callbacks/{slug}"));
    kinds.chain(["/callbacks".to_owned()]).flat_map(|path| [format!("{path}/"), path]).collect()
}

#[tokio::test]
async fn every_route_takes_any_event_and_notes_its_path_without_query() {
    let app = TestApp::start().await;
    for (number, route) in (0..).zip(routes()) {
        let body = app.signed(&push("room", number));
        assert_answered(&app.post(&format!("{route}?action=streamBegin"), &body).await);
        app.post(&format!("{route}?x={number}"), "nonsense").await;
        let refused = app.json("/api/v1/quarantine?limit=1").await;
        assert_eq!(refused["items"][0]["path"], route);
    }
    let events = app.events().await;
    assert_eq!(events.len(), routes().len());
    assert!(events.iter().all(|event| event["kind"] == "stream-push"), "the body decides");
    let misrouted = app.metric("livehook_callbacks_misrouted_total{kind=\"stream-push\"}").await;
    assert_eq!(misrouted, Some(2.0 * 18.0), "the route for all and its own are right, with and without slash");
    app.finish().await;
}

#[tokio::test]
async fn other_methods_are_405_and_name_the_one_allowed() {
    let app = TestApp::start().await;
    for route in routes() {
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
            let answer = ask(app.callbacks, &request(method, &route, &[], b"")).await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method} {route}");
        }
    }
    let answer = ask(app.callbacks, &request("POST", "/healthz", &[], b"")).await;
    assert_eq!(answer.status, 405);
    assert!(answer.header("allow").is_some_and(|methods| methods.contains("GET")));
    app.finish().await;
}

#[tokio::test]
async fn other_paths_are_404_and_nothing_is_kept_of_them() {
    let app = TestApp::start().await;
    let body = app.signed(&push("room", 1));
    for path in [
        "/",
        "/callback",
        "/callbacks/unknown",
        "/callbacks/nothing",
        "/callbacks/stream-push/x",
        "/callbacks//",
        "//callbacks",
        "/Callbacks",
        "/callbacks/Stream-Push",
        "/metrics",
        "/api/v1/events",
        "/readyz",
        "/livez",
    ] {
        assert_eq!(app.post(path, &body).await.status, 404, "{path}");
    }
    assert!(app.events().await.is_empty() && app.refused().await.is_empty());
    for path in ["/healthz", "/healthz/"] {
        assert_eq!(ask(app.callbacks, &request("GET", path, &[], b"")).await.status, 200);
    }
    app.finish().await;
}

#[tokio::test]
async fn the_content_type_is_not_insisted_on() {
    let app = TestApp::start().await;
    for (number, headers) in (1..).zip([
        vec![],
        vec![("Content-Type", "text/plain")],
        vec![("Content-Type", "application/x-www-form-urlencoded")],
        vec![("Content-Type", "")],
        vec![("Content-Type", "application/json; charset=GBK")],
    ]) {
        let body = app.signed(&push("room", number));
        assert_answered(&ask(app.callbacks, &request("POST", "/callbacks", &headers, body.as_bytes())).await);
    }
    assert_eq!(app.events().await.len(), 5);
    app.finish().await;
}

#[tokio::test]
async fn a_relay_is_placed_by_where_it_pushes() {
    let app = TestApp::start().await;
    app.accept(
        json!({"event_type": 314, "to_url": "rtmp://h.example:1935/my%20app/s?x=1", "stream_id": "s"}).to_string(),
    )
    .await;
    let event = app.only_event().await;
    assert_eq!((&event["domain"], &event["app"]), (&"h.example".into(), &"my app".into()));
    assert_eq!(event["cloudevent"]["source"], "/css/h.example/my%20app");
    app.finish().await;
}

crate::place::also_on_postgres! {
    every_route_takes_any_event_and_notes_its_path_without_query,
    other_methods_are_405_and_name_the_one_allowed,
    other_paths_are_404_and_nothing_is_kept_of_them,
    the_content_type_is_not_insisted_on,
    a_relay_is_placed_by_where_it_pushes,
}
