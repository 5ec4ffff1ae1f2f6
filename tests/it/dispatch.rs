//! The second road: what is owed arrives, in order, again and again until somebody says otherwise.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use livehook::event::Kind;
use livehook::handler::{Filter, Order, Policy, RetryPolicy};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use wildmatch::WildMatch;

use crate::app::{Setup, TestApp, eventually, push};
use crate::recorder::{Act, Call, Recorder};

async fn calls(recorder: &Recorder, count: usize) -> Vec<Call> {
    eventually(&format!("{count} attempts"), async || Some(recorder.calls()).filter(|calls| calls.len() >= count)).await
}

fn number(call: &Call) -> u64 {
    let body: Value = serde_json::from_slice(&call.body).unwrap();
    body["event_time"].as_u64().unwrap() - 1_703_128_000
}

/// The event's id in an API path.
fn delivery(row: &Value) -> String {
    format!("/api/v1/deliveries/{}/{}", row["event_id"].as_str().unwrap(), row["handler"].as_str().unwrap())
}

#[tokio::test]
async fn events_of_a_stream_arrive_one_at_a_time_in_the_order_of_storing() {
    let recorder = Recorder::new();
    let app = Setup::new().handler("rooms", &recorder).start().await;
    for number in 0..40 {
        app.accept_signed(&push(&format!("room-{}", number % 4), number)).await;
    }
    let calls = calls(&recorder, 40).await;
    let mut by_stream: HashMap<_, Vec<u64>> = HashMap::new();
    for call in &calls {
        by_stream.entry(call.stream.clone()).or_default().push(number(call));
    }
    assert_eq!(by_stream.len(), 4);
    assert!(by_stream.values().all(|numbers| numbers.is_sorted() && numbers.len() == 10), "{by_stream:?}");
    assert!(recorder.overlapped().is_empty());
    app.finish().await;
}

#[tokio::test]
async fn a_failing_head_holds_back_its_own_stream_only() {
    let recorder = Recorder::with(|event, attempt| match (event.facts.stream.as_deref(), attempt) {
        (Some("bad"), 1) => Act::FailFor(Duration::from_mins(1)),
        _ => Act::Done,
    });
    let app = Setup::new().handler("rooms", &recorder).start().await;
    for number in 0..3 {
        app.accept_signed(&push("bad", number)).await;
        app.accept_signed(&push("good", 10 + number)).await;
    }
    app.await_deliveries("done", 3).await;
    let bad: Vec<_> = recorder.calls().into_iter().filter(|call| call.stream.as_deref() == Some("bad")).collect();
    assert_eq!(bad.len(), 1, "the others wait behind the first");
    for _ in 0..3 {
        app.clock.advance(Duration::from_mins(1));
        let before = recorder.calls().len();
        eventually("the next", async || (recorder.calls().len() > before).then_some(())).await;
    }
    eventually("the rest", async || {
        app.clock.advance(Duration::from_mins(1));
        app.pending().await.is_empty().then_some(())
    })
    .await;
    let done: Vec<_> = recorder.done().iter().filter(|c| c.stream.as_deref() == Some("bad")).map(number).collect();
    assert_eq!(done, [0, 1, 2]);
    app.finish().await;
}

#[tokio::test]
async fn without_order_nobody_waits_and_concurrency_is_bounded() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let recorder = Recorder::with(move |_, _| Act::Wait(Arc::clone(&wait), Box::new(Act::Done)));
    let policy = Policy { order: Order::None, concurrency: 3, ..Policy::new("free") };
    let app = Setup::new().policy(policy, &recorder).start().await;
    for number in 0..10 {
        app.accept_signed(&push("one", number)).await;
    }
    calls(&recorder, 3).await;
    assert_eq!(recorder.calls().len(), 3);
    gate.add_permits(10);
    app.await_deliveries("done", 10).await;
    assert_eq!(recorder.most_running(), 3);
    assert!(!recorder.overlapped().is_empty());
    app.finish().await;
}

