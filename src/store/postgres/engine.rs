//! What the facade asks of the shared store: writes through the queue to the thread that writes, reads on connections of
//! their own. Connections live in runtimes of their own, so that the store can be opened and closed from anywhere, as a
//! file can.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::super::bells::Bells;
use super::super::counted::Counted;
use super::super::health::{Complaints, Health};
use super::super::model::{
    Appended, Catalogued, Claim, ClaimKey, Claimed, Delivery, DeliveryFilter, DeliveryState, EventFilter, EventRow,
    HandlerId, HandlerRow, NewEvent, NewRefused, Owed, Page, Pruned, Pruning, QuarantineFilter, Quarantined,
    Settlement, Stats, Stored, StreamFilter, StreamRow, StreamStory, StreamsRebuild, Verdict, Waiting,
};
use super::super::queue::{Admission, ClaimRequest, EVENT_OVERHEAD, Queue, Refused};
use super::super::replays::{Replay, ReplayId, ReplayState, Wish};
use super::super::settings::Settings;
use super::super::{Decided, OpenError, StoreError};
use super::background::Background;
use super::connect::{Place, Use, said};
use super::jobs::{Append, Job, Settle, Write};
use super::locks::{Lock, wait_for};
use super::tx::Tx;
use super::writer::{Desk, Writer};
use super::{
    Shared, catalogue, deliveries, events, handlers, listen, look, prune, quarantine, replays, schema, select,
    standing, streams,
};
use crate::clock::{Clock, Timestamp};
use crate::event::{EventId, Kind};
use crate::streams::StreamName;

type Result<T> = std::result::Result<T, StoreError>;

/// An open shared store with the way to its writer.
#[derive(Debug)]
pub(in crate::store) struct Engine {
    queue: Arc<Queue<Job>>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    pool: PgPool,
    writer: Mutex<Option<JoinHandle<()>>>,
    listener: Mutex<Option<AbortOnDropHandle<()>>>,
    /// Where connections live that read.
    readers: Mutex<Background>,
}

/// How long a connection may take to be made at the start: whoever starts again and again asks no busy server less.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// Reads at the same time; each has a connection of its own. One more listens.
const READERS_MAX: u32 = 4;
/// Threads that serve them.
const READER_THREADS: usize = 2;
/// How long a read may wait for a connection, and then take. The server gives a statement up before.
const READ_MAX: Duration = Duration::from_secs(65);
/// How long a connection to read may take to come.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);

impl Drop for Engine {
    /// Whoever forgot to close leaves nothing behind but what the writer has in hand.
    fn drop(&mut self) {
        self.queue.close();
        self.end_readers();
    }
}

impl Engine {
    /// Opens or creates the store. Returns the numbers of the handlers. Blocks until the server has answered.
    pub(in crate::store) fn open(
        settings: &Settings,
        names: &[String],
        stall: Duration,
        clock: Arc<dyn Clock>,
    ) -> std::result::Result<(Self, Vec<HandlerId>), OpenError> {
        let place = Place::of(&settings.url).map_err(|fault| OpenError::Unfit(format!("its URL {fault}")))?;
        let runtime = |error| OpenError::Unfit(format!("no thread can be started: {error}"));
        let own = Background::new(Builder::new_current_thread().enable_all().build().map_err(runtime)?);
        // Not on this thread, which may serve a runtime itself.
        let opened = std::thread::scope(|scope| scope.spawn(|| own.block_on(prepare(&place, names))).join());
        let Ok(Some(opened)) = opened else {
            return Err(OpenError::Unfit("opening it panicked".to_owned()));
        };
        let Opened { db, ids, counted, bytes } = opened?;
        let queue = Arc::new(Queue::new(settings.queue_count, settings.queue_bytes));
        let shared = Arc::new(Shared {
            health: Health::new(stall),
            counted: Mutex::new(counted),
            bounds: Mutex::new(settings.quarantine),
            bells: Bells::default(),
            replica: AtomicI64::new(0),
            bytes: AtomicU64::new(bytes),
            died: CancellationToken::new(),
        });
        shared.bells.hang(&ids);
        let readers = Builder::new_multi_thread()
            .worker_threads(READER_THREADS)
            .thread_name("store-reader")
            .enable_all()
            .build()
            .map_err(runtime)?;
        let handle = readers.handle().clone();
        let readers = Background::new(readers);
        let pool = {
            let _inside = handle.enter();
            PgPoolOptions::new()
                .max_connections(READERS_MAX + 1)
                .acquire_timeout(ACQUIRE_MAX)
                .connect_lazy_with(place.options(Use::Reading))
        };
        let listening = listen::listen(pool.clone(), place.schema.clone(), Arc::clone(&shared), Arc::clone(&queue));
        let listener = AbortOnDropHandle::new(handle.spawn(listening));
        let desk = Desk::new(place, Arc::clone(&queue), Arc::clone(&shared), Arc::clone(&clock), db);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(guarded(
                Writer { runtime: own, desk, complaints: Complaints::default() },
                Arc::clone(&queue),
                Arc::clone(&shared),
            ))
            .map_err(runtime)?;
        let engine = Self {
            queue,
            shared,
            clock,
            pool,
            writer: Mutex::new(Some(writer)),
            listener: Mutex::new(Some(listener)),
            readers: Mutex::new(readers),
        };
        Ok((engine, ids))
    }

