//! The one thread that writes. It takes whatever waits into one transaction and one sync, and then tells everybody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::super::health::Complaints;
use super::super::model::{ClaimKey, Release};
use super::super::queue::{ClaimRequest, Load, Queue, Taken};
use super::catalogue;
use super::deliveries;
use super::handlers;
use super::identities;
use super::log::{Log, Move};
use super::memory::{Effects, Memory, Tx};
use super::{BUSY, Database, Shared};
use crate::clock::Clock;

/// A write that somebody waits for.
pub(in crate::store) trait Job: Load + Send + std::fmt::Debug {
    /// Writes. Runs again from the start when its transaction could not be committed.
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;

    /// Tells whoever waits that it is on stable storage, or why this one never will be.
    fn finish(self: Box<Self>, failure: Option<String>);
}

impl Load for Box<dyn Job> {
    fn bytes(&self) -> usize {
        self.as_ref().bytes()
    }
}

impl Release for Queue<Box<dyn Job>> {
    fn release(&self, key: ClaimKey, _holder: i64) {
        Self::release(self, key);
    }
}

/// How long an idle writer sleeps before it looks after itself.
const IDLE: Duration = Duration::from_secs(1);
/// Pause between attempts on a store that fails.
const BACKOFF: Duration = Duration::from_millis(250);
/// How long a store that fails is tried on when it is to be closed.
const CLOSE_PATIENCE: Duration = Duration::from_millis(1500);
/// When the log has grown past this many pages because readers kept the checkpoints back, the writer does one itself.
const LOG_PAGES_MAX: i64 = 16_384;

pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) log: Arc<Log>,
    pub(super) db: Option<Connection>,
    pub(super) memory: Memory,
    pub(super) queue: Arc<Queue<Box<dyn Job>>>,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) complaints: Complaints,
}

impl Writer {
    /// Works until the queue is closed and empty, or cannot be emptied because the store fails.
    pub(super) fn run(mut self) {
        let mut held: Vec<Box<dyn Job>> = Vec::new();
        let mut closing: Option<Instant> = None;
        loop {
            let patience = if held.is_empty() { IDLE } else { BACKOFF };
            let taken = if held.is_empty() { self.queue.take(patience) } else { self.queue.take_no_jobs(patience) };
            let Taken { jobs, claims, released, closed, .. } = taken;
            held.extend(jobs);
            for key in released {
                self.memory.put_back(key);
                self.shared.bells.ring(key.handler);
            }
            // First, since they need nothing of what waits: a handler goes on while its next events are synced, and is
            // rung again when they are.
            for request in claims {
                self.serve(request);
            }
            self.work(&mut held);
            if !closed {
                continue;
            }
            let begun = *closing.get_or_insert_with(Instant::now);
            // With the store well again there may be more to take.
            if self.queue.is_drained() && held.is_empty() || !held.is_empty() && begun.elapsed() > CLOSE_PATIENCE {
                break;
            }
        }
        self.give_up(held);
        self.close();
    }

    /// Commits the jobs in hand, or shows that the store works when it last did not.
    fn work(&mut self, held: &mut Vec<Box<dyn Job>>) {
        let proving = !self.shared.health.is_good();
        if held.is_empty() && !proving && self.database.is_in_place() {
            return;
        }
        self.shared.health.begin();
        let outcome = self.commit(held, proving);
        if self.shared.health.end(outcome.as_ref().err().map(ToString::to_string)) {
            self.complaints.end();
            // Whoever looked meanwhile was told that there is nothing.
            self.shared.bells.ring_all();
        }
        if let Err(error) = outcome {
            if let Some(attempts) = self.complaints.failed(Instant::now()) {
                let waiting = self.queue.waiting().count;
                tracing::error!(%error, waiting, attempts, "the store cannot be written; trying again");
            }
            // A file that was removed lives only as long as it is open, and may yet be put back or copied.
            if self.database.is_in_place() {
                self.db = None;
            }
        }
    }

    /// `proving` makes sure that something is written: jobs that find nothing to do say nothing about the disk.
    fn commit(&mut self, held: &mut Vec<Box<dyn Job>>, proving: bool) -> rusqlite::Result<()> {
        let failures = match self.transaction(held, Care::Together, proving) {
            Ok(failures) => failures,
            Err(error) if is_trouble(&error) => return Err(error),
            Err(_) => self.transaction(held, Care::Each, proving)?,
        };
        let bytes = held.iter().map(Load::bytes).sum();
        self.queue.finished(held.len(), bytes);
        for (job, failure) in held.drain(..).zip(failures) {
            job.finish(failure);
        }
        if self.shared.log_pages.load(Ordering::Relaxed) > LOG_PAGES_MAX {
            self.shorten_log(Move::Restart);
        } else if self.shared.log_waits.swap(false, Ordering::Relaxed) {
            self.shorten_log(Move::Passive);
        }
        Ok(())
    }

