//! Whether the store can take an event, as far as the last attempts show.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry::SUMMARY_EVERY;

/// How often a store that fails is complained of: at once, then in sum every so often.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    told_at: Option<Instant>,
    untold: u64,
}

impl Complaints {
    /// Counts an attempt that failed. Returns how many are to be told of now, if any.
    pub(super) fn failed(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told_at.is_some_and(|at| now.duration_since(at) < SUMMARY_EVERY) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    /// The next trouble is told of at once.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_at_once_then_in_sum_and_at_once_again_after_it_has_ended() {
        let (mut complaints, begun) = (Complaints::default(), Instant::now());
        let step = Duration::from_millis(250);
        let told: Vec<_> = (0..=40).filter_map(|n| complaints.failed(begun + step * n).map(|sum| (n, sum))).collect();
        assert_eq!(told, [(0, 1), (20, 20), (40, 20)]);
        complaints.end();
        assert_eq!(complaints.failed(begun + step * 41), Some(1));
    }
}
