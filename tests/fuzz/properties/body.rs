//! Any bytes as the body of a callback.
//!
//! What `serde_json` takes for JSON we take, and the other way round but for three things its tree cannot hold: nesting
//! of more than 128 levels, numbers beyond an `f64`, lone surrogates. Where both can read, they read the same. Identity
//! is independent of the order of members, of blanks, of escapes, and of `t`, `sign` and `sendTime`. What leaves us as
//! `data` has the members of the body, as they were sent.

use std::fmt::Write as _;

use livehook::clock::Timestamp;
use livehook::event::json::{self, Shape, Value};
use livehook::event::{Event, EventId, Incoming, Verification, content_digest};
use livehook::handler::cloudevent;
use serde_json::Value as Tree;

/// What the tree of `serde_json` cannot hold.
const BEYOND_A_TREE: [&str; 4] =
    ["recursion limit", "number out of range", "lone leading surrogate", "end of hex escape"];
/// Deeper, and with more members, objects are compared as they were sent.
const DEPTH_MAX: usize = 32;

pub(crate) fn holds(data: &[u8]) {
    // Whatever it is, somebody looks at it.
    let incoming = Incoming::read(data);
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(incoming.is_err());
        return;
    };
    let value = match (json::parse(text), serde_json::from_str::<Tree>(text)) {
        (Ok(value), Ok(tree)) => {
            same(value, &tree);
            value
        }
        (Ok(value), Err(error)) => {
            let error = error.to_string();
            assert!(BEYOND_A_TREE.iter().any(|known| error.contains(known)), "{error}: {text}");
            value
        }
        (Err(error), Ok(_)) => panic!("{error}: {text}"),
        (Err(_), Err(_)) => return assert!(incoming.is_err()),
    };
    compact(value);
    if value.shape() == Shape::Object {
        identity(value);
    }
    if let Ok(incoming) = incoming {
        assert_eq!(incoming.domain(), incoming.facts().domain);
        leaves(&incoming);
    }
}

/// The walk over the text finds what `serde_json` finds; of repeated members the last.
fn same(value: Value<'_>, tree: &Tree) {
    match (value.shape(), tree) {
        (Shape::Null, Tree::Null) => {}
        (Shape::Bool, Tree::Bool(expected)) => assert_eq!(value.raw(), expected.to_string()),
        (Shape::Number, Tree::Number(_)) => assert_eq!(&serde_json::from_str::<Tree>(value.raw()).unwrap(), tree),
        (Shape::Text, Tree::String(expected)) => {
            assert_eq!(value.text(), expected.as_str());
            assert_eq!(&*value.bytes(), expected.as_bytes());
        }
        (Shape::List, Tree::Array(expected)) => {
            assert_eq!(value.elements().count(), expected.len());
            value.elements().zip(expected).for_each(|(found, expected)| same(found, expected));
        }
        (Shape::Object, Tree::Object(expected)) => {
            for (name, expected) in expected {
                same(value.member(name).unwrap(), expected);
            }
            assert!(value.members().all(|(key, _)| expected.contains_key(&*key.text())));
        }
        (shape, tree) => panic!("{shape:?} is not {tree}"),
    }
}

/// Compact is the same value on one line, and as compact as it gets.
fn compact(value: Value<'_>) {
    let mut once = String::new();
    value.compact_into(&mut once);
    assert!(!once.contains(['\n', '\r']), "{once}");
    let again = json::parse(&once).unwrap();
    let mut twice = String::new();
    again.compact_into(&mut twice);
    assert_eq!(once, twice);
    assert_eq!(content_digest(value), content_digest(again));
}

