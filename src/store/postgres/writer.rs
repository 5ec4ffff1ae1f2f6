//! The one thread of a replica that writes. It takes whatever waits into one transaction and one sync, under a lock that
//! the replicas take in turn: the cost of an order that holds for all of them is bought back by writing much at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;

use super::super::health::Complaints;
use super::super::model::{Claim, ClaimKey, Claimed, Release};
use super::super::queue::{ClaimRequest, Load, Queue, Taken};
use super::Shared;
use super::background::Background;
use super::batch;
use super::connect::{Place, Use, said, timed_out};
use super::deliveries::{self, Lease, Taken as Held};
use super::groups::Groups;
use super::jobs::Job;
use super::locks::{BEGIN_WRITE, COMMIT};
use super::look;
use super::tx::{Effects, Tx};
use crate::clock::Clock;

type Result<T> = sqlx::Result<T>;

/// How long an idle writer sleeps before it looks around.
const IDLE: Duration = Duration::from_secs(1);
/// Pause between attempts on a store that fails.
const BACKOFF: Duration = Duration::from_millis(250);
/// How long a store that fails is tried on when it is to be closed.
const CLOSE_PATIENCE: Duration = Duration::from_millis(1500);
/// How long a connection may take to be made: short enough that a store is seen to be well again within 5 s.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long a transaction may take before it is given up, with its connection.
const TRANSACTION_MAX: Duration = Duration::from_secs(10);
/// Jobs of one transaction. After one that failed it is half of what that had, for a while.
const JOBS_MAX: usize = 1024;
/// How long a replica counts as alive that does not say so any more: so long its claims are kept for it.
const LEASE: Lease = Lease(Duration::from_secs(15));
/// How often it says so.
const BEAT: Duration = Duration::from_secs(3);
/// How often it is asked how large the tables are.
const MEASURED_EVERY: Duration = Duration::from_secs(10);
/// Writes something, whose commit shows that the store can be written.
const PROVE: &str = "UPDATE meta SET value = value + 1 WHERE key = 'probe'";

/// The thread: takes what waits, and has it written.
pub(super) struct Writer {
    pub(super) runtime: Background,
    pub(super) desk: Desk,
    pub(super) complaints: Complaints,
}

/// What the writer works with.
pub(super) struct Desk {
    place: Place,
    queue: Arc<Queue<Job>>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    db: Option<PgConnection>,
    /// Known as of the last transaction that did not fail.
    groups: Groups,
    /// The number of this replica, once it has one.
    replica: Option<i64>,
    in_hand: HashMap<ClaimKey, Arc<AtomicBool>>,
    /// Claims that go back with the next transaction.
    released: Vec<ClaimKey>,
    /// Whether claims may have been made that nobody knows of.
    unsure: bool,
    /// Whether a replica was found that is not alive any more.
    any_dead: bool,
    /// The number of the last transaction.
    batch: i64,
    doubt: Option<Doubt>,
    said_alive: Option<Instant>,
    looked: Option<Instant>,
    measured: Option<Instant>,
}

/// A transaction whose commit has had no answer. The jobs wait where they were.
#[derive(Debug)]
struct Doubt {
    batch: i64,
    failures: Vec<Option<String>>,
    /// Claims that ended with it.
    settled: Vec<ClaimKey>,
    effects: Effects,
}

/// What came of a transaction.
#[derive(Debug, Default)]
struct Outcome {
    /// For each job that has ended, why it failed alone, if it did.
    failures: Vec<Option<String>>,
    /// What was claimed, in the order of the requests.
    claimed: Vec<Claimed>,
    /// What went wrong behind the commit.
    trouble: Option<sqlx::Error>,
}

/// Takes claims of this replica back, unless it has lost them.
#[derive(Debug)]
struct Origin {
    queue: Arc<Queue<Job>>,
    shared: Arc<Shared>,
}

impl Release for Origin {
    fn release(&self, key: ClaimKey, holder: i64) {
        if self.shared.replica.load(Ordering::Relaxed) == holder {
            self.queue.release(key);
        }
    }
}