    /// Gives each of these handlers a number, or finds the one it has.
    pub(in crate::store) async fn register(&self, names: Vec<String>) -> Result<Vec<HandlerId>> {
        self.book(move |tx| {
            let names = names.clone();
            Box::pin(async move { handlers::register(&mut tx.db, &names).await })
        })
        .await
    }

    /// Works by other settings and for these handlers from now on.
    pub(in crate::store) fn reconfigure(&self, settings: &Settings, handlers: &[HandlerId], stall: Duration) {
        self.shared.bells.hang(handlers);
        self.shared.set_bounds(settings.quarantine);
        self.shared.health.set_stall(stall);
        self.queue.resize(settings.queue_count, settings.queue_bytes);
    }

    pub(in crate::store) fn bell(&self, handler: HandlerId) -> Arc<Notify> {
        self.shared.bells.of(handler)
    }

    pub(in crate::store) async fn append(&self, new: NewEvent) -> Result<Appended> {
        let (reply, outcome) = oneshot::channel();
        self.push(Job::Append(Append { new, uncertain: false, done: None, reply }), Admission::Bounded, outcome).await
    }

    /// Keeps a refused callback, or, with `unless_known`, makes sure that it is kept. Returns whether it is new.
    pub(in crate::store) async fn refuse(&self, new: NewRefused, unless_known: bool) -> Result<bool> {
        let bytes = new.body.len() + EVENT_OVERHEAD;
        let admission = if unless_known { Admission::Bounded } else { Admission::Half };
        let new = Arc::new(new);
        self.write(bytes, admission, move |tx| {
            let new = Arc::clone(&new);
            Box::pin(async move { quarantine::keep(tx, &new, unless_known).await })
        })
        .await
    }

    pub(in crate::store) async fn claim(&self, handler: HandlerId, limit: usize) -> Claimed {
        let (reply, claimed) = oneshot::channel();
        self.queue.claim(ClaimRequest { handler, now: self.clock.now(), limit, reply });
        claimed.await.unwrap_or_default()
    }

    pub(in crate::store) async fn settle(&self, claim: Claim, settlement: Settlement) -> Result<()> {
        let holder = claim.holder;
        let key = claim.into_key();
        let (reply, outcome) = oneshot::channel();
        let settled =
            self.push(Job::Settle(Settle { key, settlement, holder, reply }), Admission::Always, outcome).await;
        if settled.is_err() && self.shared.replica.load(Ordering::Relaxed) == holder {
            // Nothing says that the attempt was made, so it is made again.
            self.queue.release(key);
        }
        settled
    }

    pub(in crate::store) async fn judge(&self, id: EventId, handler: String, verdict: Verdict) -> Result<Decided> {
        self.book(move |tx| {
            let handler = handler.clone();
            Box::pin(async move { deliveries::judge(tx, id, &handler, verdict).await })
        })
        .await
    }

