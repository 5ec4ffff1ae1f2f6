//! Log lines that a stranger could have us write without end: the first few of each cause are written, the others are
//! counted and told in sum.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lines of one cause between two summaries.
const LINES_MAX: u64 = 5;
/// How often [`untold`](Repeats::untold) is to be asked.
pub const SUMMARY_EVERY: Duration = Duration::from_secs(5);

/// Counts lines by their cause.
#[derive(Debug)]
pub struct Repeats<C>(Mutex<BTreeMap<C, u64>>);

impl<C> Default for Repeats<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C: Ord> Repeats<C> {
    /// Counts one, and says whether it gets a line of its own.
    pub fn is_told(&self, cause: C) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(cause).or_default();
        *count += 1;
        *count <= LINES_MAX
    }

    /// How many of which cause got no line since this was last asked. From now on the first few get one again.
    pub fn untold(&self) -> Vec<(C, u64)> {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        counts
            .into_iter()
            .filter(|(_, count)| *count > LINES_MAX)
            .map(|(cause, count)| (cause, count - LINES_MAX))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_cause_are_told_and_the_others_counted() {
        let repeats = Repeats::default();
        let told = |cause, count: u64| (0..count).filter(|_| repeats.is_told(cause)).count() as u64;
        assert_eq!((told("a", LINES_MAX + 7), told("b", LINES_MAX)), (LINES_MAX, LINES_MAX));
        assert_eq!(repeats.untold(), [("a", 7)]);
        assert_eq!(repeats.untold(), []);
        assert_eq!(told("a", 1), 1, "after a summary the first is told again");
    }
}
