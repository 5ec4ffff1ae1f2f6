//! When two callbacks are the same event: CSS sends no id, so content decides.

use sha2::{Digest, Sha256};

use super::json::{Shape, Value};
use crate::clock::Timestamp;

/// Thirty-two bytes that are equal for all copies of an event: its own time (8 bytes, big-endian milliseconds, so that
/// keys grow with time and inserting them stays cheap), a digest of its natural key (8) and of its whole content (16).
/// An event without a time of its own has eight zero bytes there, never the time of receipt: its retries must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity([u8; 32]);

/// Members a retry may change: CSS signs again, and image audits tell when they were sent (page 38084).
const CHANGED_BY_RETRIES: [&str; 3] = ["t", "sign", "sendTime"];

/// Below this depth objects are compared in the order they were sent in. CSS nests six levels deep.
const DEPTH_MAX: usize = 32;
/// So are members behind this many of one object: sorting them all could take ten times what they are long. CSS has a few
/// dozen.
const MEMBERS_MAX: usize = 4096;

impl Identity {
    /// The identity of `body`. `natural_key` is what the documentation suggests as the name of this event, if anything:
    /// events that share it and yet differ in content are two events, found next to each other.
    pub fn of(body: Value<'_>, own_time: Option<Timestamp>, natural_key: Option<&str>) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&own_time.map_or(0, |time| time.millis().max(0)).to_be_bytes());
        if let Some(key) = natural_key {
            bytes[8..16].copy_from_slice(&Sha256::digest(key.as_bytes())[..8]);
        }
        bytes[16..].copy_from_slice(&content_digest(body)[..16]);
        Self(bytes)
    }

    /// The bytes, in the order in which they sort.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From bytes that [`bytes`](Self::bytes) gave.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The first and last identity that share this one's time and natural key; nothing for an event without natural
    /// key, which shares it with no other.
    pub fn namesakes(&self) -> Option<([u8; 32], [u8; 32])> {
        if self.0[8..16] == [0; 8] {
            return None;
        }
        let (mut first, mut last) = (self.0, self.0);
        first[16..].fill(0);
        last[16..].fill(0xFF);
        Some((first, last))
    }
}

/// A digest that is equal for bodies equal but for white space, the order of members, the way strings are escaped, and
/// the top-level members `t`, `sign` and `sendTime`. Numbers are compared as text, repeated members in their order; so
/// are members more than 32 levels deep, and those behind the first 4096 of one object.
pub fn content_digest(body: Value<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    feed(&mut hash, body, 0);
    hash.finalize().into()
}

fn feed(hash: &mut Sha256, value: Value<'_>, depth: usize) {
    match value.shape() {
        Shape::Object if depth < DEPTH_MAX => feed_object(hash, value, depth),
        Shape::List if depth < DEPTH_MAX => {
            hash.update(b"[");
            value.elements().for_each(|element| feed(hash, element, depth + 1));
            hash.update(b"]");
        }
        Shape::Object | Shape::List => {
            let mut text = String::new();
            value.compact_into(&mut text);
            feed_bytes(hash, b'r', text.as_bytes());
        }
        Shape::Text => feed_bytes(hash, b's', &value.bytes()),
        Shape::Null | Shape::Bool | Shape::Number => feed_bytes(hash, b'w', value.raw().as_bytes()),
    }
}

fn feed_object(hash: &mut Sha256, object: Value<'_>, depth: usize) {
    let counts = |key: &[u8]| depth > 0 || !CHANGED_BY_RETRIES.iter().any(|name| name.as_bytes() == key);
    let mut members = object.members().map(|(key, value)| (key.bytes(), value)).filter(|(key, _)| counts(key));
    let mut sorted: Vec<_> = members.by_ref().take(MEMBERS_MAX).collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    hash.update(b"{");
    for (key, value) in sorted.into_iter().chain(members) {
        feed_bytes(hash, b'k', &key);
        feed(hash, value, depth + 1);
    }
    hash.update(b"}");
}

