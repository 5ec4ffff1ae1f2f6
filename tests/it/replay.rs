//! Replays: what was delivered is delivered once more, when a person asks for it.

use std::collections::HashMap;
use std::time::Duration;

use livehook::event::Kind;
use livehook::handler::when::When;
use livehook::handler::{Filter, Policy};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, eventually, push};
use crate::http::Response;
use crate::recorder::{Act, Recorder};

async fn replay(app: &TestApp, wish: &Value) -> Response {
    app.call("/api/v1/replay", wish).await
}

async fn replayed(app: &TestApp, wish: &Value) -> Value {
    let response = replay(app, wish).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

/// Begins one in the background and returns its number.
async fn begin(app: &TestApp, wish: &Value) -> String {
    let response = replay(app, wish).await;
    assert_eq!(response.status, 202, "{}", response.text());
    response.json()["id"].as_str().unwrap().to_owned()
}

async fn row(app: &TestApp, id: &str) -> Value {
    app.json(&format!("/api/v1/replay/{id}")).await
}

fn counts(matched: u64, queued: u64) -> Value {
    json!({"matched": matched, "queued": queued})
}

/// Accepts pushes of three streams.
async fn accept(app: &TestApp, numbers: std::ops::Range<u64>) {
    for number in numbers {
        app.accept_signed(&push(&format!("room-{}", number % 3), number)).await;
    }
}

/// Waits until so many attempts have ended well.
async fn wait_for(what: &str, recorder: &Recorder, count: usize) {
    eventually(what, async || (recorder.done().len() == count).then_some(())).await;
}

#[tokio::test]
async fn what_is_done_is_delivered_again_under_the_same_id_and_marked_as_a_replay() {
    let recorder = Recorder::new();
    let app = Setup::new().handler("rooms", &recorder).start().await;
    accept(&app, 0..9).await;
    app.await_deliveries("done", 9).await;
    assert_eq!(replayed(&app, &json!({"dry_run": true})).await, counts(9, 0));
    assert_eq!(recorder.calls().len(), 9, "a dry run delivers nothing");
    assert_eq!(replayed(&app, &json!({})).await, counts(9, 9));
    wait_for("all are made again", &recorder, 18).await;
    app.await_deliveries("done", 9).await;
    assert!(app.deliveries("done").await.iter().all(|row| row["replay"] == true && row["attempts"] == 1));
    let mut times: HashMap<_, usize> = HashMap::new();
    recorder.done().iter().for_each(|call| *times.entry(call.id).or_default() += 1);
    assert!(times.len() == 9 && times.values().all(|n| *n == 2), "{times:?}");
    assert_eq!(replayed(&app, &json!({})).await, counts(9, 9), "as often as asked for");
    wait_for("and again", &recorder, 27).await;
    assert!(recorder.overlapped().is_empty());
    app.finish().await;
}

#[tokio::test]
async fn events_are_chosen_by_every_filter_and_by_id() {
    let recorder = Recorder::new();
    let app = Setup::new().handler("rooms", &recorder).start().await;
    for number in 0..6 {
        let mut body = push(&format!("room-{}", number % 2), number);
        body["appname"] = if number < 3 { "live" } else { "vod" }.into();
        body["app"] = format!("d{}.example", number % 3).into();
        app.accept_signed(&body).await;
        app.clock.advance(Duration::from_mins(1));
    }
    app.accept("{\"event_type\":328,\"stream_id\":\"room-0\"}").await;
    app.await_deliveries("done", 7).await;
    let ids: Vec<_> = app.events().await.iter().take(2).map(|row| row["id"].clone()).collect();
    for (wish, expected) in [
        (json!({"kind": "stream-push"}), 6),
        (json!({"kind": "relay"}), 0),
        (json!({"domain": "d1.example"}), 2),
        (json!({"app": "vod"}), 3),
        (json!({"stream": "room-0"}), 4),
        (json!({"stream": "room-0", "app": "live"}), 2),
        (json!({"since": "2023-12-21T03:13:37.104Z"}), 6),
        (json!({"until": "2023-12-21T03:13:37.104Z"}), 1),
        (json!({"ids": ids}), 2),
        (json!({"ids": [ids[0], ids[0]]}), 1),
    ] {
        assert_eq!(replayed(&app, &wish).await, counts(expected, expected), "{wish}");
        app.await_deliveries("done", 7).await;
    }
    app.finish().await;
}

#[tokio::test]
async fn dead_and_dropped_ones_come_back_pending_ones_stay_and_missing_ones_are_made() {
    let bad = Recorder::with(|_, attempt| if attempt == 1 { Act::Permanent } else { Act::Done });
    let app = Setup::new().handler("bad", &bad).start().await;
    accept(&app, 0..4).await;
    let dead = app.await_deliveries("dead", 4).await;
    let first = format!("/api/v1/deliveries/{}/bad/drop", dead[0]["event_id"].as_str().unwrap());
    assert_eq!(app.call(&first, &json!({})).await.status, 200);
    let new = Recorder::new();
    let app = app.leave().await.handler("bad", &bad).handler("new", &new).start().await;
    assert_eq!(app.call("/api/v1/handlers/bad/pause", &json!({})).await.status, 200);
    assert_eq!(replayed(&app, &json!({"handlers": ["bad"]})).await, counts(4, 4));
    assert_eq!(app.metric("livehook_dead_letters{handler=\"bad\"}").await, Some(0.0));
    assert_eq!(replayed(&app, &json!({"handlers": ["bad"]})).await, counts(4, 0), "they are pending");
    assert!(new.calls().is_empty(), "what is new gets older events only by replay");
    assert_eq!(replayed(&app, &json!({})).await, counts(4, 4));
    wait_for("what was missing", &new, 4).await;
    assert_eq!(app.call("/api/v1/handlers/bad/resume", &json!({})).await.status, 200);
    wait_for("what was dead and dropped", &bad, 4).await;
    app.finish().await;
}

#[tokio::test]
async fn a_replay_queues_behind_what_is_pending_of_its_stream_even_after_a_restart() {
    let recorder = Recorder::new();
    let app = Setup::new().handler("rooms", &recorder).start().await;
    for number in 0..3 {
        app.accept_signed(&push("room", number)).await;
    }
    app.await_deliveries("done", 3).await;
    app.call("/api/v1/handlers/rooms/pause", &json!({})).await;
    app.accept_signed(&push("room", 3)).await;
    assert_eq!(replayed(&app, &json!({"until": "2023-12-21T03:13:00Z"})).await, counts(4, 3));
    let app = app.leave().await.handler("rooms", &recorder).start().await;
    app.accept_signed(&push("room", 4)).await;
    app.call("/api/v1/handlers/rooms/resume", &json!({})).await;
    wait_for("all of them", &recorder, 8).await;
    let number = |call: &crate::recorder::Call| {
        serde_json::from_slice::<Value>(&call.body).unwrap()["event_time"].as_u64().unwrap() - 1_703_128_000
    };
    assert_eq!(recorder.done()[3..].iter().map(number).collect::<Vec<_>>(), [3, 0, 1, 2, 4]);
    app.finish().await;
}

#[tokio::test]
async fn filters_of_a_handler_hold_for_replays_too() {
    let (pushes, all) = (Recorder::new(), Recorder::new());
    let filter = Filter { kinds: Some(vec![Kind::StreamPush]), ..Filter::default() };
    let app =
        Setup::new().policy(Policy { filter, ..Policy::new("pushes") }, &pushes).handler("all", &all).start().await;
    accept(&app, 0..2).await;
    app.accept("{\"event_type\":328,\"stream_id\":\"room-0\"}").await;
    app.await_deliveries("done", 5).await;
    assert_eq!(replayed(&app, &json!({"handlers": ["pushes"]})).await, counts(3, 2));
    assert_eq!(replayed(&app, &json!({"handlers": ["all", "pushes"], "kind": "monitor"})).await, counts(1, 1));
    wait_for("pushes", &pushes, 4).await;
    wait_for("all", &all, 4).await;
    app.finish().await;
}

#[tokio::test]
async fn an_expression_of_a_handler_holds_for_replays_too() {
    let (second, all) = (Recorder::new(), Recorder::new());
    let when = "data.event_time == 1703128001 || data.event_time == 1703128002 && data.nowhere == 1";
    let when = Some(When::compile(when).unwrap());
    let filter = Filter { kinds: Some(vec![Kind::StreamPush]), when, ..Filter::default() };
    let app =
        Setup::new().policy(Policy { filter, ..Policy::new("second") }, &second).handler("all", &all).start().await;
    let errors = "livehook_filter_errors_total{handler=\"second\"}";
    assert_eq!(app.metric(errors).await, Some(0.0));
    accept(&app, 0..3).await;
    app.await_deliveries("done", 5).await;
    assert_eq!(app.metric(errors).await, Some(1.0), "one came to no result, and was delivered");
    assert_eq!(replayed(&app, &json!({"handlers": ["second"]})).await, counts(3, 2));
    wait_for("again", &second, 4).await;
    assert_eq!(app.metric(errors).await, Some(2.0));
    let kept = |call: &crate::recorder::Call| call.stream.as_deref() != Some("room-0");
    assert!(second.done().iter().all(kept), "what it does not hold for never comes");
    app.finish().await;
}

#[tokio::test]
async fn what_a_replay_cannot_mean_is_said() {
    let app = Setup::new().handler("rooms", &Recorder::new()).start().await;
    accept(&app, 0..1).await;
    app.await_deliveries("done", 1).await;
    for (wish, status) in [
        (json!({"kind": "nothing"}), 400),
        (json!({"since": "yesterday"}), 400),
        (json!({"handlers": ["nobody"]}), 400),
        (json!({"handlers": []}), 400),
        (json!({"ids": []}), 400),
        (json!({"ids": ["nonsense"]}), 400),
        (json!({"ids": ["0198c7e0-0000-7000-8000-000000000000"]}), 404),
        (json!({"ids": ["0198c7e0-0000-7000-8000-000000000000"], "kind": "relay"}), 400),
        (json!({"rate": 0}), 400),
        (json!({"rate": -1}), 400),
        (json!({"colour": "red"}), 400),
        (json!({"dry_run": "yes"}), 400),
    ] {
        let response = replay(&app, &wish).await;
        assert_eq!(response.status, status, "{wish}: {}", response.text());
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
    }
    assert_eq!(app.json("/api/v1/replay").await, json!({"replays": []}));
    assert_eq!(app.get("/api/v1/replay/5").await.status, 404);
    assert_eq!(app.call("/api/v1/replay/x/cancel", &json!({})).await.status, 404);
    app.finish().await;
}

#[tokio::test]
async fn a_replay_with_a_rate_goes_on_as_time_does_and_can_be_cancelled() {
    let recorder = Recorder::new();
    let app = Setup::new().handler("rooms", &recorder).start().await;
    accept(&app, 0..9).await;
    app.await_deliveries("done", 9).await;
    let id = begin(&app, &json!({"rate": 2, "background": true})).await;
    wait_for("what the first second brings", &recorder, 11).await;
    let now = row(&app, &id).await;
    assert_eq!((&now["state"], &now["matched"], &now["queued"]), (&"running".into(), &9.into(), &2.into()));
    app.clock.advance(Duration::from_secs(1));
    wait_for("the next second", &recorder, 13).await;
    let cancelled = app.call(&format!("/api/v1/replay/{id}/cancel"), &json!({})).await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &"cancelled".into()));
    app.clock.advance(Duration::from_mins(1));
    assert_eq!(app.call(&format!("/api/v1/replay/{id}/cancel"), &json!({})).await.status, 200, "repeating is harmless");
    let next = begin(&app, &json!({"ids": [app.events().await[0]["id"]], "background": true})).await;
    eventually("the next is done", async || (row(&app, &next).await["state"] == "done").then_some(())).await;
    app.await_deliveries("done", 9).await;
    assert_eq!(recorder.done().len(), 14, "nothing of the first came after its end");
    assert_eq!(app.call(&format!("/api/v1/replay/{next}/cancel"), &json!({})).await.status, 409);
    let all = app.json("/api/v1/replay").await;
    let states: Vec<_> = all["replays"].as_array().unwrap().iter().map(|replay| &replay["state"]).collect();
    assert_eq!(states, ["done", "cancelled"]);
    app.finish().await;
}

