//! Who is live, whatever CSS sends twice, late or never.

use std::time::Duration;

use serde_json::{Value, json};

use crate::app::{Setup, TestApp, eventually};

/// 2023-12-21T03:06:40Z, a few minutes before the clock of the tests.
const NOON: u64 = 1_703_128_000;

/// A body of the kind, `secs` after [`NOON`].
fn body(event_type: u64, secs: u64, sequence: &str) -> Value {
    json!({
        "event_type": event_type, "app": "push.example.com", "appname": "live", "stream_id": "room",
        "channel_id": "room", "event_time": NOON + secs, "sequence": sequence, "node": "10.0.0.1",
        "user_ip": "10.0.0.2", "stream_param": "txSecret=hidden", "errcode": 0, "errmsg": "ok",
    })
}

fn push(secs: u64, sequence: &str) -> Value {
    body(1, secs, sequence)
}

fn interruption(secs: u64, sequence: &str, errcode: i64, lasted_ms: u64) -> Value {
    let mut body = body(0, secs, sequence);
    body["errcode"] = errcode.into();
    body["push_duration"] = lasted_ms.to_string().into();
    body
}

/// The only stream there is, in full.
async fn room(app: &TestApp) -> Value {
    let listed = app.json("/api/v1/streams").await;
    assert_eq!(listed["next"], Value::Null);
    let rows = listed["streams"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{listed}");
    let shown = app.json("/api/v1/streams/push.example.com/live/room").await;
    for (member, value) in rows[0].as_object().unwrap() {
        assert_eq!(&shown[member], value, "the list and the page of the stream differ in {member}");
    }
    shown
}

/// State, sequence, end and number of pushes.
fn state(stream: &Value) -> (&str, &str, Option<&str>, u64) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    assert_eq!(stream["state"] == "live", text(&stream["ended_at"]).is_none(), "{stream}");
    (
        stream["state"].as_str().unwrap(),
        stream["sequence"].as_str().unwrap(),
        stream["end"]["class"].as_str(),
        stream["pushes"].as_u64().unwrap(),
    )
}

#[tokio::test]
async fn a_push_that_replaced_another_stays_live_when_the_old_one_is_interrupted() {
    let app = TestApp::start().await;
    app.accept_signed(&push(0, "9")).await;
    app.accept_signed(&push(60, "10")).await;
    app.accept_signed(&interruption(61, "9", 21, 61_000)).await;
    let stream = room(&app).await;
    assert_eq!(state(&stream), ("live", "10", None, 2));
    assert_eq!(stream["started_at"], "2023-12-21T03:07:40.000Z");
    assert_eq!(stream["last_event_at"], "2023-12-21T03:07:41.000Z");
    let replaced = &stream["timeline"][1];
    assert_eq!((&replaced["state"], &replaced["end"]["class"]), (&json!("ended"), &json!("replaced")));
    assert_eq!(replaced["duration_ms"], 61_000);
    assert_eq!(app.metric("livehook_streams_live").await, Some(1.0));
    app.finish().await;
}

#[tokio::test]
async fn an_interruption_that_comes_first_ends_its_push_all_the_same() {
    let app = TestApp::start().await;
    app.accept_signed(&interruption(128, "7", 1, 128_581)).await;
    let alone = room(&app).await;
    assert_eq!(state(&alone), ("ended", "7", Some("client"), 1));
    assert_eq!(alone["started_at"], "2023-12-21T03:06:39.419Z", "as long before its end as it lasted");
    app.accept_signed(&push(0, "7")).await;
    let both = room(&app).await;
    assert_eq!(state(&both), ("ended", "7", Some("client"), 1));
    assert_eq!(both["started_at"], "2023-12-21T03:06:40.000Z");
    assert_eq!((&both["ended_at"], &both["duration_ms"]), (&json!("2023-12-21T03:08:48.000Z"), &json!(128_581)));
    assert_eq!(both["end"]["errcode"], 1);
    assert_eq!(both["end"]["meaning"], "the client deleted its stream");
    app.finish().await;
}

