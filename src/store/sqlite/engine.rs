//! What the facade asks of the embedded store: writes through the queue to the one thread that writes, reads on
//! connections of their own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::super::counted::Counted;
use super::super::model::{
    Appended, Catalogued, Claim, ClaimKey, Claimed, Delivery, DeliveryFilter, DeliveryState, EventFilter, EventRow,
    HandlerId, HandlerRow, NewEvent, NewRefused, Owed, Page, Pruned, Pruning, QuarantineFilter, Quarantined,
    Settlement, Stats, Stored, StreamFilter, StreamRow, StreamStory, StreamsRebuild, Verdict, Waiting,
};
use super::super::queue::{Admission, ClaimRequest, EVENT_OVERHEAD, Load, Queue, Refused};
use super::super::replays::{Replay, ReplayId, ReplayState, Wish};
use super::super::settings::Settings;
use super::super::{Decided, OpenError, StoreError};
use super::writer::Job;
use super::{Opening, Sqlite, Tx, catalogue, deliveries, events, handlers, prune, quarantine, replays, streams};
use crate::clock::{Clock, Timestamp};
use crate::event::{EventId, Kind};
use crate::streams::StreamName;

type Result<T> = std::result::Result<T, StoreError>;

/// An open embedded store with the way to its writer.
#[derive(Debug)]
pub(in crate::store) struct Engine {
    queue: Arc<Queue<Box<dyn Job>>>,
    sqlite: Arc<Sqlite>,
    clock: Arc<dyn Clock>,
    readers: Semaphore,
}

/// Reads at the same time; each has a connection of its own, with a cache.
const READERS_MAX: usize = 4;

impl Drop for Engine {
    /// Whoever forgot to close leaves no threads behind.
    fn drop(&mut self) {
        self.queue.close();
        self.sqlite.stop();
    }
}

impl Engine {
    /// Opens or creates the store. Returns the numbers of the handlers.
    pub(in crate::store) fn open(
        settings: &Settings,
        names: &[String],
        stall: Duration,
        clock: Arc<dyn Clock>,
    ) -> std::result::Result<(Self, Vec<HandlerId>), OpenError> {
        let queue = Arc::new(Queue::new(settings.queue_count, settings.queue_bytes));
        let opening = Opening { url: &settings.url, bounds: settings.quarantine, handlers: names, stall };
        let (sqlite, ids) = Sqlite::open(&opening, &queue, Arc::clone(&clock))?;
        let readers = Semaphore::new(READERS_MAX);
        Ok((Self { queue, sqlite: Arc::new(sqlite), clock, readers }, ids))
    }

    /// Gives each of these handlers a number, or finds the one it has.
    pub(in crate::store) async fn register(&self, names: Vec<String>) -> Result<Vec<HandlerId>> {
        self.book(move |tx| super::register_all(tx, &names)).await
    }

    /// Works by other settings and for these handlers from now on.
    pub(in crate::store) fn reconfigure(&self, settings: &Settings, handlers: &[HandlerId], stall: Duration) {
        self.sqlite.shared.bells.hang(handlers);
        self.sqlite.shared.reconfigure(settings.quarantine, stall);
        self.queue.resize(settings.queue_count, settings.queue_bytes);
    }

    pub(in crate::store) fn bell(&self, handler: HandlerId) -> Arc<Notify> {
        self.sqlite.shared.bells.of(handler)
    }

    pub(in crate::store) async fn append(&self, new: NewEvent) -> Result<Appended> {
        let bytes = new.event.body.len() + EVENT_OVERHEAD;
        self.write(bytes, Admission::Bounded, move |tx| events::append(tx, &new)).await
    }

    /// Keeps a refused callback, or, with `unless_known`, makes sure that it is kept. Returns whether it is new.
    pub(in crate::store) async fn refuse(&self, new: NewRefused, unless_known: bool) -> Result<bool> {
        let bytes = new.body.len() + EVENT_OVERHEAD;
        let admission = if unless_known { Admission::Bounded } else { Admission::Half };
        self.write(bytes, admission, move |tx| quarantine::keep(tx, &new, unless_known)).await
    }

    pub(in crate::store) async fn claim(&self, handler: HandlerId, limit: usize) -> Claimed {
        let (reply, claimed) = oneshot::channel();
        self.queue.claim(ClaimRequest { handler, now: self.clock.now(), limit, reply });
        claimed.await.unwrap_or_default()
    }

