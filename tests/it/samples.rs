//! Every body the documentation prints, sent as CSS would send it today.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use livehook::clock::Timestamp;
use livehook::secret::Secret;
use livehook::signature::LegacyPorn;
use serde_json::Value;

use crate::app::{START, Setup, TestApp, assert_answered};
use crate::http::{ask, request};

/// Number, slug, members that name domain, app and stream, and where the time stands.
type Row = (i64, &'static str, [&'static str; 3], &'static str);

const BY_NUMBER: [Row; 18] = [
    (1, "stream-push", ["app", "appname", "stream_id"], "event_time"),
    (0, "stream-interruption", ["app", "appname", "stream_id"], "event_time"),
    (100, "recording", ["app", "appname", "stream_id"], "end_time"),
    (332, "recording-status", ["domain", "appname", "stream_id"], "event_time"),
    (341, "recording-exception", ["domain", "path", "stream_id"], "timestamp"),
    (200, "screencapture", ["app", "appname", "stream_id"], "create_time"),
    (317, "image-audit", ["app", "appname", "streamId"], "screenshotTime"),
    (315, "audio-audit", ["domain", "path", "stream_id"], ""),
    (321, "push-error", ["domain", "path", "stream_id"], "data_time"),
    (314, "relay", ["", "", "stream_id"], "event_time"),
    (328, "monitor", ["", "", "stream_id"], "event_time"),
    (343, "quality-control", ["domain", "appname", "stream_id"], "event_time"),
    (344, "evaluation-threshold", ["domain", "appname", "stream_id"], "event_time"),
    (345, "evaluation-average", ["domain", "appname", "stream_id"], "event_time"),
    (347, "smart-erase", ["", "", "stream_id"], "end_unix_time"),
    (338, "subtitles", ["", "", "stream_id"], "end_unix_time"),
    (348, "summary", ["domain", "path", "stream_id"], "end_time"),
    (349, "highlight", ["domain", "path", "stream_id"], "end_time"),
];

fn samples() -> Vec<(String, Value)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let mut samples: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .map(|path| {
            let body = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), body)
        })
        .collect();
    samples.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert!(samples.len() > 40, "the samples are all there");
    samples
}

fn sample(name: &str) -> Value {
    samples().into_iter().find(|(own, _)| own == name).unwrap().1
}

fn row(body: &Value) -> Option<&'static Row> {
    let number = body["event_type"].as_i64()?;
    let number = if number == 344 && body.get("average_score").is_some() { 345 } else { number };
    BY_NUMBER.iter().find(|(own, ..)| *own == number)
}

/// The largest number under any member of that name, at any depth.
fn latest(value: &Value, name: &str) -> Option<i64> {
    match value {
        Value::Object(members) => members
            .iter()
            .filter_map(|(key, value)| if key == name { value.as_i64() } else { latest(value, name) })
            .max(),
        Value::Array(items) => items.iter().filter_map(|item| latest(item, name)).max(),
        _ => None,
    }
}

fn own_time(slug: &str, member: &str, body: &Value) -> String {
    let received = START.rfc3339();
    match slug {
        "audio-audit" => received,
        "push-error" | "monitor" => Timestamp::from_millis(body[member].as_i64().unwrap()).rfc3339(),
        "relay" => {
            body[member].as_str().map_or(received, |text| Timestamp::from_secs(text.parse().unwrap()).rfc3339_secs())
        }
        "smart-erase" | "subtitles" | "highlight" => {
            latest(body, member).map_or(received, |secs| Timestamp::from_secs(secs).rfc3339_secs())
        }
        _ => Timestamp::from_secs(body[member].as_i64().unwrap()).rfc3339_secs(),
    }
}

