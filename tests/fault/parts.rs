//! Only a part fails: a read, a settlement, a checkpoint. The rest goes on.

use std::time::Duration;

use faulty_disk::Fault;
use futures_util::future::join_all;
use serde_json::Value;

use crate::app::{assert_answered, eventually, push};
use crate::recorder::{Act, Recorder};
use crate::rig::{DATABASE, LOG, Rig};

/// Events that wait for their handler in the store that is read.
const WAITING: u64 = 12;
/// Longer than a test's clock is behind.
const LATER: Duration = Duration::from_hours(1);

/// A closed store with deliveries that are due [`LATER`], of events larger than a page.
async fn store_with_waiting_deliveries() -> Rig {
    let rig = Rig::new();
    let recorder = Recorder::with(|_, _| Act::FailFor(LATER));
    let app = rig.setup().handler("rooms", &recorder).start().await;
    for number in 0..WAITING {
        let mut event = push(&format!("room-{number}"), number);
        event["padding"] = "x".repeat(10_000).into();
        app.accept_signed(&event).await;
    }
    let settled = |delivery: &Value| delivery["attempts"] == 1;
    eventually("all attempted", async || app.pending().await.iter().all(settled).then_some(())).await;
    app.leave().await;
    rig
}

#[tokio::test]
async fn a_read_that_fails_costs_no_delivery_and_no_callback() {
    let origin = store_with_waiting_deliveries().await;
    let run = async |n| {
        let rig = Rig::new();
        std::fs::copy(origin.database(), rig.database()).unwrap();
        let recorder = Recorder::new();
        let app = rig.setup().handler("rooms", &recorder).start().await;
        rig.disk.fail(Fault::read(n));
        app.clock.advance(LATER);
        app.accept_signed(&push("room", 100)).await;
        let count = usize::try_from(WAITING).unwrap() + 1;
        eventually("all delivered", async || (recorder.done().len() == count).then_some(())).await;
        let struck = rig.has_failed();
        rig.disk.heal();
        app.await_deliveries("done", count).await;
        assert_eq!((recorder.calls().len(), app.ready().await), (count, 200));
        app.finish().await;
        struck
    };
    let mut runs = 0;
    while join_all((1..=16).map(|n| run(runs + n))).await.into_iter().all(|struck| struck) {
        runs += 16;
    }
    assert!(runs > 0);
}

#[tokio::test]
async fn a_question_that_fails_can_be_asked_again() {
    let origin = store_with_waiting_deliveries().await;
    let app = origin.setup().start().await;
    // Whoever has read before must read again.
    origin.stranger().execute_batch("UPDATE meta SET value = value + 1 WHERE key = 'probe'").unwrap();
    origin.disk.fail(Fault::read(1).until_healed());
    let refused = app.get("/api/v1/events").await;
    assert_eq!(
        (refused.status, refused.header("content-type")),
        (500, Some("application/problem+json")),
        "{refused:?}"
    );
    origin.disk.heal();
    assert_eq!(app.events().await.len() as u64, WAITING);
    app.leave().await;
}

#[tokio::test]
async fn a_settlement_that_is_refused_alone_is_made_again() {
    let rig = Rig::new();
    let recorder = Recorder::new();
    let app = rig.setup().handler("rooms", &recorder).start().await;
    let refuse = "CREATE TRIGGER refusing BEFORE UPDATE ON deliveries WHEN new.state = 1 AND new.event = 1 \
                  BEGIN SELECT RAISE(ABORT, 'not this one'); END";
    rig.stranger().execute_batch(refuse).unwrap();
    let bodies: Vec<_> = (0..5).map(|number| app.signed(&push(&format!("room-{number}"), number))).collect();
    for response in join_all(bodies.iter().map(|body| app.post("/callbacks", body))).await {
        assert_answered(&response);
    }
    app.await_deliveries("done", 4).await;
    assert_eq!((app.pending().await.len(), app.ready().await), (1, 200), "the others do not wait for it");
    rig.stranger().execute_batch("DROP TRIGGER refusing").unwrap();
    app.await_deliveries("done", 5).await;
    assert!(recorder.calls().len() > 5, "an attempt that is not recorded is repeated");
    assert_eq!(recorder.overlapped(), Vec::<String>::new());
    app.finish().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_moved_into_the_database_costs_no_callback() {
    /// The log is made to begin anew above this length.
    const LOG_MAX: u64 = 64 << 20;
    let rig = Rig::new();
    let length = |name: &str| std::fs::metadata(rig.directory.path().join(name)).unwrap().len();
    let app = rig.setup().configured(|config| config.server.ack.deadline = Duration::from_mins(1)).start().await;
    let mut number = 0;
    let mut send = async || {
        for _ in 0..20 {
            number += 1;
            app.accept_signed(&push("room", number)).await;
        }
    };
    send().await;
    // Somebody reads for long: what came since cannot be moved, and the log cannot begin anew.
    let reader = rig.stranger();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    let ballast = format!("CREATE TABLE ballast (x); INSERT INTO ballast VALUES (zeroblob({}))", LOG_MAX + LOG_MAX / 8);
    let stranger = rig.stranger();
    stranger.execute_batch(&format!("PRAGMA wal_autocheckpoint = 0; {ballast}")).unwrap();
    assert!(length(LOG) > LOG_MAX);
    send().await;
    drop(reader);
    rig.disk.fail(Fault::write(1).on(DATABASE).until_healed());
    send().await;
    eventually("a failure", async || rig.has_failed().then_some(())).await;
    send().await;
    assert_eq!((app.ready().await, app.spills.lines()), (200, Vec::new()));

    rig.disk.heal();
    eventually("the log begins anew", async || {
        let before = length(LOG);
        send().await;
        (length(LOG) == before).then_some(())
    })
    .await;
    assert!(length(DATABASE) > LOG_MAX);
    assert_eq!((app.ready().await, app.spills.lines()), (200, Vec::new()));
    app.finish().await;
}
