//! What a disk has been told, and what becomes of an operation because of it.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::ffi;

use crate::memory::Memory;

/// What SQLite asks of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// To open a file, or make it.
    Open,
    /// To read from it.
    Read,
    /// To write to it.
    Write,
    /// To cut it.
    Truncate,
    /// To make what was written last.
    Sync,
    /// To remove it.
    Delete,
}

/// What SQLite is told of an operation that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An error of the device.
    Io,
    /// No space is left.
    Full,
    /// It may not be written.
    ReadOnly,
}

impl Failure {
    /// The result code of SQLite, the extended one where the operation has its own.
    pub(crate) fn code(self, op: Op) -> i32 {
        match (self, op) {
            (Self::Full, _) => ffi::SQLITE_FULL,
            (Self::ReadOnly, _) => ffi::SQLITE_READONLY,
            (Self::Io, Op::Open) => ffi::SQLITE_CANTOPEN,
            (Self::Io, Op::Read) => ffi::SQLITE_IOERR_READ,
            (Self::Io, Op::Write) => ffi::SQLITE_IOERR_WRITE,
            (Self::Io, Op::Truncate) => ffi::SQLITE_IOERR_TRUNCATE,
            (Self::Io, Op::Sync) => ffi::SQLITE_IOERR_FSYNC,
            (Self::Io, Op::Delete) => ffi::SQLITE_IOERR_DELETE,
        }
    }
}

/// What has been asked of a disk so far. Operations that failed are counted too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files opened.
    pub opens: u64,
    /// Reads from files.
    pub reads: u64,
    /// Writes to files.
    pub writes: u64,
    /// Truncations.
    pub truncates: u64,
    /// Syncs.
    pub syncs: u64,
    /// Removals.
    pub deletes: u64,
    /// Operations that failed because the disk was told so.
    pub failed: u64,
    /// Syncs that hang at this moment.
    pub hanging: u64,
}

impl Counts {
    fn of(&mut self, op: Op) -> &mut u64 {
        match op {
            Op::Open => &mut self.opens,
            Op::Read => &mut self.reads,
            Op::Write => &mut self.writes,
            Op::Truncate => &mut self.truncates,
            Op::Sync => &mut self.syncs,
            Op::Delete => &mut self.deletes,
        }
    }
}

/// A fault that waits for its operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Armed {
    pub(crate) ops: &'static [Op],
    /// Operations until it strikes, that one included; at least 1.
    pub(crate) left: u64,
    pub(crate) lasting: bool,
    pub(crate) failure: Failure,
    pub(crate) arriving: usize,
    pub(crate) file: Option<&'static str>,
}

/// What a disk has been told.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) faults: Vec<Armed>,
    pub(crate) full: bool,
    pub(crate) read_only: bool,
    pub(crate) sync_takes: Duration,
    pub(crate) write_takes: Duration,
    pub(crate) syncs_hang: bool,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It goes on to the disk of the machine.
    Pass,
    /// It fails with this result code; of a write, that many bytes arrive.
    Fail { code: i32, arriving: usize },
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) memory: Memory,
    told: Mutex<Told>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    plan: Plan,
    counts: Counts,
    /// How often the disk was healed: what waits under an older number goes on.
    healed: u64,
}

impl State {
    pub(crate) fn change(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.lock().plan);
        self.changed.notify_all();
    }

    pub(crate) fn heal(&self) {
        let mut told = self.lock();
        told.plan = Plan::default();
        told.healed += 1;
        drop(told);
        self.changed.notify_all();
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.lock().plan.read_only
    }

    /// Counts an operation, keeps it waiting as long as the disk was told to, and says what becomes of it. `grows` tells
    /// whether a file would become longer.
    pub(crate) fn meet(&self, op: Op, path: &Path, grows: impl FnOnce() -> bool) -> Outcome {
        let mut told = self.lock();
        *told.counts.of(op) += 1;
        told = self.wait(op, told);
        let plan = &mut told.plan;
        let code = match op {
            Op::Write | Op::Truncate | Op::Delete if plan.read_only => Some((Failure::Io.code(op), 0)),
            Op::Write if plan.full && grows() => Some((Failure::Full.code(op), 0)),
            _ => None,
        };
        // Each fault counts by itself, whatever else befalls the operation.
        let struck = plan.faults.iter_mut().map(|fault| fault.strike(op, path)).fold(None, Option::or);
        plan.faults.retain(|fault| fault.left > 0);
        match struck.or(code) {
            Some((code, arriving)) => {
                told.counts.failed += 1;
                Outcome::Fail { code, arriving }
            }
            None => Outcome::Pass,
        }
    }

    fn wait<'a>(&'a self, op: Op, mut told: MutexGuard<'a, Told>) -> MutexGuard<'a, Told> {
        let (healed, begun) = (told.healed, Instant::now());
        loop {
            let time = match op {
                Op::Sync => told.plan.sync_takes,
                Op::Write => told.plan.write_takes,
                _ => Duration::ZERO,
            };
            let left = time.saturating_sub(begun.elapsed());
            if told.healed != healed {
                return told;
            } else if op == Op::Sync && told.plan.syncs_hang {
                told.counts.hanging += 1;
                told = self.changed.wait(told).unwrap_or_else(PoisonError::into_inner);
                told.counts.hanging -= 1;
            } else if left.is_zero() {
                return told;
            } else {
                told = self.changed.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Armed {
    /// Counts down; the result code and the bytes that arrive if this is the operation that fails. Spent when nothing
    /// is left.
    fn strike(&mut self, op: Op, path: &Path) -> Option<(i32, usize)> {
        let elsewhere = self.file.is_some_and(|name| path.file_name().is_none_or(|own| own != name));
        if elsewhere || !self.ops.contains(&op) {
            return None;
        }
        let strikes = self.left == 1;
        if !(strikes && self.lasting) {
            self.left -= 1;
        }
        strikes.then(|| (self.failure.code(op), self.arriving))
    }
}
