//! When the store cannot take an event: the answer stays, the callback goes to standard error, and all of it comes back.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::future::join_all;
use livehook::receive::Unstored;
use serde_json::{Value, json};

use crate::app::{START, Setup, Spills, TestApp, assert_answered, eventually, push};
use crate::http::{ask, request};

const DEADLINE: Duration = Duration::from_secs(1);
/// No sender waits longer. How far below this we stay, benchmarks tell; a test on a busy machine cannot.
const PATIENCE: Duration = Duration::from_secs(20);

fn setup() -> Setup {
    Setup::new().configured(|config| config.server.ack.deadline = DEADLINE)
}

/// Takes the write lock, as a backup tool may, until it is dropped.
fn locked(app: &TestApp) -> rusqlite::Connection {
    let db = app.stranger();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    db
}

fn spilled(app: &TestApp) -> Vec<Value> {
    app.spills.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn import(app: &TestApp, lines: &str) -> Value {
    let bytes = request("POST", "/api/v1/import", &[("Content-Type", "application/x-ndjson")], lines.as_bytes());
    let response = ask(app.admin, &bytes).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

#[tokio::test]
async fn what_cannot_be_stored_in_time_is_spilled_and_answered() {
    let app = setup().start().await;
    app.accept_signed(&push("room", 0)).await;
    let lock = locked(&app);
    let body = app.signed(&push("room", 1));
    let begun = Instant::now();
    let (good, bad) = tokio::join!(app.post("/callbacks/stream-push?x=1", &body), app.post("/callbacks/", "nonsense"));
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    [good, bad].iter().for_each(assert_answered);
    assert_eq!(app.ready().await, 503);
    assert_eq!(app.metric("livehook_ready").await, Some(0.0));
    assert_eq!((app.get("/healthz").await.status, app.get("/livez").await.status), (200, 200));
    assert_eq!(app.metric("livehook_callbacks_spilled_total").await, Some(2.0));

    assert!(app.spills.lines().iter().all(|line| line.ends_with('\n') && line.matches('\n').count() == 1));
    let mut lines = spilled(&app);
    lines.sort_by_key(|line| line["path"].to_string().len());
    let line = |path: &str, refusal: Value, body: &str| json!({"spill": 1, "received_at": START.rfc3339(), "path": path, "refusal": refusal, "body_base64": BASE64.encode(body)});
    assert_eq!(lines[0], line("/callbacks/", "malformed-json".into(), "nonsense"));
    assert_eq!(lines[1], line("/callbacks/stream-push", Value::Null, &body));

    drop(lock);
    let freed = Instant::now();
    eventually("ready again, without traffic", async || (app.ready().await == 200).then_some(())).await;
    assert_eq!(app.metric("livehook_ready").await, Some(1.0));
    assert!(freed.elapsed() < PATIENCE, "{:?}", freed.elapsed());
    eventually("what waited is stored", async || (app.events().await.len() == 2).then_some(())).await;
    assert_eq!(app.refused().await.len(), 1);
    let outcome = import(&app, &app.spills.lines().concat()).await;
    assert_eq!(outcome, json!({"imported": 0, "duplicates": 2, "refused": 0, "faults": []}));
    app.finish().await;
}

#[tokio::test]
async fn spills_bring_everything_back_into_another_store() {
    let app = setup().configured(|config| config.server.body_limit = 2048).start().await;
    let lock = locked(&app);
    let good: Vec<_> = (0..20).map(|number| app.signed(&push("room", number))).collect();
    let bad = ["", "nonsense", "{\"event_type\":1}", &"x".repeat(3000)];
    let bodies: Vec<&str> = good.iter().map(String::as_str).chain(bad).collect();
    for response in join_all(bodies.iter().map(|body| app.post("/callbacks", body))).await {
        assert_answered(&response);
    }
    let lines = app.spills.lines().concat();
    drop(lock);
    app.leave().await;

    let app = Setup::new().start().await;
    app.clock.advance(Duration::from_hours(24));
    let outcome = import(&app, &lines).await;
    assert_eq!(outcome, json!({"imported": 20, "duplicates": 0, "refused": 4, "faults": []}), "checked as of receipt");
    let mut reasons: Vec<_> = app.refused().await.iter().map(|item| item["reason"].to_string()).collect();
    reasons.sort();
    assert_eq!(reasons, ["\"empty\"", "\"malformed-json\"", "\"signature-missing\"", "\"too-large\""]);
    assert!(app.events().await.iter().all(|event| event["received_at"] == START.rfc3339()));
    let again = import(&app, &lines).await;
    assert_eq!(again, json!({"imported": 0, "duplicates": 24, "refused": 0, "faults": []}));
    app.finish().await;
}

#[tokio::test]
async fn refusing_what_is_unstored_asks_for_a_retry() {
    let app = setup().configured(|config| config.server.ack.unstored = Unstored::Refuse).start().await;
    let lock = locked(&app);
    let answer = app.post("/callbacks", app.signed(&push("room", 1))).await;
    assert_eq!(answer.status, 503);
    assert!(app.spills.lines().is_empty());
    assert_eq!(app.ready().await, 503);
    drop(lock);
    eventually("ready", async || (app.ready().await == 200).then_some(())).await;
    app.accept_signed(&push("room", 1)).await;
    assert_eq!(app.events().await.len(), 1, "what waited was stored all the same and its retry is a copy");
    app.finish().await;
}

#[tokio::test]
async fn when_not_even_a_spill_is_written_css_must_try_again() {
    let mut setup = setup();
    setup.spills = Spills::stalled();
    let app = setup.start().await;
    let lock = locked(&app);
    let begun = Instant::now();
    assert_eq!(app.post("/callbacks", app.signed(&push("room", 1))).await.status, 503);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(app.metric("livehook_callbacks_spilled_total").await, Some(0.0));
    drop(lock);
    app.leave().await;
}

#[tokio::test]
async fn a_full_queue_spills_at_once() {
    for by_bytes in [false, true] {
        let app = setup()
            .configured(|config| if by_bytes { config.store.queue_bytes = 1500 } else { config.store.queue_count = 1 })
            .start()
            .await;
        let lock = locked(&app);
        let first = app.signed(&push("room", 1));
        let (waiting, ()) = tokio::join!(app.post("/callbacks", &first), async {
            eventually("a full queue", async || (app.ready().await == 503).then_some(())).await;
            let begun = Instant::now();
            app.accept_signed(&push("room", 2)).await;
            assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
            assert_eq!(spilled(&app).len(), 1);
        });
        assert_answered(&waiting);
        drop(lock);
        eventually("ready", async || (app.ready().await == 200).then_some(())).await;
        let outcome = import(&app, &app.spills.lines().concat()).await;
        assert_eq!((&outcome["imported"], &outcome["duplicates"]), (&1.into(), &1.into()), "{outcome}");
        assert_eq!(app.events().await.len(), 2);
        app.finish().await;
    }
}

#[tokio::test]
async fn handlers_go_on_once_the_store_does() {
    let recorder = crate::recorder::Recorder::new();
    let app = setup().handler("rooms", &recorder).start().await;
    let lock = locked(&app);
    for response in join_all((0..5).map(|number| app.post("/callbacks", app.signed(&push("room", number))))).await {
        assert_answered(&response);
    }
    assert!(recorder.calls().is_empty(), "what is not stored is not delivered");
    drop(lock);
    app.await_deliveries("done", 5).await;
    assert_eq!(recorder.calls().len(), 5);
    app.finish().await;
}

/// A file system that is soon full; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let outcome =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "livehook"]).arg(&at).output();
        outcome.is_ok_and(|outcome| outcome.status.success()).then_some(Self(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_spills_and_recovers_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(directory.path().join("small"), "2m") else {
        assert!(option_env!("CI").is_none(), "CI must be able to mount a small file system");
        println!("SKIPPED: a small file system cannot be mounted here");
        return;
    };
    let mut setup = setup();
    setup.config.store.url = format!("sqlite:{}", small.0.join("livehook.db").display());
    let app = setup.start().await;
    app.accept_signed(&push("room", 0)).await;
    let filler = small.0.join("filler");
    let _ = std::fs::write(&filler, vec![0; 4 << 20]);
    let mut sent = 0;
    eventually("a spill", async || {
        sent += 1;
        let mut body = push("room", sent);
        body["padding"] = "x".repeat(20_000).into();
        app.accept_signed(&body).await;
        (!app.spills.lines().is_empty()).then_some(())
    })
    .await;
    assert_eq!(app.ready().await, 503);
    std::fs::remove_file(&filler).unwrap();
    let freed = Instant::now();
    eventually("ready again", async || (app.ready().await == 200).then_some(())).await;
    assert!(freed.elapsed() < PATIENCE, "{:?}", freed.elapsed());
    eventually("all stored", async || (app.events().await.len() as u64 == sent + 1).then_some(())).await;
    app.accept_signed(&push("room", 1000)).await;
    app.finish().await;
}

#[tokio::test]
async fn a_store_whose_file_is_moved_away_takes_nothing_until_it_is_back() {
    let app = setup().start().await;
    app.accept_signed(&push("room", 0)).await;
    let elsewhere = app.database().with_extension("moved");
    std::fs::rename(app.database(), &elsewhere).unwrap();
    app.accept_signed(&push("room", 1)).await;
    assert_eq!(app.spills.lines().len(), 1);
    assert_eq!(app.ready().await, 503);
    std::fs::rename(&elsewhere, app.database()).unwrap();
    eventually("ready again", async || (app.ready().await == 200).then_some(())).await;
    eventually("what waited is stored", async || (app.events().await.len() == 2).then_some(())).await;
    app.finish().await;
}