    /// One transaction over all jobs. Returns for each why it failed alone, if it did.
    fn transaction(
        &mut self,
        jobs: &mut [Box<dyn Job>],
        care: Care,
        proving: bool,
    ) -> rusqlite::Result<Vec<Option<String>>> {
        self.connect()?;
        let Some(db) = &self.db else {
            return Err(rusqlite::Error::InvalidQuery);
        };
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let effects = Effects::default();
        let mut tx = Tx { db, memory: &mut self.memory, effects, now: self.clock.now(), bounds: self.shared.bounds() };
        let done = run_all(&mut tx, jobs, care).and_then(|failures| {
            identities::file(&mut tx)?;
            deliveries::keep_near(&mut tx)?;
            handlers::note(&mut tx)?;
            catalogue::note_copies(&tx)?;
            if proving {
                db.prepare_cached("UPDATE meta SET value = value + 1 WHERE key = 'probe'")?.execute([])?;
            }
            db.prepare_cached("COMMIT")?.execute([])?;
            Ok(failures)
        });
        let (effects, now) = (tx.effects, tx.now);
        match done {
            Ok(failures) => {
                let wake = self.memory.apply(effects, now);
                self.shared.publish(&self.memory);
                for handler in wake {
                    self.shared.bells.ring(handler);
                }
                Ok(failures)
            }
            Err(error) => {
                if !db.is_autocommit() {
                    let _ = db.execute_batch("ROLLBACK");
                }
                Err(error)
            }
        }
    }

    fn serve(&mut self, request: ClaimRequest) {
        let now = request.now;
        let claimed = match &self.db {
            _ if self.memory.is_paused(request.handler) => Ok(super::super::Claimed::default()),
            Some(db) => deliveries::claim(db, &mut self.memory, request.handler, now, request.limit),
            None => Ok(super::super::Claimed::default()),
        };
        let mut claimed = claimed.unwrap_or_else(|error| {
            tracing::error!(%error, "deliveries cannot be read");
            super::super::Claimed::default()
        });
        for claim in &mut claimed.claims {
            claim.release = Some(Arc::clone(&self.queue) as _);
        }
        // Whoever asked may be gone; then the claims go back by being dropped.
        let _ = request.reply.send(claimed);
    }

    fn connect(&mut self) -> rusqlite::Result<()> {
        if !self.database.is_in_place() {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
            let what = "its file was moved or removed while it was open; put it back, or restart to begin a new one";
            return Err(rusqlite::Error::SqliteFailure(code, Some(what.to_owned())));
        }
        if self.db.is_none() {
            self.db = Some(self.database.connect()?);
        }
        Ok(())
    }

    /// Moves all of the log, which begins anew with the next commit.
    fn shorten_log(&self, how: Move) {
        if let Some(db) = &self.db {
            let started = Instant::now();
            // Without patience: as long as somebody reads, the log cannot begin anew, and callbacks come first.
            let outcome = db.busy_timeout(Duration::ZERO).and_then(|()| self.log.settle(db, how));
            let _ = db.busy_timeout(BUSY);
            tracing::debug!(?outcome, took = ?started.elapsed(), "the write-ahead log was long");
            self.shared.log_pages.store(0, Ordering::Relaxed);
        }
    }

    fn give_up(&self, mut held: Vec<Box<dyn Job>>) {
        held.extend(self.queue.abandon());
        if !held.is_empty() {
            tracing::error!(
                waiting = held.len(),
                "the store stays closed to what waits for it; callbacks of it that were answered are spills on standard \
                 error: import them"
            );
        }
        for job in held {
            job.finish(Some("the store was closed before it could be written".to_owned()));
        }
    }

    fn close(self) {
        if let Some(db) = self.db {
            let _ = handlers::write_all(&db, &self.memory.handlers);
            let _ = self.log.settle(&db, Move::Truncate);
            let _ = db.close();
        }
    }
}

/// How much care a transaction takes of single jobs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// None: one that fails takes all with it.
    Together,
    /// A savepoint each: one that fails fails alone.
    Each,
}

fn run_all(tx: &mut Tx<'_>, jobs: &mut [Box<dyn Job>], care: Care) -> rusqlite::Result<Vec<Option<String>>> {
    jobs.iter_mut()
        .map(|job| match care {
            Care::Together => run_guarded(job.as_mut(), tx).map(|()| None),
            Care::Each => run_alone(job.as_mut(), tx),
        })
        .collect()
}

fn run_alone(job: &mut dyn Job, tx: &mut Tx<'_>) -> rusqlite::Result<Option<String>> {
    tx.db.prepare_cached("SAVEPOINT one")?.execute([])?;
    let before = tx.effects.clone();
    match run_guarded(job, tx) {
        Ok(()) => tx.db.prepare_cached("RELEASE one")?.execute([]).map(|_| None),
        Err(error) if is_trouble(&error) => Err(error),
        Err(error) => {
            tx.effects = before;
            tx.db.execute_batch("ROLLBACK TO one; RELEASE one")?;
            tracing::error!(%error, "a write was refused by the store");
            Ok(Some(error.to_string()))
        }
    }
}

/// A panic in one job is that job's failure.
fn run_guarded(job: &mut dyn Job, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
    catch_unwind(AssertUnwindSafe(|| job.run(tx))).unwrap_or(Err(rusqlite::Error::ExecuteReturnedResults))
}

/// Whether the store as a whole is in trouble, rather than one job at fault.
fn is_trouble(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(failure, _) = error else {
        return false;
    };
    !matches!(
        failure.code,
        ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig | ErrorCode::ParameterOutOfRange
    )
}
