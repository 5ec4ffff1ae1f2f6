//! Games with the framing of requests.

use crate::good::GoodCaller;
use crate::http::{Connection, Response};
use crate::program::{ANSWER, Limits, Program, push};

/// What becomes of a request with a strange framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is no request: answered 4xx or cut off, and nothing is stored of it.
    Refused,
    /// It is one: answered 200, and the event is stored.
    Taken,
    /// It is one without a body, answered 200 and quarantined, and what follows it is no request.
    Empty,
}

use Fate::{Empty, Refused, Taken};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_framing_is_no_callback_and_never_two() {
    let timeouts =
        "server.header_timeout = \"200ms\"\nserver.read_timeout = \"200ms\"\nserver.idle_timeout = \"200ms\"";
    let program = Program::start(Limits { max_connections: 64, ..Limits::default() }, timeouts);
    let good = GoodCaller::begin(&program);
    let chunked = "Transfer-Encoding: chunked\r\n";
    // `@` is the length of the body in hexadecimal, `#` in decimal, `$` the body.
    for (number, (fate, headers, framed)) in (0_u64..).zip([
        (Taken, chunked, "@\r\n$\r\n0\r\n\r\n".to_owned()),
        (Taken, chunked, "000000@\r\n$\r\n000\r\n\r\n".to_owned()),
        (Taken, chunked, "@;a=b;c=\"d\"\r\n$\r\n0;e\r\nX: y\r\n\r\n".to_owned()),
        (Refused, chunked, "G\r\n$\r\n0\r\n\r\n".to_owned()),
        (Refused, chunked, "-@\r\n$\r\n0\r\n\r\n".to_owned()),
        (Refused, chunked, "0x@\r\n$\r\n0\r\n\r\n".to_owned()),
        (Refused, chunked, "\r\n$\r\n0\r\n\r\n".to_owned()),
        (Refused, chunked, "FFFFFFFFFFFFFFFF@\r\n$\r\n0\r\n\r\n".to_owned()),
        (Refused, chunked, "10000000000000000\r\n$\r\n0\r\n\r\n".to_owned()),
        (Refused, chunked, "FFFFFFFFFFFFFFFF\r\n$".to_owned()),
        (Refused, chunked, "@\r\n$0\r\n\r\n".to_owned()),
        (Refused, chunked, "@\n$\n0\n\n".to_owned()),
        (Refused, chunked, "@\r\n$\r\n".to_owned()),
        (Refused, chunked, format!("@;{}\r\n$\r\n0\r\n\r\n", "e".repeat(100_000))),
        (Refused, chunked, format!("@\r\n$\r\n0\r\n{}\r\n", "X: y\r\n".repeat(10_000))),
        (Refused, chunked, format!("@\r\n$\r\n0\r\nX: {}\r\n\r\n", "y".repeat(100_000))),
        // Of both, the chunks count (RFC 9112, section 6.3): neither length makes a second request of the rest.
        (Taken, "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "@\r\n$\r\n0\r\n\r\n".to_owned()),
        (Taken, "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "@\r\n$\r\n0\r\n\r\n".to_owned()),
        (Refused, "Transfer-Encoding: chunked, identity\r\n", "@\r\n$\r\n0\r\n\r\n".to_owned()),
        (Refused, "Transfer-Encoding: gzip\r\n", "$".to_owned()),
        (Refused, "Transfer-Encoding: xchunked\r\nContent-Length: #\r\n", "$".to_owned()),
        (Refused, "Transfer-Encoding : chunked\r\n", "@\r\n$\r\n0\r\n\r\n".to_owned()),
        (Taken, "Content-Length: #\r\nContent-Length: #\r\n", "$".to_owned()),
        (Refused, "Content-Length: #\r\nContent-Length: 1\r\n", "$".to_owned()),
        (Refused, "Content-Length: #, #\r\n", "$".to_owned()),
        (Refused, "Content-Length: +#\r\n", "$".to_owned()),
        (Refused, "Content-Length: 0x@\r\n", "$".to_owned()),
        (Refused, "Content-Length: 18446744073709551616\r\n", "$".to_owned()),
        (Refused, "Content-Length: 18446744073709551615\r\n", "$".to_owned()),
        (Refused, "X: a\0b\r\nContent-Length: #\r\n", "$".to_owned()),
        (Refused, "X: a\r\n folded\r\nContent-Length: #\r\n", "$".to_owned()),
        (Empty, "", "$".to_owned()),
    ]) {
        let (body, sequence) = (push("framed", number), number.to_string());
        let fill = |text: &str| {
            text.replace('@', &format!("{:X}", body.len())).replace('#', &body.len().to_string()).replace('$', &body)
        };
        let mut connection = Connection::open(program.callbacks).await;
        let sent = format!("POST /callbacks HTTP/1.1\r\nHost: x\r\n{}\r\n{}", fill(headers), fill(&framed));
        // What is sent after an answer may reset the connection.
        let _ = connection.try_send(sent.as_bytes()).await;
        let answered = connection.response().await;
        let shown = (headers, framed.chars().take(60).collect::<String>());
        let stored = program.all("events?stream=framed&", "events").await;
        let stored = stored.iter().any(|event| event["sequence"] == sequence);
        match fate {
            Taken | Empty => assert_eq!(answered.as_ref().map(Response::text).as_deref(), Some(ANSWER), "{shown:?}"),
            Refused => assert!(is_refused(answered.as_ref()), "{shown:?}: {answered:?}"),
        }
        assert_eq!(stored, fate == Taken, "{shown:?}: {answered:?}");
        // Nothing of it is left over to be a request of its own.
        let rest = connection.response().await;
        assert!(is_refused(rest.as_ref()), "{shown:?}: {rest:?}");
    }
    good.end(&program).await;
    program.assert_bounded("games with framing");
}

/// Answered 4xx or 5xx, or cut off.
fn is_refused(answered: Option<&Response>) -> bool {
    answered.is_none_or(|answer| (400..506).contains(&answer.status))
}
