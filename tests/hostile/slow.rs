//! Slow and endless senders.

use std::net::SocketAddr;
use std::time::Duration;

use crate::good::GoodCaller;
use crate::http::Connection;
use crate::program::{Limits, PATIENCE, Program, together};

/// Sends `head`, then `more` again and again, with a pause before each, until the other side has had enough.
async fn endless(address: SocketAddr, head: &'static str, more: String, pause: Duration) {
    let sending = async {
        let mut connection = Connection::open(address).await;
        let mut sent = connection.try_send(head.as_bytes()).await;
        while sent.is_ok() {
            tokio::time::sleep(pause).await;
            sent = connection.try_send(more.as_bytes()).await;
        }
    };
    let cut_off = tokio::time::timeout(PATIENCE, sending).await;
    assert!(cut_off.is_ok(), "never cut off: {head:?} {more:?}");
}

const CHUNKED: &str = "POST /callbacks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
const LONG: &str = "POST /callbacks HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_endless_heads_and_bodies_are_cut_off() {
    let limits = Limits { max_connections: 1024, ..Limits::default() };
    let timeouts = "server.header_timeout = \"1s\"\nserver.read_timeout = \"2s\"\nserver.idle_timeout = \"2s\"";
    let program = Program::start(limits, timeouts);
    let good = GoodCaller::begin(&program);
    let (slow, fast) = (Duration::from_millis(40), Duration::ZERO);
    let chunk = |length: usize| format!("{length:X}\r\n{}\r\n", "x".repeat(length));
    let attacks = [
        (100, "", "G".to_owned(), slow),
        (100, "POST /callbacks HTTP/1.1\r\nX: ", "y".to_owned(), slow),
        (100, "POST /callbacks HTTP/1.1\r\n", "X: y\r\n".to_owned(), slow),
        (20, "POST /callbacks?x=", "y".repeat(4000), fast),
        (20, "POST /callbacks HTTP/1.1\r\nX: ", "y".repeat(4000), fast),
        (20, "POST /callbacks HTTP/1.1\r\n", "X: y\r\n".repeat(50), fast),
        (100, LONG, " ".to_owned(), slow),
        (100, CHUNKED, chunk(1), slow),
        (5, CHUNKED, chunk(60_000), fast),
        (20, CHUNKED, chunk(1).repeat(100), fast),
        (20, CHUNKED, "1;".to_owned() + &"e".repeat(4000), fast),
        (20, "POST /callbacks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n".repeat(50), fast),
    ];
    let senders = attacks.iter().flat_map(|(count, head, more, pause)| {
        (0..*count).map(|_| endless(program.callbacks, head, more.clone(), *pause))
    });
    together(senders).await;
    good.end(&program).await;
    program.assert_bounded("slow and endless heads and bodies");
    let refused = program.all("quarantine?", "items").await;
    assert!(
        refused.iter().all(|item| item["reason"] == "too-large"),
        "what never ended is nobody's callback: {refused:?}"
    );
}