#[tokio::test]
async fn a_missing_interruption_is_no_longer_missed_after_the_next_push() {
    let app = TestApp::start().await;
    app.accept_signed(&push(0, "7")).await;
    app.accept_signed(&push(600, "8")).await;
    app.accept_signed(&interruption(700, "8", 35, 100_000)).await;
    let stream = room(&app).await;
    assert_eq!(state(&stream), ("ended", "8", Some("client"), 2));
    let lost = &stream["timeline"][1];
    assert_eq!((&lost["state"], &lost["ended_at"], &lost["end"]), (&json!("ended"), &Value::Null, &Value::Null));
    app.finish().await;
}

#[tokio::test]
async fn old_events_that_come_an_hour_later_after_a_restart_change_nothing() {
    let app = TestApp::start().await;
    app.accept_signed(&push(0, "7")).await;
    app.accept_signed(&interruption(50, "7", 2, 50_000)).await;
    app.accept_signed(&push(60, "8")).await;
    let before = room(&app).await;
    assert_eq!(state(&before), ("live", "8", None, 2));
    let app = app.leave().await.start().await;
    assert_eq!(app.metric("livehook_streams_live").await, Some(1.0));
    app.clock.advance(Duration::from_hours(1));
    for again in [push(0, "7"), interruption(50, "7", 2, 50_000), push(60, "8")] {
        app.accept_signed(&again).await;
    }
    assert_eq!(room(&app).await, before);
    // Equal in what it tells and not in its bytes, so it is an event of its own.
    let mut other = push(0, "7");
    other["node"] = "10.0.0.9".into();
    app.accept_signed(&other).await;
    assert_eq!(room(&app).await, before);
    app.finish().await;
}

#[tokio::test]
async fn interruptions_without_a_sequence_end_what_began_before_them() {
    let app = TestApp::start().await;
    let without = |mut body: Value| {
        body.as_object_mut().unwrap().remove("sequence");
        body
    };
    app.accept_signed(&without(interruption(100, "", 12, 40_000))).await;
    app.accept_signed(&push(200, "5")).await;
    let live = room(&app).await;
    assert_eq!(state(&live), ("live", "5", None, 2));
    assert_eq!(live["timeline"][1]["started_at"], "2023-12-21T03:07:40.000Z");
    app.accept_signed(&without(interruption(300, "", 12, 100_000))).await;
    assert_eq!(state(&room(&app).await), ("ended", "5", Some("network"), 2));
    let bare = json!({
        "event_type": 0, "app": "push.example.com", "appname": "live", "stream_id": "room", "event_time": NOON + 900,
    });
    app.accept_signed(&push(400, "6")).await;
    app.accept_signed(&bare).await;
    let stream = room(&app).await;
    assert_eq!(state(&stream), ("live", "6", None, 3), "a body without anything of an interruption is none");
    assert_eq!(stream["last_event_at"], "2023-12-21T03:13:20.000Z");
    app.finish().await;
}

#[tokio::test]
async fn the_last_event_of_a_stream_is_the_latest_of_any_kind() {
    let app = TestApp::start().await;
    let others = [
        json!({"event_type": 343, "domain": "push.example.com", "appname": "live", "event_time": NOON + 100}),
        json!({"event_type": 332, "domain": "push.example.com", "path": "live", "event_time": NOON + 200,
               "record_event": "record_ended"}),
        json!({"event_type": 315, "domain": "push.example.com", "path": "live"}),
        json!({"event_type": 314, "to_url": "rtmp://push.example.com/live/x", "event_time": (NOON + 50).to_string()}),
        json!({"event_type": 344, "domain": "push.example.com", "appname": "live", "event_time": NOON + 300}),
    ];
    let mut others = others.map(|mut body| {
        body["stream_id"] = "room".into();
        body
    });
    app.accept_signed(&others[0]).await;
    assert_eq!(app.json("/api/v1/streams").await["streams"], json!([]), "nothing is known of a push");
    app.accept_signed(&push(0, "7")).await;
    assert_eq!(room(&app).await["last_event_at"], "2023-12-21T03:08:20.000Z");
    others.reverse();
    for other in &others {
        app.accept_signed(other).await;
    }
    let stream = room(&app).await;
    assert_eq!(state(&stream), ("live", "7", None, 1));
    assert_eq!(stream["last_event_at"], "2023-12-21T03:11:40.000Z");
    assert_eq!(stream["problems"], json!([]));
    app.finish().await;
}