    pub(in crate::store) async fn settle(&self, claim: Claim, settlement: Settlement) -> Result<()> {
        let key = claim.into_key();
        let settled = self.book(move |tx| deliveries::settle(tx, key, &settlement)).await;
        if settled.is_err() {
            // Nothing says that the attempt was made, so it is made again.
            self.queue.release(key);
        }
        settled
    }

    pub(in crate::store) async fn judge(&self, id: EventId, handler: String, verdict: Verdict) -> Result<Decided> {
        self.book(move |tx| deliveries::judge(tx, id, &handler, verdict)).await
    }

    /// Deliveries that a filter matches and that are not done, behind a place.
    pub(in crate::store) async fn undone(
        &self,
        filter: DeliveryFilter,
        after: Option<ClaimKey>,
        limit: usize,
    ) -> Result<Vec<ClaimKey>> {
        self.read(move |db| deliveries::undone(db, &filter, after, limit)).await
    }

    pub(in crate::store) async fn judge_all(
        &self,
        keys: Vec<ClaimKey>,
        state: Option<DeliveryState>,
        verdict: Verdict,
    ) -> Result<u64> {
        self.book(move |tx| deliveries::judge_all(tx, &keys, state, verdict)).await
    }

    pub(in crate::store) async fn events(
        &self,
        filter: EventFilter,
        limit: usize,
        before: Option<i64>,
    ) -> Result<Page<EventRow>> {
        self.read(move |db| catalogue::list(db, &filter, limit, before)).await
    }

    pub(in crate::store) async fn stats(&self, now: Timestamp, step_seconds: i64, steps: usize) -> Result<Stats> {
        self.read(move |db| catalogue::stats(db, now, step_seconds, steps)).await
    }

    pub(in crate::store) async fn latest(&self) -> Result<Vec<(Kind, Timestamp)>> {
        self.read(catalogue::latest).await
    }

    pub(in crate::store) fn waiting(&self) -> Waiting {
        self.queue.waiting()
    }

    pub(in crate::store) async fn event(&self, id: EventId) -> Result<Option<Stored>> {
        self.read(move |db| events::find(db, id)).await
    }

    pub(in crate::store) async fn deliveries(
        &self,
        filter: DeliveryFilter,
        limit: usize,
        before: Option<(i64, i64)>,
    ) -> Result<Page<Delivery>> {
        self.read(move |db| deliveries::list(db, &filter, limit, before)).await
    }

    pub(in crate::store) async fn quarantine(
        &self,
        filter: QuarantineFilter,
        limit: usize,
        before: Option<i64>,
    ) -> Result<Page<Quarantined>> {
        self.read(move |db| quarantine::list(db, filter, limit, before)).await
    }

    pub(in crate::store) async fn refused(&self, id: i64) -> Result<Option<(Quarantined, Bytes)>> {
        self.read(move |db| quarantine::find(db, id)).await
    }

    pub(in crate::store) fn trouble(&self, stall: Duration) -> Option<String> {
        self.sqlite.shared.trouble().or_else(|| self.queue.trouble(stall))
    }

    /// How much there is, as of the last commit.
    pub(in crate::store) fn counted(&self) -> Counted {
        self.sqlite.shared.counted()
    }

    pub(in crate::store) async fn handlers(&self, configured: Vec<HandlerId>) -> Result<Vec<HandlerRow>> {
        let (standings, counted) = (self.sqlite.shared.standings(), self.sqlite.shared.counted());
        self.read(move |db| handlers::list(db, &configured, &standings, &counted)).await
    }

    pub(in crate::store) async fn pause(&self, handler: String, paused: bool) -> Result<bool> {
        self.book(move |tx| handlers::pause(tx, &handler, paused)).await
    }

    pub(in crate::store) fn bytes(&self) -> u64 {
        self.sqlite.bytes()
    }

    /// Bytes in use: what pruning can make smaller.
    pub(in crate::store) async fn bytes_used(&self) -> Result<u64> {
        let sqlite = Arc::clone(&self.sqlite);
        blocking(move || sqlite.bytes_used()).await
    }

    /// Drops some identities of events that were pruned and received before a moment. Returns whether there may be more.
    pub(in crate::store) async fn drop_forgotten(&self, before: Timestamp) -> Result<bool> {
        self.book(move |tx| prune::drop_forgotten(tx, before)).await
    }

    pub(in crate::store) async fn prune_step(&self, pruning: Pruning, after: i64) -> Result<Pruned> {
        self.book(move |tx| prune::step(tx, pruning, after)).await
    }

