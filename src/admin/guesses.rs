use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;

/// Wrong tokens that cost nothing yet: people mistype.
const FREE: u32 = 50;
/// Every wrong token beyond them takes this long to be forgiven.
const FORGIVEN_AFTER: Duration = Duration::from_millis(200);
/// Wrong tokens that are known again.
const REMEMBERED: usize = 8;

/// Slows down whoever tries tokens one after the other.
///
/// While too many different wrong ones have come, no token is looked at, not even the right one, or its answer would
/// tell it apart. The same wrong one again, as from a script that was forgotten when the token changed, is no guess and
/// counts once. Whoever is logged in already notices nothing.
#[derive(Debug, Default)]
pub(super) struct Guesses(Mutex<Wrong>);

#[derive(Debug, Default)]
struct Wrong {
    count: u32,
    /// From when on `count` is forgiven.
    since: Option<Timestamp>,
    latest: VecDeque<[u8; 32]>,
}

impl Guesses {
    /// Whether a token may be looked at.
    pub(super) fn allowed(&self, now: Timestamp) -> bool {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.forgive(now);
        wrong.count < FREE
    }

    /// Counts a token that was wrong.
    pub(super) fn count(&self, token: &[u8], now: Timestamp) {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.latest.contains(&digest) {
            return;
        }
        wrong.latest.push_back(digest);
        if wrong.latest.len() > REMEMBERED {
            wrong.latest.pop_front();
        }
        wrong.forgive(now);
        wrong.count += 1;
    }
}

impl Wrong {
    fn forgive(&mut self, now: Timestamp) {
        let since = *self.since.get_or_insert(now);
        let steps = now.since(since).as_millis() / FORGIVEN_AFTER.as_millis();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        // A clock that was set back must not lock anybody out until it has caught up.
        if steps > 0 || now < since {
            self.count = self.count.saturating_sub(steps);
            self.since = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn guess(guesses: &Guesses, numbers: std::ops::Range<u32>, now: Timestamp) {
        numbers.for_each(|number| guesses.count(&number.to_be_bytes(), now));
    }

    #[test]
    fn too_many_different_guesses_must_wait() {
        let guesses = Guesses::default();
        guess(&guesses, 0..FREE - 1, NOW);
        assert!(guesses.allowed(NOW));
        guess(&guesses, FREE..FREE + 1, NOW);
        assert!(!guesses.allowed(NOW));
        assert!(guesses.allowed(NOW.plus(FORGIVEN_AFTER)));
        guess(&guesses, 1000..1001, NOW.plus(FORGIVEN_AFTER));
        assert!(!guesses.allowed(NOW.plus(FORGIVEN_AFTER)));
        assert!(guesses.allowed(NOW.plus(FORGIVEN_AFTER * FREE)));
    }

    #[test]
    fn the_same_wrong_token_again_is_no_guess() {
        let guesses = Guesses::default();
        for _ in 0..FREE * 2 {
            guess(&guesses, 0..3, NOW);
        }
        assert!(guesses.allowed(NOW));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let guesses = Guesses::default();
        guess(&guesses, 0..FREE, NOW);
        let back = Timestamp::from_secs(1_600_000_000);
        assert!(!guesses.allowed(back));
        assert!(guesses.allowed(back.plus(FORGIVEN_AFTER)));
    }
}
