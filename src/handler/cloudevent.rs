//! The form in which an event leaves us: a CloudEvents 1.0 JSON object, or attributes beside the body as received.

use std::borrow::Cow;

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::event::json::Value;
use crate::event::{Event, OwnTime};

/// The media type of [`json`].
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The event as one line of JSON, without a line break at its end. `data` is the body without its top-level members
/// `t` and `sign`, which would sign any body for a while; all others stand there as they were sent, digits, escapes
/// and repetitions included, only without the blanks between them.
pub fn json(event: &Event) -> String {
    let mut out = String::with_capacity(event.body.len() + ATTRIBUTES_BYTES);
    out.push('{');
    for (name, value) in attributes(event) {
        push_text(name, &mut out);
        out.push(':');
        push_text(&value, &mut out);
        out.push(',');
    }
    out.push_str("\"data\":");
    push_data(event.json(), &mut out);
    out.push('}');
    out
}

/// `data` of [`json`] alone.
#[cfg(feature = "kafka")]
pub(super) fn data(event: &Event) -> String {
    let mut out = String::with_capacity(event.body.len());
    push_data(event.json(), &mut out);
    out
}

/// The attributes as headers beside the body as received (CloudEvents 1.0 HTTP binding, binary mode, section 3.1.3).
/// The content type, which is the body's, is not among them.
pub fn headers(event: &Event) -> Vec<(String, String)> {
    let Content { attributes, .. } = content(event, Format::Raw);
    attributes.iter().map(|(name, value)| header(name, value)).collect()
}

/// The form in which an event is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A CloudEvents JSON object, `application/cloudevents+json`.
    CloudEvents,
    /// The body as received, `application/json`, with the attributes beside it.
    Raw,
}

