//! Handlers: how they stand, and what pausing one does. Those that speak to other systems are in modules of their own.

#[cfg(feature = "amqp")]
mod amqp;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod certificates;
#[cfg(feature = "chat")]
mod chat;
#[cfg(feature = "kafka")]
mod gate;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "postgres")]
mod postgres;
mod process;
#[cfg(feature = "redis")]
mod redis;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use livehook::handler::{Order, Policy};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::app::{Setup, TestApp, eventually, push};
use crate::recorder::{Act, Recorder};

/// What the API says of a handler.
pub(crate) async fn handler(app: &TestApp, name: &str) -> Value {
    let all = app.json("/api/v1/handlers").await;
    all.as_array().unwrap().iter().find(|row| row["name"] == name).cloned().unwrap_or_default()
}

async fn set(app: &TestApp, name: &str, verdict: &str) -> Value {
    let response = app.call(&format!("/api/v1/handlers/{name}/{verdict}"), &json!({})).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

#[tokio::test]
async fn handlers_are_listed_with_what_waits_and_how_it_went() {
    let (good, bad) = (Recorder::new(), Recorder::with(|_, _| Act::Permanent));
    let app = Setup::new().handler("good", &good).handler("bad", &bad).start().await;
    let members = ["name", "type", "state", "pending", "dead", "oldest_pending_at", "last_success_at", "last_error"];
    let fresh = handler(&app, "good").await;
    assert_eq!(fresh.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>(), members);
    let idle = json!({"name": "good", "type": "custom", "state": "running", "pending": 0, "dead": 0,
        "oldest_pending_at": null, "last_success_at": null, "last_error": null});
    assert_eq!(fresh, idle);
    app.accept_signed(&push("room", 1)).await;
    app.await_deliveries("done", 1).await;
    app.await_deliveries("dead", 1).await;
    let (good, bad) = (handler(&app, "good").await, handler(&app, "bad").await);
    assert_eq!(good["last_success_at"], "2023-12-21T03:12:37.104Z");
    assert_eq!((&good["last_error"], &good["dead"]), (&Value::Null, &0.into()));
    assert_eq!((&bad["last_success_at"], &bad["dead"]), (&Value::Null, &1.into()));
    assert!(bad["last_error"].is_string(), "{bad}");
    app.finish().await;
}

#[tokio::test]
async fn a_later_success_clears_the_last_error_and_a_restart_keeps_both() {
    let recorder =
        Recorder::with(|_, attempt| if attempt == 1 { Act::FailFor(Duration::from_mins(1)) } else { Act::Done });
    let app = Setup::new().handler("rooms", &recorder).start().await;
    app.accept_signed(&push("room", 1)).await;
    eventually("the error shows", async || handler(&app, "rooms").await["last_error"].is_string().then_some(())).await;
    assert_eq!(handler(&app, "rooms").await["oldest_pending_at"], "2023-12-21T03:12:37.104Z");
    let app = app.leave().await.handler("rooms", &recorder).start().await;
    assert!(handler(&app, "rooms").await["last_error"].is_string());
    app.clock.advance(Duration::from_mins(2));
    app.await_deliveries("done", 1).await;
    let now = handler(&app, "rooms").await;
    assert_eq!((&now["last_error"], &now["last_success_at"]), (&Value::Null, &"2023-12-21T03:14:37.104Z".into()));
    let app = app.leave().await.handler("rooms", &recorder).start().await;
    assert_eq!(handler(&app, "rooms").await, now);
    app.finish().await;
}

#[tokio::test]
async fn a_paused_handler_gets_nothing_until_it_is_resumed_even_after_a_restart() {
    let (rooms, other) = (Recorder::new(), Recorder::new());
    let app = Setup::new().handler("rooms", &rooms).handler("other", &other).start().await;
    assert_eq!(set(&app, "rooms", "pause").await["state"], "paused");
    assert_eq!(set(&app, "rooms", "pause").await["state"], "paused", "repeating is harmless");
    for number in 0..20 {
        app.accept_signed(&push(&format!("room-{}", number % 3), number)).await;
    }
    app.await_deliveries("done", 20).await;
    assert_eq!((rooms.calls().len(), other.calls().len()), (0, 20));
    assert_eq!((handler(&app, "rooms").await["pending"].clone(), app.ready().await), (20.into(), 200));
    let app = app.leave().await.handler("rooms", &rooms).handler("other", &other).start().await;
    app.accept_signed(&push("room-0", 20)).await;
    app.await_deliveries("done", 21).await;
    assert_eq!((rooms.calls().len(), &handler(&app, "rooms").await["state"]), (0, &"paused".into()));
    assert_eq!(set(&app, "rooms", "resume").await["state"], "running");
    app.await_deliveries("done", 42).await;
    assert!(rooms.overlapped().is_empty());
    app.finish().await;
}

#[tokio::test]
async fn attempts_in_hand_end_when_their_handler_is_paused_and_those_not_begun_go_back() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let recorder = Recorder::with(move |_, _| Act::Wait(Arc::clone(&wait), Box::new(Act::Done)));
    let policy = Policy { order: Order::None, concurrency: 2, ..Policy::new("free") };
    let app = Setup::new().policy(policy, &recorder).start().await;
    for number in 0..10 {
        app.accept_signed(&push("room", number)).await;
    }
    eventually("two attempts run", async || (recorder.calls().len() == 2).then_some(())).await;
    set(&app, "free", "pause").await;
    gate.add_permits(10);
    app.await_deliveries("done", 2).await;
    assert_eq!((recorder.calls().len(), handler(&app, "free").await["pending"].clone()), (2, 8.into()));
    set(&app, "free", "resume").await;
    app.await_deliveries("done", 10).await;
    app.finish().await;
}

#[tokio::test]
async fn a_handler_that_has_left_is_listed_while_it_leaves_something_behind() {
    let app = Setup::new().handler("gone", &Recorder::with(|_, _| Act::Permanent)).start().await;
    app.accept_signed(&push("room", 1)).await;
    app.await_deliveries("dead", 1).await;
    let app = app.leave().await.handler("rooms", &Recorder::new()).start().await;
    let names: Vec<_> =
        app.json("/api/v1/handlers").await.as_array().unwrap().iter().map(|h| h["name"].clone()).collect();
    assert_eq!(names, ["rooms", "gone"]);
    let gone = handler(&app, "gone").await;
    assert_eq!((&gone["type"], &gone["state"], &gone["dead"]), (&Value::Null, &"paused".into(), &1.into()));
    assert_eq!(app.call("/api/v1/handlers/gone/resume", &json!({})).await.status, 409);
    assert_eq!(app.call("/api/v1/handlers/nobody/pause", &json!({})).await.status, 404);
    app.call("/api/v1/deliveries/drop", &json!({"handler": "gone"})).await;
    assert_eq!(handler(&app, "gone").await, Value::Null);
    app.finish().await;
}

crate::place::also_on_postgres! {
    handlers_are_listed_with_what_waits_and_how_it_went,
    a_later_success_clears_the_last_error_and_a_restart_keeps_both,
    a_paused_handler_gets_nothing_until_it_is_resumed_even_after_a_restart,
    attempts_in_hand_end_when_their_handler_is_paused_and_those_not_begun_go_back,
    a_handler_that_has_left_is_listed_while_it_leaves_something_behind,
}