#[tokio::test]
async fn what_waits_for_nobody_is_tried_again_when_its_time_has_come() {
    let recorder =
        Recorder::with(|_, attempt| if attempt == 1 { Act::FailFor(Duration::from_mins(30)) } else { Act::Done });
    let app = Setup::new().policy(Policy { order: Order::None, ..Policy::new("free") }, &recorder).start().await;
    app.accept_signed(&push("one", 1)).await;
    eventually("the failure is recorded", async || {
        app.pending().await.first().filter(|row| row["attempts"] == 1).map(|_| ())
    })
    .await;
    app.clock.advance(Duration::from_mins(31));
    app.await_deliveries("done", 1).await;
    assert_eq!(recorder.calls().len(), 2);
    app.finish().await;
}

#[tokio::test]
async fn events_that_name_no_stream_wait_for_none() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let recorder = Recorder::with(move |_, _| Act::Wait(Arc::clone(&wait), Box::new(Act::Done)));
    let app = Setup::new().handler("rooms", &recorder).start().await;
    for number in 0..3 {
        app.accept_signed(&push(" ", number)).await;
    }
    calls(&recorder, 3).await;
    assert_eq!(recorder.most_running(), 3);
    gate.add_permits(3);
    app.finish().await;
}

#[tokio::test]
async fn the_same_stream_name_elsewhere_is_another_stream() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let recorder = Recorder::with(move |_, _| Act::Wait(Arc::clone(&wait), Box::new(Act::Done)));
    let app = Setup::new().handler("rooms", &recorder).start().await;
    for (number, domain, path) in [(1, "a", "live"), (2, "b", "live"), (3, "a", "vod"), (4, "a", "live")] {
        let mut body = push("room", number);
        body["app"] = domain.into();
        body["appname"] = path.into();
        app.accept_signed(&body).await;
    }
    calls(&recorder, 3).await;
    assert_eq!(recorder.calls().iter().map(number).collect::<Vec<_>>(), [1, 2, 3]);
    gate.add_permits(4);
    app.finish().await;
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_or_panics_is_made_again() {
    let recorder = Recorder::with(|_, attempt| match attempt {
        1 => Act::Hang,
        2 => Act::Panic,
        _ => Act::Done,
    });
    let policy = Policy { timeout: Duration::from_millis(50), ..Policy::new("rooms") };
    let app = Setup::new().policy(policy, &recorder).start().await;
    app.accept_signed(&push("room", 1)).await;
    let found = eventually("a first failure", async || {
        app.pending().await.into_iter().find(|delivery| delivery["attempts"] == 1)
    })
    .await;
    assert!(found["last_error"].as_str().unwrap().contains("50ms"), "{found}");
    eventually("done", async || {
        app.clock.advance(Duration::from_secs(5));
        app.pending().await.is_empty().then_some(())
    })
    .await;
    let done = app.deliveries("done").await;
    assert_eq!(done[0]["attempts"], 3);
    assert_eq!(done[0]["next_attempt_at"], Value::Null);
    let count = async |outcome: &str| {
        app.metric(&format!("livehook_handler_attempts_total{{handler=\"rooms\",outcome=\"{outcome}\"}}")).await
    };
    assert_eq!((count("retry").await, count("done").await, count("dead").await), (Some(2.0), Some(1.0), Some(0.0)));
    app.finish().await;
}

#[tokio::test]
async fn nothing_is_tried_again_before_its_time() {
    let recorder = Recorder::with(|event, attempt| match (event.facts.stream.as_deref(), attempt) {
        (Some("room"), 1) => Act::FailFor(Duration::from_mins(30)),
        _ => Act::Done,
    });
    let app = Setup::new().handler("rooms", &recorder).start().await;
    app.accept_signed(&push("room", 1)).await;
    let found = eventually("a failure", async || app.pending().await.into_iter().find(|d| d["attempts"] == 1)).await;
    assert_eq!(found["next_attempt_at"], "2023-12-21T03:42:37.104Z", "Retry-After counts above max_delay");
    app.clock.advance(Duration::from_secs(1799));
    app.accept_signed(&push("other", 2)).await;
    app.await_deliveries("done", 1).await;
    assert_eq!(recorder.calls().iter().filter(|call| number(call) == 1).count(), 1);
    app.clock.advance(Duration::from_secs(1));
    app.await_deliveries("done", 2).await;
    app.finish().await;
}

