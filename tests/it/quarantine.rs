//! What was refused is kept, and looked at again when somebody asks.

use std::time::Duration;

use livehook::secret::Secret;
use livehook::signature::Key;
use serde_json::{Value, json};

use crate::app::{START, Setup, TestApp, push, signed_at};
use crate::recorder::Recorder;

async fn readmit(app: &TestApp, id: &Value, body: Value) -> Value {
    let response = app.call(&format!("/api/v1/quarantine/{}/readmit", id.as_str().unwrap()), &body).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

fn outcome(readmitted: u64, refused: u64) -> Value {
    json!({"readmitted": readmitted, "refused": refused})
}

fn other_key() -> Key {
    Key { name: "new".to_owned(), key: Secret::new("other"), domains: Vec::new() }
}

#[tokio::test]
async fn the_list_tells_what_and_why_and_pages_newest_first() {
    let app = TestApp::start().await;
    for number in 0..5 {
        app.accept(if number % 2 == 0 { "nonsense" } else { "" }).await;
    }
    let mut found = Vec::new();
    let mut target = "/api/v1/quarantine?limit=2".to_owned();
    loop {
        let page = app.json(&target).await;
        found.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/api/v1/quarantine?limit=2&cursor={next}");
    }
    assert_eq!(found.len(), 5);
    let mut names: Vec<_> = found[0].as_object().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["bytes", "detail", "id", "path", "reason", "received_at", "truncated"]);
    assert!(found[0]["id"].is_string() && found[0]["truncated"] == false && found[0]["bytes"] == 8);
    assert_eq!(app.json("/api/v1/quarantine?reason=empty").await["items"].as_array().unwrap().len(), 2);
    for bad in ["?reason=no", "?limit=0", "?limit=1001", "?limit=x", "?cursor=x", "?colour=red"] {
        assert_eq!(app.get(&format!("/api/v1/quarantine{bad}")).await.status, 400, "{bad}");
    }
    for missing in ["/99/body", "/x/body"] {
        assert_eq!(app.get(&format!("/api/v1/quarantine{missing}")).await.status, 404, "{missing}");
    }
    assert_eq!(app.call("/api/v1/quarantine/99/readmit", &json!({})).await.status, 404);
    assert_eq!(app.call("/api/v1/quarantine/1/readmit", &json!({"farce": true})).await.status, 400);
    assert_eq!(app.call("/api/v1/quarantine/readmit", &json!({"reason": "no"})).await.status, 400);
    app.finish().await;
}

#[tokio::test]
async fn a_new_key_lets_in_what_it_signed_as_of_its_receipt() {
    let recorder = Recorder::new();
    let app = TestApp::start().await;
    let t = app.t();
    let foreign = |number: u64| {
        let mut body = push("room", number);
        body["t"] = t.into();
        body["sign"] = livehook::signature::sign(&Secret::new("other"), &t.to_string()).into();
        body.to_string()
    };
    app.accept(foreign(1)).await;
    app.accept(foreign(2)).await;
    app.accept(foreign(2)).await;
    app.accept(signed_at(&push("room", 3), 1)).await;
    let id = app.refused().await[3]["id"].clone();
    assert_eq!(readmit(&app, &id, json!({})).await, outcome(0, 1), "with the keys of today it stays");

    let next =
        app.leave().await.configured(|config| config.signature.keys.push(other_key())).handler("rooms", &recorder);
    let app = next.start().await;
    app.clock.advance(Duration::from_hours(24));
    assert_eq!(readmit(&app, &id, json!({})).await, outcome(1, 0));
    let all = app.call("/api/v1/quarantine/readmit", &json!({"reason": "signature-mismatch"})).await.json();
    assert_eq!(all, outcome(2, 0), "a copy leaves the quarantine too");
    let events = app.events().await;
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event["received_at"] == START.rfc3339() && event["verification"] == "verified"));
    assert_eq!(events[0]["duplicates"], 1);
    let left = app.refused().await;
    assert_eq!((left.len(), &left[0]["reason"]), (1, &"signature-expired".into()));
    assert_eq!(app.call("/api/v1/quarantine/readmit", &json!({})).await.json(), outcome(0, 1));
    assert_eq!(readmit(&app, &left[0]["id"], json!({"force": true})).await, outcome(1, 0));
    assert_eq!(app.events().await[0]["verification"], "forced");
    app.await_deliveries("done", 3).await;
    assert_eq!(recorder.calls().len(), 3);
    app.finish().await;
}

#[tokio::test]
async fn what_lacked_the_token_passes_when_there_is_none_any_more_or_by_force() {
    let app = Setup::new().configured(|config| config.signature.url_token = Some(Secret::new("tok"))).start().await;
    for number in 1..=3 {
        app.accept(app.signed(&push("room", number))).await;
    }
    app.accept(push("room", 4).to_string()).await;
    app.post("/callbacks?token=tok", push("room", 5).to_string()).await;
    let items = app.refused().await;
    assert_eq!(items.iter().filter(|item| item["reason"] == "token").count(), 4);
    let all = app.call("/api/v1/quarantine/readmit", &json!({"reason": "token"})).await.json();
    assert_eq!(all, outcome(0, 4));
    assert_eq!(readmit(&app, &items[4]["id"], json!({"force": true})).await, outcome(1, 0));
    let event = app.only_event().await;
    assert_eq!(event["verification"], "forced", "in spite of its token");
    // Refused for its signature, it had the right token.
    assert_eq!(readmit(&app, &items[0]["id"], json!({"force": true})).await, outcome(1, 0));

    let app = app.leave().await.configured(|config| config.signature.url_token = None).start().await;
    let all = app.call("/api/v1/quarantine/readmit", &json!({"reason": "token"})).await.json();
    assert_eq!(all, outcome(2, 1), "one has no signature");
    assert_eq!(app.refused().await.len(), 1);
    assert_eq!(app.events().await[0]["verification"], "verified");
    app.finish().await;
}

#[tokio::test]
async fn force_makes_no_event_of_what_is_none() {
    let app = TestApp::start().await;
    for body in ["", "nonsense", "{}"] {
        app.accept(body).await;
    }
    assert_eq!(app.call("/api/v1/quarantine/readmit", &json!({"force": true})).await.json(), outcome(0, 3));
    assert_eq!(app.refused().await.len(), 3);
    app.finish().await;
}

#[tokio::test]
async fn a_flood_of_one_reason_pushes_out_itself() {
    let app = Setup::new().configured(|config| config.store.quarantine.max_count = 10).start().await;
    for _ in 0..3 {
        app.accept("").await;
    }
    for number in 0..50 {
        app.accept(format!("nonsense {number}")).await;
    }
    let items = app.refused().await;
    assert_eq!(items.len(), 10);
    assert_eq!(items.iter().filter(|item| item["reason"] == "empty").count(), 3);
    let newest = app.get(&format!("/api/v1/quarantine/{}/body", items[0]["id"].as_str().unwrap())).await;
    assert_eq!(newest.text(), "nonsense 49");
    let app = app.leave().await.start().await;
    app.accept("nonsense").await;
    assert_eq!(app.refused().await.len(), 10, "the bound holds after a restart");
    app.finish().await;
}
