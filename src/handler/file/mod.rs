//! Appends each event to a file as a line of JSON, synced before the delivery counts. All deliveries that wait at the
//! same time share one sync.
//!
//! The file may be moved or cut by others at any time, as logrotate does; it is found missing and opened anew. It is
//! *not* meant to be written by two processes: a write that fails is taken back by cutting the file. Handlers of one
//! process that name the same file take turns.

mod journal;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::journal::{Journal, Limits};
use super::{BuildError, Handler, HandlerError, cloudevent};
use crate::event::Event;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file that is appended to.
    pub path: PathBuf,
    /// The file is set aside before it grows past this many bytes; none: it grows.
    pub rotate_bytes: Option<u64>,
    /// How many files that were set aside are kept, as `path.1` (the youngest), `path.2` and so on.
    pub rotate_keep: usize,
}

/// The `file` handler.
#[derive(Debug)]
pub struct File {
    queue: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
}

impl File {
    /// Opens the file, makes its folder where it is missing, and repairs a last line that was torn in a crash.
    pub fn open(settings: &Settings) -> Result<Self, BuildError> {
        let fault = |e: io::Error| BuildError(format!("cannot append to {}: {e}", settings.path.display()));
        let journal = journal_of(&settings.path).map_err(fault)?;
        let (queue, jobs) = mpsc::channel(QUEUE_LINES);
        let limits = Limits { rotate_bytes: settings.rotate_bytes, rotate_keep: settings.rotate_keep };
        thread::Builder::new().name("file".to_owned()).spawn(move || run(jobs, &journal, limits)).map_err(fault)?;
        Ok(Self { queue, room: Arc::new(Semaphore::new(QUEUE_BYTES)) })
    }

    async fn append(&self, event: &Event) -> Result<(), HandlerError> {
        let mut line = cloudevent::json(event).into_bytes();
        line.push(b'\n');
        let bytes = u32::try_from(line.len().min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let ended = || HandlerError::transient("the writer of the file ended");
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| ended())?;
        let (done, waiting) = oneshot::channel();
        self.queue.send(Job { line, done, _room: room }).await.map_err(|_| ended())?;
        waiting.await.map_err(|_| ended())?.map_err(|e| HandlerError::transient(format!("cannot append: {e}")))
    }
}

impl Handler for File {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(self.append(event))
    }
}

/// A line that somebody waits for.
#[derive(Debug)]
struct Job {
    line: Vec<u8>,
    done: oneshot::Sender<Result<(), Arc<io::Error>>>,
    _room: OwnedSemaphorePermit,
}

/// The journal of a file: the same one for all who ask while one of them lives, by whatever path they come, so that a
/// reload, where the old handler and the new one overlap, never has two writers. Two would lose lines: one sets the file
/// aside, and in the end removes it, while the other writes to it.
fn journal_of(path: &Path) -> io::Result<Arc<Mutex<Journal>>> {
    static JOURNALS: Mutex<Option<HashMap<PathBuf, Weak<Mutex<Journal>>>>> = Mutex::new(None);
    let path = journal::place_of(path)?;
    let mut journals = JOURNALS.lock().unwrap_or_else(PoisonError::into_inner);
    let journals = journals.get_or_insert_default();
    journals.retain(|_, journal| journal.strong_count() > 0);
    match journals.entry(path) {
        Entry::Occupied(entry) if let Some(journal) = entry.get().upgrade() => Ok(journal),
        entry => {
            let journal = Arc::new(Mutex::new(Journal::open(entry.key())?));
            entry.insert_entry(Arc::downgrade(&journal));
            Ok(journal)
        }
    }
}

/// Ends after the handler is gone and what it queued is written.
fn run(mut jobs: mpsc::Receiver<Job>, journal: &Mutex<Journal>, limits: Limits) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        batch.extend(std::iter::from_fn(|| jobs.try_recv().ok()).take(QUEUE_LINES));
        // Whoever gave up will come again.
        batch.retain(|job| !job.done.is_closed());
        commit(&mut journal.lock().unwrap_or_else(PoisonError::into_inner), batch, limits);
    }
}

/// Writes a batch, in as few syncs as rotation allows, and tells each waiter how its line fared.
fn commit(journal: &mut Journal, batch: Vec<Job>, limits: Limits) {
    let mut waiting = batch.into_iter().peekable();
    while let Some(next) = waiting.peek() {
        let room = journal.prepare(next.line.len() as u64, limits);
        let mut left = *room.as_ref().unwrap_or(&0);
        let (mut text, mut together) = (Vec::new(), Vec::new());
        while let Some(job) = waiting.next_if(|job| together.is_empty() || job.line.len() as u64 <= left) {
            left = left.saturating_sub(job.line.len() as u64);
            text.extend_from_slice(&job.line);
            together.push(job.done);
        }
        let result = room.and_then(|_| journal.append(&text)).map_err(Arc::new);
        for done in together {
            // Whoever gave up will come again.
            let _ = done.send(result.clone());
        }
    }
}

/// Lines that wait at the same time.
const QUEUE_LINES: usize = 1024;
/// Bytes that wait at the same time; a line of more waits alone.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests;
