//! How the service ends and comes back: nothing is lost in between.

use std::sync::Arc;
use std::time::Duration;

use livehook::BuildError;
use livehook::store::OpenError;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::app::{Setup, TestApp, assert_answered, eventually, push};
use crate::http::{ask, request};
use crate::recorder::{Act, Recorder};

#[tokio::test]
async fn work_that_is_not_done_stays_and_the_next_server_does_it() {
    let failing = Recorder::with(|_, _| Act::FailFor(Duration::from_mins(10)));
    let app = Setup::new().handler("rooms", &failing).start().await;
    for number in 0..5 {
        app.accept_signed(&push("room", number)).await;
    }
    eventually("an attempt", async || (failing.calls().len() == 1).then_some(())).await;
    let next = app.leave().await;

    let good = Recorder::new();
    let app = next.handler("rooms", &good).start().await;
    assert_eq!(app.pending().await.len(), 5);
    assert_eq!(app.metric("livehook_queue_depth{handler=\"rooms\"}").await, Some(5.0));
    app.clock.advance(Duration::from_mins(10));
    app.await_deliveries("done", 5).await;
    let streams: Vec<_> = good.calls().iter().map(|call| call.body.clone()).collect();
    assert!(streams.is_sorted_by_key(|body| serde_json::from_slice::<Value>(body).unwrap()["event_time"].as_u64()));
    assert_eq!(good.calls()[0].id, failing.calls()[0].id, "the same id");
    app.finish().await;
}

#[tokio::test]
async fn attempts_in_hand_are_settled_before_the_end() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let recorder = Recorder::with(move |_, _| Act::Wait(Arc::clone(&wait), Box::new(Act::Done)));
    let mut app = Setup::new().handler("rooms", &recorder).start().await;
    app.accept_signed(&push("room", 1)).await;
    app.accept_signed(&push("room", 2)).await;
    eventually("an attempt", async || (recorder.calls().len() == 1).then_some(())).await;
    app.begin_stop();
    gate.add_permits(5);
    let app = app.leave().await.start().await;
    assert_eq!((app.deliveries("done").await.len(), app.pending().await.len()), (1, 1), "no new claims after a stop");
    app.leave().await;
}

#[tokio::test]
async fn a_handler_that_is_gone_keeps_its_deliveries_until_it_returns() {
    let never = Recorder::with(|_, _| Act::FailFor(Duration::from_mins(1)));
    let app = Setup::new().handler("rooms", &never).start().await;
    app.accept_signed(&push("room", 1)).await;
    eventually("an attempt", async || (never.calls().len() == 1).then_some(())).await;

    let other = Recorder::new();
    let app = app.leave().await.handler("other", &other).start().await;
    app.clock.advance(Duration::from_hours(1));
    app.accept_signed(&push("room", 2)).await;
    app.await_deliveries("done", 1).await;
    assert_eq!(other.calls().len(), 1, "a new handler gets what arrives from then on");
    let pending = app.pending().await;
    assert_eq!((pending.len(), &pending[0]["handler"]), (1, &"rooms".into()));
    assert_eq!(app.metric("livehook_queue_depth{handler=\"rooms\"}").await, Some(1.0), "it waits in sight");

    let back = Recorder::new();
    let app = app.leave().await.handler("rooms", &back).start().await;
    app.await_deliveries("done", 2).await;
    assert_eq!(back.calls().len(), 1, "what arrived while it was gone was never owed to it");
    app.finish().await;
}

#[tokio::test]
async fn what_a_gone_handler_is_owed_can_be_dropped() {
    let never = Recorder::with(|_, _| Act::FailFor(Duration::from_mins(1)));
    let app = Setup::new().handler("rooms", &never).start().await;
    app.accept_signed(&push("room", 1)).await;
    app.accept_signed(&push("room", 2)).await;
    let app = app.leave().await.start().await;
    let counts = app.call("/api/v1/deliveries/drop", &json!({"handler": "rooms"})).await.json();
    assert_eq!(counts, json!({"matched": 2, "changed": 2}));
    app.finish().await;
}

