//! What the writer writes. The frequent jobs of a batch are written together, whoever asked for them; the rest are works
//! of their own.

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::super::StoreError;
use super::super::model::{Appended, ClaimKey, NewEvent, Settlement};
use super::super::queue::{EVENT_OVERHEAD, Load};
use super::tx::Tx;

/// Something to be written.
#[derive(Debug)]
pub(super) enum Job {
    Append(Append),
    Settle(Settle),
    Work(Box<dyn Work>),
}

/// An event to be stored.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) new: NewEvent,
    /// Whether a commit with it had no answer: then it may be stored already, by us.
    pub(super) uncertain: bool,
    pub(super) done: Option<Appended>,
    pub(super) reply: oneshot::Sender<Result<Appended, StoreError>>,
}

/// An attempt that was made.
#[derive(Debug)]
pub(super) struct Settle {
    pub(super) key: ClaimKey,
    pub(super) settlement: Settlement,
    /// The number under which the claim was made.
    pub(super) holder: i64,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
}

/// A write of its own.
pub(super) trait Work: Load + Send + std::fmt::Debug {
    /// Writes. Runs again from the start when its transaction could not be committed.
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, sqlx::Result<()>>;

    /// Tells whoever waits that it is on stable storage, or why it never will be.
    fn finish(self: Box<Self>, failure: Option<String>);
}

impl Load for Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.new.event.body.len() + EVENT_OVERHEAD,
            Self::Settle(_) => 0,
            Self::Work(work) => work.bytes(),
        }
    }
}

impl Job {
    /// Its transaction may be committed without our knowing.
    pub(super) fn doubt(&mut self) {
        if let Self::Append(append) = self {
            append.uncertain = true;
        }
    }

    /// The claim that ends with it.
    pub(super) fn settled(&self) -> Option<ClaimKey> {
        match self {
            Self::Settle(settle) => Some(settle.key),
            Self::Append(_) | Self::Work(_) => None,
        }
    }

    /// Tells whoever waits that it is on stable storage, or why it never will be.
    pub(super) fn finish(self, failure: Option<String>) {
        match self {
            Self::Append(Append { done, reply, .. }) => answer(reply, done, failure),
            Self::Settle(Settle { reply, .. }) => answer(reply, Some(()), failure),
            Self::Work(work) => work.finish(failure),
        }
    }
}

/// Whoever waited may have run out of patience; the write stands all the same.
fn answer<T>(reply: oneshot::Sender<Result<T, StoreError>>, done: Option<T>, failure: Option<String>) {
    let _ = reply.send(match failure {
        Some(failure) => Err(StoreError::Refused(failure)),
        None => done.ok_or(StoreError::Closed),
    });
}

/// A work with somebody who waits for its outcome.
pub(super) struct Write<T, F> {
    bytes: usize,
    work: F,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Write<T, F> {
    pub(super) fn new(bytes: usize, work: F, reply: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Self { bytes, work, done: None, reply }
    }
}

impl<T, F> std::fmt::Debug for Write<T, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Write").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<T, F> Load for Write<T, F> {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<T: Send, F> Work for Write<T, F>
where
    F: for<'t> FnMut(&'t mut Tx) -> BoxFuture<'t, sqlx::Result<T>> + Send,
{
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, sqlx::Result<()>> {
        Box::pin(async {
            self.done = Some((self.work)(tx).await?);
            Ok(())
        })
    }

    fn finish(self: Box<Self>, failure: Option<String>) {
        answer(self.reply, self.done, failure);
    }
}
