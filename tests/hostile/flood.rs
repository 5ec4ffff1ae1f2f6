//! Floods of callbacks that are refused.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::good::GoodCaller;
use crate::http::{Connection, request};
use crate::program::{ANSWER, KIB, Limits, MIB, Program, eventually, forged, post, push, together};

/// Posts all of `requests` over a few connections, a batch at a time, and looks at every answer.
async fn pour(address: SocketAddr, requests: impl Iterator<Item = Vec<u8>>) {
    const CONNECTIONS: usize = 8;
    const BATCH: usize = 32;
    let requests: Vec<_> = requests.collect();
    let share = requests.len().div_ceil(CONNECTIONS);
    let pouring = requests.chunks(share).map(|requests| {
        let requests = requests.to_vec();
        async move {
            let mut connection = Connection::open(address).await;
            for batch in requests.chunks(BATCH) {
                connection.send(&batch.concat()).await;
                for _ in batch {
                    assert_eq!(connection.response().await.unwrap().text(), ANSWER);
                }
            }
        }
    });
    together(pouring).await;
}

/// Posts on a connection of its own. Returns the status, if there was an answer.
async fn send(address: SocketAddr, request: Vec<u8>) -> Option<u16> {
    let mut connection = Connection::open(address).await;
    let _ = connection.try_send(&request).await;
    connection.response().await.map(|answer| answer.status)
}

