//! The nouns: what CSS tells, how its bodies are read, and what makes two of them the same.
//!
//! Raw bytes are the truth. Everything here is read from them, may be incomplete, and never costs an event.

mod cause;
mod identity;
mod incoming;
pub mod json;
mod kind;
mod lenient;
pub mod payload;
mod refusal;

use bytes::Bytes;

pub use self::cause::{Cause, CauseClass};
pub use self::identity::{Identity, content_digest};
pub use self::incoming::{Facts, Incoming, Lookup, whole_number};
pub use self::kind::{KINDS, Kind, KindFacts, Names, NoSuchKind, OwnTime, Retries, SetIn};
pub use self::payload::Payload;
pub use self::refusal::{NoSuchReason, Reason, Refusal};
use crate::clock::Timestamp;

/// The name we give an event: a UUID of version 7, so ids sort by the time of receipt.
pub type EventId = uuid::Uuid;

/// How far the sender of an event is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verification {
    /// Its signature matched one of our keys.
    Verified,
    /// It was not checked: its kind is never signed, or no key is configured.
    Unsigned,
    /// A person admitted it in spite of its signature.
    Forced,
}

impl Verification {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Verified, Self::Unsigned, Self::Forced];

    /// The name in API and CloudEvents.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unsigned => "unsigned",
            Self::Forced => "forced",
        }
    }

    /// The verification of that name.
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.slug() == slug)
    }
}

/// Something CSS told us, as handlers receive it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Our name for it, the same at every attempt and replay: make handlers idempotent on it.
    pub id: EventId,
    /// What it says about itself.
    pub facts: Facts,
    /// When the callback had arrived completely.
    pub received_at: Timestamp,
    /// How far its sender is known.
    pub verification: Verification,
    /// The bytes that were received, a JSON object.
    pub body: Bytes,
}

impl Event {
    /// The typed payload. Members that are missing or unreadable are `None`; this never fails.
    pub fn payload(&self) -> Payload {
        payload::read(self.facts.kind, self.json()).payload
    }

    /// The body as JSON. A body that is no JSON, which intake lets nobody store, reads as an empty object.
    pub fn json(&self) -> json::Value<'_> {
        let text = std::str::from_utf8(&self.body).unwrap_or("{}");
        json::parse(text).unwrap_or_else(|_| json::Value::empty_object())
    }
}