#[tokio::test]
async fn a_drop_in_hand_before_the_end_leaves_its_stream_free() {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let recorder = Recorder::with(move |_, _| Act::Wait(Arc::clone(&wait), Box::new(Act::Panic)));
    let app = Setup::new().handler("rooms", &recorder).start().await;
    app.accept_signed(&push("room", 1)).await;
    app.accept_signed(&push("room", 2)).await;
    eventually("an attempt", async || (recorder.calls().len() == 1).then_some(())).await;
    let first = app.pending().await.pop().unwrap();
    let id = first["event_id"].as_str().unwrap();
    app.call(&format!("/api/v1/deliveries/{id}/rooms/drop"), &json!({})).await;
    let copy = copy_of(&app);
    gate.add_permits(2);
    app.leave().await;

    // As after a crash: the attempt in hand was never settled.
    let good = Recorder::new();
    let mut next = Setup::new().handler("rooms", &good);
    next.config.store.url = format!("sqlite:{}", copy.path().join("livehook.db").display());
    let app = next.start().await;
    app.await_deliveries("done", 1).await;
    app.finish().await;
}

fn copy_of(app: &TestApp) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    app.stranger().execute("VACUUM INTO ?1", [copy.path().join("livehook.db").to_str().unwrap()]).unwrap();
    let (db, from) = (rusqlite::Connection::open(copy.path().join("livehook.db")).unwrap(), app.stranger());
    for pragma in ["application_id", "user_version"] {
        let value: i64 = from.pragma_query_value(None, pragma, |row| row.get(0)).unwrap();
        db.pragma_update(None, pragma, value).unwrap();
    }
    copy
}

#[tokio::test]
async fn what_is_due_to_be_forgotten_is_forgotten_soon_after_a_start() {
    let app = TestApp::start().await;
    app.accept_signed(&push("room", 1)).await;
    app.clock.advance(Duration::from_hours(31 * 24));
    app.accept_signed(&push("room", 2)).await;
    // A service that ends before its first minute is over, and begins again.
    let app = app.leave().await.start().await;
    eventually("pruned", async || (app.events().await.len() == 1).then_some(())).await;
    assert_eq!(app.events().await[0]["sequence"], push("room", 2)["sequence"]);
    app.finish().await;
}

#[tokio::test]
async fn from_the_start_of_a_stop_probes_are_red_and_callbacks_still_taken() {
    let mut app = Setup::new().configured(|config| config.server.drain_delay = Duration::from_secs(2)).start().await;
    let healthz = async |app: &TestApp| ask(app.callbacks, &request("GET", "/healthz", &[], b"")).await.status;
    assert_eq!((app.ready().await, app.get("/healthz").await.status, healthz(&app).await), (200, 200, 200));
    assert_eq!(app.get("/livez").await.status, 200);
    app.begin_stop();
    eventually("not ready", async || (app.ready().await == 503).then_some(())).await;
    assert_eq!((app.get("/healthz").await.status, healthz(&app).await), (503, 503));
    assert_eq!(app.get("/livez").await.status, 200, "a process that stops makes progress");
    app.accept_signed(&push("room", 1)).await;
    let app = app.leave().await.start().await;
    assert_eq!(app.events().await.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_request_in_hand_is_answered_before_the_end() {
    let mut app = TestApp::start().await;
    let bytes = request("POST", "/callbacks", &[], app.signed(&push("room", 1)).as_bytes());
    let mut connection = app.connect().await;
    connection.send(&bytes[..bytes.len() - 10]).await;
    // Whatever the listener accepts after this one, it has accepted this one.
    assert_eq!(ask(app.callbacks, &request("GET", "/healthz", &[], b"")).await.status, 200);
    app.begin_stop();
    eventually("not ready", async || {
        let answer = tokio::net::TcpStream::connect(app.callbacks).await;
        answer.is_err().then_some(())
    })
    .await;
    connection.send(&bytes[bytes.len() - 10..]).await;
    assert_answered(&connection.response().await.unwrap());
    connection.closed().await;
    let app = app.leave().await.start().await;
    assert_eq!(app.events().await.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_second_server_on_the_same_store_is_refused() {
    let app = TestApp::start().await;
    let mut second = Setup::new();
    second.config.store.url = format!("sqlite:{}", app.database().display());
    let error = second.build().await.err();
    assert!(matches!(error, Some(BuildError::Store(OpenError::InUse(_)))), "{error:?}");
    app.accept_signed(&push("room", 1)).await;
    app.finish().await;
}

#[tokio::test]
async fn two_handlers_of_one_name_are_refused() {
    let recorder = Recorder::new();
    let error = Setup::new().handler("rooms", &recorder).handler("rooms", &recorder).build().await.err();
    assert!(matches!(error, Some(BuildError::Handler { .. })), "{error:?}");
}
