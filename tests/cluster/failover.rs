//! The server is gone for good, and its standby takes its place behind the same address.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::load::{Doors, event, send};
use crate::program::http_handler;
use crate::proxy::{Proxy, Way};
use crate::replicas::{Replica, three};
use crate::server::{End, Server, url_at};
use crate::sink::Sink;

/// Load before and after each step.
const PAUSE: Duration = Duration::from_millis(1500);

/// What whoever watches over servers does.
async fn fail_over(server: &mut Server, standby: &Server, proxy: &Proxy, replicas: &[Replica]) {
    tokio::time::sleep(PAUSE).await;
    crate::tell("PostgreSQL is killed");
    server.end(End::Killed);
    proxy.set(Way::Cut);
    tokio::time::sleep(PAUSE).await;
    crate::tell("the address leads to the standby, which is none of ours yet");
    proxy.lead_to(standby.port);
    proxy.set(Way::Open);
    for replica in replicas {
        crate::eventually("it says that it has found a standby", async || {
            let answer = replica.running().try_get("/readyz").await?;
            answer.text().contains("it is a standby").then_some(())
        })
        .await;
    }
    crate::tell("the standby is promoted");
    assert_eq!(standby.ask("SELECT pg_promote()"), "t");
    tokio::time::sleep(PAUSE).await;
}

async fn ready(replica: &Replica, status: u16) {
    crate::eventually(&format!("/readyz is {status}"), async || {
        (replica.status("/readyz").await == status).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_takes_over_has_all_that_was_answered() {
    let Some(mut server) = Server::start().await else { return };
    let standby = server.standby().await;
    let (sink, proxy) = (Sink::start().await, Proxy::start(server.port).await);
    let mut replicas = three(&url_at(proxy.address), &http_handler(sink.address)).await;
    let doors = replicas.iter().map(|replica| replica.running().callbacks).collect();
    let (doors, stop) = (Doors::from(Arc::new(Mutex::new(doors))), CancellationToken::new());
    let failing = async {
        fail_over(&mut server, &standby, &proxy, &replicas).await;
        stop.cancel();
    };
    let (answered, ()) = tokio::join!(send(&doors, &stop, u64::MAX), failing);
    answered.check(&sink).await;
    for replica in &replicas {
        replica.running().drained(&["hook"]).await;
        ready(replica, 200).await;
    }
    crate::tell(&format!("{} events, {} came more than once", answered.count(), sink.repeated()));
    let stored = standby.ask("SELECT count(*) FROM livehook.events");
    assert_eq!(stored, answered.count().to_string(), "each event once");
    for replica in &mut replicas {
        let ended = replica.stop().await;
        assert!(ended.status.success());
        let said = String::from_utf8_lossy(&ended.said);
        assert!(!said.contains("\"spill\""), "it was answered because it was stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_standby_has_not_is_not_answered() {
    let Some(server) = Server::start().await else { return };
    let mut standby = server.standby().await;
    let (sink, proxy) = (Sink::start().await, Proxy::start(server.port).await);
    let replica =
        Replica::start(&url_at(proxy.address), "ack.unstored = \"refuse\"", &http_handler(sink.address)).await;
    assert_eq!(replica.running().post(event(0, 0)).await, Some(200));
    replica.running().drained(&["hook"]).await;
    standby.end(End::Fast);
    // The connection is lost with the commit under way, which this server has, and which it shows when it is asked again.
    let losing = async {
        crate::eventually("the commit waits for the standby", async || {
            let waiting =
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%; COMMIT'";
            (server.ask(waiting) != "0").then_some(())
        })
        .await;
        proxy.set(Way::Cut);
        ready(&replica, 503).await;
        proxy.set(Way::Open);
    };
    let (answer, ()) = tokio::join!(replica.running().post(event(0, 1)), losing);
    assert_eq!(answer, Some(503));
    ready(&replica, 503).await;
    standby.begin().await;
    ready(&replica, 200).await;
    assert_eq!(replica.running().post(event(0, 1)).await, Some(200));
    crate::eventually("both arrive", async || (sink.events() == 2).then_some(())).await;
    sink.check(&[2]);
    assert_eq!(server.ask("SELECT count(*) FROM livehook.events"), "2");
}