#[tokio::test]
async fn attempts_run_out_and_a_dead_delivery_holds_nobody_back() {
    let recorder = Recorder::with(|event, _| match event.facts.event_type {
        Some(1) => Act::Permanent,
        Some(0) => Act::Fail,
        _ => Act::Done,
    });
    let retry = RetryPolicy { max_attempts: 3, min_delay: Duration::from_secs(1), max_delay: Duration::from_secs(4) };
    let app = Setup::new().policy(Policy { retry, ..Policy::new("rooms") }, &recorder).start().await;
    let mut interruption = push("room", 2);
    interruption["event_type"] = 0.into();
    let mut recording = push("room", 3);
    recording["event_type"] = 100.into();
    for body in [push("room", 1), interruption, recording] {
        app.accept_signed(&body).await;
    }
    eventually("all ended", async || {
        app.clock.advance(Duration::from_secs(4));
        app.pending().await.is_empty().then_some(())
    })
    .await;
    let attempts: Vec<_> = recorder.calls().iter().map(number).collect();
    assert_eq!(attempts, [1, 2, 2, 2, 3]);
    let dead = app.deliveries("dead").await;
    assert_eq!(dead.len(), 2);
    assert_eq!((&dead[0]["attempts"], &dead[1]["attempts"]), (&3.into(), &1.into()), "newest first");
    assert_eq!(dead[1]["last_error"], "told to give up");
    assert_eq!(app.metric("livehook_dead_letters{handler=\"rooms\"}").await, Some(2.0));
    app.finish().await;
}

#[tokio::test]
async fn dead_deliveries_are_retried_with_a_fresh_allowance_or_dropped() {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let recorder = Recorder::with(move |_, attempt| match (attempt, open.available_permits()) {
        (_, 0) => Act::Permanent,
        _ => Act::Done,
    });
    let app = Setup::new().handler("rooms", &recorder).start().await;
    for number in 0..2 {
        app.accept_signed(&push("room", number)).await;
    }
    let dead = app.await_deliveries("dead", 2).await;
    let dropped = app.call(&format!("{}/drop", delivery(&dead[0])), &json!({})).await;
    assert_eq!((dropped.status, &dropped.json()["state"]), (200, &"dropped".into()));
    let again = app.call(&format!("{}/drop", delivery(&dead[0])), &json!({})).await;
    assert_eq!((again.status, &again.json()["state"]), (200, &"dropped".into()), "repeating is harmless");
    assert_eq!(app.metric("livehook_dead_letters{handler=\"rooms\"}").await, Some(1.0));
    gate.add_permits(1);
    for row in &dead {
        let retried = app.call(&format!("{}/retry", delivery(row)), &json!({})).await;
        assert_eq!((retried.status, &retried.json()["attempts"]), (200, &0.into()), "{}", retried.text());
    }
    let done = app.await_deliveries("done", 2).await;
    assert_eq!(done[0]["attempts"], 1);
    for verdict in ["retry", "drop"] {
        assert_eq!(app.call(&format!("{}/{verdict}", delivery(&done[0])), &json!({})).await.status, 409);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_delivery_dropped_in_hand_is_not_doubled_and_its_stream_waits_for_the_attempt() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let recorder = Recorder::with(move |_, _| Act::Wait(Arc::clone(&wait), Box::new(Act::Done)));
    let app = Setup::new().handler("rooms", &recorder).start().await;
    app.accept_signed(&push("room", 1)).await;
    calls(&recorder, 1).await;
    let first = app.pending().await.remove(0);
    assert_eq!(app.call(&format!("{}/drop", delivery(&first)), &json!({})).await.json()["state"], "dropped");
    app.accept_signed(&push("room", 2)).await;
    app.accept_signed(&push("elsewhere", 3)).await;
    calls(&recorder, 2).await;
    assert!(recorder.overlapped().is_empty(), "the second of the stream waits for the attempt in hand");
    gate.add_permits(3);
    app.await_deliveries("done", 2).await;
    let dropped = app.deliveries("dropped").await;
    assert_eq!((&dropped[0]["event_id"], &dropped[0]["attempts"]), (&first["event_id"], &1.into()));
    assert_eq!(recorder.calls().len(), 3);
    assert!(recorder.overlapped().is_empty());
    app.finish().await;
}

#[tokio::test]
async fn what_is_dropped_before_its_attempt_begins_is_not_attempted() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let recorder = Recorder::with(move |_, _| Act::Wait(Arc::clone(&wait), Box::new(Act::Done)));
    let app = Setup::new().policy(Policy { concurrency: 1, ..Policy::new("rooms") }, &recorder).start().await;
    app.accept_signed(&push("first", 1)).await;
    calls(&recorder, 1).await;
    for (number, stream) in [(2, "dropped"), (3, "retried"), (4, "last")] {
        app.accept_signed(&push(stream, number)).await;
    }
    // The newest first; all but the last are claimed and wait for the one attempt that may run.
    let waiting = app.pending().await;
    for row in &waiting[1..3] {
        assert_eq!(app.call(&format!("{}/drop", delivery(row)), &json!({})).await.json()["state"], "dropped");
    }
    let retried = &waiting[1];
    assert_eq!(app.call(&format!("{}/retry", delivery(retried)), &json!({})).await.json()["state"], "pending");
    gate.add_permits(3);
    app.await_deliveries("done", 3).await;
    let mut streams: Vec<_> = recorder.calls().into_iter().filter_map(|call| call.stream).collect();
    streams.sort();
    assert_eq!(streams, ["first", "last", "retried"]);
    app.finish().await;
}

