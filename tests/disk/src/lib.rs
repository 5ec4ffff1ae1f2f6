//! A disk under SQLite that does as a test tells it: fails at the n-th write, fills up, goes read-only, takes its time,
//! or never comes back.
//!
//! [`install`] puts it between SQLite and the disk of the machine, for the whole process. From then on every database
//! that is opened in the directory of a [`Disk`] meets the faults of that disk, with all its connections; everything else
//! passes as ever. Directories do not know of each other, so tests run side by side.
//!
//! ```
//! use faulty_disk::{Disk, Fault};
//!
//! faulty_disk::install();
//! let directory = tempfile::tempdir().unwrap();
//! let disk = Disk::over(directory.path());
//! let db = rusqlite::Connection::open(directory.path().join("a.db")).unwrap();
//! disk.fail(Fault::sync(1));
//! assert!(db.execute_batch("CREATE TABLE t (x)").is_err());
//! db.execute_batch("CREATE TABLE t (x)").unwrap();
//! ```
//!
//! What passes through SQLite is all there is: the locks, the shared memory of the write-ahead log and files that others
//! open meet no faults. It is an own crate because speaking to SQLite as a disk takes `unsafe`, which the service forbids
//! itself.

mod memory;
mod state;
mod vfs;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::state::{Armed, State};
pub use self::state::{Counts, Failure, Op};

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug)]
#[must_use = "a fault is given to a disk"]
pub struct Fault(Armed);

/// Every operation that changes what is on the disk, or makes it last.
const CHANGES: &[Op] = &[Op::Write, Op::Truncate, Op::Sync, Op::Delete];

impl Fault {
    /// The n-th read from now on fails, once. Reads out of shared memory are none.
    pub fn read(n: u64) -> Self {
        Self::of(&[Op::Read], n)
    }

    /// The n-th write from now on fails, once.
    pub fn write(n: u64) -> Self {
        Self::of(&[Op::Write], n)
    }

    /// The n-th sync from now on fails, once.
    pub fn sync(n: u64) -> Self {
        Self::of(&[Op::Sync], n)
    }

    /// The n-th write, sync, truncation or removal of a file from now on fails, once.
    pub fn change(n: u64) -> Self {
        Self::of(CHANGES, n)
    }

    /// The n-th of these from now on fails, once. The first is number 1.
    pub fn of(ops: &'static [Op], n: u64) -> Self {
        Self(Armed { ops, left: n.max(1), lasting: false, failure: Failure::Io, arriving: 0, file: None })
    }

    /// Not once, but that one and all that follow, until the disk is healed.
    pub fn until_healed(self) -> Self {
        Self(Armed { lasting: true, ..self.0 })
    }

    /// What SQLite is told; [`Failure::Io`] otherwise.
    pub fn with(self, failure: Failure) -> Self {
        Self(Armed { failure, ..self.0 })
    }

    /// Only operations on the file of that name, in whatever directory.
    pub fn on(self, file: &'static str) -> Self {
        Self(Armed { file: Some(file), ..self.0 })
    }

    /// Of a write that fails, the first `bytes` arrive all the same.
    pub fn torn(self, bytes: usize) -> Self {
        Self(Armed { arriving: bytes, ..self.0 })
    }
}

/// The disk under one directory. Dropped, it is well again.
#[derive(Debug)]
#[must_use = "its faults end with it"]
pub struct Disk {
    directory: PathBuf,
    state: Arc<State>,
}

impl Disk {
    /// The disk under all files that SQLite opens in that directory, or in one below, from now on. Files that are open
    /// already are not covered.
    ///
    /// # Panics
    ///
    /// If there is no such directory, or [`install`] was never called.
    pub fn over(directory: &Path) -> Self {
        assert!(vfs::is_installed(), "call `faulty_disk::install` first");
        // SQLite resolves links before it opens a file.
        let directory = directory.canonicalize().expect("the directory exists");
        let state = Arc::new(State::default());
        vfs::cover(&directory, &state);
        Self { directory, state }
    }

    /// Adds a fault. Several count independently of each other.
    pub fn fail(&self, fault: Fault) {
        self.state.change(|plan| plan.faults.push(fault.0));
    }

    /// Full: no file grows, while what is there can be overwritten.
    pub fn fill(&self) {
        self.state.change(|plan| plan.full = true);
    }

    /// Read-only: nothing can be changed, and whoever opens a file to write may only read it.
    pub fn refuse_writes(&self) {
        self.state.change(|plan| plan.read_only = true);
    }

    /// Every sync takes that long, and then as long as it takes.
    pub fn sync_takes(&self, time: Duration) {
        self.state.change(|plan| plan.sync_takes = time);
    }

    /// Every write takes that long, and then as long as it takes.
    pub fn write_takes(&self, time: Duration) {
        self.state.change(|plan| plan.write_takes = time);
    }

    /// No sync comes back before the disk is healed.
    pub fn hang_syncs(&self) {
        self.state.change(|plan| plan.syncs_hang = true);
    }

    /// As good as new. What hangs or takes its time goes on at once.
    pub fn heal(&self) {
        self.state.heal();
    }

    /// From now on it is known what of the files that are opened would survive a power cut. It is kept in memory.
    pub fn remember(&self) {
        self.state.memory.begin();
    }

    /// Writes the files as they would be after a power cut now into another directory, without those below: nothing that
    /// was written since the last sync of its file is there, and nothing that a sync which failed was to make last.
    /// Removals last at once.
    ///
    /// As with Linux, a sync that failed is the last word on what it covered: a later one leaves it out and succeeds. All
    /// who have the file open at the time are told once, by their next sync.
    ///
    /// # Errors
    ///
    /// If a file cannot be written there.
    ///
    /// # Panics
    ///
    /// If [`remember`](Self::remember) was never called.
    pub fn survivors(&self, into: &Path) -> io::Result<()> {
        assert!(self.state.memory.is_on(), "call `remember` before the files are opened");
        self.state.memory.write_to(into)
    }

    /// What has been asked of the disk so far.
    pub fn counts(&self) -> Counts {
        self.state.counts()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.heal();
        vfs::uncover(&self.directory, &self.state);
    }
}

/// Makes SQLite of this process open its files through here. Connections that are open already stay as they are.
///
/// # Panics
///
/// If SQLite has no disk of its own, or refuses another one.
pub fn install() {
    vfs::install();
}
