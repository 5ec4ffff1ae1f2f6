//! What becomes of a callback: the answer never tells, the store does.

use std::time::Duration;

use livehook::secret::Secret;
use livehook::signature::Key;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, assert_answered, push, sign, signed_at};

/// Posts a body to a fresh target and says why it was refused; none for an event.
async fn fate(app: &TestApp, target: &str, body: &[u8]) -> Option<String> {
    let before = (app.refused().await.len(), app.events().await.len());
    assert_answered(&app.post(target, body).await);
    let refused = app.refused().await;
    let after = (refused.len(), app.events().await.len());
    if after == (before.0 + 1, before.1) {
        let item = &refused[0];
        assert_eq!(item["path"], target.split('?').next().unwrap());
        let kept = app.get(&format!("/api/v1/quarantine/{}/body", item["id"].as_str().unwrap())).await;
        if item["truncated"] == false {
            assert_eq!(kept.body, body);
            assert_eq!(item["bytes"], body.len());
        }
        return Some(item["reason"].as_str().unwrap().to_owned());
    }
    assert_eq!(after, (before.0, before.1 + 1), "{}", String::from_utf8_lossy(body));
    None
}

#[tokio::test]
async fn every_refusal_has_its_reason_and_the_same_answer() {
    let app = TestApp::start().await;
    let (now, t) = (app.t() - 600, app.t());
    let body = |number: u64, t: Value, sign: Value| {
        let mut body = push("room", number);
        body["t"] = t;
        body["sign"] = sign;
        body.to_string()
    };
    let good = sign(t);
    let at = |number, t: i64| signed_at(&push("room", number), t);
    let only = |name: &str, value: Value| {
        let mut body = push("room", 50);
        body[name] = value;
        body.to_string()
    };
    let cases: Vec<(String, Option<&str>)> = vec![
        (at(1, t), None),
        (body(2, t.to_string().into(), good.clone().into()), None),
        (body(3, t.into(), good.to_uppercase().into()), None),
        (at(4, now - 599), None),
        (at(5, now - 601), Some("signature-expired")),
        (at(6, now + 1200), None),
        (at(7, now + 1201), Some("signature-future")),
        (body(8, t.into(), sign(t + 1).into()), Some("signature-mismatch")),
        (body(9, 5.into(), good.clone().into()), Some("signature-mismatch")),
        (body(10, serde_json::from_str(&format!("{t}.5")).unwrap(), good.clone().into()), Some("signature-malformed")),
        (body(11, format!("0{t}").into(), good.clone().into()), Some("signature-malformed")),
        (body(12, format!(" {t}").into(), good.clone().into()), Some("signature-malformed")),
        (body(13, Value::Null, good.clone().into()), Some("signature-malformed")),
        (body(14, t.into(), "abc".into()), Some("signature-malformed")),
        (body(15, t.into(), Value::Null), Some("signature-malformed")),
        (body(16, t.into(), 5.into()), Some("signature-malformed")),
        (body(17, (-t).into(), good.clone().into()), Some("signature-malformed")),
        (only("t", t.into()), Some("signature-missing")),
        (only("sign", good.clone().into()), Some("signature-missing")),
        (push("room", 20).to_string(), Some("signature-missing")),
        (at(21, t).replacen('{', &format!("{{\"t\":{t},"), 1), Some("signature-malformed")),
        (at(22, t).replacen('{', &format!("{{\"sign\":\"{good}\","), 1), Some("signature-malformed")),
        (at(23, t).replacen('{', "{\"event_type\":1,", 1), Some("malformed-json")),
        (at(24, t).replacen('{', "{\"event_\\u0074ype\":0,", 1), Some("malformed-json")),
        (String::new(), Some("empty")),
        (" \t\r\n ".to_owned(), Some("empty")),
        ("hello".to_owned(), Some("malformed-json")),
        ("{\"event_type\":1".to_owned(), Some("malformed-json")),
        ("{\"event_type\":1}x".to_owned(), Some("malformed-json")),
        ("[{\"event_type\":1}]".to_owned(), Some("malformed-json")),
        ("null".to_owned(), Some("malformed-json")),
        ("5".to_owned(), Some("malformed-json")),
        ("event_type=1&t=1".to_owned(), Some("malformed-json")),
        ("{}".to_owned(), Some("no-event-type")),
        ("{\"event_type\":null}".to_owned(), Some("no-event-type")),
        ("{\"event_type\":\"\"}".to_owned(), Some("no-event-type")),
        ("{\"event_type\":\"push\"}".to_owned(), Some("no-event-type")),
        ("{\"event_type\":true}".to_owned(), Some("no-event-type")),
        ("{\"event_type\":{}}".to_owned(), Some("no-event-type")),
        ("{\"data\":{\"event_type\":1}}".to_owned(), Some("no-event-type")),
        ("{\"event_type\":314,\"t\":\"x\",\"sign\":5}".to_owned(), None),
        ("{\"event_type\":328}".to_owned(), None),
    ];
    for (body, expected) in cases {
        assert_eq!(fate(&app, "/callbacks", body.as_bytes()).await.as_deref(), expected, "{body}");
    }
    assert_eq!(fate(&app, "/callbacks", b"{\"event_type\":1,\"x\":\"\xff\"}").await.as_deref(), Some("malformed-json"));
    assert_eq!(fate(&app, "/callbacks", b"\xef\xbb\xbf{\"event_type\":328}").await.as_deref(), Some("malformed-json"));
    app.finish().await;
}

