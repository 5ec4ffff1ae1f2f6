//! Slow, endless and too many senders are cut off and hold up nobody else.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::app::{Setup, TestApp, assert_answered, eventually, push};
use crate::http::{Connection, request};

const SHORT: Duration = Duration::from_millis(300);
/// Every timeout but the one that is looked at.
const LONG: Duration = Duration::from_mins(1);

async fn limited(change: impl FnOnce(&mut livehook::receive::Settings)) -> TestApp {
    Setup::new()
        .configured(|config| {
            let server = &mut config.server;
            (server.header_timeout, server.read_timeout, server.idle_timeout) = (LONG, LONG, LONG);
            change(server);
        })
        .start()
        .await
}

/// Fails unless the connection is closed between `SHORT` and a few seconds from now.
async fn closed_in_time(mut connection: Connection) {
    let begun = Instant::now();
    connection.closed().await;
    let took = begun.elapsed();
    assert!((SHORT / 2..SHORT * 20).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_head_that_is_never_complete_is_cut_off() {
    let app = limited(|server| server.header_timeout = SHORT).await;
    let mut connection = app.connect().await;
    connection.send(b"POST /callbacks HTTP/1.1\r\nHost: x\r\n").await;
    closed_in_time(connection).await;
    app.finish().await;
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off_all_the_same() {
    let app = limited(|server| server.header_timeout = SHORT).await;
    let mut connection = app.connect().await;
    let begun = Instant::now();
    connection.send(b"POST /callbacks HTTP/1.1\r\nX: ").await;
    while connection.try_send(b"y").await.is_ok() {
        assert!(begun.elapsed() < SHORT * 20, "every byte buys it more time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    app.finish().await;
}

#[tokio::test]
async fn a_slow_body_is_answered_408_and_cut_off() {
    let app = limited(|server| server.read_timeout = SHORT).await;
    let mut connection = app.connect().await;
    connection.send(b"POST /callbacks HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").await;
    let begun = Instant::now();
    let answer = connection.response().await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert!((SHORT / 2..SHORT * 20).contains(&begun.elapsed()));
    connection.closed().await;
    assert!(app.refused().await.is_empty());
    app.finish().await;
}

#[tokio::test]
async fn a_connection_nobody_uses_is_closed_before_and_after_a_request() {
    let app = limited(|server| server.idle_timeout = SHORT).await;
    closed_in_time(app.connect().await).await;
    let mut connection = app.connect().await;
    connection.send(&request("POST", "/callbacks", &[], app.signed(&push("room", 1)).as_bytes())).await;
    assert_answered(&connection.response().await.unwrap());
    closed_in_time(connection).await;
    app.finish().await;
}

#[tokio::test]
async fn the_connection_that_waited_longest_makes_room() {
    let app = limited(|server| server.max_connections = 3).await;
    let callback = |number| request("POST", "/callbacks", &[], app.signed(&push("room", number)).as_bytes());
    let mut oldest = app.connect().await;
    oldest.send(&callback(1)).await;
    assert_answered(&oldest.response().await.unwrap());
    let mut silent = app.connect().await;
    silent.send(b"POST /call").await;
    let mut busy = app.connect().await;
    busy.send(&callback(2)).await;
    assert_answered(&busy.response().await.unwrap());
    // The oldest connection has completed a request after the silent one came.
    oldest.send(&callback(3)).await;
    assert_answered(&oldest.response().await.unwrap());
    app.accept_signed(&push("room", 4)).await;
    silent.closed().await;
    for (connection, number) in [(&mut oldest, 5), (&mut busy, 6)] {
        connection.send(&callback(number)).await;
        assert_answered(&connection.response().await.unwrap());
    }
    app.finish().await;
}

#[tokio::test]
async fn fewer_places_take_effect_at_once_and_interrupt_nobody() {
    let app = limited(|server| server.max_connections = 64).await;
    let body = app.signed(&push("room", 1));
    let callback = request("POST", "/callbacks", &[], body.as_bytes());
    let mut sending = app.connect().await;
    sending.send(&callback[..callback.len() / 2]).await;
    let mut used = app.connect().await;
    used.send(&callback).await;
    assert_answered(&used.response().await.unwrap());
    let silent = join_all((0..40).map(|_| app.connect())).await;
    let mut last = app.connect().await;
    last.send(&callback).await;
    assert_answered(&last.response().await.unwrap());
    app.reload(|config| config.server.max_connections = 1).await.unwrap();
    // Nobody new comes, for whom they would have to make room.
    for mut connection in silent {
        connection.closed().await;
    }
    used.closed().await;
    sending.send(&callback[callback.len() / 2..]).await;
    let answer = sending.response().await.unwrap();
    assert_answered(&answer);
    sending.closed().await;
    last.send(&callback).await;
    assert_answered(&last.response().await.unwrap());
    app.finish().await;
}

#[tokio::test]
async fn many_more_senders_than_places_are_all_answered() {
    let app = limited(|server| server.max_connections = 4).await;
    let silent = join_all((0..8).map(|_| app.connect())).await;
    for response in join_all((0..40).map(|number| {
        let body = app.signed(&push("room", number));
        async { retried(&app, body).await }
    }))
    .await
    {
        assert_answered(&response);
    }
    assert_eq!(app.events().await.len(), 40);
    drop(silent);
    app.finish().await;
}

/// As CSS would: a connection that had to make room is opened again.
async fn retried(app: &TestApp, body: String) -> crate::http::Response {
    eventually("an answer", async || {
        let mut connection = app.connect().await;
        connection.try_send(&request("POST", "/callbacks", &[], body.as_bytes())).await.ok()?;
        connection.response().await.filter(|answer| answer.status != 408)
    })
    .await
}

#[tokio::test]
async fn stalled_large_bodies_do_not_hold_up_small_ones() {
    let app = limited(|server| {
        server.body_limit = 64 << 10;
        server.body_bytes_in_flight = 128 << 10;
    })
    .await;
    let mut stalled = Vec::new();
    for _ in 0..6 {
        let mut connection = app.connect().await;
        connection.send(b"POST /callbacks HTTP/1.1\r\nHost: x\r\nContent-Length: 65000\r\n\r\n").await;
        connection.send(&vec![b' '; 40_000]).await;
        stalled.push(connection);
    }
    for number in 0..5 {
        let begun = Instant::now();
        app.accept_signed(&push("room", number)).await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
    assert_eq!(app.events().await.len(), 5);
    drop(stalled);
    app.finish().await;
}

#[tokio::test]
async fn bodies_above_the_budget_wait_and_then_all_arrive() {
    let app = limited(|server| {
        server.body_limit = 64 << 10;
        server.body_bytes_in_flight = 64 << 10;
    })
    .await;
    let responses = join_all((0..8).map(|number| {
        let mut body = app.signed(&push("room", number));
        body.push_str(&" ".repeat(60_000));
        async { retried(&app, body).await }
    }))
    .await;
    responses.iter().for_each(assert_answered);
    assert_eq!(app.events().await.len(), 8);
    app.finish().await;
}

#[tokio::test]
async fn what_is_announced_and_never_sent_holds_up_nobody() {
    let app = limited(|server| {
        server.body_limit = 64 << 10;
        server.body_bytes_in_flight = 64 << 10;
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        let mut connection = app.connect().await;
        connection.send(b"POST /callbacks HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n{").await;
        silent.push(connection);
    }
    for number in 0..5 {
        app.accept_signed(&push("room", number)).await;
    }
    drop(silent);
    app.finish().await;
}

#[tokio::test]
async fn huge_heads_are_431() {
    let app = limited(|_| {}).await;
    let mut connection = app.connect().await;
    connection.send(format!("POST /callbacks HTTP/1.1\r\n{}\r\n", "X-H: 1\r\n".repeat(150)).as_bytes()).await;
    assert_eq!(connection.response().await.map(|answer| answer.status), Some(431));
    for head in [
        format!("POST /callbacks?x={}", "y".repeat(200_000)),
        format!("POST /callbacks HTTP/1.1\r\nX: {}", "x".repeat(200_000)),
    ] {
        let mut connection = app.connect().await;
        // What is sent after the answer may reset the connection and take the answer with it.
        let _ = connection.try_send(head.as_bytes()).await;
        let status = connection.response().await.map(|answer| answer.status);
        assert!(matches!(status, None | Some(414 | 431)), "{status:?}");
    }
    assert!(app.refused().await.is_empty());
    app.finish().await;
}
