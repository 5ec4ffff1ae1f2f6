//! The shared store: PostgreSQL, for any number of replicas.
//!
//! What is written goes through one thread per replica, which takes whatever waits into one transaction. All of them take
//! turns under a lock of the database, so that the order of storing is the order of the commits: cursors skip nothing,
//! copies are found wherever they arrive, and nobody meets another's change half way. What is read goes beside them.
//!
//! Deliberately absent: sharing by partition. Where the turns of many replicas are too few for what arrives, there are
//! brokers behind a handler.

mod append;
mod background;
mod batch;
mod catalogue;
mod connect;
mod deliveries;
mod engine;
mod events;
mod groups;
mod handlers;
mod jobs;
mod listen;
mod locks;
mod look;
mod prune;
mod quarantine;
mod replays;
mod rows;
mod schema;
mod select;
mod standing;
mod streams;
mod text;
mod tx;
mod writer;

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

pub(super) use self::connect::fault_of_url;
pub(super) use self::engine::Engine;
use super::bells::Bells;
use super::counted::Counted;
use super::health::Health;
use super::settings::QuarantineSettings;

/// What the writer lets others see.
#[derive(Debug)]
struct Shared {
    health: Health,
    counted: Mutex<Counted>,
    bounds: Mutex<QuarantineSettings>,
    bells: Bells,
    /// The number of this replica; 0 before it has one.
    replica: AtomicI64,
    /// Of all tables with their indexes, as they were measured last.
    bytes: AtomicU64,
    /// Cancelled when the thread that writes has died.
    died: CancellationToken,
}

impl Shared {
    /// How much there is as of the last commit of this replica, and not much later than those of others.
    fn counted(&self) -> Counted {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, change: &Counted) {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).add(change);
    }

    /// Takes over what was read. Returns what was known before.
    fn see(&self, present: Counted) -> Counted {
        std::mem::replace(&mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner), present)
    }

    fn bounds(&self) -> QuarantineSettings {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_bounds(&self, bounds: QuarantineSettings) {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner) = bounds;
    }
}
