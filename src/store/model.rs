//! What goes into the store and comes out of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::event::{Event, EventId, Facts, Identity, Kind, Payload, Reason, Verification};
use crate::signature::LegacyHeaders;
use crate::streams::{Span, StreamName};

/// A handler's number in the store, behind its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandlerId(pub(super) i64);

/// A delivery to be made of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// To whom.
    pub handler: HandlerId,
    /// Whether it waits for earlier ones of its stream.
    pub ordered: bool,
}

/// An event to be stored, with the deliveries that come of it.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event.
    pub event: Arc<Event>,
    /// What makes copies of it the same.
    pub identity: Identity,
    /// How it differs from its documentation.
    pub drift: Vec<String>,
    /// Who gets it.
    pub owed: Vec<Owed>,
    /// The quarantined callback it was made from, which leaves the quarantine with it.
    pub readmitted: Option<i64>,
}

/// What became of an event handed to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is stored now.
    Stored {
        /// Our name for it.
        id: EventId,
        /// Whether it differs from its documentation, or from another event of its name.
        drifted: bool,
    },
    /// It was here before, under this id; none where the event itself has been pruned and only its identity is known.
    Duplicate(Option<EventId>),
}

/// A callback that was refused, to be kept.
#[derive(Clone, Debug)]
pub struct NewRefused {
    /// When it had arrived.
    pub received_at: Timestamp,
    /// Why it was refused.
    pub reason: Reason,
    /// The same with the facts, for people.
    pub detail: String,
    /// The path it was posted to, without query.
    pub path: String,
    /// Its body; of one that was too large the beginning.
    pub body: Bytes,
    /// Bytes that were read of the body.
    pub bytes: u64,
    /// Headers that sign it, where it carried them.
    pub headers: LegacyHeaders,
}

/// An event as it is listed.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// Its place in the order of storing.
    pub seq: i64,
    /// Our name for it.
    pub id: EventId,
    /// What it says about itself.
    pub facts: Facts,
    /// When it had arrived.
    pub received_at: Timestamp,
    /// How far its sender is known.
    pub verification: Verification,
    /// Copies that came after it.
    pub duplicates: u64,
    /// Length of its body.
    pub bytes: u64,
}

/// An event with everything known of it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// As it is listed.
    pub row: EventRow,
    /// The event.
    pub event: Event,
    /// How it differs from its documentation.
    pub drift: Vec<String>,
    /// Its deliveries, by the handlers' names.
    pub deliveries: Vec<Delivery>,
}

/// How far cataloguing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Catalogued {
    /// Events of this step.
    pub events: usize,
    /// How many at most are still to come.
    pub behind: u64,
}

/// How many events there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// As of when.
    pub at: Timestamp,
    /// All kinds.
    pub kinds: BTreeMap<Kind, KindStats>,
    /// The latest of them over time.
    pub timeline: Timeline,
    /// Receipt of the oldest event, about.
    pub oldest_received_at: Option<Timestamp>,
}

/// How many events there are of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindStats {
    /// Events that are stored.
    pub count: u64,
    /// Copies of them.
    pub duplicates: u64,
    /// The latest own time of an event, also of one that has been pruned.
    pub last_event_at: Option<Timestamp>,
    /// The latest receipt, likewise.
    pub last_received_at: Option<Timestamp>,
}

/// Counts of events that are stored, by their receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Where the first step begins.
    pub from: Timestamp,
    /// Length of each step.
    pub step_seconds: i64,
    /// For all kinds, a count for each step.
    pub kinds: BTreeMap<Kind, Vec<u64>>,
}

/// What waits to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Callbacks and the like.
    pub count: usize,
    /// Bytes of their bodies, about.
    pub bytes: usize,
}

/// Which events to list; newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named like what they compare with")]
pub struct EventFilter {
    pub kind: Option<Kind>,
    pub domain: Option<String>,
    pub app: Option<String>,
    pub stream: Option<String>,
    pub verification: Option<Verification>,
    /// Received at or after.
    pub since: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
}

impl EventFilter {
    /// With the names as they stand in rows.
    pub(super) fn trimmed(&self) -> Self {
        let trim = |name: &Option<String>| name.as_deref().map(|name| name.trim().to_owned());
        let (domain, app, stream) = (trim(&self.domain), trim(&self.app), trim(&self.stream));
        Self { domain, app, stream, ..self.clone() }
    }

