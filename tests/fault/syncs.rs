//! A sync that fails is the last word on what it was to make last: Linux takes what it could not write for written, and no
//! later sync writes it. It can still be read, though, and whoever takes it for stored builds on what a power cut takes
//! away, with all that follows it in the log.

use std::time::Duration;

use faulty_disk::Fault;
use livehook::handler::Policy;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, eventually, push};
use crate::plug::{fail_once, fail_until_healed, for_every};
use crate::recorder::Recorder;
use crate::rig::{Contents, DATABASE, LOG, Rig, import, ready};

/// What a run syncs of the log at least.
const SYNCS_MIN: u64 = 8;

fn setup(rig: &Rig) -> Setup {
    rig.setup().configured(|config| config.server.ack.deadline = Duration::from_secs(2))
}

/// Stores one event and spills another, whose sync fails: it stands in the log as if it were stored. All connections meet
/// errors and are opened anew, so that none remembers where the log ended.
async fn store_and_spill(rig: &Rig, app: &TestApp) {
    rig.disk.fail(Fault::write(1).on(DATABASE).until_healed());
    app.accept_signed(&push("room", 0)).await;
    assert_eq!(app.spills.lines().len(), 0);
    rig.disk.fail(Fault::sync(1).on(LOG).until_healed());
    app.accept_signed(&push("room", 1)).await;
    assert_eq!(app.spills.lines().len(), 1);
    let before = rig.disk.counts().opens;
    eventually("new connections", async || (rig.disk.counts().opens > before + 12).then_some(())).await;
}

/// Somebody who reads, and so keeps the log from beginning anew.
fn reader(rig: &Rig) -> rusqlite::Connection {
    let reader = rig.stranger();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    reader
}

/// A callback is taken, and then the power fails.
async fn take_and_cut(rig: &Rig, app: &TestApp) {
    let spilled = app.spills.lines().len();
    app.accept_signed(&push("room", 2)).await;
    assert_eq!(app.spills.lines().len(), spilled);
    let survivors = Contents::of(&rig.survivor().database()).good;
    let stored = |number| survivors.contains(&app.signed(&push("room", number)));
    assert_eq!((stored(0), stored(2)), (true, true), "what was answered and not spilled is there");
}

#[tokio::test]
async fn one_sync_of_the_log_that_fails_costs_nobody_anything() {
    for_every(SYNCS_MIN, async |n| fail_once(Fault::sync(n).on(LOG)).await).await;
}

#[tokio::test]
async fn what_cannot_be_synced_in_the_log_is_spilled_and_comes_back() {
    for_every(SYNCS_MIN, async |n| fail_until_healed(Fault::sync(n).on(LOG)).await).await;
}

#[tokio::test]
async fn what_is_answered_after_a_sync_has_failed_survives_a_power_cut() {
    let rig = Rig::new();
    rig.disk.remember();
    let app = setup(&rig).start().await;
    store_and_spill(&rig, &app).await;
    let _reader = reader(&rig);
    rig.disk.heal();
    ready(&app).await;
    take_and_cut(&rig, &app).await;
    app.finish().await;
}

#[tokio::test]
async fn what_is_answered_by_the_next_start_survives_a_power_cut() {
    let rig = Rig::new();
    rig.disk.remember();
    let app = setup(&rig).start().await;
    store_and_spill(&rig, &app).await;
    let spills = app.spills.lines();
    app.leave().await;
    rig.disk.heal();
    let app = setup(&rig).start().await;
    let _reader = reader(&rig);
    take_and_cut(&rig, &app).await;
    assert_eq!(import(&app, &spills).await["faults"], json!([]));
    app.finish().await;
}

/// Moves what nobody reads of the log into the database. Returns how many pages it is long, and how many were moved.
fn move_log(rig: &Rig) -> (i64, i64) {
    rig.stranger().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?))).unwrap()
}

/// What was moved is synced with the rest of the log, and not before.
#[tokio::test]
async fn what_was_moved_before_a_sync_of_the_database_failed_survives_a_power_cut() {
    let rig = Rig::new();
    rig.disk.remember();
    let app = setup(&rig).start().await;
    rig.disk.fail(Fault::write(1).on(DATABASE).until_healed());
    app.accept_signed(&push("room", 0)).await;
    let reader = reader(&rig);
    app.accept_signed(&push("room", 1)).await;
    rig.disk.heal();
    eventually("a part was moved", async || {
        let (pages, moved) = move_log(&rig);
        (0 < moved && moved < pages).then_some(())
    })
    .await;
    let failed = rig.disk.counts().failed;
    rig.disk.fail(Fault::sync(1).on(DATABASE));
    drop(reader);
    eventually("its failure", async || (rig.disk.counts().failed > failed).then_some(())).await;
    let syncs = rig.disk.counts().syncs;
    eventually("the rest was moved", async || (rig.disk.counts().syncs >= syncs + 2).then_some(())).await;
    // The log begins anew.
    app.accept_signed(&push("room", 2)).await;
    let survivors = Contents::of(&rig.survivor().database()).good;
    let lost: Vec<_> = (0..3).filter(|&number| !survivors.contains(&app.signed(&push("room", number)))).collect();
    assert_eq!((lost, app.spills.lines().len()), (vec![], 0));
    app.finish().await;
}

#[tokio::test]
async fn what_is_stored_at_the_second_try_is_no_copy_of_itself() {
    let rig = Rig::new();
    let recorder = Recorder::new();
    let app = setup(&rig).policy(Policy::new("rooms"), &recorder).start().await;
    store_and_spill(&rig, &app).await;
    app.accept(b"no JSON").await;
    rig.disk.heal();
    app.await_deliveries("done", 2).await;
    ready(&app).await;
    let duplicates: Vec<_> = app.events().await.iter().map(|event| event["duplicates"].clone()).collect();
    assert_eq!(duplicates, [Value::from(0), Value::from(0)]);
    assert_eq!(app.refused().await.len(), 1);
    assert_eq!(app.metric("livehook_events_received_total{kind=\"stream-push\"}").await, Some(2.0));
    assert_eq!(app.metric("livehook_queue_depth{handler=\"rooms\"}").await, Some(0.0));
    assert_eq!(recorder.calls().len(), 2);
    app.finish().await;
}