#[tokio::test]
async fn the_first_check_that_fails_names_the_reason() {
    let app = Setup::new()
        .configured(|config| {
            config.signature.url_token = Some(Secret::new("tok"));
            config.server.body_limit = 1024;
        })
        .start()
        .await;
    let large = format!("{{\"event_type\":{}", " ".repeat(2000));
    let expired_and_wrong = {
        let mut body = push("a", 1);
        body["t"] = 1.into();
        body["sign"] = "0".repeat(32).into();
        body.to_string()
    };
    for (query, body, expected) in [
        ("", large.as_str(), "token"),
        ("", "", "token"),
        ("?token=tok", large.as_str(), "too-large"),
        ("?token=tok", "", "empty"),
        ("?token=tok", "{\"event_type\":\"x\",\"event_type\":1}", "malformed-json"),
        ("?token=tok", "{\"t\":\"x\"}", "no-event-type"),
        ("?token=tok", "{\"event_type\":1,\"t\":\"x\"}", "signature-malformed"),
        ("?token=tok", "{\"event_type\":1,\"t\":1}", "signature-missing"),
        ("?token=tok", expired_and_wrong.as_str(), "signature-mismatch"),
        ("?token=tok", &signed_at(&push("a", 2), 1), "signature-expired"),
    ] {
        let reason = fate(&app, &format!("/callbacks{query}"), body.as_bytes()).await;
        assert_eq!(reason.as_deref(), Some(expected), "{query} {body:.80}");
    }
    app.finish().await;
}

#[tokio::test]
async fn the_url_token_is_compared_decoded() {
    let app = Setup::new().configured(|config| config.signature.url_token = Some(Secret::new("a b&c/é"))).start().await;
    for (query, expected) in [
        ("?token=a%20b%26c%2F%C3%A9", None),
        ("?token=a+b%26c/%c3%a9", None),
        ("?action=streamBegin&token=a+b%26c/%c3%a9&x=1", None),
        ("", Some("token")),
        ("?", Some("token")),
        ("?token", Some("token")),
        ("?token=", Some("token")),
        ("?token=a", Some("token")),
        ("?Token=a+b%26c/%c3%a9", Some("token")),
        ("?token=x&token=a+b%26c/%c3%a9", Some("token")),
    ] {
        let number = u64::try_from(app.events().await.len() + app.refused().await.len()).unwrap();
        let body = app.signed(&push("room", number));
        let reason = fate(&app, &format!("/callbacks/stream-push{query}"), body.as_bytes()).await;
        assert_eq!(reason.as_deref(), expected, "{query}");
    }
    app.finish().await;
}

#[tokio::test]
async fn keys_belong_to_domains_and_events_without_one_may_match_any() {
    let key = |name: &str, key: &str, domains: &[&str]| Key {
        name: name.to_owned(),
        key: Secret::new(key),
        domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
    };
    let keys = vec![key("one", "abc123", &["one.example"]), key("two", "other", &["two.example"])];
    let app = Setup::new().configured(|config| config.signature.keys = keys).start().await;
    let t = app.t();
    for (body, expected) in [
        (json!({"event_type": 1, "app": "one.example "}), None),
        (json!({"event_type": 1, "app": "ONE.example", "x": 1}), None),
        (json!({"event_type": 1, "app": "two.example"}), Some("signature-mismatch")),
        (json!({"event_type": 1, "app": "three.example"}), Some("signature-mismatch")),
        (json!({"event_type": 338, "stream_id": "a"}), None),
        (json!({"event_type": 1, "app": null}), None),
    ] {
        assert_eq!(fate(&app, "/callbacks", signed_at(&body, t).as_bytes()).await.as_deref(), expected, "{body}");
    }
    assert_eq!(app.metric("livehook_signature_key_matches_total{key=\"one\"}").await, Some(4.0));
    assert_eq!(app.metric("livehook_signature_key_matches_total{key=\"two\"}").await, Some(0.0));
    app.finish().await;
}

