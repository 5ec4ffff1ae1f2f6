//! The second road: takes what is owed out of the store, has it delivered, and records what came of it. One worker per
//! handler; a slow, failing or panicking handler is nobody else's trouble. `dispatch` never sees a request.
//!
//! Handlers may come, change and go meanwhile. A worker goes on when its handler changes: attempts in hand end as they
//! began, the next ones are made by the new one. That nothing is claimed of a stream while an attempt of it is in hand is
//! the store's promise, whoever holds the claim, so the order of a stream survives every change.

pub mod retry;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::event::Event;
use crate::handler::{Handler, HandlerError, Policy};
use crate::store::{Claim, HandlerId, Settlement, Store};
use crate::telemetry::traces::{Place, Role, Span, Traces};
use crate::telemetry::{Metrics, Repeats, SUMMARY_EVERY};

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
    /// Where spans of attempts go.
    pub traces: Traces,
}

/// Claims beyond those being attempted: what is being settled, and what is at hand when an attempt ends.
const AHEAD: usize = 256;
/// Bytes of bodies in hand above which no more are claimed.
const BYTES_IN_HAND_MAX: usize = 8 << 20;
/// The belt to the bell's braces.
const POLL: Duration = Duration::from_secs(5);

impl Dispatcher {
    /// Delivers to whoever is subscribed at the time, until `stop`; then attempts in hand are settled, or given up
    /// `patience` later and left pending. Returns before `stop` only when a worker has died, which nothing it calls can
    /// bring about.
    pub async fn run(
        self,
        mut subscribers: watch::Receiver<Vec<Subscriber>>,
        stop: CancellationToken,
        patience: Duration,
    ) {
        let mut workers = Workers {
            dispatcher: self,
            failures: Arc::default(),
            stop: stop.clone(),
            patience,
            at_work: HashMap::new(),
            tasks: JoinSet::new(),
        };
        let mut summaries = tokio::time::interval(SUMMARY_EVERY);
        while !stop.is_cancelled() {
            let wanted = subscribers.borrow_and_update().clone();
            workers.follow(wanted);
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    Ok(()) = subscribers.changed() => break,
                    _ = summaries.tick() => sum_up(&workers.failures),
                    Some(ended) = workers.tasks.join_next() => if !is_well(&ended) { return },
                }
            }
        }
        while let Some(ended) = workers.tasks.join_next().await {
            is_well(&ended);
        }
        sum_up(&workers.failures);
    }
}

/// Failed attempts that were logged: by handler, and by whether there is another attempt.
type Failures = Repeats<(String, Failure)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Failure {
    Retried,
    Dead,
}

/// Logs in sum what had no line of its own.
fn sum_up(failures: &Failures) {
    for ((handler, failure), count) in failures.untold() {
        match failure {
            Failure::Retried => tracing::warn!(handler, attempts = count, "more attempts failed"),
            Failure::Dead => tracing::error!(handler, deliveries = count, "more deliveries are dead"),
        }
    }
}

fn is_well(ended: &Result<(), JoinError>) -> bool {
    if let Err(error) = ended {
        tracing::error!(%error, "a handler's worker ended by itself");
    }
    ended.is_ok()
}

/// The workers of all handlers, and of those that have left and have attempts in hand.
struct Workers {
    dispatcher: Dispatcher,
    failures: Arc<Failures>,
    stop: CancellationToken,
    patience: Duration,
    /// By the names of the handlers; with what ends each of them alone.
    at_work: HashMap<String, (Arc<Shared>, CancellationToken)>,
    tasks: JoinSet<()>,
}

impl Workers {
    /// Lets those go that are subscribed no more, gives the others what they are to work with, and begins new ones.
    fn follow(&mut self, wanted: Vec<Subscriber>) {
        self.at_work.retain(|name, (_, leave)| {
            let stays = wanted.iter().any(|subscriber| subscriber.policy.name == *name);
            if !stays {
                leave.cancel();
            }
            stays
        });
        for subscriber in wanted {
            match self.at_work.get(&subscriber.policy.name) {
                Some((shared, _)) => shared.follow(subscriber),
                None => self.begin(subscriber),
            }
        }
    }

    fn begin(&mut self, subscriber: Subscriber) {
        let name = subscriber.policy.name.clone();
        let Some(id) = self.dispatcher.store.handler(&name) else {
            tracing::error!(handler = name, "the store does not know this handler");
            return;
        };
        let leave = self.stop.child_token();
        let shared = Arc::new(Shared::new(self.dispatcher.clone(), Arc::clone(&self.failures), subscriber));
        let worker = Worker { shared: Arc::clone(&shared), id, leave: leave.clone(), stop: self.stop.clone() };
        self.tasks.spawn(worker.run(self.patience));
        self.at_work.insert(name, (shared, leave));
    }
}

/// Brings one handler what is owed to it.
struct Worker {
    shared: Arc<Shared>,
    id: HandlerId,
    /// Cancelled when it is to end, be it alone or with all others.
    leave: CancellationToken,
    /// Cancelled when all are to end.
    stop: CancellationToken,
}

/// What a worker's attempts share.
struct Shared {
    dispatcher: Dispatcher,
    failures: Arc<Failures>,
    name: String,
    subscriber: ArcSwap<Subscriber>,
    /// A permit for each attempt that may run.
    attempts: Semaphore,
    /// Permits in use that are not to be used again.
    surplus: AtomicUsize,
    bytes_in_hand: AtomicUsize,
}

/// What a look into the store found.
struct Look {
    /// More is due than was taken.
    more: bool,
    next_due: Option<Timestamp>,
}

impl Worker {
    async fn run(self, patience: Duration) {
        let stop = self.leave.clone();
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
        running < self.window() * 3 / 4 && (running == 0 || bytes < BYTES_IN_HAND_MAX)
    }

