//! Bodies that are large, deep, wide or no text at all.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::good::GoodCaller;
use crate::http::{Connection, Response};
use crate::program::{ANSWER, Limits, MIB, PATIENCE, Program, post, push, signature, together};

/// Posts, and posts again where the connection had to make room, as CSS would.
async fn persistently(address: SocketAddr, body: &[u8]) -> Response {
    let posting = async {
        loop {
            let mut connection = Connection::open(address).await;
            let sent = connection.try_send(&post(body)).await;
            let answer = if sent.is_ok() { connection.response().await } else { None };
            if let Some(answer) = answer.filter(|answer| !matches!(answer.status, 408 | 503)) {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE * 2, posting).await.expect("an answer")
}

/// The whole body of a signed event with these members.
fn event(members: &str) -> String {
    format!("{{\"event_type\":1,{},{members}}}", signature())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_bodies_are_kept_as_they_came() {
    let program = Program::start(
        Limits { max_connections: 256, body_limit: 4 * MIB, ..Limits::default() },
        "ack.deadline = \"19s\"",
    );
    let good = GoodCaller::begin(&program);
    let digits = "9".repeat(1_000_000);
    let deep = |open: &str, close: &str| format!("\"x\":{}1{}", open.repeat(100_000), close.repeat(100_000));
    let events = [
        event(&deep("[", "]")),
        event(&deep("{\"y\":", "}")),
        event(&format!("\"stream_id\":{digits},\"sequence\":{digits}")),
        event(&format!("\"event_time\":{digits},\"errcode\":-0.{digits}e{digits}")),
        format!("{{\"event_type\":{digits},{}}}", signature()),
        event(&format!("\"app\":\"{}\",\"appname\":\"{}\"", "d".repeat(700_000), "\\u0000".repeat(100_000))),
        event(&vec!["\"stream_id\":\"x\""; 100_000].join(",")),
        event(&(0..100_000).map(|n| format!("\"m{n}\":0")).collect::<Vec<_>>().join(",")),
        event(r#""stream_id":"\ud800","app":"\udc00\ud800","\ud800":1,"\ud801":"\u0000""#),
        event(&format!("\"errmsg\":\"{}\"", "\\ud800".repeat(100_000))),
        format!("{}{}", event("\"x\":1"), " ".repeat(1_000_000)),
    ];
    let quarantined = [
        b"{\"event_type\":1,\"x\":\"\xff\xfe\"}".to_vec(),
        b"{\"event_type\":1}\0".to_vec(),
        vec![0; 4],
        vec![0xff; 200_000],
        vec![b'['; 1_000_000],
    ];
    for (number, body) in (1..).zip(&events) {
        let answer = program.post(body).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, ANSWER), "{}", &body[..200]);
        let row = &program.json("/api/v1/events?limit=1000").await["events"];
        let row = row.as_array().unwrap().iter().find(|row| row["stream"] != "good").unwrap().clone();
        let id = row["id"].as_str().unwrap();
        assert_eq!(program.get(&format!("/api/v1/events/{id}/body")).await.body, body.as_bytes(), "event {number}");
        assert_eq!(program.get(&format!("/api/v1/events/{id}")).await.status, 200, "event {number}");
        assert!(row.to_string().len() < 8 << 10, "a row of a list is short: {}", &row.to_string()[..1000]);
    }
    for body in quarantined {
        assert_eq!(program.post(&body).await.text(), ANSWER);
        let item = program.json("/api/v1/quarantine?limit=1").await["items"][0].clone();
        assert_eq!((&item["reason"], &item["bytes"]), (&"malformed-json".into(), &body.len().into()));
    }
    good.end(&program).await;
    program.assert_bounded("deep, wide and endless bodies, one by one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_all_members_cost_no_more_than_others() {
    // All at the same time, each of five bytes a member, or three an item.
    let limits =
        Limits { max_connections: 128, body_bytes_in_flight: 32 * MIB, queue_bytes: 32 * MIB, ..Limits::default() };
    let program = Program::start(limits, "ack.deadline = \"19s\"");
    let good = GoodCaller::begin(&program);
    let fill = |member: &str, bytes: usize| member.repeat(bytes / member.len()).trim_end_matches(',').to_owned();
    let bodies = [
        (8, event(&fill("\"\":0,", 600_000))),
        (8, event(&format!("\"x\":{{{}}}", fill("\"\":0,", 600_000)))),
        (40, format!("{{\"event_type\":317,{},\"labelResults\":[{}]}}", signature(), fill("{},", 70_000))),
        (40, format!("{{\"event_type\":315,{},\"text_results\":[{}]}}", signature(), fill("{},", 70_000))),
    ];
    let all = bodies.into_iter().flat_map(|(count, body)| std::iter::repeat_n(body, count));
    let senders = all.map(|body| {
        let address = program.callbacks;
        async move { persistently(address, body.as_bytes()).await }
    });
    for answer in together(senders).await {
        assert_eq!(answer.text(), ANSWER);
    }
    good.end(&program).await;
    program.assert_bounded("96 bodies that are all members or items");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_mib_bodies_at_the_limit_of_concurrency_wait_for_each_other_and_for_nobody_else() {
    const SENDERS: u64 = 16;
    // The queue has room for all that are in hand, so none is spilled.
    let limits = Limits { max_connections: 64, body_limit: 10 * MIB, queue_bytes: 96 * MIB, ..Limits::default() };
    let program = Program::start(limits, "ack.deadline = \"19s\"\nserver.read_timeout = \"30s\"");
    let good = GoodCaller::begin(&program);
    let senders = (0..SENDERS).map(|number| {
        let address = program.callbacks;
        async move {
            let mut body = push("large", number);
            body.push_str(&" ".repeat(usize::try_from(10 * MIB).unwrap() - body.len()));
            let answer = persistently(address, body.as_bytes()).await;
            assert_eq!(answer.text(), ANSWER);
        }
    });
    together(senders).await;
    assert_eq!(program.all("events?stream=large&", "events").await.len() as u64, SENDERS);
    good.end(&program).await;
    program.assert_bounded("16 bodies of 10 MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_all_the_room_and_trickles_on_is_cut_off() {
    const HOLDERS: usize = 12;
    let limits =
        Limits { max_connections: 64, body_bytes_in_flight: 4 * MIB, queue_bytes: 4 * MIB, ..Limits::default() };
    // Far longer than a good caller waits.
    let program = Program::start(limits, "server.read_timeout = \"5m\"");
    let mut holders = JoinSet::new();
    let (tell, mut told) = mpsc::channel(HOLDERS);
    for _ in 0..HOLDERS {
        holders.spawn(hold(program.callbacks, tell.clone()));
    }
    for _ in 0..HOLDERS {
        told.recv().await.unwrap();
    }
    // Larger than what is let in whatever others hold.
    let mut good = GoodCaller::begin_with(&program, 40_000);
    good.answered(10).await;
    good.end(&program).await;
    program.assert_bounded("12 bodies that hold all the room");
    holders.shutdown().await;
}

/// Sends most of a large body at once, then a byte now and then, and all of that again when it is cut off.
async fn hold(address: SocketAddr, sent_once: mpsc::Sender<()>) {
    loop {
        let mut connection = Connection::open(address).await;
        connection.send(b"POST /callbacks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{").await;
        let mut sent = connection.try_send(&vec![b' '; 900_000]).await;
        let _ = sent_once.try_send(());
        while sent.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            sent = connection.try_send(b" ").await;
        }
    }
}
