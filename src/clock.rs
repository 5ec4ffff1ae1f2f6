//! Time is passed in: whoever needs to know the hour takes a [`Clock`], and tests turn theirs by hand.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// A moment in UTC, in milliseconds since 1970-01-01T00:00:00Z; may lie before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds since the Unix epoch; what does not fit is cut to the furthest moment that does.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment moved into the future by `span`, at most to the end of time.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis_of(span)))
    }

    /// This moment moved into the past by `span`, at most to the beginning of time.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis_of(span)))
    }

    /// How long after `earlier` this moment is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        u64::try_from(self.0.saturating_sub(earlier.0)).map_or(Duration::ZERO, Duration::from_millis)
    }

    /// RFC 3339 in UTC with milliseconds: `2023-12-21T03:12:37.104Z`.
    pub fn rfc3339(self) -> String {
        format!("{:.3}", self.to_jiff())
    }

    /// RFC 3339 in UTC with whole seconds: `2023-12-21T03:12:36Z`. Milliseconds are cut off.
    pub fn rfc3339_secs(self) -> String {
        format!("{:.0}", Self::from_secs(self.secs()).to_jiff())
    }

    /// Reads RFC 3339 with any offset; what is finer than a millisecond is cut off.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }

    /// The nearest moment the calendar library can print (years -9999 to 9999).
    fn to_jiff(self) -> jiff::Timestamp {
        let ends = (jiff::Timestamp::MIN, jiff::Timestamp::MAX);
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(if self.0 < 0 { ends.0 } else { ends.1 })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

fn millis_of(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Tells the time and waits for it.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Completes once [`now`](Self::now) is at or after `moment`; at once when it already is.
    fn sleep_until(&self, moment: Timestamp) -> BoxFuture<'static, ()>;
}

impl fmt::Debug for dyn Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since_epoch.map_or(0, millis_of))
    }

    fn sleep_until(&self, moment: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(moment.since(self.now())))
    }
}

/// When that was by the machine's clock as it goes now, in nanoseconds since 1970: for traces, which look closer than a
/// [`Timestamp`]. No decision may rest on it.
#[expect(clippy::disallowed_methods, reason = "the one place beside the clock itself")]
pub fn unix_nanos(moment: Instant) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.saturating_sub(moment.elapsed()).as_nanos()).unwrap_or(u64::MAX)
}

/// A clock that stands still until a test turns it.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<watch::Sender<Timestamp>>);

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(watch::Sender::new(start)))
    }

    /// Turns the clock forward and wakes everybody whose moment has come.
    pub fn advance(&self, span: Duration) {
        self.0.send_modify(|now| *now = now.plus(span));
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, moment: Timestamp) {
        self.0.send_replace(moment);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    fn sleep_until(&self, moment: Timestamp) -> BoxFuture<'static, ()> {
        let mut turned = self.0.subscribe();
        Box::pin(async move {
            // An error means that the clock is gone and its time will never come.
            if turned.wait_for(|now| *now >= moment).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_print_and_parse_as_rfc3339() {
        let moment = Timestamp::from_millis(1_703_128_357_104);
        assert_eq!(moment.rfc3339(), "2023-12-21T03:12:37.104Z");
        assert_eq!(moment.rfc3339_secs(), "2023-12-21T03:12:37Z");
        assert_eq!(Timestamp::parse_rfc3339("2023-12-21T11:12:37.104+08:00"), Some(moment));
        assert_eq!(Timestamp::from_secs(1).rfc3339(), "1970-01-01T00:00:01.000Z");
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn moments_beyond_the_calendar_print_without_panic() {
        for millis in [i64::MIN, i64::MAX] {
            assert!(!Timestamp::from_millis(millis).rfc3339().is_empty());
        }
        assert_eq!(Timestamp::from_millis(i64::MAX).plus(Duration::MAX).millis(), i64::MAX);
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers() {
        let clock = ManualClock::new(Timestamp::from_secs(100));
        let sleeper = clock.sleep_until(Timestamp::from_secs(105));
        clock.advance(Duration::from_secs(5));
        sleeper.await;
        assert_eq!(clock.now(), Timestamp::from_secs(105));
    }
}
