//! A disk that takes its time, or never comes back; and more callbacks than it can take.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use livehook::receive::Unstored;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::app::{START, Setup, TestApp, assert_answered, eventually, push, signed_at};
use crate::http::{ask, request};
use crate::recorder::{Act, Recorder};
use crate::rig::{Contents, Rig, awaited, import, ready, spilled};

const DEADLINE: Duration = Duration::from_secs(1);
/// No sender waits longer. How far below this we stay, benchmarks tell; a test on a busy machine cannot.
const PATIENCE: Duration = Duration::from_secs(20);
/// Callbacks that may wait for the store, where a test bounds them.
const QUEUE: usize = 8;

fn setup(rig: &Rig) -> Setup {
    rig.setup().configured(|config| config.server.ack.deadline = DEADLINE)
}

/// All of one length.
fn event(number: u64) -> String {
    signed_at(&push(&format!("room-{}", number % 5), number), START.secs() + 600)
}

fn events(numbers: Range<u64>) -> Vec<String> {
    numbers.map(event).collect()
}

/// Room for that many callbacks, and not for one more.
fn queue_bytes(count: usize) -> usize {
    /// What an event weighs in the queue beside its body.
    const OVERHEAD: usize = 512;
    count * (event(0).len() + OVERHEAD) + OVERHEAD
}

