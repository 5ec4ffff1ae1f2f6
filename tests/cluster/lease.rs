//! What becomes of what a replica has in hand when it dies, or only stops for a while.

use rustix::process::Signal;

use crate::load::event;
use crate::program::http_handler;
use crate::replicas::{Replica, three};
use crate::server::Server;
use crate::sink::Sink;

/// The replica that holds the only claim there is, by the order of their starts.
fn holder(server: &Server) -> String {
    server.ask("SELECT coalesce(max(replica), 0) FROM livehook.claims")
}

/// Posts one event of a stream to each replica, while the first of them is in hand and not answered.
async fn with_one_in_hand(sink: &Sink, replicas: &[Replica]) {
    sink.open(false);
    for (number, replica) in (0..).zip(replicas) {
        assert_eq!(replica.running().post(event(0, number)).await, Some(200));
    }
    crate::eventually("the first is in hand", async || (sink.receipts().len() == 1).then_some(())).await;
}

async fn in_order(sink: &Sink, count: usize) {
    crate::eventually("all arrive", async || (sink.events() == count).then_some(())).await;
    sink.check(&[u64::try_from(count).unwrap()]);
}

/// One whose attempts last as long as the sink keeps its answers back.
fn patient(sink: &Sink) -> String {
    format!("{}timeout = \"2m\"\n", http_handler(sink.address))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_dies_leaves_what_it_had_in_hand_to_the_others() {
    let Some(server) = Server::start().await else { return };
    let sink = Sink::start().await;
    let first = Replica::start(&server.url(), "", &patient(&sink)).await;
    with_one_in_hand(&sink, std::slice::from_ref(&first)).await;
    let mut first = first;
    let others = three(&server.url(), &patient(&sink)).await;
    for (number, replica) in (1..).zip(&others) {
        assert_eq!(replica.running().post(event(0, number)).await, Some(200));
    }
    first.kill();
    sink.open(true);
    in_order(&sink, 4).await;
    assert_eq!(sink.repeated(), 1, "what was in hand came twice, under one id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_cleanly_gives_back_what_it_had_not_begun() {
    let Some(server) = Server::start().await else { return };
    let sink = Sink::start().await;
    let mut replicas = three(&server.url(), &patient(&sink)).await;
    with_one_in_hand(&sink, &replicas).await;
    sink.open(true);
    for replica in &mut replicas[..2] {
        assert!(replica.stop().await.status.success());
    }
    in_order(&sink, 3).await;
    assert_eq!(sink.repeated(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hung_records_nothing_over_the_one_that_took_over() {
    let Some(server) = Server::start().await else { return };
    let sink = Sink::start().await;
    let hung = Replica::start(&server.url(), "", &patient(&sink)).await;
    with_one_in_hand(&sink, std::slice::from_ref(&hung)).await;
    let before = holder(&server);
    let other = Replica::start(&server.url(), "", &patient(&sink)).await;
    assert_eq!(other.running().post(event(0, 1)).await, Some(200));
    hung.running().signal(Signal::STOP);
    crate::eventually("the other has it in hand", async || {
        let now = holder(&server);
        (now != before && now != "0" && sink.receipts().len() == 2).then_some(())
    })
    .await;
    hung.running().signal(Signal::CONT);
    // It finds out that it was taken for dead, and has another number.
    crate::eventually("the one that hung is back", async || {
        let alive = server.ask("SELECT count(*) FROM livehook.replicas WHERE alive_until > clock_timestamp()");
        (alive == "2").then_some(())
    })
    .await;
    assert_ne!(holder(&server), before, "the claim is the other one's");
    sink.open(true);
    in_order(&sink, 2).await;
    other.running().drained(&["hook"]).await;
    let attempts = server.ask("SELECT string_agg(attempts::text, ',' ORDER BY event) FROM livehook.deliveries");
    assert_eq!(attempts, "1,1", "only the attempt of the one that held the claim was recorded");
}