fn recording(file: &str, end: u64, duration: u64, session: &str) -> Value {
    json!({
        "event_type": 100, "app": "push.example.com", "appname": "live", "stream_id": "room", "channel_id": "room",
        "file_id": file, "file_format": "mp4", "start_time": NOON, "end_time": NOON + end, "duration": duration,
        "file_size": 1234, "video_url": format!("http://example.com/{file}.mp4"), "task_id": session,
    })
}

fn screencapture(secs: u64) -> Value {
    json!({
        "event_type": 200, "app": "push.example.com", "appname": "live", "stream_id": "room", "channel_id": "room",
        "create_time": NOON + secs, "pic_url": "/p.jpg", "pic_full_url": format!("http://example.com/{secs}.jpg"),
    })
}

/// A number of things that go wrong.
fn problems() -> [Value; 4] {
    [
        json!({
            "event_type": 321, "domain": "push.example.com", "path": "live", "stream_id": "room", "sequence": "7",
            "data_time": (NOON + 150) * 1000, "abnormal_event": [{"type": 6, "count": 3}],
        }),
        json!({
            "event_type": 341, "domain": "push.example.com", "path": "live", "stream_id": "room", "session_id": "s2",
            "timestamp": NOON + 160, "exception_level": "error", "exception": {"type": -16, "occurs": 1, "desc": ""},
        }),
        json!({
            "event_type": 317, "app": "push.example.com", "appname": "live", "streamId": "room", "img": "http://x/",
            "type": [1], "suggestion": "Block", "label": "Porn", "score": [99], "screenshotTime": NOON + 10,
            "sendTime": NOON + 11,
        }),
        json!({
            "event_type": 332, "domain": "push.example.com", "appname": "live", "stream_id": "room", "session_id": "s2",
            "event_time": NOON + 120, "record_event": "record_error", "record_detail": "{}", "seq": "1",
        }),
    ]
}

