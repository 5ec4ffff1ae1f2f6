//! Many connections, and many requests on one.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use crate::good::GoodCaller;
use crate::http::Connection;
use crate::program::{Limits, MIB, PATIENCE, Program, may_have_files, post, push, together};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_make_room_for_a_good_caller() {
    const IDLE: usize = 4500;
    /// Of the store, the runtime and the listeners.
    const FILES: usize = 40;
    if !may_have_files(8192) {
        return;
    }
    let limits = Limits { body_bytes_in_flight: 4 * MIB, queue_bytes: 4 * MIB, ..Limits::default() };
    let program = Program::start(limits, "server.header_timeout = \"5m\"\nserver.read_timeout = \"5m\"");
    let good = GoodCaller::begin(&program);
    let begun = [
        String::new(),
        format!("POST /callbacks HTTP/1.1\r\nX: {}", "x".repeat(15_000)),
        format!("POST /callbacks HTTP/1.1\r\nX: {}", "x".repeat(60_000)),
        format!("POST /callbacks HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n{}", "x".repeat(60_000)),
    ];
    let mut idle = Vec::new();
    for number in 0..IDLE {
        let mut connection = Connection::open(program.callbacks).await;
        let _ = connection.try_send(begun[number % begun.len()].as_bytes()).await;
        idle.push(connection);
    }
    good.end(&program).await;
    program.assert_bounded("4,500 idle connections");
    let most = usize::try_from(program.limits.max_connections).unwrap() + FILES;
    assert!(program.files() <= most, "{} open files", program.files());
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_pipelined_requests_are_answered_one_by_one() {
    const REQUESTS: u64 = 1000;
    let program = Program::start(Limits { max_connections: 64, ..Limits::default() }, "");
    let good = GoodCaller::begin(&program);
    let pipelines = (0..2).map(|pipeline| {
        let address = program.callbacks;
        async move {
            // Every tenth is another request, so that an answer out of turn is found.
            let status = |number: u64| if number % 10 == 9 { 404 } else { 200 };
            let mut connection = Connection::open(address).await;
            let mut all = Vec::new();
            for number in 0..REQUESTS {
                match status(number) {
                    200 => all.extend(post(push(&format!("pipeline-{pipeline}"), number))),
                    _ => all.extend(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"),
                }
            }
            connection.send(&all).await;
            for number in 0..REQUESTS {
                let answer = connection.response().await.expect("an answer for each");
                assert_eq!(answer.status, status(number), "{number}");
            }
        }
    });
    together(pipelines).await;
    for pipeline in 0..2 {
        let stored = program.all(&format!("events?stream=pipeline-{pipeline}&"), "events").await;
        assert_eq!(stored.len() as u64, REQUESTS * 9 / 10);
    }
    good.end(&program).await;
    program.assert_bounded("1,000 requests at once on each of 2 connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_on_and_on_and_never_reads_is_cut_off() {
    let limits =
        Limits { max_connections: 64, body_bytes_in_flight: 4 * MIB, queue_bytes: 4 * MIB, ..Limits::default() };
    let program = Program::start(limits, "server.idle_timeout = \"1s\"");
    let good = GoodCaller::begin(&program);
    together((0..3).map(|_| ask_and_never_read(program.callbacks))).await;
    good.end(&program).await;
    program.assert_bounded("3 who ask on and on and never read");
}

async fn ask_and_never_read(address: SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    // So that it does not take long until nothing more fits.
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let requests = b"GET /callbacks HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let asking = async { while stream.write_all(&requests).await.is_ok() {} };
    tokio::time::timeout(PATIENCE * 2, asking).await.expect("never cut off");
}
