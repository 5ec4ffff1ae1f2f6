//! Many lines on their way into the store at the same time, so that they share its syncs.

use std::collections::VecDeque;
use std::future::{poll_fn, ready};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::Intake;
use super::import::{ImportError, Importation, Imported};
use crate::store::StoreError;

/// What becomes of a line.
type Outcome = Result<Imported, ImportError>;

/// Lines that were read and wait to be stored. They are stored in the order in which they were taken, and told of in it.
pub struct Importing<'a> {
    intake: &'a Intake,
    waiting: VecDeque<Waiting<'a>>,
    bytes: usize,
}

struct Waiting<'a> {
    line: u64,
    bytes: usize,
    outcome: Importation<'a>,
}

/// Lines that wait: enough to make a sync cheap, few enough that callbacks behind them do not wait long.
const LINES_MAX: usize = 256;
/// Bytes of these lines, unless one alone has more: a small part of the store's queue.
const BYTES_MAX: usize = 4 << 20;
/// How often and how long a full queue is waited for: half a minute in all.
const FULL_RETRIES: u32 = 300;
const FULL_PAUSE: Duration = Duration::from_millis(100);

impl<'a> Importing<'a> {
    /// Nothing waits yet.
    pub fn new(intake: &'a Intake) -> Self {
        Self { intake, waiting: VecDeque::new(), bytes: 0 }
    }

    /// What became of the oldest line, with its number, where there is no room for another of this length; none where there
    /// is. To be asked until then.
    pub async fn make_room(&mut self, bytes: usize) -> Option<(u64, Outcome)> {
        let is_full = self.waiting.len() >= LINES_MAX || self.bytes.saturating_add(bytes) > BYTES_MAX;
        if is_full { self.next().await } else { None }
    }

    /// Takes a line in.
    pub async fn take(&mut self, line: u64, text: &str) {
        let outcome = self.intake.begin_import(text).await;
        self.bytes += text.len();
        self.waiting.push_back(Waiting { line, bytes: text.len(), outcome });
    }

    /// What became of the oldest line, with its number; none when none waits.
    pub async fn next(&mut self) -> Option<(u64, Outcome)> {
        let Waiting { line, bytes, outcome } = self.waiting.pop_front()?;
        self.bytes -= bytes;
        Some((line, outcome.await))
    }
}

/// Returns when a write has its place in the store's queue, with what becomes of it. While the queue is full it waits:
/// callbacks go first.
pub(super) async fn queued<'a, T, F>(write: impl Fn() -> F) -> BoxFuture<'a, Result<T, StoreError>>
where
    T: Send + 'a,
    F: Future<Output = Result<T, StoreError>> + Send + 'a,
{
    for _ in 0..FULL_RETRIES {
        let mut writing: BoxFuture<'a, _> = Box::pin(write());
        match poll_fn(|context| Poll::Ready(writing.as_mut().poll(context))).await {
            Poll::Pending => return writing,
            Poll::Ready(Err(StoreError::Full)) => tokio::time::sleep(FULL_PAUSE).await,
            Poll::Ready(outcome) => return Box::pin(ready(outcome)),
        }
    }
    Box::pin(ready(Err(StoreError::Full)))
}