#[tokio::test]
async fn files_pictures_and_faults_belong_to_the_push_they_were_taken_from() {
    let app = TestApp::start().await;
    for body in problems().into_iter().chain([
        // Written until after the next push had begun.
        recording("first", 102, 100, "s1"),
        screencapture(150),
        screencapture(30),
        screencapture(90),
        recording("second", 190, 80, "s2"),
    ]) {
        app.accept_signed(&body).await;
    }
    assert_eq!(app.json("/api/v1/streams").await["streams"], json!([]), "no push is known yet");
    for body in [push(0, "7"), interruption(100, "7", 1, 100_000), push(101, "8")] {
        app.accept_signed(&body).await;
    }
    let stream = room(&app).await;
    assert_eq!(state(&stream), ("live", "8", None, 2));
    assert_eq!(
        (&stream["recordings"], &stream["screencapture_url"]),
        (&json!(2), &json!("http://example.com/150.jpg"))
    );
    let [newer, older] = [&stream["timeline"][0], &stream["timeline"][1]];
    assert_eq!((&newer["sequence"], &older["sequence"]), (&json!("8"), &json!("7")));
    let files =
        |push: &Value| push["recordings"].as_array().unwrap().iter().map(|f| f["file_id"].clone()).collect::<Vec<_>>();
    assert_eq!((files(older), files(newer)), (vec![json!("first")], vec![json!("second")]));
    let file = &newer["recordings"][0];
    assert_eq!(file["url"], "http://example.com/second.mp4");
    assert_eq!(
        (&file["started_at"], &file["ended_at"]),
        (&json!("2023-12-21T03:08:30.000Z"), &json!("2023-12-21T03:09:50.000Z"))
    );
    assert_eq!(
        (&file["duration_ms"], &file["format"], &file["abnormal"]),
        (&json!(80_000), &json!("mp4"), &json!(true))
    );
    assert_eq!(older["recordings"][0]["abnormal"], false);
    assert_eq!(older["screencapture_url"], "http://example.com/90.jpg");
    assert_eq!(newer["screencapture_at"], "2023-12-21T03:09:10.000Z");
    let told = |of: &Value| {
        let line = |p: &Value| format!("{}: {}", p["kind"].as_str().unwrap(), p["detail"].as_str().unwrap());
        of["problems"].as_array().unwrap().iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(
        told(older),
        ["push-error: video frames come too far apart (3 times)", "image-audit: Block: Porn, score 99"]
    );
    assert_eq!(
        told(newer),
        ["recording-exception: error: the stream could not be pulled", "recording-status: the recording failed"]
    );
    assert_eq!((told(&stream), &stream["other_recordings"]), (vec![], &json!([])));
    let event = newer["recordings"][0]["event_id"].as_str().unwrap();
    assert_eq!(app.json(&format!("/api/v1/events/{event}")).await["kind"], "recording");
    assert!(!stream.to_string().contains("txSecret"), "{stream}");
    app.finish().await;
}

#[tokio::test]
async fn a_stream_is_listed_in_exactly_this_shape() {
    let app = TestApp::start().await;
    app.accept_signed(&push(0, "7")).await;
    let row = &app.json("/api/v1/streams?state=live&limit=1").await["streams"][0];
    assert_eq!(
        *row,
        json!({
            "domain": "push.example.com", "app": "live", "stream": "room", "state": "live", "sequence": "7",
            "started_at": "2023-12-21T03:06:40.000Z", "ended_at": null, "duration_ms": null, "end": null, "pushes": 1,
            "last_event_at": "2023-12-21T03:06:40.000Z", "recordings": 0, "screencapture_url": null,
        })
    );
    app.finish().await;
}

#[tokio::test]
async fn streams_are_found_under_any_name_and_nothing_else_is() {
    let app = TestApp::start().await;
    for (number, (domain, path, stream)) in
        [("", "", "a/b c"), ("-", "", "-"), ("d.example", "直播", "%2F"), ("d.example", "live", "..")]
            .iter()
            .enumerate()
    {
        let mut body = push(0, &number.to_string());
        (body["app"], body["appname"], body["stream_id"]) = ((*domain).into(), (*path).into(), (*stream).into());
        app.accept_signed(&body).await;
    }
    for (path, domain, stream) in [
        ("-/-/a%2Fb%20c", Value::Null, "a/b c"),
        ("--/-/-", json!("-"), "-"),
        ("d.example/live/..-", json!("d.example"), ".."),
        ("d.example/%E7%9B%B4%E6%92%AD/%252F", json!("d.example"), "%2F"),
        ("d.example/live/%2E%2E", json!("d.example"), ".."),
    ] {
        let shown = app.json(&format!("/api/v1/streams/{path}")).await;
        assert_eq!((&shown["domain"], shown["stream"].as_str()), (&domain, Some(stream)), "{path}");
    }
    assert_eq!(app.json("/api/v1/streams?domain=").await["streams"].as_array().unwrap().len(), 1);
    assert_eq!(app.json("/api/v1/streams?domain=d.example&app=live").await["streams"].as_array().unwrap().len(), 1);
    assert_eq!(app.json("/api/v1/streams?state=ended").await["streams"], json!([]));
    for (target, status) in [
        ("streams?state=maybe", 400),
        ("streams?limit=0", 400),
        ("streams?cursor=x", 400),
        ("streams?stream=x", 400),
        ("streams/d.example/live/nobody", 404),
        ("streams/d.example", 404),
        ("streams///x", 404),
    ] {
        let answer = app.get(&format!("/api/v1/{target}")).await;
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    app.finish().await;
}

#[tokio::test]
async fn pages_of_streams_are_right_while_they_come_and_go() {
    let app = TestApp::start().await;
    for number in 0..25 {
        let mut body = push(number, "1");
        body["stream_id"] = format!("room-{number:02}").into();
        app.accept_signed(&body).await;
    }
    let mut seen = Vec::new();
    let mut target = "/api/v1/streams?limit=10".to_owned();
    for page in 0.. {
        let found = app.json(&target).await;
        seen.extend(found["streams"].as_array().unwrap().iter().map(|row| row["stream"].as_str().unwrap().to_owned()));
        let mut ended = interruption(500, "1", 1, 1000);
        ended["stream_id"] = format!("room-{:02}", page * 10).into();
        app.accept_signed(&ended).await;
        let mut new = push(600, "1");
        new["stream_id"] = format!("lobby-{page}").into();
        app.accept_signed(&new).await;
        let Some(next) = found["next"].as_str() else { break };
        target = format!("/api/v1/streams?limit=10&cursor={next}");
    }
    let expected: Vec<_> = (0..25).map(|number| format!("room-{number:02}")).collect();
    assert_eq!(seen, expected);
    assert_eq!(app.metric("livehook_streams_live").await, Some(25.0), "three of 28 have ended");
    app.finish().await;
}

#[tokio::test]
async fn live_streams_outlive_retention_and_ended_ones_go_with_their_last_event() {
    let app = TestApp::start().await;
    app.accept_signed(&push(0, "7")).await;
    for mut body in [push(0, "8"), interruption(50, "8", 1, 50_000)] {
        body["stream_id"] = "over".into();
        app.accept_signed(&body).await;
    }
    assert_eq!(app.json("/api/v1/streams").await["streams"].as_array().unwrap().len(), 2);
    let next = app.leave().await;
    let app = next.start().await;
    app.clock.advance(Duration::from_hours(31 * 24));
    eventually("events are pruned", async || app.events().await.is_empty().then_some(())).await;
    let stream = room(&app).await;
    assert_eq!(state(&stream), ("live", "7", None, 1));
    app.accept_signed(&interruption(90, "7", 1, 90_000)).await;
    assert_eq!(state(&room(&app).await), ("ended", "7", Some("client"), 1));
    assert_eq!(room(&app).await["started_at"], "2023-12-21T03:06:40.000Z");
    app.finish().await;
}

#[tokio::test]
async fn streams_made_anew_are_what_they_were() {
    let app = Setup::new().start().await;
    for number in 0..30 {
        let stream = format!("room-{}", number % 7);
        for mut body in
            [push(number * 10, &number.to_string()), interruption(number * 10 + 5, &number.to_string(), 2, 5000)]
        {
            body["stream_id"] = stream.clone().into();
            if number % 5 > 0 || body["event_type"] == 1 {
                app.accept_signed(&body).await;
            }
        }
    }
    for body in problems() {
        app.accept_signed(&body).await;
    }
    let before = app.json("/api/v1/streams").await;
    let answer = app.call("/api/v1/streams/rebuild", &json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    eventually("streams are made anew", async || {
        let progress = app.json("/api/v1/streams/rebuild").await;
        (progress["state"] == "idle").then_some(())
    })
    .await;
    assert_eq!(app.json("/api/v1/streams").await, before);
    app.finish().await;
}

crate::place::also_on_postgres! {
    a_push_that_replaced_another_stays_live_when_the_old_one_is_interrupted,
    an_interruption_that_comes_first_ends_its_push_all_the_same,
    a_missing_interruption_is_no_longer_missed_after_the_next_push,
    old_events_that_come_an_hour_later_after_a_restart_change_nothing,
    interruptions_without_a_sequence_end_what_began_before_them,
    files_pictures_and_faults_belong_to_the_push_they_were_taken_from,
    the_last_event_of_a_stream_is_the_latest_of_any_kind,
    a_stream_is_listed_in_exactly_this_shape,
    streams_are_found_under_any_name_and_nothing_else_is,
    pages_of_streams_are_right_while_they_come_and_go,
    live_streams_outlive_retention_and_ended_ones_go_with_their_last_event,
    streams_made_anew_are_what_they_were,
}