#[tokio::test]
async fn a_replay_goes_on_after_a_restart_where_it_was_and_queues_nothing_twice() {
    let recorder = Recorder::new();
    let app = Setup::new().handler("rooms", &recorder).start().await;
    accept(&app, 0..10).await;
    app.await_deliveries("done", 10).await;
    let id = begin(&app, &json!({"rate": 4, "background": true})).await;
    wait_for("a part", &recorder, 14).await;
    app.await_deliveries("done", 10).await;
    let app = app.leave().await.handler("rooms", &recorder).start().await;
    eventually("the rest, as time goes by", async || {
        app.clock.advance(Duration::from_secs(1));
        (row(&app, &id).await["state"] == "done").then_some(())
    })
    .await;
    wait_for("each once more", &recorder, 20).await;
    let ended = row(&app, &id).await;
    assert_eq!((&ended["replayed"], &ended["queued"]), (&10.into(), &10.into()));
    assert!(ended["ended_at"].is_string(), "{ended}");
    app.finish().await;
}

#[tokio::test]
async fn more_than_a_page_is_replayed_in_order() {
    let recorder = Recorder::new();
    let app = Setup::new().handler("rooms", &recorder).start().await;
    import(&app, 0..1_100).await;
    wait_for("all", &recorder, 1_100).await;
    assert_eq!(replayed(&app, &json!({})).await, counts(1_100, 1_100));
    wait_for("all once more", &recorder, 2_200).await;
    let again: Vec<_> = recorder.done().split_off(1_100);
    for stream in ["room-0", "room-1"] {
        let of = again.iter().filter(|call| call.stream.as_deref() == Some(stream));
        let bodies: Vec<_> =
            of.map(|call| serde_json::from_slice::<Value>(&call.body).unwrap()["event_time"].as_u64()).collect();
        assert!(bodies.len() == 367 && bodies.is_sorted(), "{stream}");
    }
    app.finish().await;
}

