//! The bytes of all bodies that are being taken, together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::body::ReadError;

/// How long a body waits for others before the one that has been reading longest makes room.
const WAIT_BEFORE_CUT: Duration = Duration::from_millis(250);

/// A bound on bytes held at the same time.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    next_ticket: u64,
    /// Who is still reading, longest first: ticket, bytes held, and how to cut it off.
    readers: BTreeMap<u64, (usize, Arc<Notify>)>,
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
        Self { max, state: Mutex::default(), freed: Notify::new() }
    }

    /// A share of nothing yet, for a body that begins now.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let cut = Arc::new(Notify::new());
        state.readers.insert(ticket, (0, Arc::clone(&cut)));
        drop(state);
        Share { budget: Arc::clone(self), ticket, bytes: 0, cut }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts off the one that has been reading longest among those that hold anything, `except` the one that asks.
    fn cut_longest(&self, except: u64) {
        let state = self.lock();
        let longest = state.readers.iter().find(|(ticket, (bytes, _))| **ticket != except && *bytes > 0);
        if let Some((_, (_, cut))) = longest {
            cut.notify_one();
        }
    }
}

impl Share {
    /// Waits until there is room for `more` bytes. Whoever waits for long has the longest reader cut off, so bodies that
    /// never end do not hold up others.
    pub(super) async fn grow(&mut self, more: usize) -> Result<(), ReadError> {
        loop {
            let budget = Arc::clone(&self.budget);
            let freed = budget.freed.notified();
            if self.try_grow(more) {
                return Ok(());
            }
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(WAIT_BEFORE_CUT) => budget.cut_longest(self.ticket),
                () = self.cut.notified() => return Err(ReadError::Cut),
            }
        }
    }

    /// Completes when this body has to make room for others.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }

    /// From now on it is our work that keeps the bytes, and nobody cuts it off.
    pub(super) fn finished_reading(&mut self) {
        self.budget.lock().readers.remove(&self.ticket);
    }

    /// A body that is alone is always let in, or a large one could wait forever.
    fn try_grow(&mut self, more: usize) -> bool {
        let mut state = self.budget.lock();
        if state.used.saturating_add(more) > self.budget.max && state.used > self.bytes {
            return false;
        }
        state.used += more;
        self.bytes += more;
        if let Some((bytes, _)) = state.readers.get_mut(&self.ticket) {
            *bytes = self.bytes;
        }
        true
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

    #[tokio::test]
    async fn a_body_waits_until_others_are_done() {
        let budget = Arc::new(Budget::new(10));
        let mut first = budget.share();
        first.grow(8).await.unwrap();
        first.finished_reading();
        let mut second = budget.share();
        let waiting = second.grow(3);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(first);
        waiting.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_reader_makes_room() {
        let budget = Arc::new(Budget::new(10));
        let mut slow = budget.share();
        slow.grow(10).await.unwrap();
        let mut good = budget.share();
        let (cut, grown) = tokio::join!(
            async {
                slow.cut().await;
                drop(slow);
            },
            good.grow(5)
        );
        assert_eq!((cut, grown), ((), Ok(())));
    }

    #[tokio::test]
    async fn a_body_that_is_alone_is_let_in() {
        let budget = Arc::new(Budget::new(10));
        let mut only = budget.share();
        only.grow(11).await.unwrap();
        drop(only);
        assert_eq!(budget.lock().used, 0);
    }
}
