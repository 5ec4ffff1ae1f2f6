//! Commands beside replicas that run.

use std::process::Output;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::load::{STREAMS, Told, send};
use crate::program::http_handler;
use crate::proxy::{Proxy, Way};
use crate::replicas::{Replica, three, with_variables};
use crate::server::{Server, url_at};
use crate::sink::Sink;

/// Runs a command at the place of a replica, which is told where its admin listener is.
async fn run(replica: &Replica, arguments: &'static [&'static str]) -> (Option<i32>, String) {
    let admin = replica.running().admin.to_string();
    let mut command = with_variables(&replica.place, &[("LIVEHOOK_ADMIN__LISTEN", &admin)]);
    let ran = tokio::task::spawn_blocking(move || command.args(arguments).output().unwrap());
    let Output { status, stdout, stderr } = ran.await.unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_tells_whether_the_server_can_be_written() {
    let Some(server) = Server::start().await else { return };
    let (sink, proxy) = (Sink::start().await, Proxy::start(server.port).await);
    let replica = Replica::start(&url_at(proxy.address), "", &http_handler(sink.address)).await;
    let healthy = async |well: bool| {
        let code = Some(i32::from(!well));
        crate::eventually(&format!("healthcheck ends with {code:?}"), async || {
            let (ended, said) = run(&replica, &["healthcheck"]).await;
            (ended == code).then_some(said)
        })
        .await
    };
    healthy(true).await;
    for way in [Way::Cut, Way::Stopped] {
        proxy.set(way);
        let said = healthy(false).await;
        assert!(said.contains("not ready") && said.contains("503"), "{said}");
        proxy.set(Way::Open);
        healthy(true).await;
    }
}

const REBUILD: &[&str] = &["streams", "rebuild", "--config", "livehook.toml"];

/// Waits until each stream is live, with as many pushes as were answered of it.
async fn all_live(replica: &Replica, answered: &Told) {
    for (stream, pushes) in answered.0.iter().enumerate() {
        let target = format!("/api/v1/streams/push.example.com/live/room-{stream}");
        crate::eventually(&format!("room-{stream} is live with {pushes} pushes"), async || {
            let row = replica.running().get(&target).await;
            (row["state"] == "live" && row["pushes"] == *pushes).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_made_anew_while_replicas_receive() {
    let Some(server) = Server::start().await else { return };
    let sink = Sink::start().await;
    let replicas = three(&server.url(), &http_handler(sink.address)).await;
    let doors = Arc::new(Mutex::new(replicas.iter().map(|replica| replica.running().callbacks).collect()));
    let stop = CancellationToken::new();
    let rebuilding = async {
        for _ in 0..3 {
            let (one, other) = tokio::join!(run(&replicas[0], REBUILD), run(&replicas[1], REBUILD));
            for (code, said) in [one, other] {
                assert!(code == Some(0) && said.contains("streams made anew from"), "{code:?}: {said}");
            }
        }
        stop.cancel();
    };
    let (answered, ()) = tokio::join!(send(&doors, &stop, u64::MAX), rebuilding);
    answered.check(&sink).await;
    all_live(&replicas[2], &answered).await;

    // What is wrong is put right, however little there is left to do when the command looks how far it is.
    server.ask("UPDATE livehook.streams SET state = 1; UPDATE livehook.meta SET value = 0 WHERE key = 'streams_live'");
    let (code, said) = run(&replicas[0], REBUILD).await;
    assert_eq!((code, said), (Some(0), format!("streams made anew from {} events\n", answered.count())));
    all_live(&replicas[1], &answered).await;
    let live = replicas[1].running().get("/api/v1/streams?state=live").await;
    assert_eq!(live["streams"].as_array().map(|streams| streams.len() as u64), Some(STREAMS));
}