#[tokio::test]
async fn what_comes_while_a_replay_runs_pushes_nothing_out_of_it() {
    let recorder = Recorder::new();
    let app = Setup::new().handler("rooms", &recorder).start().await;
    import(&app, 0..1_100).await;
    wait_for("all", &recorder, 1_100).await;
    let id = begin(&app, &json!({"rate": 100, "background": true})).await;
    wait_for("what the first second brings", &recorder, 1_200).await;
    // The newest of the former are on the last page that the replay reads.
    import(&app, 2_000..3_050).await;
    eventually("the rest, as time goes by", async || {
        app.clock.advance(Duration::from_secs(1));
        (row(&app, &id).await["state"] == "done").then_some(())
    })
    .await;
    let ended = row(&app, &id).await;
    assert_eq!((&ended["matched"], &ended["queued"]), (&1_100.into(), &1_100.into()));
    wait_for("each of the former twice, and the others", &recorder, 2 * 1_100 + 1_050).await;
    app.finish().await;
}

/// Has push events of these numbers stored.
async fn import(app: &TestApp, numbers: std::ops::Range<u64>) {
    let lines: Vec<_> = numbers.map(|number| spill(app, number)).collect();
    let types = [("Content-Type", "application/x-ndjson")];
    for some in lines.chunks(100) {
        let import = crate::http::request("POST", "/api/v1/import", &types, some.join("\n").as_bytes());
        assert_eq!(crate::http::ask(app.admin, &import).await.json()["imported"], some.len());
    }
}

/// A spilled line.
fn spill(app: &TestApp, number: u64) -> String {
    use base64::Engine as _;
    let body = app.signed(&push(&format!("room-{}", number % 3), number));
    let body = base64::engine::general_purpose::STANDARD.encode(body);
    json!({"spill": 1, "received_at": "2023-12-21T03:12:37.104Z", "path": "/callbacks", "refusal": null, "body_base64": body})
        .to_string()
}

crate::place::also_on_postgres! {
    what_is_done_is_delivered_again_under_the_same_id_and_marked_as_a_replay,
    events_are_chosen_by_every_filter_and_by_id,
    dead_and_dropped_ones_come_back_pending_ones_stay_and_missing_ones_are_made,
    a_replay_queues_behind_what_is_pending_of_its_stream_even_after_a_restart,
    filters_of_a_handler_hold_for_replays_too,
    an_expression_of_a_handler_holds_for_replays_too,
    what_a_replay_cannot_mean_is_said,
    a_replay_with_a_rate_goes_on_as_time_does_and_can_be_cancelled,
    a_replay_goes_on_after_a_restart_where_it_was_and_queues_nothing_twice,
    more_than_a_page_is_replayed_in_order,
    what_comes_while_a_replay_runs_pushes_nothing_out_of_it,
}
