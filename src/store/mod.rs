//! Events, deliveries and quarantine on stable storage. `store` knows no HTTP and no handler code: it keeps what it is
//! given, says what is owed, and rings a bell for whoever waits for work.
//!
//! Every write goes through one queue to one writer, which takes whatever waits into one transaction and one sync.
//! A write that has returned is on stable storage.

mod bells;
mod catalogue;
mod counted;
mod engine;
mod health;
mod lane;
mod model;
mod names;
mod open;
mod postgres;
mod queue;
mod replays;
mod settings;
mod sqlite;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::Notify;

pub use self::engine::fault_of_url;
use self::engine::{Engine, on_engine};

use self::model::Pruning;
pub use self::model::{
    Appended, Catalogued, Claim, Claimed, Counts, Delivery, DeliveryFilter, DeliveryState, EventFilter, EventRow,
    HandlerId, HandlerRow, KindStats, NewEvent, NewRefused, Owed, Page, Picture, QuarantineFilter, Quarantined,
    Settlement, Stats, Stored, StreamFilter, StreamPush, StreamRow, StreamStory, StreamsRebuild, Timeline, Verdict,
    Waiting, cursor_up_to,
};
pub use self::open::OpenError;
pub use self::replays::{Replay, ReplayId, ReplayState, Wanted, Wish};
pub use self::settings::{QuarantineSettings, Settings, shown_url};
use crate::clock::{Clock, Timestamp};
use crate::event::{EventId, Kind, Reason};
use crate::streams::StreamName;

/// Why something was not written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// More waits for the store than is allowed to; nothing was queued.
    #[error("too many callbacks wait for the store")]
    Full,
    /// The service is stopping.
    #[error("the store is closed")]
    Closed,
    /// The store refused this one.
    #[error("the store refused it: {0}")]
    Refused(String),
    /// It cannot be read.
    #[error("the store cannot be read: {0}")]
    Unreadable(String),
    /// The cursor is none that a page gave.
    #[error("the cursor is none of ours; leave it out to begin anew")]
    Cursor,
}

/// What came of a person's decision about a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// The delivery as it is now.
    Is(Delivery),
    /// It is done already.
    WasDone,
    /// There is none of that event and handler.
    Unknown,
}

/// How much there is, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pending deliveries per handler of the configuration.
    pub pending: BTreeMap<String, u64>,
    /// Dead deliveries per handler of the configuration.
    pub dead: BTreeMap<String, u64>,
    /// Refused callbacks per reason.
    pub refused: BTreeMap<Reason, u64>,
    /// Bytes of their bodies.
    pub refused_bytes: u64,
    /// Streams that are live.
    pub streams_live: u64,
}

/// An open store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    clock: Arc<dyn Clock>,
    terms: ArcSwap<Terms>,
}

/// What may change while the store is open.
#[derive(Debug)]
struct Terms {
    settings: Settings,
    /// The handlers of the configuration.
    handlers: Vec<(String, HandlerId)>,
    stall: Duration,
}

/// Deliveries a person's decision changes in one transaction: few enough not to keep callbacks waiting.
const JUDGED_AT_ONCE: usize = 500;

/// Runs of events that are catalogued before streams are read, and for how long that is waited for.
const CATCH_UP_RUNS: usize = 128;
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

impl Store {
    /// Opens or creates the store for the handlers of these names. `stall` is how long a write may take before the
    /// store counts as stuck.
    pub fn open(
        settings: Settings,
        handlers: &[String],
        stall: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let (engine, ids) = Engine::open(&settings, handlers, stall, Arc::clone(&clock))?;
        let terms = ArcSwap::from_pointee(Terms { settings, handlers: named(handlers, ids), stall });
        Ok(Self(Arc::new(Inner { engine, clock, terms })))
    }