/// What is sent of an event, in the terms that the bindings of CloudEvents to protocols share.
pub(super) struct Content {
    /// The media type of the body.
    pub(super) media_type: &'static str,
    /// The body.
    pub(super) body: Bytes,
    /// What stands beside the body and not in it, under plain names. The content type, which is the body's, is not among
    /// them.
    pub(super) attributes: Vec<(&'static str, String)>,
}

/// What is sent of an event.
pub(super) fn content(event: &Event, format: Format) -> Content {
    match format {
        Format::CloudEvents => Content { media_type: CONTENT_TYPE, body: json(event).into(), attributes: Vec::new() },
        Format::Raw => {
            let beside = attributes(event).into_iter().filter(|(name, _)| *name != "datacontenttype");
            let attributes = beside.map(|(name, value)| (name, value.into_owned())).collect();
            Content { media_type: "application/json", body: event.body.clone(), attributes }
        }
    }
}

/// An attribute as a header beside the body. The NATS binding writes it as the HTTP binding does.
pub(super) fn header(name: &str, value: &str) -> (String, String) {
    (format!("ce-{name}"), utf8_percent_encode(value, HEADER_ENCODED).to_string())
}

fn attributes(event: &Event) -> Vec<(&'static str, Cow<'_, str>)> {
    let facts = &event.facts;
    let received_at = event.received_at.rfc3339();
    let all = [
        ("specversion", Some(Cow::Borrowed("1.0"))),
        ("id", Some(event.id.to_string().into())),
        ("source", Some(source(event).into())),
        ("type", Some(type_of(event).into())),
        ("subject", present(facts.stream.as_ref()).map(Cow::Borrowed)),
        ("time", Some(own_time(event).unwrap_or_else(|| received_at.clone()).into())),
        ("datacontenttype", Some(Cow::Borrowed("application/json"))),
        ("sequence", present(facts.sequence.as_ref()).map(Cow::Borrowed)),
        ("receivedat", Some(received_at.into())),
        ("verification", Some(Cow::Borrowed(event.verification.slug()))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The attribute `type`.
pub(super) fn type_of(event: &Event) -> String {
    format!("com.tencentcloud.css.{}", event.facts.kind)
}

/// `/css`, then domain and app, as far as the event names them.
pub(super) fn source(event: &Event) -> String {
    let mut source = "/css".to_owned();
    for part in [&event.facts.domain, &event.facts.app].into_iter().filter_map(|part| present(part.as_ref())) {
        source.push('/');
        source.extend(utf8_percent_encode(part, SEGMENT_ENCODED));
    }
    source
}

/// With milliseconds only where the body has them.
fn own_time(event: &Event) -> Option<String> {
    let time = event.facts.occurred_at?;
    Some(match event.facts.kind.facts().own_time {
        OwnTime::Millis(_) => time.rfc3339(),
        OwnTime::Secs(_) | OwnTime::LatestSecs { .. } | OwnTime::None => time.rfc3339_secs(),
    })
}

fn present(name: Option<&String>) -> Option<&str> {
    name.map(|name| name.trim()).filter(|name| !name.is_empty())
}

fn push_data(body: Value<'_>, out: &mut String) {
    out.push('{');
    let mut separator = "";
    for (key, value) in body.members().filter(|(key, _)| !matches!(&*key.text(), "t" | "sign")) {
        out.push_str(separator);
        out.push_str(key.raw());
        out.push(':');
        value.compact_into(out);
        separator = ",";
    }
    out.push('}');
}

fn push_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// What a path segment may not hold as it is (RFC 3986, `pchar`).
const SEGMENT_ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// What a header value may not hold as it is (section 3.1.3.2 of the binding), besides what is not ASCII.
const HEADER_ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// What the attributes usually take.
const ATTRIBUTES_BYTES: usize = 448;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::event::{EventId, Incoming, Verification};

    /// The event that this body makes, with a fixed id and time of receipt.
    pub(crate) fn event(body: &str) -> Event {
        Event {
            id: EventId::from_u128(0x0198_c700_0000_7000_8000_0000_0000_0001),
            facts: Incoming::read(body.as_bytes()).unwrap().facts(),
            received_at: Timestamp::from_millis(1_703_128_357_104),
            verification: Verification::Verified,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn parsed(event: &Event) -> serde_json::Value {
        serde_json::from_str(&json(event)).unwrap()
    }

    #[test]
    fn the_whole_object_stands_in_the_promised_order() {
        let push = event(
            r#"{ "app":"push.example.com", "appname":"live", "stream_id":" room-7 ", "event_time":1703128356,
            "sequence":"674892109876543", "event_type":1, "t":1703129000, "sign":"ab", "\u0074":1, "n": [1.50, 1e2 ] }"#,
        );
        let data = r#"{"app":"push.example.com","appname":"live","stream_id":" room-7 ","event_time":1703128356,"sequence":"674892109876543","event_type":1,"n":[1.50,1e2]}"#;
        let attributes = r#"{"specversion":"1.0","id":"0198c700-0000-7000-8000-000000000001","source":"/css/push.example.com/live","type":"com.tencentcloud.css.stream-push","subject":"room-7","time":"2023-12-21T03:12:36Z","datacontenttype":"application/json","sequence":"674892109876543","receivedat":"2023-12-21T03:12:37.104Z","verification":"verified","data":"#;
        assert_eq!(json(&push), format!("{attributes}{data}}}"));
    }

    #[test]
    fn what_does_not_apply_is_absent() {
        let bare = parsed(&event(r#"{"event_type":999,"stream_id":"  ","sequence":null}"#));
        let names: Vec<_> = bare.as_object().unwrap().keys().map(String::as_str).collect();
        let expected =
            ["specversion", "id", "source", "type", "time", "datacontenttype", "receivedat", "verification", "data"];
        assert_eq!(names, expected);
        assert_eq!((bare["source"].as_str(), bare["time"].as_str()), (Some("/css"), Some("2023-12-21T03:12:37.104Z")));
    }

    #[test]
    fn times_have_milliseconds_only_where_the_body_has_them() {
        for (body, time) in [
            (r#"{"event_type":1,"event_time":1703128356}"#, "2023-12-21T03:12:36Z"),
            (r#"{"event_type":328,"event_time":1703128356007}"#, "2023-12-21T03:12:36.007Z"),
            (r#"{"event_type":321,"data_time":1703128356000}"#, "2023-12-21T03:12:36.000Z"),
            (r#"{"event_type":315,"event_time":1703128356}"#, "2023-12-21T03:12:37.104Z"),
        ] {
            assert_eq!(parsed(&event(body))["time"], time, "{body}");
        }
    }

    #[test]
    fn names_are_encoded_as_path_segments() {
        for (domain, app, source) in [
            ("a.b", "live/x y", "/css/a.b/live%2Fx%20y"),
            ("::1", "@a:b!$&'()*+,;=-._~", "/css/::1/@a:b!$&'()*+,;=-._~"),
            ("", "直播", "/css/%E7%9B%B4%E6%92%AD"),
            ("d?#[]%", "", "/css/d%3F%23%5B%5D%25"),
        ] {
            let body = serde_json::json!({ "event_type": 1, "app": domain, "appname": app }).to_string();
            assert_eq!(parsed(&event(&body))["source"], source);
        }
    }

    #[test]
    fn header_values_are_encoded_as_the_binding_asks() {
        let event = event(r#"{"event_type":1,"app":"a","stream_id":"房 \"1\" 100%\n~"}"#);
        let headers = headers(&event);
        let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(value("ce-subject"), Some("%E6%88%BF%20%221%22%20100%25%0A~"));
        assert_eq!(value("ce-specversion"), Some("1.0"));
        assert_eq!(value("ce-datacontenttype"), None);
        assert!(headers.iter().all(|(_, v)| v.bytes().all(|b| b.is_ascii_graphic())));
    }

    #[test]
    fn every_sample_keeps_its_data() {
        for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples")).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            // The oldest revisions have no number; they stay in as far as they can be read.
            let Ok(_) = Incoming::read(text.as_bytes()) else { continue };
            let event = event(&text);
            let line = json(&event);
            assert!(!line.contains(['\n', '\r']), "{}", path.display());
            let mut expected: serde_json::Value = serde_json::from_str(&text).unwrap();
            expected.as_object_mut().unwrap().retain(|name, _| name != "t" && name != "sign");
            assert_eq!(parsed(&event)["data"], expected, "{}", path.display());
        }
    }

    #[test]
    fn what_serde_would_lose_is_kept() {
        let body = r#"{"event_type":1,"a":12345678901234567890123,"a":0.10,"lone":"\ud800","sign":"x","e":"\u00e9\/"}"#;
        let data = r#""data":{"event_type":1,"a":12345678901234567890123,"a":0.10,"lone":"\ud800","e":"\u00e9\/"}}"#;
        assert!(json(&event(body)).ends_with(data));
    }

    proptest! {
        #[test]
        fn data_parses_back_equal(
            members in prop::collection::vec((".{0,8}", ".{0,12}", any::<i64>(), any::<f64>()), 0..8),
            pretty: bool,
        ) {
            let mut object = serde_json::Map::new();
            for (name, text, number, float) in members {
                object.insert(name, serde_json::json!({ "a b": text, "n": [number, null, true], "f": float.to_string() }));
            }
            object.insert("event_type".to_owned(), 1.into());
            object.insert("t".to_owned(), 1.into());
            object.insert("sign".to_owned(), "s".into());
            let body = serde_json::Value::Object(object.clone());
            let text = if pretty { format!("{body:#}") } else { body.to_string() };
            object.retain(|name, _| name != "t" && name != "sign");
            let event = event(&text);
            prop_assert!(!json(&event).contains('\n'));
            prop_assert_eq!(&parsed(&event)["data"], &serde_json::Value::Object(object));
        }
    }
}
