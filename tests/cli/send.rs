//! `send` against a real service.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::service::{KEY, Service, run, run_with, text};

#[test]
fn one_of_each_kind_is_stored_and_verified() {
    let service = Service::start();
    let sent = service.send_signed(&["all"]);
    assert_eq!(sent.out.lines().count(), 18, "{sent:?}");
    assert!(sent.err.contains("18 × 200") && sent.err.contains("p99"), "{sent:?}");
    sent.good();
    let events = service.list(&["events", "list"]);
    let kinds: BTreeSet<_> = events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!((events.len(), kinds.len()), (18, 18));
    for event in &events {
        let unsigned = matches!(event["kind"].as_str().unwrap(), "relay" | "monitor");
        assert_eq!(event["verification"], if unsigned { "unsigned" } else { "verified" }, "{event}");
        let shown = service.ask(&["events", "show", event["id"].as_str().unwrap(), "--format", "json"]).json();
        assert_eq!(shown["drift"], Value::Array(Vec::new()), "{shown}");
    }
    let push = events.iter().find(|event| event["kind"] == "stream-push").unwrap();
    let end = events.iter().find(|event| event["kind"] == "stream-interruption").unwrap();
    assert_eq!(push["sequence"], end["sequence"]);
    assert_eq!(push["sequence"].as_str().unwrap().len(), 19);
}

#[test]
fn a_line_says_kind_status_answer_and_time() {
    let service = Service::start();
    let line = service.send_signed(&["recording"]).good();
    let words: Vec<_> = line.split_whitespace().collect();
    assert!(matches!(words.as_slice(), ["recording", "200", "{\"code\":0}", _, "ms"]), "{line}");
    let line = service.send_signed(&["recording", "--format", "json"]).json();
    assert_eq!((&line["status"], &line["answer"]), (&Value::from(200), &Value::from("{\"code\":0}")));
}

#[test]
fn copies_are_recognised() {
    let service = Service::start();
    assert_eq!(service.send_signed(&["all", "--duplicate"]).good().lines().count(), 36);
    let events = service.list(&["events", "list"]);
    assert_eq!(events.len(), 18);
    assert!(events.iter().all(|event| event["duplicates"] == 1), "{events:?}");
}

#[test]
fn many_are_all_different_and_paced() {
    let service = Service::start();
    let begun = std::time::Instant::now();
    let sent = service.send_signed(&["monitor", "--count", "60", "--rate", "200"]);
    assert!(begun.elapsed().as_millis() >= 295, "{:?}", begun.elapsed());
    assert!(sent.err.contains("60 × 200"), "{sent:?}");
    service.send_signed(&["quality-control", "--count", "40"]).good();
    assert_eq!(service.list(&["events", "list", "--limit", "1000"]).len(), 100);
}

#[test]
fn members_are_set_and_the_result_is_signed() {
    let service = Service::start();
    let edits = ["stream-push", "--set", "stream_id=room a", "--set", "extra.list.0=1.50", "--set", "errmsg="];
    service.send_signed(&edits).good();
    let event = &service.list(&["events", "list", "--stream", "room a"])[0];
    assert_eq!(event["verification"], "verified");
    let body = service.ask(&["events", "show", event["id"].as_str().unwrap(), "--body"]).good();
    assert!(body.contains(r#""extra":{"list":{"0":1.50}}"#) && body.contains(r#""errmsg":"""#), "{body}");
    service.send_signed(&["unknown"]).good();
    service.send_signed(&["recording", "--set", "event_type=12345"]).good();
    assert_eq!(service.list(&["events", "list", "--kind", "unknown"]).len(), 2);
}

#[test]
fn what_is_unsigned_forged_or_expired_is_quarantined() {
    let service = Service::start();
    service.send(&["stream-push"]).good();
    service.send_signed(&["stream-push", "--forge"]).good();
    service.send_signed(&["stream-push", "--set", "t=1234567890"]).good();
    let reasons: Vec<_> =
        service.list(&["quarantine", "list"]).iter().map(|item| item["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(reasons, ["signature-expired", "signature-mismatch", "signature-missing"]);
    assert!(service.list(&["events", "list"]).is_empty());
}

#[test]
fn bytes_are_sent_as_they_are() {
    let service = Service::start();
    let file = service.path("body");
    std::fs::write(&file, " {not json\n").unwrap();
    service.send(&["recording", "--body", text(&file)]).good();
    run_with(&["send", "recording", "--to", &service.callbacks, "--body", "-"], "{} ").good();
    let items = service.list(&["quarantine", "list"]);
    assert_eq!((&items[0]["reason"], &items[1]["reason"]), (&"no-event-type".into(), &"malformed-json".into()));
    let shown = service.ask(&["quarantine", "show", items[1]["id"].as_str().unwrap(), "--body"]).good();
    assert_eq!(shown, " {not json\n");
}

#[test]
fn a_token_goes_into_the_url() {
    let config = format!("[signature]\nkey = \"{KEY}\"\nurl_token = \"let me in\"\n");
    let service = Service::start_with(&config);
    service.send_signed(&["recording", "--token", "let me in"]).good();
    service.send_signed(&["recording"]).good();
    assert_eq!(service.list(&["events", "list"]).len(), 1);
    assert_eq!(service.list(&["quarantine", "list"])[0]["reason"], "token");
}

#[test]
fn a_full_url_is_used_as_it_is_and_other_answers_are_failures() {
    let service = Service::start();
    let post = |path: &str| run(&["send", "recording", "--key", KEY, "--to", &format!("{}{path}", service.callbacks)]);
    post("/callbacks?a=b").good();
    let failed = post("/elsewhere").bad(1);
    assert!(failed.contains("404") && failed.contains("/elsewhere"), "{failed}");
}