    /// Works by other settings and for other handlers from now on; the place of the store stays as it is. A handler that
    /// is new is written down first, which takes a store that can be written.
    pub async fn reconfigure(
        &self,
        settings: Settings,
        handlers: &[String],
        stall: Duration,
    ) -> Result<(), StoreError> {
        let known: Option<Vec<_>> = handlers.iter().map(|name| self.handler(name)).collect();
        let ids = if let Some(ids) = known {
            ids
        } else {
            on_engine!(self, engine => engine.register(handlers.to_vec()).await)?
        };
        on_engine!(self, engine => engine.reconfigure(&settings, &ids, stall));
        self.0.terms.store(Arc::new(Terms { settings, handlers: named(handlers, ids), stall }));
        Ok(())
    }

    /// The number of a handler of the configuration.
    pub fn handler(&self, name: &str) -> Option<HandlerId> {
        self.0.terms.load().handlers.iter().find(|(own, _)| own == name).map(|(_, id)| *id)
    }

    /// Rings when there may be something for a handler. Listen before looking.
    pub fn bell(&self, handler: HandlerId) -> Arc<Notify> {
        on_engine!(self, engine => engine.bell(handler))
    }

    /// Stores an event and what is owed of it. Dropping the future takes nothing back: what is queued will be stored.
    pub async fn append(&self, new: NewEvent) -> Result<Appended, StoreError> {
        on_engine!(self, engine => engine.append(new).await)
    }

    /// Keeps a refused callback.
    pub async fn refuse(&self, new: NewRefused) -> Result<(), StoreError> {
        on_engine!(self, engine => engine.refuse(new, false).await).map(|_| ())
    }

    /// Keeps a refused callback unless the same one is kept already. Returns whether it is new.
    pub async fn refuse_unless_known(&self, new: NewRefused) -> Result<bool, StoreError> {
        on_engine!(self, engine => engine.refuse(new, true).await)
    }

    /// Takes at most `limit` deliveries that are due into hand, oldest first. Empty while the store is in trouble.
    pub async fn claim(&self, handler: HandlerId, limit: usize) -> Claimed {
        on_engine!(self, engine => engine.claim(handler, limit).await)
    }

    /// Records what came of an attempt.
    pub async fn settle(&self, claim: Claim, settlement: Settlement) -> Result<(), StoreError> {
        on_engine!(self, engine => engine.settle(claim, settlement).await)
    }

    /// Applies a person's decision to one delivery.
    pub async fn judge(&self, id: EventId, handler: String, verdict: Verdict) -> Result<Decided, StoreError> {
        on_engine!(self, engine => engine.judge(id, handler, verdict).await)
    }

    /// Applies a person's decision to all deliveries a filter matches, and that are not done; a dry run counts them.
    pub async fn judge_many(
        &self,
        filter: DeliveryFilter,
        verdict: Verdict,
        dry_run: bool,
    ) -> Result<Counts, StoreError> {
        let mut sum = Counts::default();
        let mut after = None;
        loop {
            let keys = on_engine!(self, engine => engine.undone(filter.clone(), after, JUDGED_AT_ONCE).await)?;
            sum.matched += keys.len() as u64;
            after = keys.last().copied();
            if after.is_none() {
                return Ok(sum);
            }
            if !dry_run {
                sum.changed += on_engine!(self, engine => engine.judge_all(keys, filter.state, verdict).await)?;
            }
        }
    }

