//! A callback body, read once: JSON, number and kind, the members that sign it, and the names that place it.

use std::borrow::Cow;

use super::json::{self, Members, Shape, Value};
use super::kind::{AVERAGE_MARK, OwnTime};
use super::{Kind, Refusal};
use crate::clock::Timestamp;

/// A JSON object with an `event_type`, or an image audit as it was sent before August 2020, which has none.
#[derive(Clone, Debug)]
pub struct Incoming<'a> {
    received: &'a [u8],
    body: Value<'a>,
    /// The first members, with their names decoded.
    at_hand: Vec<(Cow<'a, str>, Value<'a>)>,
    /// Those behind them, looked for in the text.
    behind: Members<'a>,
    event_type: Option<i64>,
    kind: Kind,
    headers_sign: bool,
}

/// What a body says about itself apart from its payload. Names are without the blanks around them; empty ones are none,
/// and so are those of more than 1 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What the event tells.
    pub kind: Kind,
    /// The number in `event_type`; none where it is no whole number of 64 bits, and in bodies of before August 2020.
    pub event_type: Option<i64>,
    /// Push domain.
    pub domain: Option<String>,
    /// App, the path of the push URL.
    pub app: Option<String>,
    /// Stream name.
    pub stream: Option<String>,
    /// The number of the push, as text: it may exceed 64 bits.
    pub sequence: Option<String>,
    /// When it happened, where the body says so plausibly.
    pub occurred_at: Option<Timestamp>,
}

/// How often a member stands in a body, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// Not at all.
    Absent,
    /// Once.
    Once(Value<'a>),
    /// More than once.
    Repeated,
}

/// Members kept at hand. Real bodies have a few dozen; one that is nothing but members would cost ten times its length.
const AT_HAND_MAX: usize = 256;
/// Bytes of a name. A domain has 253 at most; what is longer names nothing, and would be carried along in every list.
const NAME_BYTES_MAX: usize = 1024;
/// Bytes of a URL that is taken apart.
const URL_BYTES_MAX: usize = 8192;

impl<'a> Incoming<'a> {
    /// Reads a body. Refuses, in this order, what is empty or blank, no JSON object or with several `event_type`, and
    /// what has no number there. A number sent as text is taken.
    pub fn read(received: &'a [u8]) -> Result<Self, Refusal> {
        if received.iter().all(u8::is_ascii_whitespace) {
            return Err(Refusal::Empty);
        }
        let malformed = |detail: String| Refusal::MalformedJson { detail };
        let text = std::str::from_utf8(received).map_err(|e| malformed(e.to_string()))?;
        let body = json::parse(text).map_err(|e| malformed(e.to_string()))?;
        if body.shape() != Shape::Object {
            return Err(malformed(format!("it is {}", body.shape().name())));
        }
        let mut behind = body.members();
        let at_hand = behind.by_ref().take(AT_HAND_MAX).map(|(key, value)| (key.text(), value)).collect();
        let mut incoming =
            Self { received, body, at_hand, behind, event_type: None, kind: Kind::Unknown, headers_sign: false };
        match incoming.lookup("event_type") {
            Lookup::Repeated => return Err(malformed("`event_type` is repeated".to_owned())),
            Lookup::Once(value) if is_number(value) => {
                incoming.event_type = whole_number(value);
                let average = incoming.member(AVERAGE_MARK).is_some_and(|v| v.shape() != Shape::Null);
                incoming.kind = Kind::of(incoming.event_type, average);
            }
            Lookup::Absent if incoming.is_audit_of_before_2020() => {
                incoming.kind = Kind::ImageAudit;
                incoming.headers_sign = true;
            }
            Lookup::Absent | Lookup::Once(_) => return Err(Refusal::NoEventType),
        }
        Ok(incoming)
    }