#[tokio::test]
async fn without_a_key_nothing_is_checked_and_not_required_means_both_may_be_absent() {
    let app = Setup::new().configured(|config| config.signature.keys.clear()).start().await;
    app.accept("{\"event_type\":1,\"t\":\"x\",\"t\":5,\"sign\":null}").await;
    assert_eq!(app.only_event().await["verification"], "unsigned");
    app.finish().await;

    let app = Setup::new().configured(|config| config.signature.required = false).start().await;
    for (body, expected) in [
        ("{\"event_type\":1}", None),
        ("{\"event_type\":1,\"t\":1}", Some("signature-missing")),
        ("{\"event_type\":1,\"t\":\"x\"}", Some("signature-malformed")),
    ] {
        assert_eq!(fate(&app, "/callbacks", body.as_bytes()).await.as_deref(), expected, "{body}");
    }
    app.finish().await;
}

#[tokio::test]
async fn of_a_too_large_body_the_beginning_is_kept_and_never_readmitted() {
    let app = Setup::new().configured(|config| config.server.body_limit = 100_000).start().await;
    let mut exact = app.signed(&push("room", 1));
    exact.push_str(&" ".repeat(100_000 - exact.len()));
    assert_eq!(fate(&app, "/callbacks", exact.as_bytes()).await, None, "the limit itself is allowed");

    let mut large = app.signed(&push("room", 2));
    large.push_str(&" ".repeat(100_001 - large.len()));
    assert_eq!(fate(&app, "/callbacks", large.as_bytes()).await.as_deref(), Some("too-large"));
    let mut connection = app.connect().await;
    connection.send(b"POST /callbacks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for part in large.as_bytes().chunks(30_000) {
        connection.send(format!("{:x}\r\n", part.len()).as_bytes()).await;
        connection.send(part).await;
        connection.send(b"\r\n").await;
    }
    connection.send(b"0\r\n\r\n").await;
    assert_answered(&connection.response().await.unwrap());

    let items = app.refused().await;
    assert_eq!(items.len(), 2);
    for item in items {
        assert_eq!((&item["reason"], &item["truncated"]), (&"too-large".into(), &true.into()));
        assert!(item["bytes"].as_u64().unwrap() > 100_000 - 65_536, "{item}");
        let id = item["id"].as_str().unwrap();
        let kept = app.get(&format!("/api/v1/quarantine/{id}/body")).await.body;
        assert_eq!(kept, large.as_bytes()[..65_536]);
        for force in [false, true] {
            let outcome = app.call(&format!("/api/v1/quarantine/{id}/readmit"), &json!({"force": force})).await.json();
            assert_eq!(outcome, json!({"readmitted": 0, "refused": 1}));
        }
    }
    assert_eq!(app.refused().await.len(), 2, "they stay");
    app.finish().await;
}

#[tokio::test]
async fn a_small_limit_keeps_what_was_read_of_a_chunked_body() {
    let app = Setup::new().configured(|config| config.server.body_limit = 1024).start().await;
    let mut connection = app.connect().await;
    connection.send(b"POST /callbacks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    connection.send(format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(2048)).as_bytes()).await;
    assert_answered(&connection.response().await.unwrap());
    let item = &app.refused().await[0];
    let kept = app.get(&format!("/api/v1/quarantine/{}/body", item["id"].as_str().unwrap())).await.body;
    assert_eq!(item["bytes"], kept.len(), "all that was read is less than 64 KiB and kept");
    app.finish().await;
}

#[tokio::test]
async fn an_endless_body_is_answered_as_soon_as_the_limit_is_passed() {
    let app = Setup::new().configured(|config| config.server.body_limit = 1024).start().await;
    let mut connection = app.connect().await;
    connection.send(b"POST /callbacks HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n").await;
    connection.send(&[b'x'; 1025]).await;
    assert_answered(&connection.response().await.unwrap());
    while connection.try_send(&vec![b'x'; 65_536]).await.is_ok() {}
    assert_eq!(app.refused().await[0]["reason"], "too-large");
    app.clock.advance(Duration::from_secs(1));
    app.finish().await;
}
