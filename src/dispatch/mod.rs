//! The second road: takes what is owed out of the store, has it delivered, and records what came of it. One worker per
//! handler; a slow, failing or panicking handler is nobody else's trouble. `dispatch` never sees a request.

pub mod retry;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::event::Event;
use crate::handler::{Handler, HandlerError, Policy};
use crate::store::{Claim, HandlerId, Settlement, Store};
use crate::telemetry::Metrics;

/// A handler with how it is to be treated.
#[derive(Clone)]
pub struct Subscriber {
    /// Which events it gets, and how they are brought to it.
    pub policy: Policy,
    /// What reacts to them.
    pub handler: Arc<dyn Handler>,
}

/// What all workers need.
#[derive(Clone)]
pub struct Dispatcher {
    /// Where deliveries come from.
    pub store: Store,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
}

/// Claims beyond those being attempted: what is being settled, and what is at hand when an attempt ends.
const AHEAD: usize = 256;
/// Bytes of bodies in hand above which no more are claimed.
const BYTES_IN_HAND_MAX: usize = 8 << 20;
/// The belt to the bell's braces.
const POLL: Duration = Duration::from_secs(5);

impl Dispatcher {
    /// Delivers to all subscribers until `stop`; then attempts in hand are settled, or given up `patience` later and
    /// left pending. Returns before `stop` only when a worker has died, which nothing it calls can bring about.
    pub async fn run(self, subscribers: Vec<Subscriber>, stop: CancellationToken, patience: Duration) {
        let mut workers = JoinSet::new();
        for subscriber in subscribers {
            let Some(id) = self.store.handler(&subscriber.policy.name) else {
                tracing::error!(handler = subscriber.policy.name, "the store does not know this handler");
                continue;
            };
            let worker = Worker::new(self.clone(), subscriber, id);
            workers.spawn(worker.run(stop.clone(), patience));
        }
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a handler's worker ended by itself");
                return;
            }
        }
        stop.cancelled().await;
    }
}

/// Brings one handler what is owed to it.
struct Worker {
    shared: Arc<Shared>,
    id: HandlerId,
    window: usize,
}

/// What a worker's attempts share.
struct Shared {
    dispatcher: Dispatcher,
    policy: Policy,
    handler: Arc<dyn Handler>,
    /// A permit for each attempt that may run.
    attempts: Semaphore,
    bytes_in_hand: AtomicUsize,
}

/// What a look into the store found.
struct Look {
    /// More is due than was taken.
    more: bool,
    next_due: Option<Timestamp>,
}

impl Worker {
    fn new(dispatcher: Dispatcher, subscriber: Subscriber, id: HandlerId) -> Self {
        let Subscriber { policy, handler } = subscriber;
        let (attempts, window) = (Semaphore::new(policy.concurrency), policy.concurrency + AHEAD);
        let shared = Shared { dispatcher, policy, handler, attempts, bytes_in_hand: AtomicUsize::new(0) };
        Self { shared: Arc::new(shared), id, window }
    }

    async fn run(self, stop: CancellationToken, patience: Duration) {
        let bell = self.shared.dispatcher.store.bell(self.id);
        let mut running = JoinSet::new();
        let mut next_due = None;
        let mut wanted = true;
        while !stop.is_cancelled() {
            if wanted && self.has_room(running.len()) {
                let look = tokio::select! {
                    look = self.look(&mut running) => look,
                    // A store that hangs must not hold up the end; what it hands out after all goes back.
                    () = stop.cancelled() => break,
                };
                (wanted, next_due) = (look.more, look.next_due);
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                // A ring that nobody listens for is kept for later. While there is no room, no news makes a difference.
                () = bell.notified(), if !wanted => wanted = true,
                () = self.due(next_due), if !wanted => wanted = true,
                Some(_) = running.join_next() => {}
            }
            while running.try_join_next().is_some() {}
        }
        self.finish(running, patience).await;
    }

    /// Whether there is room for more: not for every attempt that ends, but for a good part of the window.
    fn has_room(&self, running: usize) -> bool {
        let bytes = self.shared.bytes_in_hand.load(Ordering::Relaxed);
        running < self.window * 3 / 4 && (running == 0 || bytes < BYTES_IN_HAND_MAX)
    }