    /// The whole object.
    pub fn body(&self) -> Value<'a> {
        self.body
    }

    /// The bytes it was read from.
    pub fn body_as_received(&self) -> &'a [u8] {
        self.received
    }

    /// What the event tells.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether this is an image audit of the revisions before August 2020: without `event_type`, `t` and `sign`, signed
    /// by HTTP headers.
    pub fn is_signed_by_headers(&self) -> bool {
        self.headers_sign
    }

    /// Finds a top-level member.
    pub fn lookup(&self, name: &str) -> Lookup<'a> {
        let mut found = self.members(name);
        match (found.next(), found.next()) {
            (None, _) => Lookup::Absent,
            (Some(value), None) => Lookup::Once(value),
            (Some(_), Some(_)) => Lookup::Repeated,
        }
    }

    /// The push domain it names: the one whose keys may sign it.
    pub fn domain(&self) -> Option<String> {
        if self.kind == Kind::Relay { self.destination().0 } else { self.name(self.kind.facts().names.domain) }
    }

    /// Everything it says about itself.
    pub fn facts(&self) -> Facts {
        let names = &self.kind.facts().names;
        let (domain, app) = match self.kind {
            Kind::Relay => self.destination(),
            _ => (self.name(names.domain), self.name(names.app)),
        };
        Facts {
            kind: self.kind,
            event_type: self.event_type,
            domain,
            app,
            stream: self.name(names.stream),
            sequence: self.name(&["sequence"]),
            occurred_at: self.occurred_at(),
        }
    }

    /// The last member of that name, as [`Value::member`] chooses.
    fn member(&self, name: &str) -> Option<Value<'a>> {
        self.members(name).last()
    }

    /// All members of that name, in their order.
    fn members(&self, name: &str) -> impl Iterator<Item = Value<'a>> {
        let at_hand = self.at_hand.iter().filter(move |(key, _)| key == name).map(|(_, value)| *value);
        at_hand.chain(self.behind.clone().filter(move |(key, _)| key.text() == name).map(|(_, value)| value))
    }

    /// The first of the members that holds a name: text or a number, without blanks around it.
    fn name(&self, members: &[&str]) -> Option<String> {
        members.iter().find_map(|name| self.words(name, NAME_BYTES_MAX))
    }

    /// What a member holds as text or as a number, without blanks around it; none if that is nothing, or too long.
    fn words(&self, member: &str, bytes_max: usize) -> Option<String> {
        let value = self.member(member).filter(|v| matches!(v.shape(), Shape::Text | Shape::Number))?;
        let text = value.text();
        let text = text.trim();
        (1..=bytes_max).contains(&text.len()).then(|| text.to_owned())
    }

    fn is_audit_of_before_2020(&self) -> bool {
        self.member("streamId").is_some() && self.member("screenshotTime").is_some()
    }

    /// Domain and app of a relay: the host of `to_url` and the first segment of its path.
    fn destination(&self) -> (Option<String>, Option<String>) {
        let Some(url) = self.words("to_url", URL_BYTES_MAX).and_then(|text| url::Url::parse(&text).ok()) else {
            return (None, None);
        };
        let domain = url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned());
        let segment = url.path().split('/').find(|segment| !segment.is_empty());
        let app = segment.map(|s| percent_encoding::percent_decode_str(s).decode_utf8_lossy().trim().to_owned());
        let is_name = |name: &String| (1..=NAME_BYTES_MAX).contains(&name.len());
        (domain.filter(is_name), app.filter(is_name))
    }

    fn occurred_at(&self) -> Option<Timestamp> {
        let read = |value| whole_number(value);
        let moment = match &self.kind.facts().own_time {
            OwnTime::Secs(member) => Timestamp::from_secs(read(self.member(member)?)?),
            OwnTime::Millis(member) => Timestamp::from_millis(read(self.member(member)?)?),
            OwnTime::LatestSecs { path, member } => {
                let list = path.iter().try_fold(self.body, |value, step| value.member(step))?;
                let times = list.elements().filter_map(|item| read(item.member(member)?));
                times.map(Timestamp::from_secs).filter(|time| is_plausible(*time)).max()?
            }
            OwnTime::None => return None,
        };
        Some(moment).filter(|time| is_plausible(*time))
    }
}

/// Years 2010 to 2100.
fn is_plausible(time: Timestamp) -> bool {
    (1_262_304_000_000..4_133_980_800_000).contains(&time.millis())
}

