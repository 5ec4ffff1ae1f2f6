//! One callback before it is sent: the body, and what is put to it at the last moment.

use bytes::Bytes;
use serde_json::Value;

use super::edit::{self, Edit};
use super::post::Address;
use super::template::Round;
use crate::cli::moment;
use crate::event::Kind;
use crate::secret::Secret;
use crate::signature;

/// A body that is not signed yet.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) kind: Kind,
    body: Value,
}

/// Writes and signs.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) edits: Vec<Edit>,
    pub(super) key: Option<Secret>,
    /// Bytes that are sent as they are.
    pub(super) body: Option<Bytes>,
    /// What random values are drawn from.
    pub(super) seed: u64,
}

/// `t` is when the signature expires: so long after the sending.
const VALID_SECS: i64 = 600;
/// CSS tries again after a minute.
const RETRY_SECS: i64 = 60;

/// Whether CSS never signs events of this kind: their URL is set in a task, which knows no key.
pub(super) fn is_unsigned(kind: Kind) -> bool {
    matches!(kind, Kind::Relay | Kind::Monitor)
}

impl Writer {
    /// An event of the present moment. Those of one round tell of the same stream and push.
    pub(super) fn letter(&self, round: u64, kind: Kind, address: &Address) -> Letter {
        let mut body = Round::draw(round, self.seed, moment::now(), &address.shown()).body(kind);
        edit::apply(&self.edits, &mut body);
        Letter { kind, body }
    }

    /// The bytes to post; a copy is signed and dated anew. What was set by hand stays.
    pub(super) fn sealed(&self, letter: &Letter, copy: bool) -> Bytes {
        if let Some(body) = &self.body {
            return body.clone();
        }
        let later = if copy { RETRY_SECS } else { 0 };
        let mut body = letter.body.clone();
        if let Some(sent) = body.get("sendTime").and_then(Value::as_i64) {
            body["sendTime"] = (sent + later).into();
        }
        if let Some(key) = self.key.as_ref().filter(|_| !is_unsigned(letter.kind)) {
            self.sign(&mut body, key, moment::now().secs() + VALID_SECS + later);
        }
        edit::written(&self.edits, &body).into()
    }

    fn sign(&self, body: &mut Value, key: &Secret, t: i64) {
        if body.get("t").is_none() {
            body["t"] = t.into();
        }
        if body.get("sign").is_none() {
            let t = edit::text_of(&self.edits, &body["t"]).unwrap_or_default();
            body["sign"] = signature::sign(key, &t).into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Identity, Incoming};
    use crate::signature::{Key, LegacyHeaders, Settings};

    fn writer(edits: &[&str]) -> Writer {
        let edits = edits.iter().map(|text| edit::parse(text).unwrap()).collect();
        Writer { edits, key: Some(Secret::new("abc123")), body: None, seed: 7 }
    }

    fn letters(writer: &Writer) -> Vec<Letter> {
        let address = Address::new("http://localhost:1".parse().unwrap(), None);
        Kind::all().map(|kind| writer.letter(0, kind, &address)).collect()
    }

    fn verdict(body: &[u8]) -> Result<bool, &'static str> {
        let keys = vec![Key { name: "main".to_owned(), key: Secret::new("abc123"), domains: Vec::new() }];
        let settings = Settings { keys, ..Settings::default() };
        let incoming = Incoming::read(body).unwrap();
        let verified = signature::verify(&incoming, &LegacyHeaders::default(), &settings, moment::now());
        verified.map(|verified| verified.key().is_some()).map_err(|refusal| refusal.reason().slug())
    }

    #[test]
    fn every_kind_is_signed_as_css_signs_it() {
        let writer = writer(&[]);
        for letter in letters(&writer) {
            for copy in [false, true] {
                assert_eq!(verdict(&writer.sealed(&letter, copy)), Ok(!is_unsigned(letter.kind)), "{}", letter.kind);
            }
        }
    }

    #[test]
    fn a_copy_differs_and_is_the_same_event() {
        let writer = writer(&[]);
        for letter in letters(&writer).into_iter().filter(|letter| !is_unsigned(letter.kind)) {
            let (first, copy) = (writer.sealed(&letter, false), writer.sealed(&letter, true));
            assert_ne!(first, copy);
            let identity = |body: &Bytes| Identity::of(Incoming::read(body).unwrap().body(), None, None);
            assert_eq!(identity(&first), identity(&copy), "{}", letter.kind);
        }
    }

    #[test]
    fn a_t_set_by_hand_is_signed_as_it_stands() {
        let sealed = |edits: &[&str]| {
            let writer = writer(edits);
            verdict(&writer.sealed(&letters(&writer)[0], false))
        };
        assert_eq!(sealed(&["t=1234567890"]), Err("signature-expired"));
        assert_eq!(sealed(&["t=\"1234567890\""]), Err("signature-expired"));
        assert_eq!(sealed(&["t=1234567890.0"]), Err("signature-malformed"));
        assert_eq!(
            sealed(&["sign=00000000000000000000000000000000"]),
            Err("signature-mismatch"),
            "it is no JSON, so it is text"
        );
    }
}
