//! Signed push events, each one different, as ready requests: a template whose changing digits are overwritten in place.

use livehook::clock::{Clock as _, SystemClock};
use md5::{Digest as _, Md5};

/// The callback key of every server that is measured.
pub(crate) const KEY: &str = "benchmark-key";
/// Bytes of a body: those of a push event with a stream parameter of usual length.
pub(crate) const BODY_BYTES: usize = 742;
/// Streams the events are spread over, unless they are all of one.
pub(crate) const STREAMS: u64 = 1000;
/// Sequences of the events have this many digits, as those of CSS.
const SEQUENCE_DIGITS: usize = 19;
const FIRST_SEQUENCE: u64 = 2_210_464_508_000_000_000;
const STREAM_DIGITS: usize = 4;
const TIME_DIGITS: usize = 10;
const SIGN_DIGITS: usize = 32;
/// CSS signs for ten minutes.
const VALID_SECS: u64 = 600;

/// Which streams the events are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// [`STREAMS`] of them in turn.
    Many,
    /// One.
    One,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Beginnings of pushes.
    Push,
    /// Their ends.
    Interruption,
    /// Beginnings that somebody signed who does not know the key.
    Forged,
}

/// Makes requests, each with the event of a number.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    request: Vec<u8>,
    sequence: usize,
    stream: usize,
    time: usize,
    until: usize,
    sign: usize,
    spread: Spread,
    key: &'static str,
    /// When all of them happened, in seconds; none: whenever they are sent.
    happened: Option<u64>,
    /// The second for which the times and the signature stand in the request.
    second: u64,
}

impl Template {
    pub(crate) fn new(spread: Spread, sort: Sort, happened: Option<u64>) -> Self {
        let body = body(sort);
        let head = format!(
            "POST /callbacks/stream-push HTTP/1.1\r\nhost: livehook\r\nuser-agent: bench\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let request = [head, body].concat();
        let after = |mark: &str| request.find(mark).map(|at| at + mark.len()).expect("every mark stands in the body");
        let (sequence, stream) = (after(r#""sequence":""#), after(r#""stream_id":"room-"#));
        let (time, until, sign) = (after(r#""event_time":"#), after(r#""t":"#), after(r#""sign":""#));
        let key = if sort == Sort::Forged { "a guess" } else { KEY };
        Self { request: request.into_bytes(), sequence, stream, time, until, sign, spread, key, happened, second: 0 }
    }

    /// The request that brings event `number`, as of now.
    pub(crate) fn request(&mut self, number: u64) -> &[u8] {
        self.date(SystemClock.now().secs().unsigned_abs());
        let stream = if self.spread == Spread::One { 0 } else { number % STREAMS };
        write_digits(&mut self.request[self.sequence..][..SEQUENCE_DIGITS], sequence(number));
        write_digits(&mut self.request[self.stream..][..STREAM_DIGITS], stream);
        &self.request
    }

    /// Dates and signs anew in every second, as CSS does: a signature that was believed once is not all there is.
    fn date(&mut self, now: u64) {
        if now == self.second {
            return;
        }
        self.second = now;
        let until = now + VALID_SECS;
        let sign = hex::encode(Md5::digest(format!("{}{until}", self.key)));
        write_digits(&mut self.request[self.time..][..TIME_DIGITS], self.happened.unwrap_or(now));
        write_digits(&mut self.request[self.until..][..TIME_DIGITS], until);
        self.request[self.sign..][..SIGN_DIGITS].copy_from_slice(sign.as_bytes());
    }
}

/// What event `number` has as its `sequence`.
pub(crate) fn sequence(number: u64) -> u64 {
    FIRST_SEQUENCE + number
}

fn body(sort: Sort) -> String {
    let event_type = match sort {
        Sort::Push | Sort::Forged => 1,
        Sort::Interruption => 0,
    };
    let body = |pad: &str| {
        format!(
            r#"{{"app":"push.example.com","appid":1250000000,"appname":"live","channel_id":"room","errcode":0,"errmsg":"ok","event_time":0000000000,"event_type":{event_type},"height":1080,"idc_id":34,"node":"203.0.113.37","sequence":"{FIRST_SEQUENCE}","set_id":2,"sign":"{:032}","stream_id":"room-0000","stream_param":"txSecret=0123456789abcdef0123456789abcdef&txTime=7FFFFFFF&note={pad}","t":0000000000,"user_ip":"198.51.100.7","width":1920}}"#,
            0
        )
    };
    let bare = body("").len();
    body(&"x".repeat(BODY_BYTES - bare))
}

fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(number % 10).unwrap_or_default()];
        number /= 10;
    }
}