fn count<'a>(items: &'a [Value], name: &str, value: &'a str) -> usize {
    items.iter().filter(|item| item[name] == value).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refused_callbacks_fills_the_quarantine_and_nothing_else() {
    const FLOOD: u64 = 12_000;
    const EVENTS: u64 = 200;
    let limits = Limits { max_connections: 128, ..Limits::default() };
    let program = Program::start(limits, "quarantine = { max_count = 500, max_bytes = \"1MiB\" }");
    pour(program.callbacks, (0..EVENTS).map(|number| post(push("before", number)))).await;
    assert_eq!(program.post("nonsense").await.text(), ANSWER);
    // All there will be in quarantine.
    pour(program.callbacks, (0..1000).map(|number| post(forged(number)))).await;
    let before = program.store_bytes();
    let good = GoodCaller::begin(&program);
    pour(program.callbacks, (1000..FLOOD).map(|number| post(forged(number)))).await;
    let answered = good.end(&program).await;

    assert_eq!(program.all("events?stream=before&", "events").await.len() as u64, EVENTS);
    let refused = program.all("quarantine?", "items").await;
    assert_eq!(refused.len(), 500);
    assert_eq!(count(&refused, "reason", "malformed-json"), 1, "a flood pushes out itself");
    let counted = program.counter("livehook_callbacks_quarantined_total{reason=\"signature-mismatch\"}").await;
    assert_eq!(counted, FLOOD);
    // Two KiB for each good event, and the log of SQLite, which is begun anew at 64 MiB at the latest.
    let grown = program.store_bytes().saturating_sub(before);
    println!("flood: the store has grown by {} KiB with {answered} good events", grown / KIB);
    assert!(grown < 64 * MIB + answered * 2 * KIB, "{grown} bytes");
    program.assert_bounded("12,000 refused callbacks");
    let directory = program.stop();
    // Closed, the store is one file, of which the quarantine is a bounded part.
    let left = std::fs::metadata(directory.path().join("s.db")).unwrap().len();
    println!("flood: {} KiB on disk in the end", left / KIB);
    assert!(left < 8 * MIB, "{left} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_callbacks_are_kept_within_bytes_whatever_their_parts_hold() {
    let limits = Limits { max_connections: 128, ..Limits::default() };
    let program = Program::start(limits, "quarantine = { max_count = 100000, max_bytes = \"2MiB\" }");
    let good = GoodCaller::begin(&program);
    let long = "x".repeat(12_000);
    // As little body as possible, and as much as possible beside it.
    let heads =
        (0..1000).map(|_| request("POST", "/callbacks", &[("TPD-SecretID", &long), ("TPD-CallBack-Auth", "y")], b"?"));
    pour(program.callbacks, heads).await;
    let names = (0..200).map(|number| {
        let name = format!("{number}{}", "d".repeat(60_000));
        post(format!(r#"{{"event_type":1,"app":"{name}","stream_id":"{name}","t":9999999999,"sign":"{:032x}"}}"#, 1))
    });
    pour(program.callbacks, names).await;
    for number in 0..20 {
        let large = format!("{number}{}", "x".repeat(usize::try_from(MIB).unwrap()));
        assert_eq!(program.post(large).await.text(), ANSWER);
    }
    good.end(&program).await;
    let refused = program.all("quarantine?", "items").await;
    let kept: u64 = refused.iter().map(|item| item["bytes"].as_u64().unwrap().min(64 * KIB)).sum();
    assert!(kept <= 2 * MIB, "{kept}");
    assert!(refused.iter().all(|item| item.to_string().len() < 2048), "{refused:?}");
    program.assert_bounded("refused callbacks with large heads, names and bodies");
    let directory = program.stop();
    let left = std::fs::metadata(directory.path().join("s.db")).unwrap().len();
    println!("refused callbacks: {} KiB on disk, {kept} bytes of bodies", left / KIB);
    assert!(left < 10 * MIB, "{left} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refused_callbacks_is_logged_in_sum() {
    const FLOOD: u64 = 2000;
    let program = Program::start(Limits { max_connections: 128, ..Limits::default() }, "");
    pour(program.callbacks, (0..FLOOD).map(|number| post(forged(number)))).await;
    assert_eq!(program.post("nonsense").await.text(), ANSWER);
    let counted = eventually("all refusals are accounted for", async || {
        let log = program.log();
        let one_by_one = count(&log, "message", "callback refused") as u64;
        let in_sum: u64 = log.iter().filter_map(|line| line["callbacks"].as_u64()).sum();
        (one_by_one + in_sum == FLOOD + 1).then_some(one_by_one)
    })
    .await;
    assert!(counted < 200, "{counted} lines");
    let log = program.log();
    assert!(log.iter().any(|line| line["reason"] == "malformed-json"), "another cause is not drowned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_stuck_makes_a_flood_take_no_more_memory() {
    let limits =
        Limits { max_connections: 128, body_bytes_in_flight: 16 * MIB, queue_bytes: 16 * MIB, ..Limits::default() };
    let program = Program::start(limits, "ack.deadline = \"1s\"");
    assert_eq!(program.post(push("before", 1)).await.text(), ANSWER);
    let stranger = program.stranger();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Much beside a small body, and much more than is kept of a large one.
    let token = format!("/callbacks?token={}", "x".repeat(12_000));
    let small = request("POST", &token, &[], b"?");
    let chunk = format!("{:X}\r\n{}", 2 * MIB, "x".repeat(1_100_000));
    let large =
        format!("POST /callbacks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}").into_bytes();
    for sent in [&small, &large].repeat(3) {
        let senders = (0..60).map(|_| send(program.callbacks, sent.clone()));
        for status in together(senders).await {
            assert!(matches!(status, None | Some(200 | 408 | 503)), "{status:?}");
        }
    }
    program.assert_below(limits.memory_spilling(), "a flood while the store is stuck");
    stranger.execute_batch("ROLLBACK").unwrap();
    eventually("ready again", async || (program.get("/readyz").await.status == 200).then_some(())).await;
    assert_eq!(program.post(push("after", 1)).await.text(), ANSWER);
    eventually("stored", async || (program.all("events?stream=after&", "events").await.len() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_error_that_nobody_reads_stalls_nothing() {
    /// More than wait for standard error at the same time.
    const LINES: usize = 9000;
    let limits = Limits { max_connections: 128, ..Limits::default() };
    let mut program = Program::start_unread(Arc::new(tempfile::tempdir().unwrap()), limits, "log.level = \"debug\"");
    let good = GoodCaller::begin(&program);
    let copy = post(push("logged", 1));
    pour(program.callbacks, std::iter::repeat_n(copy, LINES)).await;
    pour(program.callbacks, (0..500).map(|number| post(forged(number)))).await;
    assert_eq!(program.get("/readyz").await.status, 200);
    good.end(&program).await;
    program.assert_bounded("standard error that nobody reads");
    program.read_log();
    eventually("the log goes on", async || {
        program.post("nonsense").await;
        (count(&program.log(), "reason", "malformed-json") > 0).then_some(())
    })
    .await;
    assert!(program.log().iter().any(|line| line["lost"].as_u64() > Some(0)), "what was lost is told");
}
