//! Spills and exported events come back in.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use livehook::secret::Secret;
use serde_json::{Value, json};

use crate::app::{START, Setup, TestApp, push};
use crate::http::{ask, request};
use crate::recorder::Recorder;

async fn import(app: &TestApp, lines: &str) -> Value {
    let bytes = request("POST", "/api/v1/import", &[("Content-Type", "application/json")], lines.as_bytes());
    let response = ask(app.admin, &bytes).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

fn spill(body: &str, refusal: impl Into<Value>) -> String {
    let refusal: Value = refusal.into();
    json!({"spill": 1, "received_at": START.rfc3339(), "path": "/callbacks", "refusal": refusal, "body_base64": BASE64.encode(body)})
        .to_string()
}

#[tokio::test]
async fn bad_lines_are_told_by_number_and_skipped() {
    let app = TestApp::start().await;
    let good = spill(&app.signed(&push("room", 1)), Value::Null);
    let lines = [
        good.as_str(),
        "not json",
        "",
        "{\"timestamp\":\"x\",\"level\":\"INFO\"}",
        "{\"spill\":1}",
        &good.replace("2023", "soon"),
        &spill("x", "nothing"),
        "{\"spill\":1,\"received_at\":\"2023-12-21T03:12:37Z\",\"path\":\"/\",\"refusal\":null,\"body_base64\":\"?\"}",
        "{\"other\":1}",
        &spill(&app.signed(&push("room", 2)), Value::Null),
    ];
    let outcome = import(&app, &lines.join("\n")).await;
    assert_eq!((&outcome["imported"], &outcome["duplicates"], &outcome["refused"]), (&2.into(), &0.into(), &0.into()));
    let numbers: Vec<_> =
        outcome["faults"].as_array().unwrap().iter().map(|fault| fault["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 5, 6, 7, 8, 9], "{outcome}");
    app.finish().await;
}

/// Streams whose events are imported at the same time.
const ROOMS: u64 = 5;

/// Imports many lines through a queue that takes so many at once. What comes of each is told by its number, and each
/// stream's events are delivered in the order of the lines.
async fn import_many(lines: u64, queue_count: usize) {
    let recorder = Recorder::new();
    let setup = Setup::new().configured(|config| config.store.queue_count = queue_count).handler("rooms", &recorder);
    let app = setup.start().await;
    let line = |number: u64| match number % 10 {
        3 => "nonsense".to_owned(),
        7 => spill(&push("room", number).to_string(), Value::Null),
        8 => spill(&app.signed(&push("room-1", number - 2)), Value::Null),
        _ => spill(&app.signed(&push(&format!("room-{}", number % ROOMS), number)), Value::Null),
    };
    let text: Vec<_> = (0..lines).map(line).collect();
    let outcome = import(&app, &text.join("\n")).await;
    let kinds = |last: u64| (0..lines).filter(|number| number % 10 == last).count();
    let (faults, refused, copies) = (kinds(3), kinds(7), kinds(8));
    let events = text.len() - faults - refused - copies;
    assert_eq!(outcome["imported"], events);
    assert_eq!((&outcome["duplicates"], &outcome["refused"]), (&copies.into(), &refused.into()));
    let told: Vec<_> =
        outcome["faults"].as_array().unwrap().iter().map(|fault| fault["line"].as_u64().unwrap()).collect();
    assert_eq!(told, (0..lines).filter(|number| number % 10 == 3).map(|number| number + 1).collect::<Vec<_>>());
    app.await_deliveries("done", events).await;
    let mut last = std::collections::HashMap::new();
    for call in recorder.calls() {
        let number = serde_json::from_slice::<Value>(&call.body).unwrap()["event_time"].as_u64().unwrap();
        let before = last.insert(call.stream.clone(), number);
        assert!(before.is_none_or(|before| before < number), "{:?}: {number} behind {before:?}", call.stream);
    }
    app.finish().await;
}

#[tokio::test]
async fn many_lines_wait_at_the_same_time_and_stay_in_order() {
    import_many(900, 65536).await;
}

#[tokio::test]
async fn lines_that_find_the_queue_full_stay_in_order() {
    import_many(60, 3).await;
}

#[tokio::test]
async fn lines_of_a_text_log_are_skipped_and_broken_spills_are_not() {
    let app = TestApp::start().await;
    let one = spill(&app.signed(&push("room", 1)), Value::Null);
    let lines = [
        "2023-12-21T03:12:37.104Z  INFO livehook::app: ready callbacks=127.0.0.1:8080",
        one.as_str(),
        "2023-12-21T03:12:38.104Z ERROR livehook::store: the store cannot be written; trying again",
        &one[..one.len() / 2],
        &format!("2023-12-21T03:12:38.104Z somebody: {one}"),
    ];
    let outcome = import(&app, &lines.join("\n")).await;
    let numbers: Vec<_> = outcome["faults"].as_array().unwrap().iter().map(|fault| fault["line"].clone()).collect();
    assert_eq!((&outcome["imported"], numbers), (&1.into(), vec![4.into(), 5.into()]), "{outcome}");
    app.finish().await;
}

/// Less than a signature lasts.
const AHEAD: Duration = Duration::from_mins(5);

#[tokio::test]
async fn a_receipt_in_the_far_future_is_a_fault_and_hides_no_silence() {
    let app = TestApp::start().await;
    let received = |days: u64, number| {
        let at = START.plus(Duration::from_hours(24 * days) + AHEAD).rfc3339();
        spill(&app.signed(&push("room", number)), Value::Null).replace(&START.rfc3339(), &at)
    };
    let outcome = import(&app, &[received(0, 1), received(1, 2), received(30_000, 3)].join("\n")).await;
    let numbers: Vec<_> = outcome["faults"].as_array().unwrap().iter().map(|fault| fault["line"].clone()).collect();
    assert_eq!((numbers, &outcome["imported"]), (vec![2.into(), 3.into()], &1.into()), "{outcome}");
    let latest = app.metric("livehook_last_event_timestamp_seconds{kind=\"stream-push\"}").await;
    let received_at = i32::try_from(START.plus(AHEAD).secs()).unwrap();
    assert_eq!(latest, Some(f64::from(received_at)));
    app.finish().await;
}

#[tokio::test]
async fn lines_that_a_container_log_framed_and_split_are_put_together() {
    let app = TestApp::start().await;
    let [one, two] = [1, 2].map(|number| spill(&app.signed(&push("room", number)), Value::Null));
    let docker = |log: &str| json!({"log": log, "stream": "stderr", "time": "2023-10-06T00:17:09.66Z"}).to_string();
    let (head, tail) = one.split_at(100);
    let lines = [
        docker(head),
        docker(&format!("{tail}\n")),
        format!("2023-10-06T00:17:09.669794202Z stderr P {}", &two[..60]),
        "2023-10-06T00:17:09.669794202Z stdout F other".to_owned(),
        format!("2023-10-06T00:17:09.669794202Z stderr F {}", &two[60..]),
    ];
    let outcome = import(&app, &lines.join("\n")).await;
    assert_eq!(outcome, json!({"imported": 2, "duplicates": 0, "refused": 0, "faults": []}));
    app.finish().await;
}

#[tokio::test]
async fn a_spill_is_checked_but_not_for_the_token_unless_that_is_why_it_was_refused() {
    let app = Setup::new().configured(|config| config.signature.url_token = Some(Secret::new("tok"))).start().await;
    let lines = [
        spill(&app.signed(&push("room", 1)), Value::Null),
        spill(&app.signed(&push("room", 2)), "token"),
        spill(&push("room", 3).to_string(), Value::Null),
        spill(&app.signed(&push("room", 4)), "signature-mismatch"),
    ];
    let outcome = import(&app, &lines.join("\n")).await;
    assert_eq!(outcome, json!({"imported": 2, "duplicates": 0, "refused": 2, "faults": []}));
    let reasons: Vec<_> = app.refused().await.iter().map(|item| item["reason"].clone()).collect();
    assert_eq!(reasons, ["signature-missing", "token"], "checked by the keys of today");
    app.finish().await;
}

#[tokio::test]
async fn exported_events_come_back_with_id_and_verification() {
    let app = TestApp::start().await;
    app.accept_signed(&push("room", 1)).await;
    let event = app.only_event().await;
    let body = app.get(&format!("/api/v1/events/{}/body", event["id"].as_str().unwrap())).await.body;
    let mut line = event["cloudevent"].clone();
    line["rawbody_base64"] = BASE64.encode(&body).into();
    assert_eq!(import(&app, &line.to_string()).await["duplicates"], 1);
    app.finish().await;

    let app = Setup::new().configured(|config| config.signature.url_token = Some(Secret::new("tok"))).start().await;
    line["verification"] = "forced".into();
    assert_eq!(import(&app, &line.to_string()).await["imported"], 1);
    let again = app.only_event().await;
    assert_eq!((&again["id"], &again["received_at"]), (&event["id"], &event["received_at"]));
    assert_eq!(again["verification"], "forced");
    assert_eq!(again["deliveries"], json!([]));

    let mut taken = line.clone();
    taken["rawbody_base64"] = BASE64.encode("{\"event_type\":8}").into();
    let mut other = taken.clone();
    other["id"] = "0198c700-0000-7000-8000-000000000001".into();
    let outcome = import(&app, &format!("{taken}\n{other}")).await;
    assert_eq!(outcome["imported"], 1, "{outcome}");
    assert_eq!(outcome["faults"][0]["line"], 1, "an id is taken once");
    app.finish().await;
}

crate::place::also_on_postgres! {
    bad_lines_are_told_by_number_and_skipped,
    lines_that_a_container_log_framed_and_split_are_put_together,
    many_lines_wait_at_the_same_time_and_stay_in_order,
    lines_that_find_the_queue_full_stay_in_order,
    a_spill_is_checked_but_not_for_the_token_unless_that_is_why_it_was_refused,
    exported_events_come_back_with_id_and_verification,
}
