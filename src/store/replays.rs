//! Replays: what a person wants delivered once more, and how far that has come. One that runs survives a restart.

use serde::{Deserialize, Serialize};

use super::engine::on_engine;
use super::model::{EventFilter, EventRow, Owed};
use super::{Store, StoreError};
use crate::clock::Timestamp;
use crate::event::{EventId, Verification};

/// Replays that run at the same time.
pub(super) const RUNNING_MAX: i64 = 16;
/// Replays that are remembered.
pub(super) const KEPT: i64 = 100;

/// A replay's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplayId(pub i64);

/// What is to be delivered once more, and to whom.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Which events.
    pub events: Wanted,
    /// To whom; none: to all handlers of the configuration.
    pub handlers: Option<Vec<String>>,
    /// At most so many events in a second.
    pub rate: Option<u32>,
}

/// Which events are to be delivered once more.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Those that match.
    Matching(EventFilter),
    /// These.
    These(Vec<EventId>),
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Matching(EventFilter::default())
    }
}

/// A replay as it stands.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Its number.
    pub id: ReplayId,
    /// What was asked for.
    pub wish: Wish,
    /// Where it stands.
    pub state: ReplayState,
    /// Events it is about.
    pub matched: u64,
    /// Events it has come past.
    pub replayed: u64,
    /// Deliveries that are pending for it, or were.
    pub queued: u64,
    /// The place of the last event it has come past, in the order of storing.
    pub reached: i64,
    /// The place of the last event it is about.
    pub last: i64,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    pub detail: Option<String>,
}

impl Replay {
    /// With what was asked for, as it was written. What a later version wrote may be no wish to this one: then nothing of
    /// it is replayed, and others are not kept from it.
    pub(super) fn of(self, wish: Result<Wish, String>) -> Self {
        match wish {
            Ok(wish) => Self { wish, ..self },
            Err(detail) => Self { state: ReplayState::Failed, detail: Some(detail), ..self },
        }
    }
}

/// Where a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayState {
    /// It goes on.
    Running,
    /// It came to its end.
    Done,
    /// A person ended it; what it had queued until then stays queued.
    Cancelled,
    /// It could not go on.
    Failed,
}

impl ReplayState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Running, Self::Done, Self::Cancelled, Self::Failed];

    /// The name in the API.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// The state of that name.
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.slug() == slug)
    }
}

/// A wish as it is written down.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Written {
    kind: Option<String>,
    domain: Option<String>,
    app: Option<String>,
    stream: Option<String>,
    verification: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
    ids: Option<Vec<String>>,
    handlers: Option<Vec<String>>,
    rate: Option<u32>,
}

impl Wish {
    /// As it is written down.
    pub(super) fn written(&self) -> String {
        let mut written = Written { handlers: self.handlers.clone(), rate: self.rate, ..Written::default() };
        match &self.events {
            Wanted::These(ids) => written.ids = Some(ids.iter().map(ToString::to_string).collect()),
            Wanted::Matching(filter) => {
                written.kind = filter.kind.map(|kind| kind.slug().to_owned());
                written.domain.clone_from(&filter.domain);
                written.app.clone_from(&filter.app);
                written.stream.clone_from(&filter.stream);
                written.verification = filter.verification.map(|verification| verification.slug().to_owned());
                written.since = filter.since.map(Timestamp::millis);
                written.until = filter.until.map(Timestamp::millis);
            }
        }
        // Texts and numbers can always be written.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Reads what [`written`](Self::written) wrote. A kind or id that is none is an error: it must not make all of a few.
    pub(super) fn from_written(text: &str) -> Result<Self, String> {
        let written: Written = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Written { handlers, rate, .. } = written;
        let events = match written.ids {
            Some(ids) => {
                let id = |text: String| text.parse::<EventId>().map_err(|_| format!("`{text}` is no id"));
                Wanted::These(ids.into_iter().map(id).collect::<Result<_, _>>()?)
            }
            None => Wanted::Matching(EventFilter {
                kind: written.kind.map(|slug| slug.parse().map_err(|_| format!("`{slug}` is no kind"))).transpose()?,
                domain: written.domain,
                app: written.app,
                stream: written.stream,
                verification: written
                    .verification
                    .map(|slug| Verification::from_slug(&slug).ok_or_else(|| format!("`{slug}` is no verification")))
                    .transpose()?,
                since: written.since.map(Timestamp::from_millis),
                until: written.until.map(Timestamp::from_millis),
            }),
        };
        Ok(Wish { events, handlers, rate })
    }
}

impl Store {
    /// Notes a replay of `matched` events up to the place `last`. None when as many run already as may.
    pub async fn begin_replay(&self, wish: Wish, matched: u64, last: i64) -> Result<Option<Replay>, StoreError> {
        on_engine!(self, engine => engine.begin_replay(wish, matched, last).await)
    }

    /// Makes what is owed of these events pending once more, behind what is pending already; they are next of a replay.
    /// Returns false, and does nothing, when the replay has ended meanwhile.
    pub async fn replay(&self, id: ReplayId, events: Vec<(EventRow, Vec<Owed>)>) -> Result<bool, StoreError> {
        on_engine!(self, engine => engine.replay(id, events).await)
    }

    /// Ends a replay that runs, and tells how it stands; none where there is none of that number.
    pub async fn end_replay(
        &self,
        id: ReplayId,
        state: ReplayState,
        detail: Option<String>,
    ) -> Result<Option<Replay>, StoreError> {
        on_engine!(self, engine => engine.end_replay(id, state, detail).await)
    }

    /// The replays that run and those that ended of late, newest first.
    pub async fn replays(&self) -> Result<Vec<Replay>, StoreError> {
        on_engine!(self, engine => engine.replays().await)
    }

    /// One of them.
    pub async fn find_replay(&self, id: ReplayId) -> Result<Option<Replay>, StoreError> {
        on_engine!(self, engine => engine.find_replay(id).await)
    }
}