    /// Whether it asks for nothing but a span of time.
    pub(super) fn is_of_time_only(&self) -> bool {
        let Self { since, until, .. } = *self;
        *self == Self { since, until, ..Self::default() }
    }

    /// Whether it matches every event.
    pub(super) fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; none: this was the last.
    pub next: Option<String>,
}

/// The cursor of a list of events that begins with the place `last` in the order of storing, or the next one before it.
pub fn cursor_up_to(last: i64) -> String {
    last.saturating_add(1).to_string()
}

/// Cuts a list that was read one row too far into a page.
pub(super) fn page<T>(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(cursor);
    Page { items, next }
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// Still owed.
    Pending,
    /// Made.
    Done,
    /// Given up; nobody tries again without a person.
    Dead,
    /// Given up by a person.
    Dropped,
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Done, Self::Dead, Self::Dropped];

    /// The name in the API.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Dropped => "dropped",
        }
    }

    /// The state of that name.
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.slug() == slug)
    }
}

/// One event owed to one handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event.
    pub event_id: EventId,
    /// The handler's name.
    pub handler: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Whether a person asked for it once more.
    pub replay: bool,
    /// Attempts since the last fresh allowance.
    pub attempts: u32,
    /// When it is tried next; none unless pending.
    pub next_attempt_at: Option<Timestamp>,
    /// Why the last failed attempt failed.
    pub last_error: Option<String>,
    /// When this row last changed.
    pub updated_at: Timestamp,
}

/// Which deliveries to list or change.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Of this handler.
    pub handler: Option<String>,
    /// In this state.
    pub state: Option<DeliveryState>,
    /// Of events received at or after.
    pub since: Option<Timestamp>,
    /// Of events received before.
    pub until: Option<Timestamp>,
}

/// What a person decides about deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pending, dead or dropped becomes pending and due now, with a fresh allowance of attempts.
    Retry,
    /// Pending or dead becomes dropped.
    Drop,
}

/// What a change of many deliveries found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Deliveries the filter matched.
    pub matched: u64,
    /// Deliveries that are different now.
    pub changed: u64,
}

/// A refused callback as it is listed.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named like the fields of what was refused")]
pub struct Quarantined {
    pub id: i64,
    pub received_at: Timestamp,
    pub reason: Reason,
    pub path: String,
    pub bytes: u64,
    /// Whether only the beginning of the body was kept.
    pub truncated: bool,
    pub detail: String,
    pub headers: LegacyHeaders,
}

/// Which refused callbacks to list; newest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuarantineFilter {
    /// Refused for this.
    pub reason: Option<Reason>,
}

/// Which streams to list, by name.
#[derive(Clone, Debug, Default)]
pub struct StreamFilter {
    /// Those that are live, or those that are not.
    pub live: Option<bool>,
    /// Of this push domain; an empty one means none.
    pub domain: Option<String>,
    /// Of this app; an empty one means none.
    pub app: Option<String>,
}

/// A stream as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRow {
    /// Which one.
    pub name: StreamName,
    /// Whether the push that began last goes on.
    pub live: bool,
    /// The push that began last.
    pub current: Option<Span>,
    /// How many pushes are known.
    pub pushes: u64,
    /// The latest time of an event of it.
    pub last_event_at: Timestamp,
    /// Files that were recorded of it and whose events are stored.
    pub recordings: u64,
    /// The latest picture.
    pub screencapture: Option<Picture>,
}

/// A stream with the newest of its pushes.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamStory {
    /// As it is listed.
    pub row: StreamRow,
    /// The push that began last first.
    pub timeline: Vec<StreamPush>,
    /// The newest files that belong to none of these pushes.
    pub recordings: Vec<Event>,
    /// The newest faults and findings that belong to none of these pushes.
    pub problems: Vec<Event>,
}

/// A picture that was taken of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// When.
    pub at: Timestamp,
    /// Where it lies, unless the event does not say so, or at a length that is no address.
    pub url: Option<String>,
}

/// Bytes of an address; what is longer is none.
const URL_BYTES_MAX: usize = 8192;

impl Picture {
    pub(super) fn of(event: &Event) -> Self {
        let url = match event.payload() {
            Payload::Screencapture(screencapture) => screencapture.pic_full_url,
            _ => None,
        };
        let at = event.facts.occurred_at.unwrap_or(event.received_at);
        Self { at, url: url.filter(|url| url.len() <= URL_BYTES_MAX) }
    }
}

