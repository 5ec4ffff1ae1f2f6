//! Any JSON as the body of every kind. Reading never fails, says the same twice, and keeps its notes few and short.

use livehook::event::payload;
use livehook::event::{Identity, Incoming, Kind, json};

/// Thirty-two notes, and one that counts the others.
const NOTES_MAX: usize = 33;
/// A path of documented names, a name of 64 characters each of which may be escaped, and a sentence.
const NOTE_CHARS_MAX: usize = 900;

pub(crate) fn holds(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(body) = json::parse(text) else { return };
    for kind in Kind::all() {
        let reading = payload::read(kind, body);
        assert_eq!(reading, payload::read(kind, body), "reading is a function of the body");
        assert!(reading.drift.len() <= NOTES_MAX, "{:?}", reading.drift);
        for note in &reading.drift {
            assert!(note.chars().count() < NOTE_CHARS_MAX && !note.contains(char::is_control), "{note}");
        }
        // A natural key is the name of a fact: it begins with the kind.
        let key = reading.natural_key.as_deref();
        assert!(key.is_none_or(|key| key.starts_with(&format!("{kind} "))), "{key:?}");
    }
    if let Ok(incoming) = Incoming::read(data) {
        let facts = incoming.facts();
        let reading = payload::read(facts.kind, incoming.body());
        let identity = Identity::of(incoming.body(), facts.occurred_at, reading.natural_key.as_deref());
        assert_eq!(identity.namesakes().is_some(), reading.natural_key.is_some());
    }
}
