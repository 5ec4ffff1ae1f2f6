//! Moments and spans as people write and read them.

use std::time::Duration;

use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::config::units;

/// The present moment.
pub(super) fn now() -> Timestamp {
    SystemClock.now()
}

/// Reads a moment: RFC 3339, or a span such as `2h` that lies that far back.
pub(super) fn parse(text: &str) -> Result<Timestamp, String> {
    let ago = units::span(text).ok().map(|span| now().minus(span));
    let wrong = || "a time is written as 2026-01-31T08:00:00Z, or as 2h for two hours ago".to_owned();
    Timestamp::parse_rfc3339(text).or(ago).ok_or_else(wrong)
}

/// Reads a span such as `10m`.
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    units::span(text)
}

/// A span in words, its two largest units: `3h 12m`.
pub(super) fn words(span: Duration) -> String {
    let secs = span.as_secs();
    let units = [(secs / 86_400, "d"), (secs / 3600 % 24, "h"), (secs / 60 % 60, "m"), (secs % 60, "s")];
    let parts = units.iter().skip_while(|(amount, _)| *amount == 0).take(2).filter(|(amount, _)| *amount > 0);
    let words: Vec<_> = parts.map(|(amount, unit)| format!("{amount}{unit}")).collect();
    if words.is_empty() { format!("{}ms", span.as_millis()) } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_two_units() {
        for (secs, said) in
            [(5, "5s"), (60, "1m"), (3 * 3600 + 61, "3h 1m"), (2 * 86_400 + 59, "2d"), (90_000, "1d 1h")]
        {
            assert_eq!(words(Duration::from_secs(secs)), said);
        }
        assert_eq!(words(Duration::from_millis(7)), "7ms");
    }

    #[test]
    fn moments_are_absolute_or_ago() {
        assert_eq!(parse("2023-12-21T11:12:37+08:00").unwrap().millis(), 1_703_128_357_000);
        assert!(parse("2h").unwrap() < now());
        assert!(parse("yesterday").is_err());
    }
}
