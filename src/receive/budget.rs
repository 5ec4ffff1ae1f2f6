//! The bytes of all bodies that are being taken, together.
//!
//! What counts is what has arrived, never what was announced. The beginning of a body waits for nobody, so ordinary
//! callbacks are not held up by large ones; nor does the body that has been reading longest, so large ones finish one after
//! the other; and who all but stops sending while others wait is cut off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::body::ReadError;

/// The beginning of a body that is let in whatever others hold. Callbacks are a few KiB.
const FREE: usize = 16 << 10;
/// How long a body may take for as much again while others wait for room. A byte now and then buys nobody time.
const STALL: Duration = Duration::from_secs(1);
/// How often whoever waits for room looks for those who stall.
const LOOK: Duration = Duration::from_millis(250);

/// A bound on bytes held at the same time. It is exceeded by the beginnings of bodies and by one that reads, at most.
#[derive(Debug)]
pub(super) struct Budget {
    max: AtomicUsize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    next_ticket: u64,
    /// Who is still reading, longest first.
    readers: BTreeMap<u64, Reader>,
}

/// A body that is being read.
#[derive(Debug)]
struct Reader {
    bytes: usize,
    /// When it was last ahead by [`FREE`], and of how many bytes; none while it waits for room.
    ahead: Option<(Instant, usize)>,
    cut: Arc<Notify>,
}

/// What one body holds of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    ticket: u64,
    bytes: usize,
    cut: Arc<Notify>,
}

impl Budget {
    pub(super) fn new(max: usize) -> Self {
        Self { max: AtomicUsize::new(max), state: Mutex::default(), freed: Notify::new() }
    }

    /// Another bound, for what arrives from now on.
    pub(super) fn resize(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// A share of nothing yet, for a body that begins now.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let cut = Arc::new(Notify::new());
        state.readers.insert(ticket, Reader { bytes: 0, ahead: Some((Instant::now(), 0)), cut: Arc::clone(&cut) });
        drop(state);
        Share { budget: Arc::clone(self), ticket, bytes: 0, cut }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts off all that hold more than a beginning and have all but stopped sending.
    fn cut_stalled(&self) {
        let state = self.lock();
        let stalled =
            |reader: &&Reader| reader.bytes > FREE && reader.ahead.is_some_and(|(at, _)| at.elapsed() >= STALL);
        state.readers.values().filter(stalled).for_each(|reader| reader.cut.notify_one());
    }
}

impl Reader {
    /// It holds so many bytes now, or waits until it may.
    fn grown(&mut self, bytes: usize, room: bool) {
        self.ahead = match self.ahead {
            _ if !room => None,
            Some((_, before)) if bytes < before + FREE => self.ahead,
            _ => Some((Instant::now(), bytes)),
        };
        if room {
            self.bytes = bytes;
        }
    }
}

impl Share {
    /// Waits until there is room for `more` bytes that have arrived.
    pub(super) async fn grow(&mut self, more: usize) -> Result<(), ReadError> {
        loop {
            let budget = Arc::clone(&self.budget);
            let freed = budget.freed.notified();
            if self.try_grow(more) {
                return Ok(());
            }
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(LOOK) => budget.cut_stalled(),
            }
        }
    }

    /// Completes when this body has to make room for others.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }

    /// From now on it is our work that keeps so many of the bytes, and nobody cuts it off.
    pub(super) fn finished_reading(&mut self, kept: usize) {
        let mut state = self.budget.lock();
        state.readers.remove(&self.ticket);
        state.used -= self.bytes - kept;
        self.bytes = kept;
        drop(state);
        // Another one is the longest now.
        self.budget.freed.notify_waiters();
    }

    fn try_grow(&mut self, more: usize) -> bool {
        let mut state = self.budget.lock();
        let bytes = self.bytes + more;
        let longest = state.readers.first_key_value().is_some_and(|(ticket, _)| *ticket == self.ticket);
        let room =
            bytes <= FREE || longest || state.used.saturating_add(more) <= self.budget.max.load(Ordering::Relaxed);
        if let Some(reader) = state.readers.get_mut(&self.ticket) {
            reader.grown(bytes, room);
        }
        if room {
            state.used += more;
            self.bytes = bytes;
        }
        room
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.used -= self.bytes;
        state.readers.remove(&self.ticket);
        drop(state);
        self.budget.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100 << 10;

    #[tokio::test]
    async fn a_body_waits_until_others_are_done() {
        let budget = Arc::new(Budget::new(MAX));
        let mut first = budget.share();
        first.grow(MAX).await.unwrap();
        let mut second = budget.share();
        let waiting = second.grow(FREE + 1);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(first);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn the_beginning_of_a_body_waits_for_nobody() {
        let budget = Arc::new(Budget::new(MAX));
        let mut large = budget.share();
        large.grow(MAX).await.unwrap();
        let mut small = budget.share();
        assert!(small.try_grow(FREE));
        assert!(!small.try_grow(1));
    }

    #[tokio::test]
    async fn whoever_reads_longest_goes_on_beyond_the_bound() {
        let budget = Arc::new(Budget::new(MAX));
        let (mut first, mut second) = (budget.share(), budget.share());
        first.grow(MAX / 2).await.unwrap();
        second.grow(MAX / 2).await.unwrap();
        assert!(!second.try_grow(1));
        assert!(first.try_grow(MAX));
        first.finished_reading(MAX / 2);
        assert!(second.try_grow(1), "it is the longest now");
        drop((first, second));
        assert_eq!(budget.lock().used, 0);
    }

    #[tokio::test]
    async fn whoever_has_stopped_sending_makes_room() {
        let budget = Arc::new(Budget::new(MAX));
        let mut stalled = budget.share();
        stalled.grow(MAX).await.unwrap();
        let mut good = budget.share();
        let cut = async {
            stalled.cut().await;
            drop(stalled);
        };
        let ((), grown) = tokio::join!(cut, good.grow(FREE + 1));
        assert_eq!(grown, Ok(()));
    }

    #[tokio::test]
    async fn a_byte_now_and_then_buys_no_time() {
        let budget = Arc::new(Budget::new(MAX));
        let mut trickling = budget.share();
        trickling.grow(MAX).await.unwrap();
        let mut good = budget.share();
        let cut = async {
            loop {
                tokio::select! {
                    () = trickling.cut() => break,
                    () = tokio::time::sleep(LOOK / 10) => {}
                }
                trickling.grow(1).await.unwrap();
            }
            drop(trickling);
        };
        let ((), grown) = tokio::join!(cut, good.grow(FREE + 1));
        assert_eq!(grown, Ok(()));
    }
}