fn identity(body: Value<'_>) {
    let digest = content_digest(body);
    let members: Vec<_> = body.members().collect();
    let plain = || members.iter().copied();
    assert_eq!(digest, content_digest(parsed(&rebuilt(plain(), false))), "put together again");
    assert_eq!(digest, content_digest(parsed(&rebuilt(plain(), true))), "with blanks and escapes");
    let mut sorted = members.clone();
    // Stable: members of one name keep their order, which counts.
    sorted.sort_by(|(a, _), (b, _)| b.bytes().cmp(&a.bytes()));
    assert_eq!(digest, content_digest(parsed(&rebuilt(sorted.into_iter(), false))), "in another order");
    let counts = |key: &Value<'_>| !matches!(&*key.text(), "t" | "sign" | "sendTime");
    let unsigned = rebuilt(plain().filter(|(key, _)| counts(key)), false);
    assert_eq!(digest, content_digest(parsed(&unsigned)), "without signature");
    let one = parsed("1");
    let signed = rebuilt(plain().chain([(parsed("\"t\""), one), (parsed("\"sendTime\""), one)]), false);
    assert_eq!(digest, content_digest(parsed(&signed)), "signed again");
    let more = rebuilt(plain().chain([(parsed("\"one more\""), one)]), false);
    assert_ne!(digest, content_digest(parsed(&more)), "with a member more");
    if let Some((last, others)) = members.split_last()
        && counts(&last.0)
    {
        let fewer = rebuilt(others.iter().copied(), false);
        assert_ne!(digest, content_digest(parsed(&fewer)), "with a member less");
    }
}

fn parsed(text: &str) -> Value<'_> {
    json::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// An object of these members. `otherwise` writes the same with more blanks and with all text escaped.
fn rebuilt<'a>(members: impl Iterator<Item = (Value<'a>, Value<'a>)>, otherwise: bool) -> String {
    let mut out = "{".to_owned();
    for (index, (key, value)) in members.enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        push(key, otherwise, 1, &mut out);
        out.push_str(if otherwise { " :\n" } else { ":" });
        push(value, otherwise, 1, &mut out);
    }
    out.push('}');
    out
}

fn push(value: Value<'_>, otherwise: bool, depth: usize, out: &mut String) {
    match value.shape() {
        // What is deeper is compared as text.
        _ if !otherwise || depth >= DEPTH_MAX => out.push_str(value.raw()),
        Shape::Text => push_escaped(value, out),
        Shape::List => {
            out.push('[');
            for (index, element) in value.elements().enumerate() {
                out.push_str(if index > 0 { ", " } else { "\t" });
                push(element, otherwise, depth + 1, out);
            }
            out.push_str(" ]");
        }
        Shape::Object => {
            out.push_str("{ ");
            for (index, (key, element)) in value.members().enumerate() {
                out.push_str(if index > 0 { " ,\r" } else { "" });
                push(key, otherwise, depth + 1, out);
                out.push(':');
                push(element, otherwise, depth + 1, out);
            }
            out.push('}');
        }
        Shape::Null | Shape::Bool | Shape::Number => out.push_str(value.raw()),
    }
}

/// Every character as an escape; one that holds a lone surrogate stays as it is, which decoding would lose.
fn push_escaped(value: Value<'_>, out: &mut String) {
    match String::from_utf8(value.bytes().into_owned()) {
        Ok(text) => {
            out.push('"');
            text.encode_utf16().for_each(|unit| _ = write!(out, "\\u{unit:04x}"));
            out.push('"');
        }
        Err(_) => out.push_str(value.raw()),
    }
}

fn leaves(incoming: &Incoming<'_>) {
    let event = Event {
        id: EventId::from_u128(1),
        facts: incoming.facts(),
        received_at: Timestamp::from_secs(1_703_128_357),
        verification: Verification::Verified,
        body: bytes::Bytes::copy_from_slice(incoming.body_as_received()),
    };
    let line = cloudevent::json(&event);
    assert!(!line.contains(['\n', '\r']), "{line}");
    let outside = parsed(&line);
    let data = outside.member("data").unwrap();
    let kept = |(key, _): &(Value<'_>, Value<'_>)| !matches!(&*key.text(), "t" | "sign");
    let expected = rebuilt(incoming.body().members().filter(kept), false);
    let mut compacted = String::new();
    parsed(&expected).compact_into(&mut compacted);
    assert_eq!(data.raw(), compacted);
    for (name, value) in cloudevent::headers(&event) {
        assert!(name.starts_with("ce-") && value.bytes().all(|b| b.is_ascii_graphic()), "{name}: {value}");
    }
}
