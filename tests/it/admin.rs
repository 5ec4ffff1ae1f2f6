//! The admin API: what it lists, what it refuses, and whom it lets in.

use std::time::Duration;

use livehook::secret::Secret;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, push};
use crate::http::{ask, request};
use crate::recorder::{Act, Recorder};

#[track_caller]
fn assert_problem(response: &crate::http::Response, status: u16) {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    let problem = response.json();
    assert_eq!(problem["status"], status);
    for member in ["type", "title", "detail"] {
        assert!(problem[member].is_string(), "{problem}");
    }
}

#[tokio::test]
async fn events_are_listed_newest_first_by_every_filter() {
    let app = TestApp::start().await;
    for number in 0..6 {
        let mut body = push(&format!("room-{}", number % 2), number);
        body["appname"] = if number < 3 { "live" } else { "vod" }.into();
        body["app"] = format!("d{}.example", number % 3).into();
        app.accept_signed(&body).await;
        app.clock.advance(Duration::from_mins(1));
    }
    app.accept("{\"event_type\":328,\"stream_id\":\"room-0\"}").await;
    for (query, expected) in [
        ("", 7),
        ("?kind=stream-push", 6),
        ("?kind=monitor", 1),
        ("?kind=relay", 0),
        ("?domain=d1.example", 2),
        ("?app=vod", 3),
        ("?stream=room-0", 4),
        ("?stream=room-0&app=live", 2),
        ("?verification=unsigned", 1),
        ("?verification=forced", 0),
        ("?since=2023-12-21T03:13:37.104Z", 6),
        ("?since=2023-12-21T03:13:37.105Z", 5),
        ("?until=2023-12-21T03:13:37.104Z", 1),
        ("?since=2023-12-21T11:13:37.104%2B08:00&until=2023-12-21T03:14:38Z", 2),
        ("?since=2023-12-21T11:13:37.104+08:00", 6),
    ] {
        let found = app.json(&format!("/api/v1/events{query}")).await;
        assert_eq!(found["events"].as_array().unwrap().len(), expected, "{query}");
        assert_eq!(found["next"], Value::Null);
    }
    let row = &app.json("/api/v1/events?limit=1&kind=stream-push").await["events"][0];
    let mut names: Vec<_> = row.as_object().unwrap().keys().cloned().collect();
    names.sort();
    let expected = [
        "app",
        "bytes",
        "domain",
        "duplicates",
        "event_type",
        "id",
        "kind",
        "occurred_at",
        "received_at",
        "sequence",
        "stream",
        "verification",
    ];
    assert_eq!(names, expected);
    assert_eq!(row["occurred_at"], "2023-12-21T03:06:45.000Z");
    app.finish().await;
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_while_events_arrive() {
    let app = TestApp::start().await;
    for number in 0..25 {
        app.accept_signed(&push("room", number)).await;
    }
    let mut seen = Vec::new();
    let mut target = "/api/v1/events?limit=10".to_owned();
    for page in 0.. {
        let found = app.json(&target).await;
        let rows = found["events"].as_array().unwrap();
        seen.extend(rows.iter().map(|row| row["sequence"].as_str().unwrap().to_owned()));
        app.accept_signed(&push("late", 100 + page)).await;
        let Some(next) = found["next"].as_str() else { break };
        target = format!("/api/v1/events?limit=10&cursor={next}");
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.is_sorted_by(|a, b| a > b));
    app.finish().await;
}

#[tokio::test]
async fn what_is_not_understood_is_a_400_that_says_so() {
    let app = TestApp::start().await;
    for target in [
        "/events?kind=nothing",
        "/events?limit=0",
        "/events?limit=1001",
        "/events?limit=-1",
        "/events?limit=many",
        "/events?since=yesterday",
        "/events?until=5",
        "/events?verification=maybe",
        "/events?cursor=x",
        "/events?colour=red",
        "/deliveries?state=lost",
        "/deliveries?limit=0",
        "/deliveries?cursor=5",
        "/deliveries?cursor=a.b",
        "/deliveries?x=1",
    ] {
        assert_problem(&app.get(&format!("/api/v1{target}")).await, 400);
    }
    let too_late = app.get("/api/v1/events?since=9999-12-31T23:59:59Z").await;
    assert_problem(&too_late, 400);
    let last = "/api/v1/events?since=9999-12-30T22:00:00Z";
    assert_eq!(app.get(last).await.status, 200);
    assert!(too_late.text().contains("the last is 9999-12-30T22:00:00Z"), "{}", too_late.text());
    for body in
        [json!({"handler": 5}), json!({"state": "lost"}), json!({"since": "x"}), json!({"dry": true}), json!([1])]
    {
        for verdict in ["retry", "drop"] {
            assert_problem(&app.call(&format!("/api/v1/deliveries/{verdict}"), &body).await, 400);
        }
    }
    let broken = request("POST", "/api/v1/deliveries/drop", &[("Content-Type", "application/json")], b"{");
    assert_problem(&ask(app.admin, &broken).await, 400);
    app.finish().await;
}

#[tokio::test]
async fn who_says_nothing_decides_nothing_and_who_means_all_says_so() {
    let app = Setup::new().handler("rooms", &Recorder::with(|_, _| Act::Permanent)).start().await;
    app.accept_signed(&push("room", 1)).await;
    app.await_deliveries("dead", 1).await;
    for target in ["/deliveries/drop", "/deliveries/retry", "/replay", "/quarantine/readmit"] {
        for body in ["", " \n"] {
            let headers = [("Content-Type", "application/json")];
            let target = format!("/api/v1{target}");
            let answer = ask(app.admin, &request("POST", &target, &headers, body.as_bytes())).await;
            assert_problem(&answer, 400);
            assert!(answer.text().contains("`{}`"), "{}", answer.text());
        }
    }
    assert_eq!(app.deliveries("dead").await.len(), 1);
    assert_eq!(app.call("/api/v1/deliveries/drop", &json!({})).await.json(), json!({"matched": 1, "changed": 1}));
    app.finish().await;
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_takes_another_method_405() {
    let app = TestApp::start().await;
    let id = "0198c700-0000-7000-8000-000000000001";
    for target in ["/events/x", &format!("/events/{id}"), &format!("/events/{id}/body"), "/nothing", ""] {
        assert_problem(&app.get(&format!("/api/v1{target}")).await, 404);
    }
    for verdict in ["retry", "drop"] {
        assert_problem(&app.call(&format!("/api/v1/deliveries/{id}/rooms/{verdict}"), &json!({})).await, 404);
    }
    assert_problem(&app.get("/callbacks").await, 404);
    for (method, target) in [("DELETE", "/api/v1/events"), ("GET", "/api/v1/import"), ("POST", "/readyz")] {
        let bytes = request(method, target, &[("Content-Type", "application/json")], b"");
        let answer = ask(app.admin, &bytes).await;
        assert_problem(&answer, 405);
        assert!(answer.header("allow").is_some(), "{method} {target}");
    }
    app.finish().await;
}

#[tokio::test]
async fn with_a_token_only_its_bearer_gets_in() {
    let app = Setup::new().configured(|config| config.admin.token = Some(Secret::new("let me in"))).start().await;
    let get =
        async |headers: &[(&str, &str)], target: &str| ask(app.admin, &request("GET", target, headers, b"")).await;
    for headers in [
        vec![],
        vec![("Authorization", "Bearer let me")],
        vec![("Authorization", "Bearer ")],
        vec![("Authorization", "let me in")],
        vec![("Authorization", "Basic bGV0IG1lIGlu")],
    ] {
        for target in ["/api/v1/events", "/api/v1/nothing", "/api/v1/events/x/body"] {
            let answer = get(&headers, target).await;
            assert_problem(&answer, 401);
            assert!(answer.header("www-authenticate").is_some());
        }
    }
    let right = ("Authorization", "Bearer let me in");
    assert_eq!(get(&[right], "/api/v1/events").await.status, 200);
    assert_eq!(get(&[right, ("Host", "hooks.example")], "/api/v1/events").await.status, 200);
    for open in ["/livez", "/readyz", "/healthz", "/metrics"] {
        assert_eq!(get(&[], open).await.status, 200, "{open}");
    }
    // `finish` has no token.
    app.leave().await;
}

#[tokio::test]
async fn no_web_page_of_others_drives_it() {
    let app = TestApp::start().await;
    let own = app.admin.to_string();
    let get = async |headers: &[(&str, &str)]| ask(app.admin, &request("GET", "/api/v1/events", headers, b"")).await;
    for host in ["evil.example", "evil.example:9090", "127.0.0.1.evil.example"] {
        assert_problem(&get(&[("Host", host)]).await, 403);
    }
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"] {
        assert_problem(&get(&[("Host", &own), ("Origin", origin)]).await, 403);
    }
    assert_eq!(get(&[("Host", &own), ("Origin", &format!("http://{own}"))]).await.status, 200);
    for host in ["localhost", "localhost:9090", "127.0.0.1:9090", "[::1]:9090"] {
        assert_eq!(get(&[("Host", host)]).await.status, 200, "{host}");
    }
    for content_type in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data")]
    {
        let headers: Vec<_> = content_type.map(|value| ("Content-Type", value)).into_iter().collect();
        for target in ["/api/v1/deliveries/drop", "/api/v1/import", "/api/v1/quarantine/readmit"] {
            assert_problem(&ask(app.admin, &request("POST", target, &headers, b"{}")).await, 415);
        }
    }
    let answer = get(&[]).await;
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    app.finish().await;
}

#[tokio::test]
async fn many_deliveries_are_decided_at_once_or_only_counted() {
    let dead = Recorder::with(|_, _| Act::Permanent);
    let slow = Recorder::with(|_, _| Act::FailFor(Duration::from_hours(1)));
    let app = Setup::new().handler("dead", &dead).handler("slow", &slow).start().await;
    for number in 0..6 {
        app.accept_signed(&push(&format!("room-{number}"), number)).await;
        app.clock.advance(Duration::from_secs(1));
    }
    app.await_deliveries("dead", 6).await;
    let decide = async |verdict: &str, body: Value| {
        let answer = app.call(&format!("/api/v1/deliveries/{verdict}"), &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let counts = |matched: u64, changed: u64| json!({"matched": matched, "changed": changed});
    let since = "2023-12-21T03:12:40.104Z";
    assert_eq!(decide("drop", json!({"handler": "dead", "state": "dead", "dry_run": true})).await, counts(6, 0));
    assert_eq!(app.deliveries("dead").await.len(), 6, "a dry run changes nothing");
    assert_eq!(decide("drop", json!({"handler": "dead", "since": since})).await, counts(3, 3));
    assert_eq!(decide("drop", json!({"handler": "dead"})).await, counts(6, 3), "three were dropped already");
    assert_eq!(decide("retry", json!({"state": "dropped", "until": since})).await, counts(3, 3));
    app.await_deliveries("dead", 3).await;
    assert_eq!(app.deliveries("dropped").await.len(), 3);
    assert_eq!(decide("drop", json!({"handler": "slow", "state": "pending"})).await, counts(6, 6));
    app.finish().await;
}

#[tokio::test]
async fn a_handler_that_nobody_knows_is_no_choice() {
    let app = Setup::new().handler("rooms", &Recorder::new()).start().await;
    for verdict in ["retry", "drop"] {
        let target = format!("/api/v1/deliveries/{verdict}");
        for dry_run in [true, false] {
            let answer = app.call(&target, &json!({"handler": "rooom", "dry_run": dry_run})).await;
            assert_problem(&answer, 404);
            assert!(answer.text().contains("`rooom`"), "{}", answer.text());
            let answer = app.call(&target, &json!({"handler": "rooms", "dry_run": dry_run})).await;
            assert_eq!(answer.json(), json!({"matched": 0, "changed": 0}));
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn deliveries_are_listed_by_handler_and_state_page_by_page() {
    let (good, bad) = (Recorder::new(), Recorder::with(|_, _| Act::Permanent));
    let app = Setup::new().handler("good", &good).handler("bad", &bad).start().await;
    for number in 0..5 {
        app.accept_signed(&push("room", number)).await;
    }
    app.await_deliveries("done", 5).await;
    app.await_deliveries("dead", 5).await;
    let count = async |query: &str| {
        app.json(&format!("/api/v1/deliveries{query}")).await["deliveries"].as_array().unwrap().len()
    };
    assert_eq!(count("").await, 10);
    assert_eq!(count("?handler=good").await, 5);
    assert_eq!(count("?handler=good&state=dead").await, 0);
    assert_eq!(count("?handler=nobody").await, 0);
    let mut seen = Vec::new();
    let mut target = "/api/v1/deliveries?limit=3".to_owned();
    loop {
        let page = app.json(&target).await;
        seen.extend(page["deliveries"].as_array().unwrap().iter().map(ToString::to_string));
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/api/v1/deliveries?limit=3&cursor={next}");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 10);
    let row = &app.deliveries("dead").await[0];
    let mut names: Vec<_> = row.as_object().unwrap().keys().cloned().collect();
    names.sort();
    let expected =
        ["attempts", "event_id", "handler", "last_error", "next_attempt_at", "replay", "state", "updated_at"];
    assert_eq!(names, expected);
    assert_eq!((&row["replay"], &row["next_attempt_at"]), (&false.into(), &Value::Null));
    let event = app.json(&format!("/api/v1/events/{}", row["event_id"].as_str().unwrap())).await;
    assert_eq!(event["deliveries"].as_array().unwrap().len(), 2);
    app.finish().await;
}

crate::place::also_on_postgres! {
    events_are_listed_newest_first_by_every_filter,
    pages_follow_each_other_without_gap_while_events_arrive,
    what_is_not_understood_is_a_400_that_says_so,
    what_is_not_there_is_404_and_what_takes_another_method_405,
    with_a_token_only_its_bearer_gets_in,
    no_web_page_of_others_drives_it,
    many_deliveries_are_decided_at_once_or_only_counted,
    deliveries_are_listed_by_handler_and_state_page_by_page,
}
