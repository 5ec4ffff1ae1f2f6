//! What an event says about its stream.

use super::push::{End, PushName};
use crate::clock::Timestamp;
use crate::event::json::Shape;
use crate::event::{Event, Kind, Payload};

/// What an event says about its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A push began or ended.
    Push(Notice),
    /// A file holds what was pushed between two moments.
    Recording {
        /// Start of its content.
        from: Timestamp,
        /// End of its content.
        until: Timestamp,
    },
    /// A picture was taken.
    Screencapture(Timestamp),
    /// Something is not as it should be.
    Problem(Problem),
    /// Something else happened to it.
    Mention,
}

/// That a push began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It began.
    Began(PushName, Timestamp),
    /// It ended. Without a name it is the one that began last before.
    Ended(Option<PushName>, End),
}

/// A fault of a push or a recording, or a finding of a moderation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// When.
    pub at: Timestamp,
    /// In which push, where the event says so.
    pub push: Option<PushName>,
}

/// No push lasts longer; a `push_duration` beyond it is not usable.
const LASTED_MAX: i64 = 10 * 366 * 24 * 3600 * 1000;

/// An interruption has one of these members, or it is none.
const INTERRUPTED: [&str; 4] = ["errcode", "errmsg", "sequence", "push_duration"];

impl Entry {
    /// Reads an event that names a stream; none if it changes nothing of it. What happened at no stated time happened when
    /// we were told.
    pub fn of(event: &Event) -> Option<Self> {
        let at = event.facts.occurred_at.unwrap_or(event.received_at);
        let named = || event.facts.sequence.clone().map(PushName::Sequence);
        Some(match event.facts.kind {
            Kind::StreamPush => Self::Push(Notice::Began(named().unwrap_or(PushName::Time(at)), at)),
            Kind::StreamInterruption => Self::Push(Notice::Ended(named(), end(event, at)?)),
            Kind::Recording => content(event, at),
            Kind::Screencapture => Self::Screencapture(at),
            Kind::PushError => Self::Problem(Problem { at, push: named() }),
            Kind::RecordingException | Kind::ImageAudit | Kind::AudioAudit => Self::Problem(Problem { at, push: None }),
            Kind::RecordingStatus if is_failure(event) => Self::Problem(Problem { at, push: None }),
            _ => Self::Mention,
        })
    }
}

/// None for a body that is no interruption in shape: with event type 0 and nothing else that one has.
fn end(event: &Event, at: Timestamp) -> Option<End> {
    let Payload::StreamInterruption(told) = event.payload() else { return None };
    let body = event.json();
    let has = |name: &str| body.member(name).is_some_and(|value| value.shape() != Shape::Null);
    INTERRUPTED.iter().find(|name| has(name))?;
    let lasted = told.push_duration.filter(|lasted| (0..=LASTED_MAX).contains(lasted));
    Some(End { at, errcode: told.errcode, lasted })
}

/// A file without a length holds what was pushed while its task wrote.
fn content(event: &Event, until: Timestamp) -> Entry {
    let Payload::Recording(file) = event.payload() else { return Entry::Recording { from: until, until } };
    let from = file.content_start_secs().or(file.start_time).map_or(until, Timestamp::from_secs);
    Entry::Recording { from: from.min(until), until }
}

/// Of the states of a recording these two tell of a fault.
fn is_failure(event: &Event) -> bool {
    let Payload::RecordingStatus(status) = event.payload() else { return false };
    matches!(status.record_event.as_deref(), Some("record_start_failed" | "record_error"))
}
