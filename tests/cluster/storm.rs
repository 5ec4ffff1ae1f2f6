//! Everything goes wrong, one thing after the other, under load: replicas are killed and come back, and so is PostgreSQL.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::load::{Doors, send};
use crate::program::http_handler;
use crate::replicas::{Replica, three};
use crate::server::{End, Server};
use crate::sink::Sink;

/// Load between two blows.
const PAUSE: Duration = Duration::from_millis(1500);

fn open_doors(doors: &Doors, replicas: &[Replica]) {
    let running = replicas.iter().filter_map(|replica| replica.program.as_ref());
    *doors.lock().unwrap() = running.map(|program| program.callbacks).collect();
}

async fn blows(server: &mut Server, replicas: &mut [Replica], doors: &Doors) {
    for (at, how) in [End::Fast, End::Immediate].into_iter().enumerate() {
        tokio::time::sleep(PAUSE).await;
        crate::tell(&format!("replica {at} is killed"));
        replicas[at].kill();
        open_doors(doors, replicas);
        tokio::time::sleep(PAUSE).await;
        crate::tell(&format!("PostgreSQL ends: {how:?}"));
        server.end(how);
        tokio::time::sleep(PAUSE).await;
        server.begin().await;
        tokio::time::sleep(PAUSE).await;
        replicas[at].restart().await;
        open_doors(doors, replicas);
    }
    crate::tell("the last replica that was not killed is, in the middle of a restart of PostgreSQL");
    server.end(End::Immediate);
    replicas[2].kill();
    server.begin().await;
    replicas[2].restart().await;
    open_doors(doors, replicas);
    tokio::time::sleep(PAUSE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_out_of_order_whoever_is_killed() {
    let Some(mut server) = Server::start().await else { return };
    let sink = Sink::start().await;
    let mut replicas = three(&server.url(), &http_handler(sink.address)).await;
    let (doors, stop) = (Doors::from(Arc::new(Mutex::new(Vec::new()))), CancellationToken::new());
    open_doors(&doors, &replicas);
    let storming = async {
        blows(&mut server, &mut replicas, &doors).await;
        stop.cancel();
    };
    let (answered, ()) = tokio::join!(send(&doors, &stop, u64::MAX), storming);
    answered.check(&sink).await;
    for replica in &replicas {
        replica.running().drained(&["hook"]).await;
    }
    crate::tell(&format!("{} events, {} came more than once", answered.count(), sink.repeated()));
    let stored = server.ask("SELECT count(*) FROM livehook.events");
    assert_eq!(stored, answered.count().to_string(), "each event once");
}