#[tokio::test]
async fn retrying_what_is_in_hand_does_not_double_it() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let recorder = Recorder::with(move |_, _| Act::Wait(Arc::clone(&wait), Box::new(Act::Done)));
    let app = Setup::new().handler("rooms", &recorder).start().await;
    app.accept_signed(&push("room", 1)).await;
    calls(&recorder, 1).await;
    let first = app.pending().await.remove(0);
    for verdict in ["retry", "drop", "retry", "retry"] {
        assert_eq!(app.call(&format!("{}/{verdict}", delivery(&first)), &json!({})).await.status, 200);
    }
    app.accept_signed(&push("elsewhere", 2)).await;
    calls(&recorder, 2).await;
    assert!(recorder.overlapped().is_empty());
    gate.add_permits(2);
    app.await_deliveries("done", 2).await;
    assert_eq!(recorder.calls().len(), 2);
    app.finish().await;
}

#[tokio::test]
async fn a_retry_during_the_last_attempt_still_gives_a_fresh_allowance() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let recorder = Recorder::with(move |_, attempt| {
        let then = if attempt == 1 { Act::Fail } else { Act::Done };
        Act::Wait(Arc::clone(&wait), Box::new(then))
    });
    let retry = RetryPolicy { max_attempts: 1, ..RetryPolicy::default() };
    let app = Setup::new().policy(Policy { retry, ..Policy::new("rooms") }, &recorder).start().await;
    app.accept_signed(&push("room", 1)).await;
    calls(&recorder, 1).await;
    let first = app.pending().await.remove(0);
    app.call(&format!("{}/retry", delivery(&first)), &json!({})).await;
    gate.add_permits(2);
    eventually("done", async || {
        app.clock.advance(Duration::from_secs(1));
        (app.deliveries("done").await.len() == 1).then_some(())
    })
    .await;
    app.finish().await;
}