    /// Deliveries that a filter matches and that are not done, behind a place.
    pub(in crate::store) async fn undone(
        &self,
        filter: DeliveryFilter,
        after: Option<ClaimKey>,
        limit: usize,
    ) -> Result<Vec<ClaimKey>> {
        self.read(move |db| Box::pin(async move { deliveries::undone(db, &filter, after, limit).await })).await
    }

    pub(in crate::store) async fn judge_all(
        &self,
        keys: Vec<ClaimKey>,
        state: Option<DeliveryState>,
        verdict: Verdict,
    ) -> Result<u64> {
        self.book(move |tx| {
            let keys = keys.clone();
            Box::pin(async move { deliveries::judge_all(tx, &keys, state, verdict).await })
        })
        .await
    }

    pub(in crate::store) async fn events(
        &self,
        filter: EventFilter,
        limit: usize,
        before: Option<i64>,
    ) -> Result<Page<EventRow>> {
        self.read(move |db| Box::pin(async move { select::list(db, &filter, limit, before).await })).await
    }

    pub(in crate::store) async fn stats(&self, now: Timestamp, step_seconds: i64, steps: usize) -> Result<Stats> {
        self.read(move |db| Box::pin(catalogue::stats(db, now, step_seconds, steps))).await
    }

    pub(in crate::store) async fn latest(&self) -> Result<Vec<(Kind, Timestamp)>> {
        self.read(|db| Box::pin(catalogue::latest(db))).await
    }

    pub(in crate::store) fn waiting(&self) -> Waiting {
        self.queue.waiting()
    }

    pub(in crate::store) async fn event(&self, id: EventId) -> Result<Option<Stored>> {
        self.read(move |db| Box::pin(events::find(db, id))).await
    }

    pub(in crate::store) async fn deliveries(
        &self,
        filter: DeliveryFilter,
        limit: usize,
        before: Option<(i64, i64)>,
    ) -> Result<Page<Delivery>> {
        self.read(move |db| Box::pin(async move { deliveries::list(db, &filter, limit, before).await })).await
    }

    pub(in crate::store) async fn quarantine(
        &self,
        filter: QuarantineFilter,
        limit: usize,
        before: Option<i64>,
    ) -> Result<Page<Quarantined>> {
        self.read(move |db| Box::pin(quarantine::list(db, filter, limit, before))).await
    }

    pub(in crate::store) async fn refused(&self, id: i64) -> Result<Option<(Quarantined, Bytes)>> {
        self.read(move |db| Box::pin(quarantine::find(db, id))).await
    }

    pub(in crate::store) fn trouble(&self, stall: Duration) -> Option<String> {
        self.shared.health.trouble().or_else(|| self.queue.trouble(stall))
    }

    /// How much there is, as of the last commit.
    pub(in crate::store) fn counted(&self) -> Counted {
        self.shared.counted()
    }

    pub(in crate::store) async fn handlers(&self, configured: Vec<HandlerId>) -> Result<Vec<HandlerRow>> {
        self.read(move |db| Box::pin(async move { standing::list(db, &configured).await })).await
    }

    pub(in crate::store) async fn pause(&self, handler: String, paused: bool) -> Result<bool> {
        self.book(move |tx| {
            let handler = handler.clone();
            Box::pin(async move { handlers::pause(tx, &handler, paused).await })
        })
        .await
    }

    pub(in crate::store) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Bytes in use: what pruning can make smaller.
    pub(in crate::store) async fn bytes_used(&self) -> Result<u64> {
        let events = self.read(|db| Box::pin(prune::bytes_used(db))).await?;
        Ok(events + self.shared.counted().refused_bytes_taken())
    }

    /// Drops some identities of events that were pruned and received before a moment. Returns whether there may be more.
    pub(in crate::store) async fn drop_forgotten(&self, before: Timestamp) -> Result<bool> {
        self.aside(Lock::Catalogue, move |db| Box::pin(prune::drop_forgotten(db, before))).await
    }

