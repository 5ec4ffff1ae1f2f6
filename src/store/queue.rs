//! The way to the writer: a queue with bounds on count and bytes, and beside it the requests that write nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::model::{ClaimKey, Claimed, HandlerId};
use crate::clock::Timestamp;

/// Something to be written.
pub(super) trait Load {
    /// What it weighs in the queue.
    fn bytes(&self) -> usize;
}

/// Jobs waiting for the writer.
#[derive(Debug)]
pub(super) struct Queue<J> {
    waiting: Mutex<Waiting<J>>,
    arrived: Condvar,
    count_max: AtomicUsize,
    bytes_max: AtomicUsize,
}

/// Whether a job counts against the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// A callback: refused when the queue is full.
    Bounded,
    /// A callback that was refused, as a stranger's: half of the queue is for events alone.
    Half,
    /// Our own bookkeeping, bounded by what causes it: always taken.
    Always,
}

/// A wish for deliveries.
#[derive(Debug)]
pub(super) struct ClaimRequest {
    pub(super) handler: HandlerId,
    pub(super) now: Timestamp,
    pub(super) limit: usize,
    pub(super) reply: oneshot::Sender<Claimed>,
}

/// Everything the writer takes at once.
#[derive(Debug)]
pub(super) struct Taken<J> {
    pub(super) jobs: Vec<J>,
    pub(super) claims: Vec<ClaimRequest>,
    pub(super) released: Vec<ClaimKey>,
    /// Somebody asked the writer to look around.
    pub(super) nudged: bool,
    /// No job will come any more.
    pub(super) closed: bool,
}

#[derive(Debug)]
struct Waiting<J> {
    jobs: VecDeque<(Instant, J)>,
    /// Bytes of the jobs that wait and of those the writer has in hand.
    bytes: usize,
    /// Jobs the writer has in hand.
    in_hand: usize,
    claims: Vec<ClaimRequest>,
    released: Vec<ClaimKey>,
    nudged: bool,
    closed: bool,
}

/// What an event weighs in the queue beside its body.
pub(super) const EVENT_OVERHEAD: usize = 512;
/// Enough for the largest batch that pays; more only makes the first of them wait.
const BATCH_MAX: usize = 1024;

/// The queue is full, or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

impl<J: Load> Queue<J> {
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        let (count_max, bytes_max) = (AtomicUsize::new(count_max), AtomicUsize::new(bytes_max));
        Self { waiting: Mutex::new(Waiting::new()), arrived: Condvar::new(), count_max, bytes_max }
    }

    /// Other bounds, for what comes from now on.
    pub(super) fn resize(&self, count_max: usize, bytes_max: usize) {
        self.count_max.store(count_max, Ordering::Relaxed);
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    pub(super) fn push(&self, job: J, admission: Admission) -> Result<(), Refused> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Refused::Closed);
        }
        let bytes = job.bytes();
        let is_full = match admission {
            Admission::Bounded => self.is_full(&waiting, bytes, 1),
            Admission::Half => self.is_full(&waiting, bytes, 2),
            Admission::Always => false,
        };
        if is_full {
            return Err(Refused::Full);
        }
        waiting.bytes += bytes;
        waiting.jobs.push_back((Instant::now(), job));
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Why a callback that comes now may not be stored in time; none while there is room and nothing has been waiting
    /// longer than `patience`.
    pub(super) fn trouble(&self, patience: Duration) -> Option<String> {
        let waiting = self.lock();
        let oldest = waiting.jobs.front().map(|(since, _)| since.elapsed()).filter(|time| *time > patience);
        match oldest {
            Some(time) => Some(format!("a write has been waiting for {time:.1?}")),
            None => self.is_full(&waiting, 1, 1).then(|| "the write queue is full".to_owned()),
        }
    }

    /// Whether `more` bytes would exceed a part of the bounds: the whole of them divided by `divisor`.
    fn is_full(&self, waiting: &Waiting<J>, more: usize, divisor: usize) -> bool {
        let count_max = self.count_max.load(Ordering::Relaxed).div_ceil(divisor);
        let bytes_max = self.bytes_max.load(Ordering::Relaxed) / divisor;
        waiting.jobs.len() + waiting.in_hand >= count_max || waiting.bytes.saturating_add(more) > bytes_max
    }

    /// A request after the queue was closed gets no reply: its sender is dropped.
    pub(super) fn claim(&self, request: ClaimRequest) {
        let mut waiting = self.lock();
        if !waiting.closed {
            waiting.claims.push(request);
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    pub(super) fn release(&self, key: ClaimKey) {
        self.lock().released.push(key);
        self.arrived.notify_one();
    }

    /// Has the writer look around, though there may be nothing for it to write.
    pub(super) fn nudge(&self) {
        self.lock().nudged = true;
        self.arrived.notify_one();
    }

    /// Nothing is taken any more; what waits is still worked on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Waits until there is something to do, at most for `patience`.
    pub(super) fn take(&self, patience: Duration) -> Taken<J> {
        let nothing = |w: &mut Waiting<J>| {
            w.jobs.is_empty() && w.claims.is_empty() && w.released.is_empty() && !w.nudged && !w.closed
        };
        let (mut waiting, _) =
            self.arrived.wait_timeout_while(self.lock(), patience, nothing).unwrap_or_else(PoisonError::into_inner);
        let count = waiting.jobs.len().min(BATCH_MAX);
        let jobs: Vec<_> = waiting.jobs.drain(..count).map(|(_, job)| job).collect();
        waiting.in_hand += jobs.len();
        Taken {
            jobs,
            claims: std::mem::take(&mut waiting.claims),
            released: std::mem::take(&mut waiting.released),
            nudged: std::mem::take(&mut waiting.nudged),
            closed: waiting.closed && waiting.jobs.is_empty(),
        }
    }

    /// Like [`take`](Self::take), but leaves the jobs where they are and sleeps through their arrival: the writer has its
    /// hands full with some that fail.
    pub(super) fn take_no_jobs(&self, patience: Duration) -> Taken<J> {
        let (mut waiting, _) =
            self.arrived.wait_timeout_while(self.lock(), patience, |_| true).unwrap_or_else(PoisonError::into_inner);
        Taken {
            jobs: Vec::new(),
            claims: std::mem::take(&mut waiting.claims),
            released: std::mem::take(&mut waiting.released),
            nudged: std::mem::take(&mut waiting.nudged),
            closed: waiting.closed,
        }
    }

    /// What waits, with what the writer has in hand.
    pub(super) fn waiting(&self) -> super::Waiting {
        let waiting = self.lock();
        super::Waiting { count: waiting.jobs.len() + waiting.in_hand, bytes: waiting.bytes }
    }

    /// Whether no job waits.
    pub(super) fn is_drained(&self) -> bool {
        self.lock().jobs.is_empty()
    }

    /// Everything that waits, to be told that it waits in vain.
    pub(super) fn abandon(&self) -> Vec<J> {
        self.lock().jobs.drain(..).map(|(_, job)| job).collect()
    }

    /// Jobs that were taken are finished and no longer count.
    pub(super) fn finished(&self, count: usize, bytes: usize) {
        let mut waiting = self.lock();
        waiting.in_hand -= count;
        waiting.bytes -= bytes;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<J>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Waiting<J> {
    fn new() -> Self {
        let (claims, released) = (Vec::new(), Vec::new());
        Self { jobs: VecDeque::new(), bytes: 0, in_hand: 0, claims, released, nudged: false, closed: false }
    }
}
