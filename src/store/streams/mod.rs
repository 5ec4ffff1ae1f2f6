//! Streams as they are kept in a store, whatever the store is kept in: rows that the events of a stream come to, and the
//! picture of a stream that is made of them.

pub(super) mod keep;
pub(super) mod pushes;
pub(super) mod story;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::catalogue::Entry;
use crate::clock::Timestamp;
use crate::event::Event;
use crate::streams::{self, StreamName};

/// What an event says about its stream.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Its place in the order of storing.
    pub(super) seq: i64,
    pub(super) stream: StreamName,
    /// When it happened, or when we were told.
    pub(super) at: Timestamp,
    /// The same, unless when we were told tells nothing of the stream: then another order of the same events would come
    /// to something else.
    pub(super) dated: Option<Timestamp>,
    pub(super) entry: streams::Entry,
}

impl Told {
    /// What an event says; none if it names no stream, or changes nothing of it.
    pub(super) fn of(seq: i64, event: &Event) -> Option<Self> {
        let (stream, entry) = (StreamName::of(&event.facts)?, streams::Entry::of(event)?);
        let at = event.facts.occurred_at.unwrap_or(event.received_at);
        let dated = if matches!(entry, streams::Entry::Push(_)) { Some(at) } else { event.facts.occurred_at };
        Some(Self { seq, stream, at, dated, entry })
    }
}

/// Each stream is looked up once, however many events of it there are.
pub(super) fn by_stream(entries: &[Entry]) -> BTreeMap<&StreamName, Vec<&Told>> {
    let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for one in entries.iter().filter_map(|entry| entry.told.as_ref()) {
        streams.entry(&one.stream).or_default().push(one);
    }
    streams
}

/// A name as the cursor of a list.
pub(super) fn cursor(name: &StreamName) -> String {
    BASE64.encode(serde_json::json!([name.domain, name.app, name.stream]).to_string())
}

/// The name that a cursor stands for.
pub(super) fn parse_cursor(text: &str) -> Option<StreamName> {
    let (domain, app, stream) = serde_json::from_slice(&BASE64.decode(text).ok()?).ok()?;
    Some(StreamName { domain, app, stream })
}
