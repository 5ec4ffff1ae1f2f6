//! Replicas that work together: one inbox, one memory of duplicates, one order, one mind about who is paused.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::http::{ask, request};
use crate::load::{STREAMS, event, send};
use crate::program::http_handler;
use crate::replicas::{Replica, three};
use crate::server::Server;
use crate::sink::Sink;

#[tokio::test(flavor = "multi_thread")]
async fn three_that_start_together_share_one_inbox_and_deliver_each_event_once() {
    let Some(server) = Server::start().await else { return };
    let sink = Sink::start().await;
    let mut replicas = three(&server.url(), &http_handler(sink.address)).await;
    assert_eq!(server.ask("SELECT value FROM livehook.meta WHERE key = 'version'"), "1", "the store was made once");
    let doors = Arc::new(Mutex::new(replicas.iter().map(|replica| replica.running().callbacks).collect()));
    let answered = send(&doors, &CancellationToken::new(), 25).await;
    answered.check(&sink).await;
    for replica in &replicas {
        replica.running().drained(&["hook"]).await;
    }
    assert_eq!(sink.repeated(), 0, "nothing crashed, so nothing comes twice");
    let copies = STREAMS * 5;
    assert_eq!(server.ask("SELECT sum(duplicates) FROM livehook.events"), copies.to_string());
    let (seqs, ids) = (server.ask("SELECT count(DISTINCT seq) FROM livehook.events"), answered.count().to_string());
    assert_eq!(seqs, ids);
    for replica in &mut replicas {
        assert!(replica.stop().await.status.success());
    }
    let held = "SELECT (SELECT count(*) FROM livehook.replicas) + (SELECT count(*) FROM livehook.claims)";
    assert_eq!(server.ask(held), "0", "nobody holds anything");
}

async fn command(replica: &Replica, target: &str) {
    let answer =
        ask(replica.running().admin, &request("POST", target, &[("Content-Type", "application/json")], b"")).await;
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
}

async fn post(replica: &Replica, stream: u64, number: u64) {
    assert_eq!(replica.running().post(event(stream, number)).await, Some(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_tells_one_replica_holds_for_all() {
    let Some(server) = Server::start().await else { return };
    let sink = Sink::start().await;
    let replicas = three(&server.url(), &http_handler(sink.address)).await;
    command(&replicas[0], "/api/v1/handlers/hook/pause").await;
    for number in 0..6 {
        post(&replicas[usize::try_from(number % 3).unwrap()], 0, number).await;
    }
    for replica in &replicas {
        crate::eventually("it is paused, with everything pending", async || {
            let handlers = replica.running().get("/api/v1/handlers").await;
            (handlers[0]["state"] == "paused" && handlers[0]["pending"] == 6).then_some(())
        })
        .await;
    }
    assert_eq!(sink.receipts(), [], "nothing is handed out");
    let events = replicas[1].running().get("/api/v1/events").await;
    let oldest = events["events"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    command(&replicas[1], &format!("/api/v1/deliveries/{oldest}/hook/drop")).await;
    command(&replicas[2], "/api/v1/handlers/hook/resume").await;
    crate::eventually("the rest arrives", async || (sink.receipts().len() == 5).then_some(())).await;
    let numbers: Vec<_> = sink.receipts().iter().map(|one| one.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5], "in order, without what was dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_and_streams_are_one() {
    let Some(server) = Server::start().await else { return };
    let sink = Sink::start().await;
    let replicas = three(&server.url(), &http_handler(sink.address)).await;
    assert_eq!(replicas[0].running().post("{\"event_type\":1}").await, Some(200), "and kept, since it is not signed");
    let kept = replicas[1].running().get("/api/v1/quarantine").await;
    assert_eq!(kept["items"][0]["reason"], "signature-missing");
    post(&replicas[0], 3, 0).await;
    post(&replicas[1], 3, 1).await;
    let live = |streams: &Value| streams["streams"].as_array().map(Vec::len);
    let streams = replicas[2].running().get("/api/v1/streams?state=live").await;
    assert_eq!((live(&streams), &streams["streams"][0]["pushes"]), (Some(1), &Value::from(2)), "{streams}");
}

/// Characters of a name that is as long as names may be, of three bytes each.
const LONG: usize = 340;

#[tokio::test(flavor = "multi_thread")]
async fn names_that_no_text_of_the_server_holds_are_kept_and_found() {
    let Some(server) = Server::start().await else { return };
    let sink = Sink::start().await;
    let replica = Replica::start(&server.url(), "signature.required = false", &http_handler(sink.address)).await;
    let name = "a\\u0000b\u{10ffff}";
    let body = event(0, 0).replace("room-0", name);
    let long = event(0, 1).replace("room-0", &"直".repeat(LONG));
    for body in [body, long] {
        assert_eq!(replica.running().post(body).await, Some(200));
    }
    crate::eventually("both are delivered", async || (sink.events() == 2).then_some(())).await;
    let found = replica.running().get("/api/v1/events?stream=a%00b%F4%8F%BF%BF").await;
    assert_eq!(found["events"][0]["stream"], "a\0b\u{10ffff}", "{found}");
    let live = replica.running().get("/api/v1/streams?state=live").await;
    assert_eq!(live["streams"].as_array().map(Vec::len), Some(2));
}
