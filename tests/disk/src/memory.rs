//! What of a disk would be there after a power cut.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::ffi;

/// The files of a disk as they were made to last.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    files: Mutex<Option<HashMap<PathBuf, Kept>>>,
    /// Held through a sync: one that returns must not be known before another that began earlier.
    syncing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    /// As of the last sync.
    lasting: Vec<u8>,
    /// What came after it, in order.
    fleeting: Vec<Change>,
    /// Syncs that failed.
    failures: u64,
}

#[derive(Debug)]
pub(crate) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { size: usize },
}

impl Memory {
    pub(crate) fn begin(&self) {
        self.lock().get_or_insert_default();
    }

    pub(crate) fn is_on(&self) -> bool {
        self.lock().is_some()
    }

    /// A file is about to be opened. What it holds when it is first seen was there before us, and lasts.
    /// Returns how many of its syncs have failed before.
    pub(crate) fn opened(&self, path: &Path) -> u64 {
        let mut files = self.lock();
        let Some(files) = &mut *files else { return 0 };
        let first = || Kept { lasting: std::fs::read(path).unwrap_or_default(), ..Kept::default() };
        files.entry(path.to_owned()).or_insert_with(first).failures
    }

    pub(crate) fn changed(&self, path: &Path, change: Change) {
        self.with(path, |kept| kept.fleeting.push(change));
    }

    pub(crate) fn deleted(&self, path: &Path) {
        if let Some(files) = &mut *self.lock() {
            files.remove(path);
        }
    }

    /// Runs a sync and keeps what it made last. If it fails, that never does: the system takes what it could not write for
    /// written, and a later sync leaves it out. But everybody who has the file open is told once: `told` is the number of
    /// failures this one knows of.
    pub(crate) fn sync(&self, path: &Path, told: &AtomicU64, sync: impl FnOnce() -> i32) -> i32 {
        if !self.is_on() {
            return sync();
        }
        let _one_at_a_time = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((changes, failures)) = self.with(path, |kept| (std::mem::take(&mut kept.fleeting), kept.failures))
        else {
            return sync();
        };
        let missed = told.swap(failures, Ordering::Relaxed) < failures;
        let code = sync();
        self.with(path, |kept| {
            if code == ffi::SQLITE_OK {
                for change in changes {
                    change.apply(&mut kept.lasting);
                }
            } else {
                kept.failures += 1;
                told.store(kept.failures, Ordering::Relaxed);
            }
        });
        if missed { ffi::SQLITE_IOERR_FSYNC } else { code }
    }

    pub(crate) fn write_to(&self, directory: &Path) -> io::Result<()> {
        for (path, kept) in self.lock().iter().flatten() {
            let name = path.file_name().unwrap_or_default();
            std::fs::write(directory.join(name), &kept.lasting)?;
        }
        Ok(())
    }

    fn with<T>(&self, path: &Path, work: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        self.lock().as_mut().and_then(|files| files.get_mut(path)).map(work)
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<PathBuf, Kept>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Change {
    fn apply(self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[offset..end].copy_from_slice(&bytes);
            }
            Self::Truncate { size } => to.truncate(size),
        }
    }
}