    async fn look(&self, running: &mut JoinSet<()>) -> Look {
        let limit = self.window - running.len();
        let claimed = self.shared.dispatcher.store.claim(self.id, limit).await;
        let now = self.shared.dispatcher.clock.now();
        let look = Look { more: claimed.next_due.is_some_and(|due| due <= now), next_due: claimed.next_due };
        for claim in claimed.claims {
            let counted = BytesInHand::new(&self.shared, claim.event.body.len());
            running.spawn(Arc::clone(&self.shared).handle(claim, counted));
        }
        look
    }

    /// Completes when something is due, or when it is time to look anyway.
    async fn due(&self, next: Option<Timestamp>) {
        let poll = tokio::time::sleep(POLL);
        match next {
            None => poll.await,
            Some(due) => tokio::select! {
                () = self.shared.dispatcher.clock.sleep_until(due) => {}
                () = poll => {}
            },
        }
    }

    async fn finish(&self, mut running: JoinSet<()>, patience: Duration) {
        // What waits for a permit has not begun and goes back.
        self.shared.attempts.close();
        let settled = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, settled).await.is_err() {
            let handler = &self.shared.policy.name;
            tracing::warn!(handler, attempts = running.len(), "attempts given up at the end; they stay pending");
        }
        running.shutdown().await;
    }
}

impl Shared {
    /// Makes an attempt and records what came of it.
    async fn handle(self: Arc<Self>, claim: Claim, _counted: BytesInHand) {
        let Ok(permit) = self.attempts.acquire().await else {
            return;
        };
        if claim.is_called_off() {
            return;
        }
        let outcome = self.attempt(&claim.event, claim.attempt).await;
        drop(permit);
        let Dispatcher { store, clock, .. } = &self.dispatcher;
        let settlement = retry::decide(self.policy.retry, claim.attempt, outcome, clock.now(), fastrand::f64());
        self.note(&claim, &settlement);
        if let Err(error) = store.settle(claim, settlement).await {
            tracing::error!(handler = self.policy.name, %error, "an attempt was made and is not recorded; it will be repeated");
        }
    }

    async fn attempt(&self, event: &Event, attempt: u32) -> Result<(), HandlerError> {
        let timer = Instant::now();
        // In an async block, so that a panic before the first await is caught too.
        let delivery = AssertUnwindSafe(async { self.handler.deliver(event).await }).catch_unwind();
        let outcome = match tokio::time::timeout(self.policy.timeout, delivery).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(HandlerError::transient("the handler panicked")),
            Err(_) => Err(HandlerError::transient(format!("no result within {:?}", self.policy.timeout))),
        };
        let duration = timer.elapsed();
        let name = self.policy.name.as_str();
        self.dispatcher.metrics.handler_duration_seconds.with_label_values(&[name]).observe(duration.as_secs_f64());
        tracing::debug!(handler = name, id = %event.id, attempt, ?duration, ok = outcome.is_ok(), "attempt");
        outcome
    }

    fn note(&self, claim: &Claim, settlement: &Settlement) {
        let (name, id, attempt) = (self.policy.name.as_str(), claim.event.id, claim.attempt);
        let outcome = match settlement {
            Settlement::Done => "done",
            Settlement::Retry { due, error } => {
                tracing::warn!(handler = name, %id, attempt, error, again_at = %due, "attempt failed");
                "retry"
            }
            Settlement::Dead { error, .. } => {
                tracing::error!(handler = name, %id, attempt, error, "delivery is dead");
                "dead"
            }
        };
        self.dispatcher.metrics.handler_attempts_total.with_label_values(&[name, outcome]).inc();
    }
}

/// Counts bytes for as long as it lives.
struct BytesInHand(Arc<Shared>, usize);

impl BytesInHand {
    fn new(shared: &Arc<Shared>, bytes: usize) -> Self {
        shared.bytes_in_hand.fetch_add(bytes, Ordering::Relaxed);
        Self(Arc::clone(shared), bytes)
    }
}

impl Drop for BytesInHand {
    fn drop(&mut self) {
        self.0.bytes_in_hand.fetch_sub(self.1, Ordering::Relaxed);
    }
}