#[tokio::test]
async fn handlers_get_what_they_asked_for() {
    let (kinds, domains, streams, nobody) = (Recorder::new(), Recorder::new(), Recorder::new(), Recorder::new());
    let patterns = |all: &[&str]| Some(all.iter().map(|pattern| WildMatch::new(pattern)).collect());
    let policy = |name: &str, filter: Filter| Policy { filter, ..Policy::new(name) };
    let app = Setup::new()
        .policy(policy("kinds", Filter { kinds: Some(vec![Kind::Recording]), ..Filter::default() }), &kinds)
        .policy(
            policy("domains", Filter { domains: patterns(&["*.example.com", "?.b"]), ..Filter::default() }),
            &domains,
        )
        .policy(policy("streams", Filter { streams: patterns(&["room-?"]), ..Filter::default() }), &streams)
        .policy(policy("nobody", Filter { streams: patterns(&["x*y"]), ..Filter::default() }), &nobody)
        .start()
        .await;
    for (number, event_type, domain, stream) in [
        (1, 1, "push.example.com", "room-1"),
        (2, 100, "a.b", "room-10"),
        (3, 100, "ab.b", "room-2"),
        (4, 1, "example.com", "lobby"),
    ] {
        let mut body = push(stream, number);
        body["event_type"] = event_type.into();
        body["app"] = domain.into();
        app.accept_signed(&body).await;
    }
    eventually("all done", async || app.pending().await.is_empty().then_some(())).await;
    let got = |recorder: &Recorder| {
        let mut numbers: Vec<_> = recorder.calls().iter().map(number).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!([got(&kinds), got(&domains), got(&streams), got(&nobody)], [vec![2, 3], vec![1, 2], vec![1, 3], vec![]]);
    app.finish().await;
}

#[tokio::test]
async fn a_handler_that_fails_half_the_time_gets_everything_in_order_under_one_id() {
    let recorder = Recorder::with(|event, attempt| match (event.id.as_u128() as usize >> 3) + attempt {
        odd if odd % 2 == 1 => Act::Fail,
        _ => Act::Done,
    });
    let retry = RetryPolicy { max_delay: Duration::from_secs(1), ..RetryPolicy::default() };
    let app = Setup::new().policy(Policy { retry, ..Policy::new("rooms") }, &recorder).start().await;
    for number in 0..200 {
        app.accept_signed(&push(&format!("room-{}", number % 5), number)).await;
    }
    eventually("all delivered", async || {
        app.clock.advance(Duration::from_secs(1));
        (recorder.done().len() == 200).then_some(())
    })
    .await;
    let mut by_stream: HashMap<_, Vec<u64>> = HashMap::new();
    recorder.done().iter().for_each(|call| by_stream.entry(call.stream.clone()).or_default().push(number(call)));
    assert!(by_stream.values().all(|numbers| numbers.len() == 40 && numbers.is_sorted()), "{by_stream:?}");
    let mut ids: HashMap<u64, Vec<_>> = HashMap::new();
    recorder.calls().iter().for_each(|call| ids.entry(number(call)).or_default().push(call.id));
    assert!(ids.values().all(|ids| ids.windows(2).all(|pair| pair[0] == pair[1])));
    assert!(recorder.calls().len() > 250 && recorder.overlapped().is_empty());
    app.finish().await;
}

#[tokio::test]
async fn a_stuck_handler_is_nobody_elses_trouble() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let stuck = Recorder::with(move |_, _| Act::Wait(Arc::clone(&wait), Box::new(Act::Done)));
    let good = Recorder::new();
    let policy = Policy { concurrency: 1, ..Policy::new("stuck") };
    let app = Setup::new().policy(policy, &stuck).handler("good", &good).start().await;
    for number in 0..20 {
        app.accept_signed(&push("room", number)).await;
    }
    calls(&good, 20).await;
    assert_eq!(stuck.calls().len(), 1);
    assert_eq!(app.ready().await, 200, "handler trouble never makes it red");
    assert_eq!(app.metric("livehook_queue_depth{handler=\"stuck\"}").await, Some(20.0));
    gate.add_permits(20);
    app.finish().await;
}

#[tokio::test]
async fn copies_are_delivered_once() {
    let recorder = Recorder::new();
    let app: TestApp = Setup::new().handler("rooms", &recorder).start().await;
    for _ in 0..3 {
        app.accept_signed(&push("room", 1)).await;
    }
    app.await_deliveries("done", 1).await;
    assert_eq!(recorder.calls().len(), 1);
    app.finish().await;
}

crate::place::also_on_postgres! {
    events_of_a_stream_arrive_one_at_a_time_in_the_order_of_storing,
    a_failing_head_holds_back_its_own_stream_only,
    without_order_nobody_waits_and_concurrency_is_bounded,
    what_waits_for_nobody_is_tried_again_when_its_time_has_come,
    events_that_name_no_stream_wait_for_none,
    the_same_stream_name_elsewhere_is_another_stream,
    an_attempt_that_takes_too_long_or_panics_is_made_again,
    nothing_is_tried_again_before_its_time,
    attempts_run_out_and_a_dead_delivery_holds_nobody_back,
    dead_deliveries_are_retried_with_a_fresh_allowance_or_dropped,
    a_delivery_dropped_in_hand_is_not_doubled_and_its_stream_waits_for_the_attempt,
    what_is_dropped_before_its_attempt_begins_is_not_attempted,
    retrying_what_is_in_hand_does_not_double_it,
    a_retry_during_the_last_attempt_still_gives_a_fresh_allowance,
    handlers_get_what_they_asked_for,
    a_handler_that_fails_half_the_time_gets_everything_in_order_under_one_id,
    a_stuck_handler_is_nobody_elses_trouble,
    copies_are_delivered_once,
}