/// A tag, the length and the bytes, so that no two sequences of values feed the same stream.
fn feed_bytes(hash: &mut Sha256, tag: u8, bytes: &[u8]) {
    let mut head = [tag; 9];
    head[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    hash.update(head);
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::json::parse;
    use super::*;

    fn digest(text: &str) -> [u8; 32] {
        content_digest(parse(text).unwrap())
    }

    #[test]
    fn a_retry_is_the_same_event() {
        let first = r#"{"event_type":1,"app":"a","x":{"b":[1,2],"c":"é"},"t":1,"sign":"aa","sendTime":5}"#;
        for retry in [
            r#"{"event_type":1,"app":"a","x":{"b":[1,2],"c":"é"},"t":2,"sign":"bb","sendTime":6}"#,
            r#"{"sign":"bb", "x" : {"c":"\u00e9", "b":[ 1,2 ]},"app":"\u0061","event_type":1}"#,
        ] {
            assert_eq!(digest(first), digest(retry), "{retry}");
        }
    }

    #[test]
    fn what_differs_otherwise_is_another_event() {
        let first = digest(r#"{"event_type":1,"a":{"t":1},"b":[1,2],"c":1,"d":"1"}"#);
        for other in [
            r#"{"event_type":1,"a":{"t":2},"b":[1,2],"c":1,"d":"1"}"#,
            r#"{"event_type":1,"a":{"t":1},"b":[2,1],"c":1,"d":"1"}"#,
            r#"{"event_type":1,"a":{"t":1},"b":[1,2],"c":1.0,"d":"1"}"#,
            r#"{"event_type":1,"a":{"t":1},"b":[1,2],"c":"1","d":"1"}"#,
            r#"{"event_type":1,"a":{"t":1},"b":[1,2],"c":1,"d":"1","e":null}"#,
            r#"{"event_type":1,"a":{"t":1},"b":[[1,2]],"c":1,"d":"1"}"#,
        ] {
            assert_ne!(first, digest(other), "{other}");
        }
        assert_ne!(digest(r#"{"a":1,"a":2}"#), digest(r#"{"a":2,"a":1}"#), "repeated members keep their order");
        assert_eq!(digest(r#"{"b":0,"a":1,"a":2}"#), digest(r#"{"a":1,"b":0,"a":2}"#));
        assert_ne!(digest(r#"{"a":"\ud800"}"#), digest(r#"{"a":"\ud801"}"#), "lone surrogates are told apart");
    }

    #[test]
    fn deep_nesting_costs_neither_stack_nor_time() {
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert_eq!(digest(&deep), digest(&deep.replace(':', " : ")));
    }

    #[test]
    fn members_behind_a_great_many_are_compared_in_their_order() {
        let body = |names: &[usize]| {
            let members: Vec<_> = names.iter().map(|name| format!("\"{name}\":{name}")).collect();
            format!("{{{}}}", members.join(","))
        };
        let names: Vec<_> = (0..MEMBERS_MAX + 2).collect();
        let (mut early, mut late, mut fewer) = (names.clone(), names.clone(), names.clone());
        early.swap(0, MEMBERS_MAX - 1);
        late.swap(MEMBERS_MAX, MEMBERS_MAX + 1);
        fewer.truncate(MEMBERS_MAX + 1);
        assert_eq!(digest(&body(&names)), digest(&body(&early)));
        assert_ne!(digest(&body(&names)), digest(&body(&late)));
        assert_ne!(digest(&body(&names)), digest(&body(&fewer)));
    }

    #[test]
    fn identities_begin_with_the_own_time_and_find_their_namesakes() {
        let body = parse(r#"{"a":1}"#).unwrap();
        let timed = Identity::of(body, Some(Timestamp::from_millis(258)), Some("key"));
        assert_eq!(timed.bytes()[..8], [0, 0, 0, 0, 0, 0, 1, 2]);
        let (first, last) = timed.namesakes().unwrap();
        assert!(first < *timed.bytes() && *timed.bytes() < last);
        let untimed = Identity::of(body, None, None);
        assert_eq!(untimed.bytes()[..16], [0; 16]);
        assert_eq!(untimed.namesakes(), None);
    }

    proptest! {
        #[test]
        fn order_of_members_and_blanks_do_not_matter(
            members in prop::collection::btree_map("[a-z]{1,6}", any::<(String, i64)>(), 1..8),
            seed in any::<u64>(),
        ) {
            let text = |(key, (value, number)): (&String, &(String, i64))| {
                format!("{}: [{}, {number}]", serde_json::to_string(key).unwrap(), serde_json::to_string(value).unwrap())
            };
            let mut parts: Vec<_> = members.iter().map(text).collect();
            let ordered = format!("{{{}}}", parts.join(","));
            fastrand::Rng::with_seed(seed).shuffle(&mut parts);
            let shuffled = format!("{{ {}\n}}", parts.join(" ,\t"));
            prop_assert_eq!(digest(&ordered), digest(&shuffled));
        }
    }
}