    pub(in crate::store) async fn prune_step(&self, pruning: Pruning, after: i64) -> Result<Pruned> {
        let pruned = self.aside(Lock::Catalogue, move |db| Box::pin(prune::step(db, pruning, after))).await?;
        if pruned.events > 0 {
            self.look().await?;
        }
        Ok(pruned)
    }

    pub(in crate::store) async fn catalogue(&self) -> Result<Option<Catalogued>> {
        let catalogued = self.aside(Lock::Catalogue, |db| Box::pin(catalogue::run(db))).await?;
        if catalogued.is_some() {
            self.look().await?;
        }
        Ok(catalogued)
    }

    pub(in crate::store) async fn streams(
        &self,
        filter: StreamFilter,
        limit: usize,
        after: Option<StreamName>,
    ) -> Result<Page<StreamRow>> {
        self.read(move |db| Box::pin(async move { streams::list(db, &filter, limit, after.as_ref()).await })).await
    }

    pub(in crate::store) async fn stream(&self, name: StreamName) -> Result<Option<StreamStory>> {
        self.read(move |db| Box::pin(async move { streams::story(db, &name).await })).await
    }

    pub(in crate::store) async fn begin_streams_rebuild(&self) -> Result<StreamsRebuild> {
        self.aside(Lock::Catalogue, |db| Box::pin(streams::begin_rebuild(db))).await
    }

    pub(in crate::store) async fn streams_rebuild(&self) -> Result<Option<StreamsRebuild>> {
        self.read(|db| Box::pin(streams::progress(db))).await
    }

    pub(in crate::store) async fn rebuild_streams(&self) -> Result<bool> {
        let any = self.aside(Lock::Catalogue, |db| Box::pin(streams::rebuild_step(db))).await?;
        if any {
            self.look().await?;
        }
        Ok(any)
    }

    pub(in crate::store) async fn begin_replay(&self, wish: Wish, matched: u64, last: i64) -> Result<Option<Replay>> {
        self.book(move |tx| {
            let wish = wish.clone();
            Box::pin(async move { replays::begin(tx, &wish, matched, last).await })
        })
        .await
    }

    pub(in crate::store) async fn replay(&self, id: ReplayId, events: Vec<(EventRow, Vec<Owed>)>) -> Result<bool> {
        let events = Arc::new(events);
        self.book(move |tx| {
            let events = Arc::clone(&events);
            Box::pin(async move { replays::step(tx, id, &events).await })
        })
        .await
    }

    pub(in crate::store) async fn end_replay(
        &self,
        id: ReplayId,
        state: ReplayState,
        detail: Option<String>,
    ) -> Result<Option<Replay>> {
        self.book(move |tx| {
            let detail = detail.clone();
            Box::pin(async move { replays::end(tx, id, state, detail.as_deref()).await })
        })
        .await
    }

    pub(in crate::store) async fn replays(&self) -> Result<Vec<Replay>> {
        self.read(|db| Box::pin(replays::list(db))).await
    }

    pub(in crate::store) async fn find_replay(&self, id: ReplayId) -> Result<Option<Replay>> {
        self.read(move |db| Box::pin(replays::find(db, id))).await
    }

    /// Completes when the thread that writes has died.
    pub(in crate::store) async fn died(&self) {
        self.shared.died.cancelled().await;
    }

    /// Waits for the writer, which writes what waits and gives back what it holds.
    pub(in crate::store) async fn close(&self, patience: Duration) {
        self.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let joined = tokio::task::spawn_blocking(move || writer.is_none_or(|writer| join(writer, patience))).await;
        if !matches!(joined, Ok(true)) {
            tracing::error!("the store's writer did not stop in time and is left behind");
        }
        drop(self.listener.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.end_readers();
    }

    fn end_readers(&self) {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).end();
    }

    /// Has the writer look at what others did, and returns when it has.
    async fn look(&self) -> Result<()> {
        self.book(|tx| {
            tx.effects.look = true;
            Box::pin(async { Ok(()) })
        })
        .await
    }