impl Writer {
    /// Works until the queue is closed and empty, or cannot be emptied because the store fails.
    pub(super) fn run(mut self) {
        let mut held: Vec<Job> = Vec::new();
        let mut closing: Option<Instant> = None;
        let mut jobs_max = JOBS_MAX;
        loop {
            let queue = &self.desk.queue;
            let taken = if held.is_empty() { queue.take(IDLE) } else { queue.take_no_jobs(BACKOFF) };
            let Taken { jobs, mut claims, released, mut nudged, closed } = taken;
            held.extend(jobs);
            self.desk.released.extend(released);
            // The parts of what was too much follow one another without a pause.
            loop {
                let part = held.len().min(jobs_max);
                let worked = self.work(&mut held, part, std::mem::take(&mut claims), nudged);
                nudged = false;
                jobs_max = if worked { (jobs_max * 2).min(JOBS_MAX) } else { (part / 2).max(1) };
                if !worked || held.is_empty() {
                    break;
                }
            }
            if !closed {
                continue;
            }
            let begun = *closing.get_or_insert_with(Instant::now);
            // With the store well again there may be more to take.
            if self.desk.queue.is_drained() && held.is_empty() || !held.is_empty() && begun.elapsed() > CLOSE_PATIENCE {
                break;
            }
        }
        self.give_up(held);
        self.close();
    }

    /// Commits the first `part` of the jobs in hand, hands out what was asked for, and looks around. Returns whether the
    /// store did what it should.
    fn work(&mut self, held: &mut Vec<Job>, part: usize, requests: Vec<ClaimRequest>, nudged: bool) -> bool {
        let shared = Arc::clone(&self.desk.shared);
        let proving = !shared.health.is_good();
        shared.health.begin();
        let turn = self.desk.turn(&mut held[..part], &requests, proving, nudged);
        let outcome = self.runtime.block_on(turn).unwrap_or_else(|| Err(timed_out("the store is closed")));
        let trouble = match &outcome {
            Ok(outcome) => outcome.trouble.as_ref().map(said),
            Err(error) => Some(said(error)),
        };
        if let Some(error) = &trouble {
            if let Some(attempts) = self.complaints.failed(Instant::now()) {
                let waiting = self.desk.queue.waiting().count;
                tracing::error!(error, waiting, attempts, "the store cannot be written; trying again");
            }
            self.desk.lose_connection();
        }
        let worked = outcome.is_ok();
        if let Ok(Outcome { failures, claimed, .. }) = outcome {
            let bytes = held.iter().take(failures.len()).map(Load::bytes).sum();
            self.desk.queue.finished(failures.len(), bytes);
            for (job, failure) in held.drain(..failures.len()).zip(failures) {
                job.finish(failure);
            }
            for (request, claimed) in requests.into_iter().zip(claimed) {
                // Whoever asked may be gone; then the claims go back by being dropped.
                let _ = request.reply.send(claimed);
            }
        }
        if shared.health.end(trouble) {
            self.complaints.end();
            // Whoever looked meanwhile was told that there is nothing.
            shared.bells.ring_all();
        }
        worked
    }

    fn give_up(&self, mut held: Vec<Job>) {
        held.extend(self.desk.queue.abandon());
        if !held.is_empty() {
            tracing::error!(callbacks = held.len(), "the store stays closed to what waits for it");
        }
        for job in held {
            job.finish(Some("the store was closed before it could be written".to_owned()));
        }
    }

    /// Gives back what this replica holds, so that nobody need wait for its lease to run out.
    fn close(mut self) {
        if self.desk.shared.health.is_good() {
            let left = self.runtime.block_on(async { tokio::time::timeout(CLOSE_PATIENCE, self.desk.leave()).await });
            if !matches!(left, Some(Ok(Ok(())))) {
                tracing::warn!(
                    ?left,
                    "claims could not be given back; the other replicas have them when the lease ends"
                );
            }
        }
    }
}

impl Desk {
    pub(super) fn new(
        place: Place,
        queue: Arc<Queue<Job>>,
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        db: PgConnection,
    ) -> Self {
        Self {
            place,
            queue,
            shared,
            clock,
            db: Some(db),
            groups: Groups::default(),
            replica: None,
            in_hand: HashMap::new(),
            released: Vec::new(),
            unsure: false,
            any_dead: false,
            batch: 0,
            doubt: None,
            said_alive: None,
            looked: None,
            measured: None,
        }
    }

    /// One turn: a transaction, if there is anything to write or to claim, and a look at what others did.
    async fn turn(
        &mut self,
        jobs: &mut [Job],
        requests: &[ClaimRequest],
        proving: bool,
        nudged: bool,
    ) -> Result<Outcome> {
        let mut outcome = within(TRANSACTION_MAX, self.commit(jobs, requests, proving)).await?;
        let looks = nudged || self.looked.is_none_or(|at| at.elapsed() >= IDLE);
        if looks {
            outcome.trouble = within(TRANSACTION_MAX, self.look()).await.err();
        }
        match outcome.trouble.take() {
            // Nothing has ended that somebody must be told of.
            Some(error) if jobs.is_empty() && outcome.claimed.iter().all(|claimed| claimed.claims.is_empty()) => {
                Err(error)
            }
            trouble => Ok(Outcome { trouble, ..outcome }),
        }
    }

