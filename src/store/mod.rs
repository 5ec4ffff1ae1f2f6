//! Events, deliveries and quarantine on stable storage. `store` knows no HTTP and no handler code: it keeps what it is
//! given, says what is owed, and rings a bell for whoever waits for work.
//!
//! Every write goes through one queue to one writer, which takes whatever waits into one transaction and one sync.
//! A write that has returned is on stable storage.

mod health;
mod model;
mod queue;
mod replays;
mod settings;
mod sqlite;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, oneshot};

pub use self::model::{
    Appended, Catalogued, Claim, Claimed, Counts, Delivery, DeliveryFilter, DeliveryState, EventFilter, EventRow,
    HandlerId, HandlerRow, KindStats, NewEvent, NewRefused, Owed, Page, QuarantineFilter, Quarantined, Settlement,
    Stats, Stored, StreamFilter, StreamPush, StreamRow, StreamStory, StreamsRebuild, Timeline, Verdict, Waiting,
};
use self::queue::{Admission, ClaimRequest, Queue};
pub use self::replays::{Replay, ReplayId, ReplayState, Wanted, Wish};
pub use self::settings::{QuarantineSettings, Settings};
pub use self::sqlite::OpenError;
use self::sqlite::{Job, Judged, Opening, Pruning, Sqlite, Tx};
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
    queue: Arc<Queue>,
    sqlite: Sqlite,
    clock: Arc<dyn Clock>,
    terms: ArcSwap<Terms>,
    readers: Semaphore,
}

/// What may change while the store is open.
#[derive(Debug)]
struct Terms {
    settings: Settings,
    /// The handlers of the configuration.
    handlers: Vec<(String, HandlerId)>,
    stall: Duration,
}

impl Drop for Inner {
    /// Whoever forgot to close leaves no threads behind.
    fn drop(&mut self) {
        self.queue.close();
        self.sqlite.stop();
    }
}