    /// Our own bookkeeping: always taken.
    async fn book<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + fmt::Debug + 'static,
        F: for<'t> FnMut(&'t mut Tx) -> BoxFuture<'t, sqlx::Result<T>> + Send + 'static,
    {
        self.write(0, Admission::Always, work).await
    }

    async fn write<T, F>(&self, bytes: usize, admission: Admission, work: F) -> Result<T>
    where
        T: Send + fmt::Debug + 'static,
        F: for<'t> FnMut(&'t mut Tx) -> BoxFuture<'t, sqlx::Result<T>> + Send + 'static,
    {
        let (reply, outcome) = oneshot::channel();
        self.push(Job::Work(Box::new(Write::new(bytes, work, reply))), admission, outcome).await
    }

    async fn push<T>(&self, job: Job, admission: Admission, outcome: oneshot::Receiver<Result<T>>) -> Result<T> {
        self.queue.push(job, admission).map_err(|refused| match refused {
            Refused::Full => StoreError::Full,
            Refused::Closed => StoreError::Closed,
        })?;
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send + 'static,
    {
        self.run(|mut db| async move { work(&mut db).await }).await
    }

    /// A transaction beside the writer, once it is its turn.
    async fn aside<T, F>(&self, lock: Lock, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send + 'static,
    {
        self.run(move |mut db| async move {
            let mut tx = db.begin().await?;
            wait_for(&mut tx, lock).await?;
            let done = work(&mut tx).await?;
            tx.commit().await?;
            Ok(done)
        })
        .await
    }

    /// Runs on a connection of the readers, in their runtime. It ends with whoever waits for it.
    async fn run<T, W>(&self, work: impl FnOnce(PoolConnection<Postgres>) -> W + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = sqlx::Result<T>> + Send,
    {
        let pool = self.pool.clone();
        let running = async move { work(pool.acquire().await?).await };
        let running = tokio::time::timeout(READ_MAX, running);
        let handle = match self.readers.lock().unwrap_or_else(PoisonError::into_inner).handle() {
            Some(readers) => AbortOnDropHandle::new(readers.spawn(running)),
            None => return Err(StoreError::Closed),
        };
        match handle.await {
            Ok(Ok(outcome)) => outcome.map_err(|error| StoreError::Unreadable(said(&error))),
            Ok(Err(_)) => Err(StoreError::Unreadable("PostgreSQL did not answer in time".to_owned())),
            Err(error) if error.is_panic() => Err(StoreError::Unreadable("reading it panicked".to_owned())),
            Err(_) => Err(StoreError::Closed),
        }
    }
}

/// A store that is ready to be written.
struct Opened {
    db: PgConnection,
    ids: Vec<HandlerId>,
    counted: Counted,
    bytes: u64,
}

async fn prepare(place: &Place, names: &[String]) -> std::result::Result<Opened, OpenError> {
    let mut db = place.connect(Use::Opening, OPEN_MAX).await?;
    place.inspect(&mut db).await?;
    schema::migrate(&mut db, &place.schema).await?;
    let ids = handlers::register(&mut db, names).await?;
    let counted = look::look(&mut db, 0).await?.counted;
    let bytes = look::measure(&mut db, &place.schema).await?;
    db.close().await?;
    Ok(Opened { db: place.connect(Use::Writing, OPEN_MAX).await?, ids, counted, bytes })
}

/// The writer's thread. Should it panic, whoever waits is told, and the store counts as dead.
fn guarded(writer: Writer, queue: Arc<Queue<Job>>, shared: Arc<Shared>) -> impl FnOnce() + Send {
    move || {
        if catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
            const WHY: &str = "the thread that writes has died";
            queue.close();
            shared.health.end(Some(WHY.to_owned()));
            for job in queue.abandon() {
                job.finish(Some(WHY.to_owned()));
            }
            shared.died.cancel();
        }
    }
}

/// Returns whether the thread ended in that time.
fn join(thread: JoinHandle<()>, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while !thread.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    thread.is_finished() && thread.join().is_ok()
}