    /// A page of events, newest first.
    pub async fn events(
        &self,
        filter: EventFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<EventRow>, StoreError> {
        let before = cursor.map(parse_cursor).transpose()?;
        on_engine!(self, engine => engine.events(filter, limit, before).await)
    }

    /// Counts events: all of them, and those received in the latest `steps` steps of so many seconds, a multiple of 60.
    /// While more events are to be catalogued than some thousands, the rest of them is missing.
    pub async fn stats(&self, step_seconds: i64, steps: usize) -> Result<Stats, StoreError> {
        let now = self.0.clock.now();
        on_engine!(self, engine => engine.stats(now, step_seconds, steps).await)
    }

    /// When the latest event of each kind was received, also of those that are gone.
    pub async fn latest(&self) -> Result<Vec<(Kind, Timestamp)>, StoreError> {
        on_engine!(self, engine => engine.latest().await)
    }

    /// What it works by at present.
    pub fn settings(&self) -> Settings {
        self.0.terms.load().settings.clone()
    }

    /// What waits to be written.
    pub fn waiting(&self) -> Waiting {
        on_engine!(self, engine => engine.waiting())
    }

    /// Everything known of one event.
    pub async fn event(&self, id: EventId) -> Result<Option<Stored>, StoreError> {
        on_engine!(self, engine => engine.event(id).await)
    }

    /// A page of deliveries, those of the newest events first.
    pub async fn deliveries(
        &self,
        filter: DeliveryFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<Delivery>, StoreError> {
        let before = cursor.map(|cursor| {
            let (seq, handler) = cursor.split_once('.').ok_or(StoreError::Cursor)?;
            Ok::<_, StoreError>((parse_cursor(seq)?, parse_cursor(handler)?))
        });
        let before = before.transpose()?;
        on_engine!(self, engine => engine.deliveries(filter, limit, before).await)
    }

    /// A page of refused callbacks, newest first.
    pub async fn quarantine(
        &self,
        filter: QuarantineFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<Quarantined>, StoreError> {
        let before = cursor.map(parse_cursor).transpose()?;
        on_engine!(self, engine => engine.quarantine(filter, limit, before).await)
    }

    /// One refused callback with the part of its body that was kept.
    pub async fn refused(&self, id: i64) -> Result<Option<(Quarantined, Bytes)>, StoreError> {
        on_engine!(self, engine => engine.refused(id).await)
    }

    /// Why an event cannot be taken at present; none when it can.
    pub fn trouble(&self) -> Option<String> {
        let stall = self.0.terms.load().stall;
        on_engine!(self, engine => engine.trouble(stall))
    }

    /// How much there is, as of the last commit.
    pub fn tally(&self) -> Tally {
        let counts = on_engine!(self, engine => engine.counted());
        let by_name = |of: &BTreeMap<HandlerId, i64>| {
            let count = |id| u64::try_from(of.get(id).copied().unwrap_or(0)).unwrap_or(0);
            self.0.terms.load().handlers.iter().map(|(name, id)| (name.clone(), count(id))).collect()
        };
        let refused_bytes: i64 = counts.refused.values().map(|(_, bytes)| bytes).sum();
        let refused = counts.refused.iter().map(|(reason, (n, _))| (*reason, u64::try_from(*n).unwrap_or(0)));
        Tally {
            pending: by_name(&counts.pending),
            dead: by_name(&counts.dead),
            refused: refused.collect(),
            refused_bytes: u64::try_from(refused_bytes).unwrap_or(0),
            streams_live: u64::try_from(counts.streams_live).unwrap_or(0),
        }
    }

    /// The handlers of the configuration, in its order, and those that have left it with something pending or dead.
    pub async fn handlers(&self) -> Result<Vec<HandlerRow>, StoreError> {
        let configured: Vec<_> = self.0.terms.load().handlers.iter().map(|(_, id)| *id).collect();
        on_engine!(self, engine => engine.handlers(configured).await)
    }

    /// Pauses a handler, so that nothing is handed out to it, or has it go on. Attempts in hand end as they would; those
    /// that have not begun go back. Returns whether there is one of that name, in the configuration or not any more.
    pub async fn pause(&self, handler: String, paused: bool) -> Result<bool, StoreError> {
        on_engine!(self, engine => engine.pause(handler, paused).await)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        on_engine!(self, engine => engine.bytes())
    }

    /// Forgets what is due to be forgotten, step by step so that callbacks need not wait. Returns how many events went.
    pub async fn prune(&self) -> Result<u64, StoreError> {
        self.catch_up().await;
        let settings = self.0.terms.load().settings.clone();
        let now = self.0.clock.now();
        let remember_since = now.minus(settings.dedup_window);
        let received_before = now.minus(settings.retention);
        while on_engine!(self, engine => engine.drop_forgotten(remember_since).await)? {}
        let mut pruned = 0;
        let mut after = 0;
        loop {
            let any_age = match settings.max_bytes {
                Some(max) => self.bytes_of_events().await? > max,
                None => false,
            };
            let pruning = Pruning { received_before, any_age, remember_since };
            let step = on_engine!(self, engine => engine.prune_step(pruning, after).await)?;
            pruned += step.events;
            match step.next {
                Some(next) => after = next,
                None => return Ok(pruned),
            }
        }
    }

    /// Catalogues the next events: makes of them what lists and statistics are answered from. None when there are none;
    /// otherwise how many there were, and how many more wait behind them.
    pub async fn catalogue(&self) -> Result<Option<Catalogued>, StoreError> {
        on_engine!(self, engine => engine.catalogue().await)
    }

    /// A page of streams, by name. What was stored before is in it, unless very much was stored just before.
    pub async fn streams(
        &self,
        filter: StreamFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<StreamRow>, StoreError> {
        let after = cursor.map(|cursor| streams::parse_cursor(cursor).ok_or(StoreError::Cursor)).transpose()?;
        self.catch_up().await;
        on_engine!(self, engine => engine.streams(filter, limit, after).await)
    }

    /// Everything about one stream; none if no push of it is known.
    pub async fn stream(&self, name: StreamName) -> Result<Option<StreamStory>, StoreError> {
        self.catch_up().await;
        on_engine!(self, engine => engine.stream(name).await)
    }

    /// Has all streams made anew from the events that are stored, step by step in
    /// [`rebuild_streams`](Self::rebuild_streams). Until they are, the former ones are shown. Returns how far they are,
    /// where it has begun before.
    pub async fn begin_streams_rebuild(&self) -> Result<StreamsRebuild, StoreError> {
        on_engine!(self, engine => engine.begin_streams_rebuild().await)
    }

    /// How far streams are made anew; none when they are not.
    pub async fn streams_rebuild(&self) -> Result<Option<StreamsRebuild>, StoreError> {
        on_engine!(self, engine => engine.streams_rebuild().await)
    }

    /// Does a step of making streams anew. Returns whether there was anything to do.
    pub async fn rebuild_streams(&self) -> Result<bool, StoreError> {
        on_engine!(self, engine => engine.rebuild_streams().await)
    }

    /// Catalogues what is stored, within limits: on a store in trouble, or with very much to do, what is there must do.
    async fn catch_up(&self) {
        let caught_up = async {
            let mut left = None;
            for _ in 0..CATCH_UP_RUNS {
                let Ok(Some(Catalogued { events, behind })) = self.catalogue().await else {
                    break;
                };
                // What was stored meanwhile may wait: under a steady load there is always more.
                let still = left.map_or(behind, |left: u64| left.saturating_sub(events as u64));
                if still == 0 {
                    break;
                }
                left = Some(still);
            }
        };
        let _ = tokio::time::timeout(CATCH_UP_MAX, caught_up).await;
    }

    /// Completes when the thread that writes has died, which nothing it does should bring about.
    pub async fn died(&self) {
        on_engine!(self, engine => engine.died().await);
    }

    /// Takes nothing more, writes what waits, and closes; what cannot be written in that time stays unwritten.
    pub async fn close(&self, patience: Duration) {
        on_engine!(self, engine => engine.close(patience).await);
    }

    async fn bytes_of_events(&self) -> Result<u64, StoreError> {
        let used = on_engine!(self, engine => engine.bytes_used().await)?;
        let refused = on_engine!(self, engine => engine.counted()).refused_bytes_taken();
        Ok(used.saturating_sub(refused))
    }
}

fn named(handlers: &[String], ids: Vec<HandlerId>) -> Vec<(String, HandlerId)> {
    handlers.iter().cloned().zip(ids).collect()
}

fn parse_cursor(text: &str) -> Result<i64, StoreError> {
    text.parse().map_err(|_| StoreError::Cursor)
}
