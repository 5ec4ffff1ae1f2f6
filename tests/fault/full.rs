//! A disk that takes nothing for a while, because it is full or read-only.

use faulty_disk::Disk;
use futures_util::future::join_all;
use serde_json::json;

use crate::app::{assert_answered, eventually, push};
use crate::recorder::Recorder;
use crate::rig::{Contents, Rig, import, ready};

/// Makes the disk take nothing, and later well again, under a server with a handler.
async fn refuses_for_a_while(refuse: fn(&Disk)) {
    let rig = Rig::new();
    let recorder = Recorder::new();
    let app = rig
        .setup()
        .configured(|config| config.server.ack.deadline = std::time::Duration::from_millis(400))
        .handler("rooms", &recorder)
        .start()
        .await;
    // What comes while it is full is larger than all the room there was before.
    let body = |number: u64| {
        let mut event = push(&format!("room-{number}"), number);
        event["padding"] = "x".repeat(if (4..8).contains(&number) { 300_000 } else { 100 }).into();
        app.signed(&event)
    };
    let bodies: Vec<_> = (0..12).map(body).collect();
    let send = async |bodies: &[String]| {
        for response in join_all(bodies.iter().map(|body| app.post("/callbacks", body))).await {
            assert_answered(&response);
        }
    };
    send(&bodies[..4]).await;
    app.await_deliveries("done", 4).await;
    let spilled = app.spills.lines().len();

    refuse(&rig.disk);
    send(&bodies[4..8]).await;
    assert_eq!(app.spills.lines().len(), spilled + 4);
    assert_eq!(app.ready().await, 503);
    assert_eq!((app.get("/healthz").await.status, app.get("/livez").await.status), (200, 200));
    assert_eq!(app.events().await.len(), 4, "what is stored can be read");
    assert_eq!(recorder.calls().len(), 4, "what is not stored is not delivered");

    rig.disk.heal();
    ready(&app).await;
    let spills = app.spills.lines();
    eventually("what waited is stored", async || (app.events().await.len() == 8).then_some(())).await;
    send(&bodies[8..]).await;
    app.await_deliveries("done", 12).await;
    assert_eq!(recorder.calls().len(), 12, "nothing is delivered twice");
    assert_eq!(app.spills.lines(), spills, "nothing is spilled any more");
    let outcome = import(&app, &spills).await;
    assert_eq!(outcome, json!({"imported": 0, "duplicates": spills.len(), "refused": 0, "faults": []}));
    app.finish().await;
    assert_eq!(Contents::of(&rig.database()).good, bodies.into_iter().collect());
}

#[tokio::test]
async fn a_full_disk_spills_and_takes_again_once_there_is_room() {
    refuses_for_a_while(Disk::fill).await;
}

#[tokio::test]
async fn a_read_only_disk_spills_and_takes_again_once_it_is_writable() {
    refuses_for_a_while(Disk::refuse_writes).await;
}

#[tokio::test]
async fn a_disk_that_is_read_only_from_the_start_is_refused() {
    let rig = Rig::new();
    let setup = || rig.setup().handler("rooms", &Recorder::new());
    setup().start().await.finish().await;
    rig.disk.refuse_writes();
    let Err(error) = setup().build().await else { panic!("it took a store that it cannot write") };
    assert!(error.to_string().contains("the store cannot be opened: attempt to write a readonly database"), "{error}");
}