/// Sends all at once and holds each answer to its letter, and to the time any sender takes.
async fn send(app: &TestApp, bodies: &[String]) {
    let begun = Instant::now();
    for response in join_all(bodies.iter().map(|body| app.post("/callbacks", body))).await {
        assert_answered(&response);
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

async fn stored(app: &TestApp, count: usize) {
    awaited("what waited is stored", async || (app.events().await.len() == count).then_some(())).await;
}

/// Hangs in the next sync.
async fn hang(rig: &Rig, app: &TestApp, number: u64) {
    rig.disk.hang_syncs();
    send(app, &[event(number)]).await;
    assert!(rig.disk.counts().hanging > 0);
}

async fn spills_counted(app: &TestApp) -> usize {
    let lines = app.spills.lines().len();
    let counted = app.metric("livehook_callbacks_spilled_total").await;
    assert_eq!(counted, Some(f64::from(u32::try_from(lines).unwrap())));
    lines
}

#[tokio::test]
async fn a_sync_longer_than_the_deadline_spills_and_is_stored_all_the_same() {
    let rig = Rig::new();
    let app = setup(&rig).start().await;
    rig.disk.sync_takes(Duration::from_secs(3));
    let bodies = events(0..5);
    send(&app, &bodies).await;
    assert_eq!(spills_counted(&app).await, 5);
    assert_eq!(app.ready().await, 503);
    eventually("what waited is stored", async || (Contents::of(&rig.database()).good.len() == 5).then_some(())).await;
    rig.disk.heal();
    ready(&app).await;
    send(&app, &[event(5)]).await;
    assert_eq!(spills_counted(&app).await, 5, "nothing is spilled any more");
    let outcome = import(&app, &app.spills.lines()).await;
    assert_eq!(outcome, json!({"imported": 0, "duplicates": 5, "refused": 0, "faults": []}));
    app.finish().await;
}

#[tokio::test]
async fn a_disk_too_slow_for_the_deadline_is_not_ready_between_two_writes() {
    let rig = Rig::new();
    let app = setup(&rig).start().await;
    rig.disk.sync_takes(2 * DEADLINE);
    send(&app, &[event(0)]).await;
    for count in 1..=3 {
        stored(&app, count).await;
        assert_eq!(app.ready().await, 503, "after {count}: {}", app.get("/readyz").await.text());
        send(&app, &[event(count as u64)]).await;
    }
    rig.disk.heal();
    ready(&app).await;
    app.finish().await;
}

/// A sync hangs while far more arrives than may wait, which is [`QUEUE`] of them.
async fn hangs_for_a_while(bounded: impl FnOnce(&mut livehook::Config)) {
    const SENT: u64 = 30;
    let rig = Rig::new();
    let recorder = Recorder::new();
    let app = setup(&rig).configured(bounded).handler("rooms", &recorder).start().await;
    hang(&rig, &app, 0).await;
    send(&app, &events(1..SENT)).await;
    let sent = usize::try_from(SENT).unwrap();
    assert_eq!(spills_counted(&app).await, sent);
    assert_eq!(app.ready().await, 503);
    assert_eq!((app.get("/healthz").await.status, app.get("/livez").await.status), (200, 200));
    assert_eq!(app.events().await, Vec::<Value>::new(), "what is stored can be read");

    rig.disk.heal();
    ready(&app).await;
    stored(&app, QUEUE).await;
    let outcome = import(&app, &app.spills.lines()).await;
    assert_eq!(outcome, json!({"imported": sent - QUEUE, "duplicates": QUEUE, "refused": 0, "faults": []}));
    app.await_deliveries("done", sent).await;
    send(&app, &[event(SENT)]).await;
    assert_eq!(spills_counted(&app).await, sent, "nothing is spilled any more");
    app.finish().await;
    assert_eq!(recorder.done().len(), sent + 1);
}

#[tokio::test]
async fn while_a_sync_hangs_no_more_callbacks_wait_than_may() {
    hangs_for_a_while(|config| config.store.queue_count = QUEUE).await;
}

#[tokio::test]
async fn while_a_sync_hangs_no_more_bytes_wait_than_may() {
    hangs_for_a_while(|config| config.store.queue_bytes = queue_bytes(QUEUE)).await;
}

#[tokio::test]
async fn while_a_sync_hangs_callbacks_can_be_refused_instead() {
    let rig = Rig::new();
    let refuse = |config: &mut livehook::Config| config.server.ack.unstored = Unstored::Refuse;
    let app = setup(&rig).configured(refuse).configured(|config| config.store.queue_count = QUEUE).start().await;
    rig.disk.hang_syncs();
    let bodies = events(0..20);
    let begun = Instant::now();
    for response in join_all(bodies.iter().map(|body| app.post("/callbacks", body))).await {
        assert_eq!(response.status, 503);
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!((spills_counted(&app).await, app.ready().await), (0, 503));
    rig.disk.heal();
    ready(&app).await;
    // They come again, until they are taken.
    for body in &bodies {
        let taken = async || (app.post("/callbacks", body).await.status == 200).then_some(());
        awaited("taken", taken).await;
    }
    assert_eq!(app.events().await.len(), 20);
    app.finish().await;
}

#[tokio::test]
async fn a_stop_ends_in_time_although_a_sync_hangs() {
    /// What is promised.
    const BOUND: Duration = Duration::from_secs(25);
    let rig = Rig::new();
    let app = setup(&rig).start().await;
    send(&app, &[event(0)]).await;
    hang(&rig, &app, 1).await;
    let spills = app.spills.lines();
    assert_eq!(spills.len(), 1);
    let begun = Instant::now();
    app.leave().await;
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    assert!(rig.disk.counts().hanging > 0, "it still hangs");

    // The thread that hangs keeps the store to itself, as long as there is one.
    let refused = setup(&rig).build().await.err().expect("it is in use").to_string();
    assert!(refused.contains("is in use by another process"), "{refused}");
    rig.disk.heal();
    eventually("the thread has ended", async || match setup(&rig).build().await {
        Ok(server) => server.run(std::future::ready(())).await.ok(),
        Err(_) => None,
    })
    .await;
    let app = setup(&rig).start().await;
    let outcome = import(&app, &spills).await;
    assert_eq!((&outcome["faults"], app.events().await.len()), (&json!([]), 2), "{outcome}");
    app.finish().await;
}

#[tokio::test]
async fn a_stop_ends_although_an_attempt_cannot_be_recorded() {
    let rig = Rig::new();
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let recorder = Recorder::with(move |_, _| Act::Wait(Arc::clone(&gated), Box::new(Act::Done)));
    let app = setup(&rig).handler("rooms", &recorder).start().await;
    send(&app, &[event(0)]).await;
    eventually("an attempt", async || (recorder.calls().len() == 1).then_some(())).await;
    hang(&rig, &app, 1).await;
    gate.add_permits(1);
    eventually("its end", async || (recorder.done().len() == 1).then_some(())).await;
    app.leave().await;
    assert!(rig.disk.counts().hanging > 0, "it still hangs");
}

#[tokio::test]
async fn overload_is_spilled_and_over_when_it_is_over() {
    /// At least so long for a batch.
    const SYNC: Duration = Duration::from_millis(150);
    /// Twice what fits into one, so often.
    const BURST: u64 = 2 * QUEUE as u64;
    const BURSTS: u64 = 20;
    let rig = Rig::new();
    let recorder = Recorder::new();
    let app =
        setup(&rig).configured(|config| config.store.queue_count = QUEUE).handler("rooms", &recorder).start().await;
    rig.disk.sync_takes(SYNC);
    let bodies = events(0..BURST * BURSTS);
    let mut ticks = tokio::time::interval(SYNC);
    let mut answers = JoinSet::new();
    for burst in bodies.chunks(usize::try_from(BURST).unwrap()) {
        ticks.tick().await;
        // Nobody waits for answers before more is sent.
        for body in burst {
            let (address, bytes) = (app.callbacks, request("POST", "/callbacks", &[], body.as_bytes()));
            answers.spawn(async move {
                let begun = Instant::now();
                (ask(address, &bytes).await, begun.elapsed())
            });
        }
    }
    for (response, took) in answers.join_all().await {
        assert_answered(&response);
        assert!(took < PATIENCE, "{took:?}");
    }
    let spills = spills_counted(&app).await;
    assert!(spills > 0);
    // It is over, and the disk as slow as before.
    ready(&app).await;
    let spilled: BTreeSet<_> = spilled(&app).into_iter().collect();
    assert_eq!(spilled.len(), spills, "none twice");
    let unspilled: BTreeSet<_> = bodies.iter().filter(|body| !spilled.contains(*body)).cloned().collect();
    assert!(!unspilled.is_empty());
    let stored = Contents::of(&rig.database()).good;
    assert!(unspilled.is_subset(&stored), "lost: {:?}", unspilled.difference(&stored));
    rig.disk.heal();
    send(&app, &[event(9999)]).await;
    assert_eq!(spills_counted(&app).await, spills, "nothing is spilled any more");
    let outcome = import(&app, &app.spills.lines()).await;
    assert_eq!(outcome["faults"], json!([]));
    app.await_deliveries("done", bodies.len() + 1).await;
    app.finish().await;
    assert_eq!(recorder.overlapped(), Vec::<String>::new());
}