/// Whether the value is a number, or text that is one.
fn is_number(value: Value<'_>) -> bool {
    match value.shape() {
        Shape::Number => true,
        Shape::Text => value.text().trim().parse::<f64>().is_ok_and(f64::is_finite),
        _ => false,
    }
}

/// A whole number of 64 bits, also when it was sent as text, or with a fraction of zero or an exponent.
pub fn whole_number(value: Value<'_>) -> Option<i64> {
    if !matches!(value.shape(), Shape::Number | Shape::Text) {
        return None;
    }
    let text = value.text();
    let text = text.trim();
    text.parse::<i64>().ok().or_else(|| {
        /// Whole numbers below this are exact in an `f64`.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let float = text.parse::<f64>().ok()?;
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        (float.fract() == 0.0 && float.abs() < EXACT).then_some(float as i64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(body: &str) -> &'static str {
        Incoming::read(body.as_bytes()).unwrap_err().reason().slug()
    }

    fn facts(body: &str) -> Facts {
        Incoming::read(body.as_bytes()).unwrap().facts()
    }

    #[test]
    fn what_cannot_be_an_event_is_refused_for_the_first_reason() {
        for (body, expected) in [
            ("", "empty"),
            (" \r\n\t", "empty"),
            ("app=a&event_type=1", "malformed-json"),
            ("[1]", "malformed-json"),
            ("\"text\"", "malformed-json"),
            (r#"{"event_type":1,"event_type":1}"#, "malformed-json"),
            (r#"{"event_type":1,"event\u005ftype":0}"#, "malformed-json"),
            (r#"{"event_type":1"#, "malformed-json"),
            ("{}", "no-event-type"),
            (r#"{"event_type":null}"#, "no-event-type"),
            (r#"{"event_type":"push"}"#, "no-event-type"),
            (r#"{"event_type":[1]}"#, "no-event-type"),
        ] {
            assert_eq!(reason(body), expected, "{body}");
        }
        assert_eq!(Incoming::read(b"{\"event_type\":\xFF}").unwrap_err().reason().slug(), "malformed-json");
    }

    #[test]
    fn numbers_are_read_however_they_are_sent() {
        for (body, event_type, kind) in [
            (r#"{"event_type":0}"#, Some(0), Kind::StreamInterruption),
            (r#"{"event_type":"1"}"#, Some(1), Kind::StreamPush),
            (r#"{"event_type":1e2}"#, Some(100), Kind::Recording),
            (r#"{"event_type":1.5}"#, None, Kind::Unknown),
            (r#"{"event_type":99999999999999999999}"#, None, Kind::Unknown),
            (r#"{"event_type":8}"#, Some(8), Kind::Unknown),
            (r#"{"event_type":344,"average_score":27.7}"#, Some(344), Kind::EvaluationAverage),
            (r#"{"event_type":344,"average_score":null}"#, Some(344), Kind::EvaluationThreshold),
        ] {
            let facts = facts(body);
            assert_eq!((facts.event_type, facts.kind), (event_type, kind), "{body}");
        }
    }

    #[test]
    fn names_are_trimmed_and_numbers_may_be_names() {
        let push =
            facts(r#"{"event_type":1,"app":" 10.1.2.3 ","appname":"","stream_id":42,"sequence":18446744073709551999}"#);
        assert_eq!(push.domain.as_deref(), Some("10.1.2.3"));
        assert_eq!(push.app, None);
        assert_eq!(push.stream.as_deref(), Some("42"));
        assert_eq!(push.sequence.as_deref(), Some("18446744073709551999"));
    }

    #[test]
    fn what_is_too_long_is_no_name() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let facts_of = |name: &str| {
            facts(&format!(
                r#"{{"event_type":1,"app":"{name}","appname":"{name}","stream_id":"{name}","sequence":"{name}"}}"#
            ))
        };
        let kept = facts_of(&long[1..]);
        assert!(
            [kept.domain, kept.app, kept.stream, kept.sequence].iter().all(|name| name.as_deref() == Some(&long[1..]))
        );
        let none = facts_of(&long);
        assert_eq!([none.domain, none.app, none.stream, none.sequence], [const { None }; 4]);
        for url in
            [format!("rtmp://host/{long}"), format!("rtmp://{long}/app"), format!("http://{}/", "x".repeat(1 << 20))]
        {
            let relay = facts(&format!(r#"{{"event_type":314,"to_url":"{url}"}}"#));
            assert!([relay.domain, relay.app].iter().flatten().all(|name| name.len() <= NAME_BYTES_MAX), "{url}");
        }
    }

    #[test]
    fn members_are_found_wherever_they_stand() {
        let many: Vec<_> = (0..AT_HAND_MAX).map(|n| format!(r#""m{n}":{n}"#)).collect();
        let many = many.join(",");
        let body = format!(r#"{{{many},"event_type":1,"app":"a","stream_id":"x","str\u0065am_id":"y","m0":"again"}}"#);
        let incoming = Incoming::read(body.as_bytes()).unwrap();
        assert_eq!(incoming.kind(), Kind::StreamPush);
        assert_eq!(incoming.facts().stream.as_deref(), Some("y"), "the last one counts");
        let shown = |name| match incoming.lookup(name) {
            Lookup::Absent => "absent",
            Lookup::Once(value) => value.raw(),
            Lookup::Repeated => "repeated",
        };
        assert_eq!(
            ["m0", "m1", "app", "stream_id", "none"].map(shown),
            ["repeated", "1", "\"a\"", "repeated", "absent"]
        );
        assert_eq!(reason(&body.replace("\"app\"", "\"event_type\"")), "malformed-json");
    }

    #[test]
    fn a_relay_is_placed_by_where_it_pushes() {
        let relay = |url: &str| {
            let facts = facts(&format!(r#"{{"event_type":314,"to_url":"{url}","event_time":"1712893433"}}"#));
            (facts.domain.unwrap_or_default(), facts.app.unwrap_or_default())
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            relay("rtmp://5000.livepush.myqcloud.com/live/testvod?a=b"),
            pair("5000.livepush.myqcloud.com", "live")
        );
        assert_eq!(relay("rtmp://user@[::1]:1935//live/x"), pair("::1", "live"));
        assert_eq!(relay("rtmp://host"), pair("host", ""));
        assert_eq!(relay("nowhere"), pair("", ""));
    }

    #[test]
    fn implausible_times_count_as_none() {
        let time = |body: &str| facts(body).occurred_at.map(Timestamp::millis);
        assert_eq!(time(r#"{"event_type":1,"event_time":1703731478}"#), Some(1_703_731_478_000));
        assert_eq!(time(r#"{"event_type":1,"event_time":"1703731478"}"#), Some(1_703_731_478_000));
        assert_eq!(time(r#"{"event_type":328,"event_time":1678086930413}"#), Some(1_678_086_930_413));
        assert_eq!(time(r#"{"event_type":314,"event_time":"1712893433"}"#), Some(1_712_893_433_000));
        assert_eq!(
            time(r#"{"event_type":349,"items":[{"end_time":1761128834},{"end_time":1761128900},{}]}"#),
            Some(1_761_128_900_000)
        );
        for none in [
            r#"{"event_type":1,"event_time":1262303999}"#,
            r#"{"event_type":1,"event_time":4133980800}"#,
            r#"{"event_type":1,"event_time":1678086930413}"#,
            r#"{"event_type":1,"event_time":"soon"}"#,
            r#"{"event_type":1,"event_time":9223372036854775807}"#,
            r#"{"event_type":315,"event_time":1703731478}"#,
            r#"{"event_type":349,"items":null}"#,
        ] {
            assert_eq!(time(none), None, "{none}");
        }
    }

    #[test]
    fn an_old_image_audit_is_known_by_its_two_members() {
        let body = br#"{"streamId":"s","screenshotTime":1534087026}"#;
        let incoming = Incoming::read(body).unwrap();
        assert!(incoming.is_signed_by_headers());
        assert_eq!(incoming.kind(), Kind::ImageAudit);
        assert_eq!(incoming.facts().event_type, None);
    }
}