/// A push and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamPush {
    /// When it began and ended.
    pub span: Span,
    /// Files that were recorded of it, the newest first.
    pub recordings: Vec<Event>,
    /// The latest picture.
    pub screencapture: Option<Picture>,
    /// Faults and findings, the newest first.
    pub problems: Vec<Event>,
}

impl StreamPush {
    pub(super) fn new(span: Span) -> Self {
        Self { span, recordings: Vec::new(), screencapture: None, problems: Vec::new() }
    }
}

/// How far streams are made anew from the events that are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamsRebuild {
    /// Events that were looked at, about.
    pub done: u64,
    /// Events there are, about.
    pub total: u64,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It is made.
    Done,
    /// It is tried again.
    Retry {
        /// Not before this moment.
        due: Timestamp,
        /// Why the attempt failed.
        error: String,
    },
    /// It is given up.
    Dead {
        /// Why the attempt failed.
        error: String,
        /// Whether only because attempts have run out: then a fresh allowance given meanwhile counts for more.
        exhausted: bool,
    },
}

impl Settlement {
    /// Why the attempt failed.
    pub(super) fn error(&self) -> Option<&str> {
        match self {
            Self::Done => None,
            Self::Retry { error, .. } | Self::Dead { error, .. } => Some(error),
        }
    }
}

/// What may be forgotten.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pruning {
    /// Events received before this.
    pub(super) received_before: Timestamp,
    /// Every event that nobody waits for, whatever its age: the store is too large.
    pub(super) any_age: bool,
    /// Identities of events received at or after this outlive them.
    pub(super) remember_since: Timestamp,
}

/// What one step of forgetting did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pruned {
    /// Events that went.
    pub(super) events: u64,
    /// Where the next step begins; none: the end was reached.
    pub(super) next: Option<i64>,
}

/// A handler, as far as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerRow {
    /// Its name.
    pub name: String,
    /// Whether the configuration has it; otherwise it has left something behind.
    pub is_configured: bool,
    /// Whether a person has paused it.
    pub is_paused: bool,
    /// Its pending deliveries.
    pub pending: u64,
    /// Its dead deliveries.
    pub dead: u64,
    /// Receipt of the oldest event that is pending for it.
    pub oldest_pending_at: Option<Timestamp>,
    /// When it last took an event.
    pub last_success_at: Option<Timestamp>,
    /// Why its last failed attempt failed. A later success clears it, unless deliveries are dead.
    pub last_error: Option<String>,
}

/// Deliveries claimed for a handler.
#[derive(Debug, Default)]
pub struct Claimed {
    /// At most one of each stream that is kept in order.
    pub claims: Vec<Claim>,
    /// When the next of those that wait is due, as far as the store can tell.
    pub next_due: Option<Timestamp>,
}

/// A delivery in hand: nobody else gets it until it is settled. Settled by value, so at most once; dropped unsettled it
/// goes back.
#[derive(Debug)]
pub struct Claim {
    pub(super) key: ClaimKey,
    /// What is to be delivered.
    pub event: Arc<Event>,
    /// The number of the attempt that is to be made, from 1.
    pub attempt: u32,
    pub(super) called_off: Arc<AtomicBool>,
    /// The number of the replica that made it; 0 where there is one only.
    pub(super) holder: i64,
    /// Where it goes back to.
    pub(super) release: Option<Arc<dyn Release>>,
}

/// Takes claims back that were not settled.
pub(super) trait Release: std::fmt::Debug + Send + Sync {
    /// `holder` made the claim.
    fn release(&self, key: ClaimKey, holder: i64);
}

/// A delivery's place in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClaimKey {
    pub(super) handler: HandlerId,
    pub(super) seq: i64,
}

impl Claim {
    /// Whether a person has dropped the delivery, or paused its handler, since it was claimed. An attempt that has not
    /// begun must not begin.
    pub fn is_called_off(&self) -> bool {
        self.called_off.load(Ordering::Relaxed)
    }

    /// Takes the key; the claim no longer goes back by itself.
    pub(super) fn into_key(mut self) -> ClaimKey {
        self.release = None;
        self.key
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(origin) = self.release.take() {
            origin.release(self.key, self.holder);
        }
    }
}