    async fn commit(&mut self, jobs: &mut [Job], requests: &[ClaimRequest], proving: bool) -> Result<Outcome> {
        self.connect().await?;
        self.say_alive().await?;
        if let Some(outcome) = self.resolve().await? {
            return Ok(outcome);
        }
        let is_idle = jobs.is_empty() && requests.is_empty() && self.released.is_empty();
        if is_idle && !proving && !self.unsure && !self.any_dead {
            return Ok(Outcome::default());
        }
        match self.transaction(jobs, requests, proving, batch::Care::Together).await {
            Err(error) if !batch::is_trouble(&error) => {
                self.transaction(jobs, requests, proving, batch::Care::Each).await
            }
            outcome => outcome,
        }
    }

    /// One transaction over all jobs.
    async fn transaction(
        &mut self,
        jobs: &mut [Job],
        requests: &[ClaimRequest],
        proving: bool,
        care: batch::Care,
    ) -> Result<Outcome> {
        let mut tx = self.begin().await?;
        match self.fill(&mut tx, jobs, requests, proving, care).await {
            Ok((failures, taken)) => {
                let settled = jobs.iter().filter_map(Job::settled).collect();
                let effects = std::mem::take(&mut tx.effects);
                self.doubt = Some(Doubt { batch: self.batch, failures, settled, effects });
                jobs.iter_mut().for_each(Job::doubt);
                sqlx::raw_sql(COMMIT).execute(&mut tx.db).await?;
                (self.db, self.groups) = (Some(tx.db), tx.groups);
                (self.unsure, self.any_dead) = (false, false);
                for key in self.released.drain(..) {
                    self.in_hand.remove(&key);
                }
                let failures = self.end_doubt();
                let claimed = taken.into_iter().map(|(taken, next_due)| self.hand_out(taken, next_due)).collect();
                Ok(Outcome { failures, claimed, trouble: None })
            }
            Err(error) if batch::is_trouble(&error) => Err(error),
            Err(error) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut tx.db).await?;
                self.db = Some(tx.db);
                Err(error)
            }
        }
    }

    /// Begins a transaction once it is this replica's turn.
    async fn begin(&mut self) -> Result<Tx> {
        let mut db = self.db.take().ok_or_else(|| timed_out("there is no connection"))?;
        sqlx::raw_sql(BEGIN_WRITE).execute(&mut db).await?;
        self.batch += 1;
        let (now, bounds, replica) = (self.clock.now(), self.shared.bounds(), self.replica.unwrap_or_default());
        let groups = std::mem::take(&mut self.groups);
        Ok(Tx { db, now, bounds, replica, groups, effects: Effects::default() })
    }

    /// Everything between begin and commit. Returns why jobs failed alone, and what was claimed.
    async fn fill(
        &mut self,
        tx: &mut Tx,
        jobs: &mut [Job],
        requests: &[ClaimRequest],
        proving: bool,
        care: batch::Care,
    ) -> Result<(Vec<Option<String>>, Vec<(Vec<Held>, Option<crate::clock::Timestamp>)>)> {
        if self.any_dead {
            deliveries::lose_the_dead(tx).await?;
        }
        if self.unsure {
            let in_hand: Vec<_> = self.in_hand.keys().copied().collect();
            deliveries::reconcile(tx, &in_hand).await?;
        }
        if !self.released.is_empty() {
            deliveries::release(tx, &self.released).await?;
        }
        let failures = batch::run(tx, jobs, care).await?;
        let mut taken = Vec::with_capacity(requests.len());
        for request in requests {
            taken.push(deliveries::claim(tx, request.handler, request.now, request.limit).await?);
        }
        if proving {
            sqlx::query(PROVE).execute(&mut tx.db).await?;
        }
        let batch = (!jobs.is_empty()).then_some(self.batch);
        tx.finish(&self.place.schema, batch).await?;
        Ok((failures, taken))
    }

    /// Whether the transaction was committed whose commit had no answer: its number says so. Asked in turn, since the
    /// server may still be busy with it; and with a commit behind it, since a server that crashed shows what its standbys may
    /// not have. Where others took this replica for dead meanwhile its number is gone, and it counts as not committed: events
    /// and settlements are known again all the same, but a replay may begin twice.
    async fn resolve(&mut self) -> Result<Option<Outcome>> {
        let Some(number) = self.doubt.as_ref().map(|doubt| doubt.batch) else {
            return Ok(None);
        };
        let mut tx = self.begin().await?;
        let last: Option<i64> = sqlx::query_scalar("SELECT batch FROM replicas WHERE id = $1")
            .bind(tx.replica)
            .fetch_optional(&mut tx.db)
            .await?;
        sqlx::query(PROVE).execute(&mut tx.db).await?;
        sqlx::raw_sql(COMMIT).execute(&mut tx.db).await?;
        self.db = Some(tx.db);
        if last != Some(number) {
            self.doubt = None;
            return Ok(None);
        }
        let failures = self.end_doubt();
        Ok(Some(Outcome { failures, ..Outcome::default() }))
    }

    /// Makes true what a commit has changed.
    fn end_doubt(&mut self) -> Vec<Option<String>> {
        let Some(Doubt { failures, settled, effects, .. }) = self.doubt.take() else {
            return Vec::new();
        };
        for key in settled {
            self.in_hand.remove(&key);
        }
        self.shared.add(&effects.counted);
        effects.wake.iter().for_each(|handler| self.shared.bells.ring(*handler));
        if effects.others_look || effects.look {
            // The turn looks before anybody is told, and apart from the transaction: a look that hangs undoes no commit.
            self.looked = None;
        }
        failures
    }

    fn hand_out(&mut self, taken: Vec<Held>, next_due: Option<crate::clock::Timestamp>) -> Claimed {
        let holder = self.replica.unwrap_or_default();
        let claims = taken.into_iter().map(|Held { key, event, attempts }| {
            let called_off = Arc::new(AtomicBool::new(false));
            self.in_hand.insert(key, Arc::clone(&called_off));
            let origin = Origin { queue: Arc::clone(&self.queue), shared: Arc::clone(&self.shared) };
            let release: Arc<dyn Release> = Arc::new(origin);
            Claim { key, event: Arc::new(event), attempt: attempts + 1, called_off, holder, release: Some(release) }
        });
        Claimed { claims: claims.collect(), next_due }
    }

    async fn connect(&mut self) -> Result<()> {
        if self.db.is_none() {
            self.db = Some(self.place.connect(Use::Writing, CONNECT_MAX).await?);
        }
        Ok(())
    }

    /// What was under way on the connection is decided by the next one.
    fn lose_connection(&mut self) {
        self.db = None;
        self.unsure = true;
        if self.said_alive.is_some_and(|at| at.elapsed() > LEASE.0) {
            // Others may have them by now; attempts that have not begun need not begin.
            self.call_off(|_| true);
        }
    }

    fn call_off(&self, which: impl Fn(&ClaimKey) -> bool) {
        let claims = self.in_hand.iter().filter(|(key, _)| which(key));
        claims.for_each(|(_, called_off)| called_off.store(true, Ordering::Relaxed));
    }

    /// Says that this replica is alive. When it was taken for dead it goes on under another number, and has lost what it
    /// held.
    async fn say_alive(&mut self) -> Result<()> {
        if self.said_alive.is_some_and(|at| at.elapsed() < BEAT) {
            return Ok(());
        }
        let Some(db) = &mut self.db else {
            return Ok(());
        };
        let replica = deliveries::beat(db, self.replica, LEASE).await?;
        self.any_dead = deliveries::any_dead(db, LEASE).await?;
        if self.replica != Some(replica) {
            if self.replica.is_some() {
                tracing::warn!(
                    claims = self.in_hand.len(),
                    "this replica was taken for dead; what it had in hand is not its any more"
                );
            }
            self.call_off(|_| true);
            self.in_hand.clear();
            self.released.clear();
            self.replica = Some(replica);
            self.shared.replica.store(replica, Ordering::Relaxed);
        }
        self.said_alive = Some(Instant::now());
        Ok(())
    }

    /// Looks at what others did: counts, who is paused, what was called off.
    async fn look(&mut self) -> Result<()> {
        let (Some(db), Some(replica)) = (&mut self.db, self.replica) else {
            return Ok(());
        };
        let seen = look::look(db, replica).await?;
        self.looked = Some(Instant::now());
        let before = self.shared.see(seen.counted.clone());
        for (handler, pending) in &seen.counted.pending {
            if before.pending.get(handler).is_none_or(|before| before < pending) {
                self.shared.bells.ring(*handler);
            }
        }
        self.call_off(|key| seen.paused.contains(&key.handler) || seen.called_off.contains(key));
        if self.measured.is_none_or(|at| at.elapsed() >= MEASURED_EVERY) {
            let bytes =
                look::measure(self.db.as_mut().ok_or_else(|| timed_out("there is no connection"))?, &self.place.schema)
                    .await?;
            self.shared.bytes.store(bytes, Ordering::Relaxed);
            self.measured = Some(Instant::now());
        }
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        if self.db.is_none() || self.replica.is_none() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        deliveries::leave(&mut tx).await?;
        tx.finish(&self.place.schema, None).await?;
        sqlx::raw_sql(COMMIT).execute(&mut tx.db).await?;
        Ok(())
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(patience, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(timed_out("it did not answer in time")),
    }
}
