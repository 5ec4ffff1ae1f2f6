//! HTTP in every shape a sender may give it.

use crate::app::{ANSWER, TestApp, assert_answered, push};
use crate::http::{Connection, request};

fn post(app: &TestApp, number: u64) -> Vec<u8> {
    request("POST", "/callbacks", &[], app.signed(&push("room", number)).as_bytes())
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let app = TestApp::start().await;
    let mut connection = app.connect().await;
    for number in 0..5 {
        connection.send(&post(&app, number)).await;
        assert_answered(&connection.response().await.unwrap());
    }
    assert_eq!(app.events().await.len(), 5);
    app.finish().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_after_the_other() {
    let app = TestApp::start().await;
    let mut connection = app.connect().await;
    let all: Vec<u8> = (0..20).flat_map(|number| post(&app, number)).collect();
    connection.send(&all).await;
    for _ in 0..20 {
        assert_answered(&connection.response().await.unwrap());
    }
    assert_eq!(app.events().await.len(), 20);
    app.finish().await;
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let app = TestApp::start().await;
    let body = app.signed(&push("room", 1));
    let mut connection = app.connect().await;
    connection
        .send(format!("POST /callbacks HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
        .await;
    assert_answered(&connection.response().await.unwrap());
    connection.closed().await;
    assert_eq!(app.events().await.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn who_expects_a_go_ahead_gets_it() {
    let app = TestApp::start().await;
    let body = app.signed(&push("room", 1));
    let mut connection = app.connect().await;
    let head = format!(
        "POST /callbacks HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.send(head.as_bytes()).await;
    connection.send(body.as_bytes()).await;
    assert_answered(&connection.response().await.unwrap());
    app.finish().await;
}

#[tokio::test]
async fn chunked_bodies_are_put_together_trailers_and_all() {
    let app = TestApp::start().await;
    let body = app.signed(&push("room", 1));
    let mut bytes = b"POST /callbacks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for part in body.as_bytes().chunks(7) {
        bytes.extend(format!("{:X};ext=1\r\n", part.len()).bytes());
        bytes.extend(part);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\nX-Trailer: 1\r\n\r\n");
    let mut connection = app.connect().await;
    connection.send(&bytes).await;
    assert_answered(&connection.response().await.unwrap());
    let event = app.only_event().await;
    let stored = app.get(&format!("/api/v1/events/{}/body", event["id"].as_str().unwrap())).await;
    assert_eq!(stored.text(), body);
    app.finish().await;
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let app = TestApp::start().await;
    let mut connection = app.connect().await;
    for byte in post(&app, 1) {
        connection.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_answered(&connection.response().await.unwrap());
    assert_eq!(app.events().await.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn broken_requests_hurt_nobody_else() {
    let app = TestApp::start().await;
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"hello\r\n\r\n",
        b"POST /callbacks HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /callbacks HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /callbacks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /callbacks HTTP/9.9\r\n\r\n",
    ] {
        let mut connection = app.connect().await;
        connection.send(nonsense).await;
        if let Some(answer) = connection.response().await {
            assert_ne!(answer.text(), ANSWER, "{nonsense:?}");
            assert!((400..506).contains(&answer.status), "{answer:?}");
        }
    }
    let mut half = app.connect().await;
    half.send(b"POST /callbacks HTTP/1.1\r\nContent-Length: 500\r\n\r\n{\"event_type\":1").await;
    drop(half);
    app.accept_signed(&push("room", 1)).await;
    assert_eq!(app.events().await.len(), 1);
    assert!(app.refused().await.is_empty(), "what was never whole is nobody's callback");
    app.finish().await;
}

#[tokio::test]
async fn an_absolute_target_is_as_good_as_its_path() {
    let app = TestApp::start().await;
    let body = app.signed(&push("room", 1));
    let bytes = request("POST", "http://hooks.example/callbacks/stream-push?x=1", &[], body.as_bytes());
    let mut connection = Connection::open(app.callbacks).await;
    connection.send(&bytes).await;
    assert_answered(&connection.response().await.unwrap());
    app.finish().await;
}

#[tokio::test]
async fn who_sends_no_more_after_the_request_is_answered_all_the_same() {
    let app = TestApp::start().await;
    for number in 0..20 {
        let mut connection = app.connect().await;
        connection.send(&post(&app, number)).await;
        connection.finish_sending().await;
        assert_answered(&connection.response().await.unwrap());
    }
    assert_eq!(app.events().await.len(), 20);
    app.finish().await;
}
