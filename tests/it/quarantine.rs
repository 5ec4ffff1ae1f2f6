//! What was refused is kept, and looked at again when somebody asks.

use std::time::Duration;

use livehook::secret::Secret;
use livehook::signature::Key;
use serde_json::{Value, json};

use crate::app::{KEY, START, Setup, TestApp, eventually, push, signed_at};
use crate::http::{Connection, request};
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

/// A service with so many callbacks of one stream that were refused for want of a key it has by now.
async fn refused_for_a_key(count: u64) -> TestApp {
    let app = Setup::new().configured(|config| config.signature.keys[0].key = Secret::new("other")).start().await;
    for number in 0..count {
        app.accept_signed(&push("room", number)).await;
    }
    app.leave().await.configured(|config| config.signature.keys[0].key = Secret::new(KEY)).start().await
}

/// Sequences of the events, those stored first coming first.
async fn stored(app: &TestApp) -> Vec<String> {
    let page = app.json("/api/v1/events?limit=1000").await;
    let events = page["events"].as_array().unwrap();
    events.iter().rev().map(|event| event["sequence"].as_str().unwrap().to_owned()).collect()
}

async fn held(app: &TestApp) -> u64 {
    app.json("/api/v1/stats").await["quarantine"]["total"].as_u64().unwrap()
}

/// Waits until more than one callback waits for the store.
async fn several_wait(app: &TestApp) {
    eventually("several wait for one sync", async || {
        (app.json("/api/v1/stats").await["queue"]["waiting"].as_u64().unwrap() > 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn many_are_looked_at_together_and_stored_in_their_order() {
    let app = refused_for_a_key(150).await;
    let lock = app.stranger();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let everything = json!({});
    let (all, ()) = tokio::join!(app.call("/api/v1/quarantine/readmit", &everything), async {
        several_wait(&app).await;
        drop(lock);
    });
    assert_eq!(all.json(), outcome(150, 0));
    let order: Vec<_> =
        (0..150_u64).map(|number| push("room", number)["sequence"].as_str().unwrap().to_owned()).collect();
    assert_eq!(stored(&app).await, order, "delivery in order needs the order of receipt");
    app.finish().await;
}

#[tokio::test]
async fn those_that_are_named_are_looked_at_and_no_others() {
    let app = refused_for_a_key(5).await;
    let items = app.refused().await;
    let ids: Vec<_> = [3, 1].map(|at: usize| items[at]["id"].clone()).into();
    let readmit = async |body: Value| app.call("/api/v1/quarantine/readmit", &body).await;
    assert_eq!(readmit(json!({"ids": ids})).await.json(), outcome(2, 0));
    assert_eq!(readmit(json!({"ids": ids})).await.json(), outcome(0, 0), "they are gone");
    assert_eq!(held(&app).await, 3);
    let too_many = vec!["1"; 1001];
    for bad in
        [json!({"ids": []}), json!({"ids": ["x"]}), json!({"ids": too_many}), json!({"ids": ids, "reason": "empty"})]
    {
        assert_eq!(readmit(bad.clone()).await.status, 400, "{bad}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_leaves_the_rest_in_quarantine() {
    let app = refused_for_a_key(150).await;
    let lock = app.stranger();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut caller = Connection::open(app.admin).await;
    caller.send(&request("POST", "/api/v1/quarantine/readmit", &[("Content-Type", "application/json")], b"{}")).await;
    several_wait(&app).await;
    drop((caller, lock));
    eventually("what was begun is stored", async || (stored(&app).await.len() > 1).then_some(())).await;
    let left = app.call("/api/v1/quarantine/readmit", &json!({})).await.json();
    assert_eq!((&left["refused"], held(&app).await), (&json!(0), 0));
    assert_eq!(stored(&app).await.len(), 150, "each once");
    app.finish().await;
}

crate::place::also_on_postgres! {
    the_list_tells_what_and_why_and_pages_newest_first,
    a_new_key_lets_in_what_it_signed_as_of_its_receipt,
    what_lacked_the_token_passes_when_there_is_none_any_more_or_by_force,
    force_makes_no_event_of_what_is_none,
    a_flood_of_one_reason_pushes_out_itself,
    those_that_are_named_are_looked_at_and_no_others,
}