    fn window(&self) -> usize {
        self.shared.subscriber.load().policy.concurrency + AHEAD
    }

    async fn look(&self, running: &mut JoinSet<()>) -> Look {
        let limit = self.window().saturating_sub(running.len());
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
        let given_up = async {
            self.stop.cancelled().await;
            tokio::time::sleep(patience).await;
        };
        let is_settled = tokio::select! {
            () = settled => true,
            () = given_up => false,
        };
        if !is_settled {
            let handler = &self.shared.name;
            tracing::warn!(handler, attempts = running.len(), "attempts given up at the end; they stay pending");
        }
        running.shutdown().await;
    }
}

impl Shared {
    fn new(dispatcher: Dispatcher, failures: Arc<Failures>, subscriber: Subscriber) -> Self {
        Self {
            dispatcher,
            failures,
            name: subscriber.policy.name.clone(),
            attempts: Semaphore::new(subscriber.policy.concurrency),
            surplus: AtomicUsize::new(0),
            subscriber: ArcSwap::from_pointee(subscriber),
            bytes_in_hand: AtomicUsize::new(0),
        }
    }

    /// Has the next attempts made by this one.
    fn follow(&self, subscriber: Subscriber) {
        let now = subscriber.policy.concurrency;
        let before = self.subscriber.swap(Arc::new(subscriber)).policy.concurrency;
        let (more, fewer) = (now.saturating_sub(before), before.saturating_sub(now));
        let surplus = fewer - self.attempts.forget_permits(fewer);
        self.surplus.fetch_add(surplus, Ordering::Relaxed);
        let reprieved = self
            .surplus
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |surplus| Some(surplus.saturating_sub(more)));
        self.attempts.add_permits(more.saturating_sub(reprieved.unwrap_or(0)));
    }

    fn give_back(&self, permit: SemaphorePermit<'_>) {
        let is_surplus =
            self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |surplus| surplus.checked_sub(1));
        if is_surplus.is_ok() {
            permit.forget();
        }
    }

    /// Makes an attempt and records what came of it.
    async fn handle(self: Arc<Self>, claim: Claim, _counted: BytesInHand) {
        let Ok(permit) = self.attempts.acquire().await else {
            return;
        };
        if claim.is_called_off() {
            return;
        }
        let subscriber = self.subscriber.load_full();
        let outcome = self.attempt(&subscriber, &claim.event, claim.attempt).await;
        self.give_back(permit);
        let Dispatcher { store, clock, .. } = &self.dispatcher;
        let settlement = retry::decide(subscriber.policy.retry, claim.attempt, outcome, clock.now(), fastrand::f64());
        self.note(&claim, &settlement);
        if let Err(error) = store.settle(claim, settlement).await {
            tracing::error!(handler = self.name, %error, "an attempt was made and is not recorded; it will be repeated");
        }
    }

    async fn attempt(&self, subscriber: &Subscriber, event: &Event, attempt: u32) -> Result<(), HandlerError> {
        let Subscriber { policy, handler } = subscriber;
        let timer = Instant::now();
        let traces = &self.dispatcher.traces;
        let place = traces.is_on().then(|| Place::within(event.id.as_u128()));
        // In an async block, so that a panic before the first await is caught too.
        let delivery = AssertUnwindSafe(traces.at(place, async { handler.deliver(event).await })).catch_unwind();
        let outcome = match tokio::time::timeout(policy.timeout, delivery).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(HandlerError::transient("the handler panicked")),
            Err(_) => Err(HandlerError::transient(format!("no result within {:?}", policy.timeout))),
        };
        let duration = timer.elapsed();
        let name = self.name.as_str();
        self.dispatcher.metrics.handler_duration_seconds.with_label_values(&[name]).observe(duration.as_secs_f64());
        if let Some(place) = place {
            traces.record(self.span(place, event, attempt, timer, &outcome));
        }
        outcome
    }

    fn span(
        &self,
        place: Place,
        event: &Event,
        attempt: u32,
        begun: Instant,
        outcome: &Result<(), HandlerError>,
    ) -> Span {
        let attributes = vec![
            ("livehook.handler", self.name.as_str().into()),
            ("livehook.kind", event.facts.kind.slug().into()),
            ("livehook.attempt", i64::from(attempt).into()),
        ];
        Span {
            place,
            parent: Some(Place::of_request(event.id.as_u128()).span),
            link: None,
            name: "attempt",
            role: Role::Client,
            begun,
            attributes,
            failure: outcome.as_ref().err().map(ToString::to_string),
        }
    }

    fn note(&self, claim: &Claim, settlement: &Settlement) {
        let (name, id, attempt) = (self.name.as_str(), claim.event.id, claim.attempt);
        let outcome = match settlement {
            Settlement::Done => {
                tracing::debug!(handler = name, %id, attempt, "delivered");
                "done"
            }
            Settlement::Retry { due, error } => {
                if self.is_told(Failure::Retried) {
                    tracing::warn!(handler = name, %id, attempt, error, again_at = %due, "attempt failed");
                } else {
                    tracing::debug!(handler = name, %id, attempt, error, again_at = %due, "attempt failed");
                }
                "retry"
            }
            Settlement::Dead { error, .. } => {
                if self.is_told(Failure::Dead) {
                    tracing::error!(handler = name, %id, attempt, error, "delivery is dead");
                } else {
                    tracing::debug!(handler = name, %id, attempt, error, "delivery is dead");
                }
                "dead"
            }
        };
        self.dispatcher.metrics.handler_attempts_total.with_label_values(&[name, outcome]).inc();
    }

    fn is_told(&self, failure: Failure) -> bool {
        self.failures.is_told((self.name.clone(), failure))
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
