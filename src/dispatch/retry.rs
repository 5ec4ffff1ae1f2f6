//! What comes after an attempt: a pure function.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::handler::{HandlerError, RetryPolicy};
use crate::store::Settlement;

/// The longest wait another side may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Decides after the attempt with the number `attempt` (from 1). `jitter` is chance, from 0 to 1.
///
/// The delay is drawn evenly between nothing and a bound that doubles with every attempt from `min_delay` to
/// `max_delay`; what the other side asked for counts even above that.
pub fn decide(
    policy: RetryPolicy,
    attempt: u32,
    outcome: Result<(), HandlerError>,
    now: Timestamp,
    jitter: f64,
) -> Settlement {
    let (error, retry_after) = match outcome {
        Ok(()) => return Settlement::Done,
        Err(HandlerError::Permanent { reason }) => return Settlement::Dead { error: reason, exhausted: false },
        Err(HandlerError::Transient { reason, retry_after }) => (reason, retry_after),
    };
    if attempt >= policy.max_attempts {
        let error = format!("attempt {attempt} of {}: {error}", policy.max_attempts);
        return Settlement::Dead { error, exhausted: true };
    }
    let delay = bound(policy, attempt).mul_f64(jitter.clamp(0.0, 1.0));
    let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
    Settlement::Retry { due: now.plus(delay.max(asked)), error }
}

fn bound(policy: RetryPolicy, attempt: u32) -> Duration {
    let doubled = 1_u32.checked_shl(attempt.saturating_sub(1)).and_then(|factor| policy.min_delay.checked_mul(factor));
    doubled.map_or(policy.max_delay, |delay| delay.min(policy.max_delay))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn policy(max_attempts: u32, min_delay: u64, max_delay: u64) -> RetryPolicy {
        let secs = Duration::from_secs;
        RetryPolicy { max_attempts, min_delay: secs(min_delay), max_delay: secs(max_delay) }
    }

    fn delay(attempt: u32, retry_after: Option<u64>, jitter: f64) -> Option<u64> {
        let retry_after = retry_after.map(Duration::from_secs);
        let failed = Err(HandlerError::Transient { reason: "no".into(), retry_after });
        match decide(policy(300, 1, 600), attempt, failed, NOW, jitter) {
            Settlement::Retry { due, .. } => Some(due.since(NOW).as_secs()),
            _ => None,
        }
    }

    #[test]
    fn delays_double_up_to_the_bound() {
        let delays: Vec<_> = [1, 2, 3, 10, 11, 40, 299].map(|attempt| delay(attempt, None, 1.0)).to_vec();
        assert_eq!(delays, [1, 2, 4, 512, 600, 600, 600].map(Some));
        assert_eq!(delay(5, None, 0.5), Some(8));
        assert_eq!(delay(5, None, 0.0), Some(0));
    }

    #[test]
    fn what_the_other_side_asks_for_counts_up_to_an_hour() {
        assert_eq!(delay(1, Some(1200), 1.0), Some(1200));
        assert_eq!(delay(1, Some(100_000), 1.0), Some(3600));
        assert_eq!(delay(9, Some(5), 1.0), Some(256));
    }

    #[test]
    fn attempts_run_out_and_permanent_failures_end_at_once() {
        assert_eq!(delay(300, None, 1.0), None);
        let dead = decide(policy(300, 1, 600), 1, Err(HandlerError::permanent("404")), NOW, 0.5);
        assert_eq!(dead, Settlement::Dead { error: "404".into(), exhausted: false });
        assert_eq!(decide(policy(1, 1, 1), 1, Ok(()), NOW, 0.5), Settlement::Done);
    }

    #[test]
    fn the_default_policy_tries_for_about_a_day() {
        let policy = RetryPolicy::default();
        let half_of_all: Duration = (1..policy.max_attempts).map(|attempt| bound(policy, attempt) / 2).sum();
        assert!((20..30).contains(&(half_of_all.as_secs() / 3600)), "{half_of_all:?}");
    }

    proptest! {
        #[test]
        fn a_retry_is_never_before_now_nor_beyond_its_bound(
            attempt in 1_u32..=400, min in 0_u64..100, more in 0_u64..100_000, jitter in -1.0_f64..2.0,
        ) {
            let policy = policy(u32::MAX, min, min + more);
            let failed = Err(HandlerError::transient("no"));
            let Settlement::Retry { due, .. } = decide(policy, attempt, failed, NOW, jitter) else {
                return Err(TestCaseError::fail("must retry"));
            };
            prop_assert!(due >= NOW && due <= NOW.plus(policy.max_delay));
        }
    }
}
