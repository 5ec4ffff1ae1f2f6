//! PostgreSQL is slow, does not answer, or is not there: what callbacks are answered, what is spilled, and what becomes of
//! it.

use std::io::Write as _;
use std::process::Output;

use serde_json::Value;

use crate::load::event;
use crate::program::{http_handler, import};
use crate::proxy::{Proxy, Way};
use crate::replicas::Replica;
use crate::server::{Server, url_at};
use crate::sink::Sink;

const EVENTS: u64 = 5;

async fn with_trouble(way: Way) {
    let Some(server) = Server::start().await else { return };
    let (sink, proxy) = (Sink::start().await, Proxy::start(server.port).await);
    let keys = "ack.deadline = \"1s\"";
    let mut replica = Replica::start(&url_at(proxy.address), keys, &http_handler(sink.address)).await;
    assert_eq!(replica.running().post(event(0, 0)).await, Some(200));
    assert_eq!(replica.status("/readyz").await, 200);
    crate::eventually("it is delivered", async || (sink.events() == 1).then_some(())).await;
    replica.running().drained(&["hook"]).await;
    proxy.set(way);
    for number in 1..=EVENTS {
        assert_eq!(replica.running().post(event(0, number)).await, Some(200), "spilled, and so answered");
    }
    crate::eventually("it is not ready", async || (replica.status("/readyz").await == 503).then_some(())).await;
    assert_eq!(replica.status("/livez").await, 200);
    proxy.set(Way::Open);
    crate::eventually("it is ready again, by itself", async || (replica.status("/readyz").await == 200).then_some(()))
        .await;
    let count = usize::try_from(EVENTS + 1).unwrap();
    crate::eventually("what waited is delivered", async || (sink.events() == count).then_some(())).await;
    sink.check(&[EVENTS + 1]);
    assert_eq!(sink.repeated(), 0);
    let ended = replica.stop().await;
    assert!(ended.status.success());
    let spills: Vec<_> =
        ended.said.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"spill\"")).collect();
    assert_eq!(spills.len() as u64, EVENTS, "{}", String::from_utf8_lossy(&ended.said));
    let file = replica.place.path("spills");
    let mut lines = std::fs::File::create(&file).unwrap();
    for line in &spills {
        lines.write_all(&[line, &b"\n"[..]].concat()).unwrap();
    }
    let Output { status, stdout, stderr } = import(&replica.place, &file).output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && told.contains(&format!("{EVENTS} duplicates")), "it was stored after all: {told}");
    assert_eq!(server.ask("SELECT count(*) FROM livehook.events"), count.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_outlived() {
    with_trouble(Way::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_is_outlived() {
    with_trouble(Way::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_while_nothing_is_asked_of_it_is_noticed() {
    let Some(server) = Server::start().await else { return };
    let (sink, proxy) = (Sink::start().await, Proxy::start(server.port).await);
    let replica = Replica::start(&url_at(proxy.address), "", &http_handler(sink.address)).await;
    for way in [Way::Cut, Way::Stopped] {
        proxy.set(way);
        crate::eventually("it is not ready", async || (replica.status("/readyz").await == 503).then_some(())).await;
        proxy.set(Way::Open);
        crate::eventually("it is ready again", async || (replica.status("/readyz").await == 200).then_some(())).await;
    }
}

/// Attempts that take longer together than what is told of the first.
const DIALLED: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_told_at_once_and_then_in_sum() {
    let Some(server) = Server::start().await else { return };
    let (sink, proxy) = (Sink::start().await, Proxy::start(server.port).await);
    let mut replica = Replica::start(&url_at(proxy.address), "", &http_handler(sink.address)).await;
    let before = proxy.dialled();
    proxy.set(Way::Cut);
    crate::eventually("it has tried often", async || (proxy.dialled() - before > DIALLED).then_some(())).await;
    proxy.set(Way::Open);
    crate::eventually("it is ready again", async || (replica.status("/readyz").await == 200).then_some(())).await;
    let said = replica.stop().await.said;
    let lines = said.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let complaints =
        lines.filter(|line| line["message"].as_str().is_some_and(|text| text.contains("cannot be written")));
    let attempts: Vec<_> = complaints.map(|line| line["attempts"].as_u64().unwrap()).collect();
    assert_eq!(attempts[0], 1, "told at once");
    assert!(attempts.len() > 1 && attempts[1..].iter().all(|attempts| *attempts > 1), "{attempts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_looked_up_and_not_made_again() {
    let Some(server) = Server::start().await else { return };
    let (sink, proxy) = (Sink::start().await, Proxy::start(server.port).await);
    let replica = Replica::start(&url_at(proxy.address), "", &http_handler(sink.address)).await;
    proxy.set(Way::NoCommits);
    for number in 0..EVENTS {
        assert_eq!(replica.running().post(event(0, number)).await, Some(200));
        assert_eq!(replica.running().post(format!("{{\"event_type\":1,\"number\":{number}}}")).await, Some(200));
    }
    proxy.set(Way::Open);
    crate::eventually("all arrive", async || (sink.events() as u64 == EVENTS).then_some(())).await;
    replica.running().drained(&["hook"]).await;
    sink.check(&[EVENTS]);
    let stored = server.ask("SELECT count(*), sum(duplicates) FROM livehook.events");
    assert_eq!(stored, format!("{EVENTS}|0"), "stored once, and its own copy is none");
    let refused = server.ask("SELECT count(*) FROM livehook.quarantine");
    assert_eq!(refused, EVENTS.to_string(), "kept once");
}