fn source(slug: &str, names: &[&str; 3], body: &Value) -> String {
    let parts = if slug == "relay" {
        let after = body["to_url"].as_str().and_then(|url| url.split_once("://")).map_or("", |(_, rest)| rest);
        after.split('/').take(2).map(str::to_owned).collect()
    } else {
        names[..2].iter().map(|name| body[*name].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    parts.iter().filter(|part| !part.is_empty()).fold("/css".to_owned(), |path, part| format!("{path}/{part}"))
}

fn without_signature(body: &Value) -> Value {
    let mut members = body.as_object().unwrap().clone();
    members.retain(|name, _| name != "t" && name != "sign");
    members.into()
}

#[tokio::test]
async fn every_sample_is_answered_stored_whole_and_told_as_a_cloud_event() {
    let app = TestApp::start().await;
    let mut known = 0;
    for (name, body) in samples() {
        let Some((_, slug, names, time)) = row(&body) else {
            continue;
        };
        let body = without_signature(&body);
        let sent = if matches!(*slug, "relay" | "monitor") { body.to_string() } else { app.signed(&body) };
        assert_answered(&app.post(&format!("/callbacks/{slug}"), &sent).await);
        let event = app.json("/api/v1/events?limit=1").await["events"][0].clone();
        let id = event["id"].as_str().unwrap();
        let stored = app.get(&format!("/api/v1/events/{id}/body")).await;
        assert_eq!(stored.text(), sent, "{name}");
        check_event(&name, &app.json(&format!("/api/v1/events/{id}")).await, slug, &body);
        let cloud = &app.json(&format!("/api/v1/events/{id}")).await["cloudevent"];
        assert_eq!(cloud["source"], source(slug, names, &body), "{name}");
        assert_eq!(cloud["time"], own_time(slug, time, &body), "{name}");
        let stream = body[names[2]].as_str().filter(|text| !text.is_empty());
        assert_eq!(cloud.get("subject").and_then(Value::as_str), stream, "{name}");

        app.accept(if matches!(*slug, "relay" | "monitor") {
            body.to_string()
        } else {
            crate::app::signed_at(&body, app.t() + 60)
        })
        .await;
        let again = app.json(&format!("/api/v1/events/{id}")).await;
        let copies = event["duplicates"].as_u64().unwrap() + 1;
        assert_eq!(again["duplicates"], copies, "{name}: the same on the route for all is a copy");
        known += 1;
    }
    // The page shows the recording status twice, in one of two cases without signature.
    assert_eq!(app.events().await.len(), known - 1);
    assert!(app.refused().await.is_empty());
    app.finish().await;
}

fn check_event(name: &str, event: &Value, slug: &str, body: &Value) {
    assert_eq!(event["kind"], slug, "{name}");
    assert_eq!(event["event_type"], body["event_type"], "{name}");
    assert_eq!(event["received_at"], START.rfc3339(), "{name}");
    let verification = if matches!(slug, "relay" | "monitor") { "unsigned" } else { "verified" };
    let cloud = &event["cloudevent"];
    assert_eq!((&event["verification"], &cloud["verification"]), (&verification.into(), &verification.into()));
    assert_eq!(cloud["specversion"], "1.0", "{name}");
    assert_eq!(cloud["id"], event["id"], "{name}");
    assert_eq!(cloud["type"], format!("com.tencentcloud.css.{slug}"), "{name}");
    assert_eq!(cloud["datacontenttype"], "application/json", "{name}");
    assert_eq!(cloud["receivedat"], START.rfc3339(), "{name}");
    assert_eq!(&cloud["data"], body, "{name}");
    assert_eq!(cloud.get("sequence"), body.get("sequence"), "{name}");
}

#[tokio::test]
async fn audits_of_before_2020_are_refused_unless_their_account_is_configured() {
    let app = TestApp::start().await;
    for name in ["image-audit-2018-legacy-header-signed", "image-audit-2019-unsigned"] {
        app.accept(sample(name).to_string()).await;
    }
    let reasons: Vec<_> = app.refused().await.iter().map(|item| item["reason"].clone()).collect();
    assert_eq!(reasons, ["no-event-type", "no-event-type"]);
    app.finish().await;
}

#[tokio::test]
async fn audits_of_before_2020_are_believed_by_their_headers() {
    let account = LegacyPorn { secret_id: "AKID".to_owned(), secret_key: Secret::new("porn") };
    let app = Setup::new().configured(|config| config.signature.legacy_porn = Some(account)).start().await;
    let body = sample("image-audit-2018-legacy-header-signed").to_string();
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"porn").unwrap();
    mac.update(body.as_bytes());
    let auth = BASE64.encode(mac.finalize().into_bytes());
    let post = async |auth: &str, body: &str| {
        let headers = [("TPD-SecretID", "AKID"), ("TPD-CallBack-Version", "v2"), ("TPD-CallBack-Auth", auth)];
        assert_answered(
            &ask(app.callbacks, &request("POST", "/callbacks/porn-detection", &headers, body.as_bytes())).await,
        );
    };
    post(&auth, &body.replace("\"hotScore\":93", "\"hotScore\":94")).await;
    post("????", &body).await;
    post(&auth, &body).await;
    let reasons: Vec<_> = app.refused().await.iter().map(|item| item["reason"].clone()).collect();
    assert_eq!(reasons, ["signature-malformed", "signature-mismatch"]);
    let event = app.only_event().await;
    assert_eq!((&event["kind"], &event["verification"]), (&"image-audit".into(), &"verified".into()));
    assert_eq!(event["event_type"], Value::Null);
    app.finish().await;
}

crate::place::also_on_postgres! {
    every_sample_is_answered_stored_whole_and_told_as_a_cloud_event,
    audits_of_before_2020_are_refused_unless_their_account_is_configured,
    audits_of_before_2020_are_believed_by_their_headers,
}
