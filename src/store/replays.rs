//! Replays: what a person wants delivered once more, and how far that has come. One that runs survives a restart.

use super::model::{EventFilter, EventRow, Owed};
use super::queue::Admission;
use super::{Store, StoreError, sqlite};
use crate::clock::Timestamp;
use crate::event::EventId;

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

impl Store {
    /// Notes a replay of `matched` events up to the place `last`. None when as many run already as may.
    pub async fn begin_replay(&self, wish: Wish, matched: u64, last: i64) -> Result<Option<Replay>, StoreError> {
        self.write(0, Admission::Always, move |tx| sqlite::begin_replay(tx, &wish, matched, last)).await
    }

    /// Makes what is owed of these events pending once more, behind what is pending already; they are next of a replay.
    /// Returns false, and does nothing, when the replay has ended meanwhile.
    pub async fn replay(&self, id: ReplayId, events: Vec<(EventRow, Vec<Owed>)>) -> Result<bool, StoreError> {
        self.write(0, Admission::Always, move |tx| sqlite::replay_step(tx, id, &events)).await
    }

    /// Ends a replay that runs, and tells how it stands; none where there is none of that number.
    pub async fn end_replay(
        &self,
        id: ReplayId,
        state: ReplayState,
        detail: Option<String>,
    ) -> Result<Option<Replay>, StoreError> {
        self.write(0, Admission::Always, move |tx| sqlite::end_replay(tx, id, state, detail.as_deref())).await
    }

    /// The replays that run and those that ended of late, newest first.
    pub async fn replays(&self) -> Result<Vec<Replay>, StoreError> {
        self.read(sqlite::list_replays).await
    }

    /// One of them.
    pub async fn find_replay(&self, id: ReplayId) -> Result<Option<Replay>, StoreError> {
        self.read(move |db| sqlite::find_replay(db, id)).await
    }
}