    pub(in crate::store) async fn catalogue(&self) -> Result<Option<Catalogued>> {
        let Some(run) = self.next_run().await? else {
            return Ok(None);
        };
        let (events, behind) = run.len();
        // Whatever came in between, the next reading shows how things are then.
        self.take_in(run).await?;
        Ok(Some(Catalogued { events, behind }))
    }

    /// What is to be catalogued next.
    pub(in crate::store) async fn next_run(&self) -> Result<Option<catalogue::Run>> {
        self.read(catalogue::read).await
    }

    /// Catalogues a run, unless it is out of date.
    pub(in crate::store) async fn take_in(&self, run: catalogue::Run) -> Result<bool> {
        self.book(move |tx| catalogue::take_in(tx, &run)).await
    }

    pub(in crate::store) async fn streams(
        &self,
        filter: StreamFilter,
        limit: usize,
        after: Option<StreamName>,
    ) -> Result<Page<StreamRow>> {
        self.read(move |db| streams::list(db, &filter, limit, after.as_ref())).await
    }

    pub(in crate::store) async fn stream(&self, name: StreamName) -> Result<Option<StreamStory>> {
        self.read(move |db| streams::story(db, &name)).await
    }

    pub(in crate::store) async fn begin_streams_rebuild(&self) -> Result<StreamsRebuild> {
        self.book(streams::begin_rebuild).await
    }

    pub(in crate::store) async fn streams_rebuild(&self) -> Result<Option<StreamsRebuild>> {
        self.read(streams::progress).await
    }

    pub(in crate::store) async fn rebuild_streams(&self) -> Result<bool> {
        let Some(step) = self.read(streams::read).await? else {
            return Ok(false);
        };
        self.book(move |tx| streams::rebuild_step(tx, &step)).await?;
        Ok(true)
    }

    pub(in crate::store) async fn begin_replay(&self, wish: Wish, matched: u64, last: i64) -> Result<Option<Replay>> {
        self.book(move |tx| replays::begin(tx, &wish, matched, last)).await
    }

    pub(in crate::store) async fn replay(&self, id: ReplayId, events: Vec<(EventRow, Vec<Owed>)>) -> Result<bool> {
        self.book(move |tx| replays::step(tx, id, &events)).await
    }

    pub(in crate::store) async fn end_replay(
        &self,
        id: ReplayId,
        state: ReplayState,
        detail: Option<String>,
    ) -> Result<Option<Replay>> {
        self.book(move |tx| replays::end(tx, id, state, detail.as_deref())).await
    }

    pub(in crate::store) async fn replays(&self) -> Result<Vec<Replay>> {
        self.read(replays::list).await
    }

    pub(in crate::store) async fn find_replay(&self, id: ReplayId) -> Result<Option<Replay>> {
        self.read(move |db| replays::find(db, id)).await
    }

    /// Completes when the thread that writes has died.
    pub(in crate::store) async fn died(&self) {
        self.sqlite.shared.died.cancelled().await;
    }

    pub(in crate::store) async fn close(&self, patience: Duration) {
        self.queue.close();
        let sqlite = Arc::clone(&self.sqlite);
        let _ = tokio::task::spawn_blocking(move || sqlite.join(patience)).await;
    }

    /// Our own bookkeeping: always taken.
    async fn book<T: Send + fmt::Debug + 'static>(
        &self,
        work: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.write(0, Admission::Always, work).await
    }

    async fn write<T: Send + fmt::Debug + 'static>(
        &self,
        bytes: usize,
        admission: Admission,
        work: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, outcome) = oneshot::channel();
        let job = Box::new(Write { bytes, work, done: None, reply });
        self.queue.push(job, admission).map_err(|refused| match refused {
            Refused::Full => StoreError::Full,
            Refused::Closed => StoreError::Closed,
        })?;
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        // Never closed, so there is always a permit to come.
        let _permit = self.readers.acquire().await;
        let sqlite = Arc::clone(&self.sqlite);
        blocking(move || sqlite.read(work)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(|error| StoreError::Unreadable(error.to_string())),
        Err(error) if error.is_panic() => Err(StoreError::Unreadable("reading it panicked".to_owned())),
        Err(_) => Err(StoreError::Closed),
    }
}

/// A write with somebody who waits for its outcome.
struct Write<T, F> {
    bytes: usize,
    work: F,
    done: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> fmt::Debug for Write<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<T, F> Load for Write<T, F> {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send> Job for Write<T, F> {
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
