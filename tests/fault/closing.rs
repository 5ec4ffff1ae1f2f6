//! A disk that fails while the service ends.

use std::time::Duration;

use faulty_disk::Fault;
use futures_util::future::join_all;
use serde_json::json;
use tokio::net::TcpStream;

use crate::app::{Setup, TestApp, assert_answered, eventually, push};
use crate::rig::{Contents, Rig, import};

const EVENTS: u64 = 6;

fn setup(rig: &Rig) -> Setup {
    rig.setup().configured(|config| config.server.ack.deadline = Duration::from_millis(400))
}

/// Callbacks that wait for a disk which fails, and were spilled.
async fn waiting(rig: &Rig) -> (TestApp, Vec<String>) {
    let app = setup(rig).start().await;
    rig.disk.fail(Fault::change(1).until_healed());
    let bodies: Vec<_> = (0..EVENTS).map(|number| app.signed(&push("room", number))).collect();
    for response in join_all(bodies.iter().map(|body| app.post("/callbacks", body))).await {
        assert_answered(&response);
    }
    assert_eq!(app.spills.lines().len(), bodies.len());
    (app, bodies)
}

#[tokio::test]
async fn what_waits_is_stored_if_the_disk_is_well_before_the_end() {
    let rig = Rig::new();
    let (mut app, bodies) = waiting(&rig).await;
    app.begin_stop();
    eventually("only the store is still open", async || TcpStream::connect(app.admin).await.is_err().then_some(()))
        .await;
    rig.disk.heal();
    app.leave().await;
    assert_eq!(Contents::of(&rig.database()).good, bodies.into_iter().collect());
}

#[tokio::test]
async fn what_waits_in_vain_comes_back_from_its_spills() {
    let rig = Rig::new();
    let (app, bodies) = waiting(&rig).await;
    let spills = app.spills.lines();
    app.leave().await;
    rig.disk.heal();
    let app = setup(&rig).start().await;
    assert_eq!(app.events().await.len(), 0);
    let outcome = import(&app, &spills).await;
    assert_eq!(outcome, json!({"imported": EVENTS, "duplicates": 0, "refused": 0, "faults": []}));
    app.finish().await;
    assert_eq!(Contents::of(&rig.database()).good, bodies.into_iter().collect());
}

#[tokio::test]
async fn a_change_that_fails_at_the_end_costs_nothing() {
    for n in 1.. {
        let rig = Rig::new();
        rig.disk.remember();
        let app = setup(&rig).start().await;
        let bodies: Vec<_> = (0..EVENTS).map(|number| app.signed(&push("room", number))).collect();
        for body in &bodies {
            app.accept(body).await;
        }
        rig.disk.fail(Fault::change(n).until_healed());
        app.leave().await;
        let struck = rig.has_failed();
        let stored = bodies.into_iter().collect();
        assert_eq!(Contents::of(&rig.survivor().database()).good, stored);
        rig.disk.heal();
        assert_eq!(Contents::of(&rig.database()).good, stored);
        setup(&rig).start().await.finish().await;
        if !struck {
            assert!(n > 5, "{n}");
            break;
        }
    }
}
