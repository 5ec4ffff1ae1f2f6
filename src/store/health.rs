//! Whether the store can take an event, as far as the last attempts show.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Watched by the writer, asked by readiness probes.
#[derive(Debug)]
pub(super) struct Health {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stall: Duration,
    failure: Option<String>,
    writing_since: Option<Instant>,
}

impl Health {
    /// `stall` is how long a write may take before it counts as stuck.
    pub(super) fn new(stall: Duration) -> Self {
        Self { state: Mutex::new(State { stall, failure: None, writing_since: None }) }
    }

    pub(super) fn set_stall(&self, stall: Duration) {
        self.lock().stall = stall;
    }

    pub(super) fn begin(&self) {
        self.lock().writing_since = Some(Instant::now());
    }

    /// Returns whether the store works again after it did not. A write that was too late for its callbacks is a failure
    /// here: the next one would be as late.
    pub(super) fn end(&self, failure: Option<String>) -> bool {
        let mut state = self.lock();
        let took = state.writing_since.map(|since| since.elapsed()).filter(|took| *took > state.stall);
        if let Some(took) = took.filter(|_| state.failure.is_none() && failure.is_none()) {
            tracing::warn!(?took, "the store takes longer to write than callbacks can wait");
        }
        let failure = failure.or_else(|| took.map(|took| format!("the last write took {took:.1?}")));
        let recovered = state.failure.is_some() && failure.is_none();
        *state = State { stall: state.stall, failure, writing_since: None };
        if recovered {
            tracing::info!("the store can be written again");
        }
        recovered
    }

    pub(super) fn is_good(&self) -> bool {
        self.trouble().is_none()
    }

    /// Why an event cannot be taken at present.
    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.lock();
        let stuck = state.writing_since.map(|since| since.elapsed()).filter(|time| *time > state.stall);
        state.failure.clone().or_else(|| stuck.map(|time| format!("a write has not returned for {time:.1?}")))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