/// What an event weighs in the queue beside its body.
const EVENT_OVERHEAD: usize = 512;
/// What a refused callback takes in the database beside its body: its row, its indexes, the rest of a page.
const REFUSED_OVERHEAD: i64 = 2048;
/// Reads at the same time; each has a connection of its own, with a cache.
const READERS_MAX: usize = 4;
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
        let queue = Arc::new(Queue::new(settings.queue_count, settings.queue_bytes));
        let opening = Opening { url: &settings.url, bounds: settings.quarantine, handlers, stall };
        let (sqlite, ids) = Sqlite::open(&opening, &queue, Arc::clone(&clock))?;
        let terms = ArcSwap::from_pointee(Terms { settings, handlers: named(handlers, ids), stall });
        Ok(Self(Arc::new(Inner { queue, sqlite, clock, terms, readers: Semaphore::new(READERS_MAX) })))
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
            let names = handlers.to_vec();
            self.write(0, Admission::Always, move |tx| sqlite::register_all(tx, &names)).await?
        };
        self.0.sqlite.shared.hang_bells(&ids);
        self.0.sqlite.shared.reconfigure(settings.quarantine, stall);
        self.0.queue.resize(settings.queue_count, settings.queue_bytes);
        self.0.terms.store(Arc::new(Terms { settings, handlers: named(handlers, ids), stall }));
        Ok(())
    }

    /// The number of a handler of the configuration.
    pub fn handler(&self, name: &str) -> Option<HandlerId> {
        self.0.terms.load().handlers.iter().find(|(own, _)| own == name).map(|(_, id)| *id)
    }

    /// Rings when there may be something for a handler. Listen before looking.
    pub fn bell(&self, handler: HandlerId) -> Arc<Notify> {
        self.0.sqlite.shared.bells.load().get(&handler).cloned().unwrap_or_default()
    }

    /// Stores an event and what is owed of it. Dropping the future takes nothing back: what is queued will be stored.
    pub async fn append(&self, new: NewEvent) -> Result<Appended, StoreError> {
        let bytes = new.event.body.len() + EVENT_OVERHEAD;
        self.write(bytes, Admission::Bounded, move |tx| sqlite::append(tx, &new)).await
    }

    /// Keeps a refused callback.
    pub async fn refuse(&self, new: NewRefused) -> Result<(), StoreError> {
        let bytes = new.body.len() + EVENT_OVERHEAD;
        self.write(bytes, Admission::Half, move |tx| sqlite::keep(tx, &new, false).map(|_| ())).await
    }

    /// Keeps a refused callback unless the same one is kept already. Returns whether it is new.
    pub async fn refuse_unless_known(&self, new: NewRefused) -> Result<bool, StoreError> {
        let bytes = new.body.len() + EVENT_OVERHEAD;
        self.write(bytes, Admission::Bounded, move |tx| sqlite::keep(tx, &new, true)).await
    }

    /// Takes at most `limit` deliveries that are due into hand, oldest first. Empty while the store is in trouble.
    pub async fn claim(&self, handler: HandlerId, limit: usize) -> Claimed {
        let (reply, claimed) = oneshot::channel();
        self.0.queue.claim(ClaimRequest { handler, now: self.0.clock.now(), limit, reply });
        claimed.await.unwrap_or_default()
    }

    /// Records what came of an attempt.
    pub async fn settle(&self, claim: Claim, settlement: Settlement) -> Result<(), StoreError> {
        let key = claim.into_key();
        let settled = self.write(0, Admission::Always, move |tx| sqlite::settle(tx, key, &settlement)).await;
        if settled.is_err() {
            // Nothing says that the attempt was made, so it is made again.
            self.0.queue.release(key);
        }
        settled
    }

    /// Applies a person's decision to one delivery.
    pub async fn judge(&self, id: EventId, handler: String, verdict: Verdict) -> Result<Decided, StoreError> {
        let judged = self.write(0, Admission::Always, move |tx| sqlite::judge(tx, id, &handler, verdict)).await?;
        Ok(match judged {
            Judged::Is(delivery) => Decided::Is(delivery),
            Judged::WasDone => Decided::WasDone,
            Judged::Unknown => Decided::Unknown,
        })
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
            let wanted = filter.clone();
            let keys = self.read(move |db| sqlite::undone(db, &wanted, after, JUDGED_AT_ONCE)).await?;
            sum.matched += keys.len() as u64;
            after = keys.last().copied();
            if after.is_none() {
                return Ok(sum);
            }
            if !dry_run {
                let state = filter.state;
                let work = move |tx: &mut Tx<'_>| sqlite::judge_all(tx, &keys, state, verdict);
                sum.changed += self.write(0, Admission::Always, work).await?;
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
        self.read(move |db| sqlite::list_events(db, &filter, limit, before)).await
    }

    /// Counts events: all of them, and those received in the latest `steps` steps of so many seconds, a multiple of 60.
    /// While more events are to be catalogued than some thousands, the rest of them is missing.
    pub async fn stats(&self, step_seconds: i64, steps: usize) -> Result<Stats, StoreError> {
        let now = self.0.clock.now();
        self.read(move |db| sqlite::stats(db, now, step_seconds, steps)).await
    }

    /// When the latest event of each kind was received, also of those that are gone.
    pub async fn latest(&self) -> Result<Vec<(Kind, Timestamp)>, StoreError> {
        self.read(sqlite::latest).await
    }

    /// What it works by at present.
    pub fn settings(&self) -> Settings {
        self.0.terms.load().settings.clone()
    }

    /// What waits to be written.
    pub fn waiting(&self) -> Waiting {
        self.0.queue.waiting()
    }

    /// Everything known of one event.
    pub async fn event(&self, id: EventId) -> Result<Option<Stored>, StoreError> {
        self.read(move |db| sqlite::find_event(db, id)).await
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
        self.read(move |db| sqlite::list_deliveries(db, &filter, limit, before)).await
    }

    /// A page of refused callbacks, newest first.
    pub async fn quarantine(
        &self,
        filter: QuarantineFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<Quarantined>, StoreError> {
        let before = cursor.map(parse_cursor).transpose()?;
        self.read(move |db| sqlite::list_refused(db, filter, limit, before)).await
    }

    /// One refused callback with the part of its body that was kept.
    pub async fn refused(&self, id: i64) -> Result<Option<(Quarantined, Bytes)>, StoreError> {
        self.read(move |db| sqlite::find_refused(db, id)).await
    }

    /// Why an event cannot be taken at present; none when it can.
    pub fn trouble(&self) -> Option<String> {
        self.0.sqlite.shared.trouble().or_else(|| self.0.queue.trouble(self.0.terms.load().stall))
    }

    /// How much there is, as of the last commit.
    pub fn tally(&self) -> Tally {
        let counts = self.0.sqlite.shared.tally();
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

    /// Receipt of the oldest event that is pending for a handler.
    pub async fn oldest_pending(&self, handler: HandlerId) -> Result<Option<Timestamp>, StoreError> {
        self.read(move |db| sqlite::oldest_pending(db, handler)).await
    }

    /// The handlers of the configuration, in its order, and those that have left it with something pending or dead.
    pub async fn handlers(&self) -> Result<Vec<HandlerRow>, StoreError> {
        let shared = &self.0.sqlite.shared;
        let (standings, tally) = (shared.standings(), shared.tally());
        let configured: Vec<_> = self.0.terms.load().handlers.iter().map(|(_, id)| *id).collect();
        self.read(move |db| sqlite::list_handlers(db, &configured, &standings, &tally)).await
    }

    /// Pauses a handler, so that nothing is handed out to it, or has it go on. Attempts in hand end as they would; those
    /// that have not begun go back. Returns whether there is one of that name, in the configuration or not any more.
    pub async fn pause(&self, handler: String, paused: bool) -> Result<bool, StoreError> {
        self.write(0, Admission::Always, move |tx| sqlite::pause(tx, &handler, paused)).await
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.0.sqlite.bytes()
    }

    /// Forgets what is due to be forgotten, step by step so that callbacks need not wait. Returns how many events went.
    pub async fn prune(&self) -> Result<u64, StoreError> {
        self.catch_up().await;
        let settings = self.0.terms.load().settings.clone();
        let now = self.0.clock.now();
        let remember_since = now.minus(settings.dedup_window);
        let received_before = now.minus(settings.retention);
        while self.write(0, Admission::Always, move |tx| sqlite::drop_forgotten(tx, remember_since)).await? {}
        let mut pruned = 0;
        let mut after = 0;
        loop {
            let any_age = match settings.max_bytes {
                Some(max) => self.bytes_used().await?.saturating_sub(self.bytes_refused()) > max,
                None => false,
            };
            let pruning = Pruning { received_before, any_age, remember_since };
            let step = self.write(0, Admission::Always, move |tx| sqlite::prune_step(tx, pruning, after)).await?;
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
        let Some(run) = self.read(sqlite::read_run).await? else {
            return Ok(None);
        };
        let (events, behind) = run.len();
        // Whatever came in between, the next reading shows how things are then.
        self.write(0, Admission::Always, move |tx| sqlite::take_in(tx, &run)).await?;
        Ok(Some(Catalogued { events, behind }))
    }

    /// A page of streams, by name. What was stored before is in it, unless very much was stored just before.
    pub async fn streams(
        &self,
        filter: StreamFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<StreamRow>, StoreError> {
        let after = cursor.map(|cursor| sqlite::streams::parse_cursor(cursor).ok_or(StoreError::Cursor)).transpose()?;
        self.catch_up().await;
        self.read(move |db| sqlite::streams::list(db, &filter, limit, after.as_ref())).await
    }

    /// Everything about one stream; none if no push of it is known.
    pub async fn stream(&self, name: StreamName) -> Result<Option<StreamStory>, StoreError> {
        self.catch_up().await;
        self.read(move |db| sqlite::streams::story(db, &name)).await
    }

    /// Has all streams made anew from the events that are stored, step by step in
    /// [`rebuild_streams`](Self::rebuild_streams). Until they are, the former ones are shown.
    pub async fn begin_streams_rebuild(&self) -> Result<(), StoreError> {
        self.write(0, Admission::Always, sqlite::streams::begin_rebuild).await
    }

    /// How far streams are made anew; none when they are not.
    pub async fn streams_rebuild(&self) -> Result<Option<StreamsRebuild>, StoreError> {
        self.read(sqlite::streams::progress).await
    }

    /// Does a step of making streams anew. Returns whether there was anything to do.
    pub async fn rebuild_streams(&self) -> Result<bool, StoreError> {
        let Some(step) = self.read(sqlite::streams::read).await? else {
            return Ok(false);
        };
        self.write(0, Admission::Always, move |tx| sqlite::streams::rebuild_step(tx, &step)).await?;
        Ok(true)
    }

    /// Catalogues what is stored, within limits: on a store in trouble, or with very much to do, what is there must do.
    async fn catch_up(&self) {
        let caught_up = async {
            for _ in 0..CATCH_UP_RUNS {
                if !matches!(self.catalogue().await, Ok(Some(_))) {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(CATCH_UP_MAX, caught_up).await;
    }

    /// Completes when the thread that writes has died, which nothing it does should bring about.
    pub async fn died(&self) {
        self.0.sqlite.shared.died.cancelled().await;
    }

    /// Takes nothing more, writes what waits, and closes; what cannot be written in that time stays unwritten.
    pub async fn close(&self, patience: Duration) {
        self.0.queue.close();
        let inner = Arc::clone(&self.0);
        let _ = tokio::task::spawn_blocking(move || inner.sqlite.join(patience)).await;
    }

    /// Bytes of refused callbacks. They have bounds of their own, and strangers decide how many there are: they push out no
    /// event.
    fn bytes_refused(&self) -> u64 {
        let refused = self.0.sqlite.shared.tally().refused;
        let bytes: i64 = refused.values().map(|(count, bytes)| bytes + count * REFUSED_OVERHEAD).sum();
        u64::try_from(bytes).unwrap_or(0)
    }

    async fn bytes_used(&self) -> Result<u64, StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.sqlite.bytes_used()).await
    }

    async fn write<T: Send + fmt::Debug + 'static>(
        &self,
        bytes: usize,
        admission: Admission,
        work: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, outcome) = oneshot::channel();
        let job = Box::new(Write { bytes, work, done: None, reply });
        self.0.queue.push(job, admission).map_err(|refused| match refused {
            queue::Refused::Full => StoreError::Full,
            queue::Refused::Closed => StoreError::Closed,
        })?;
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        // Never closed, so there is always a permit to come.
        let _permit = self.0.readers.acquire().await;
        let inner = Arc::clone(&self.0);
        blocking(move || inner.sqlite.read(work)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(|error| StoreError::Unreadable(error.to_string())),
        Err(_) => Err(StoreError::Closed),
    }
}

fn named(handlers: &[String], ids: Vec<HandlerId>) -> Vec<(String, HandlerId)> {
    handlers.iter().cloned().zip(ids).collect()
}

fn parse_cursor(text: &str) -> Result<i64, StoreError> {
    text.parse().map_err(|_| StoreError::Cursor)
}

/// A write with somebody who waits for its outcome.
struct Write<T, F> {
    bytes: usize,
    work: F,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> fmt::Debug for Write<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send> Job for Write<T, F> {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.done = Some((self.work)(tx)?);
        Ok(())
    }

    fn finish(self: Box<Self>, failure: Option<String>) {
        let outcome = match (failure, self.done) {
            (Some(failure), _) => Err(StoreError::Refused(failure)),
            (None, Some(done)) => Ok(done),
            (None, None) => Err(StoreError::Closed),
        };
        // Whoever waited may have run out of patience; the write stands all the same.
        let _ = self.reply.send(outcome);
    }
}
