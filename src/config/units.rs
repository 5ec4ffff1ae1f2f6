//! Durations and sizes as they are written in the configuration: a whole number and a unit, nothing between them.

use std::time::Duration;

/// Reads a duration such as `250ms` or `30d`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    measure(text, &SPANS).map(Duration::from_millis)
}

/// Reads a size in bytes such as `512B` or `20GiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    measure(text, &SIZES)
}

/// The shortest text that [`span`] reads back; what is below a millisecond is cut off.
pub(crate) fn show_span(span: Duration) -> String {
    show(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), &SPANS)
}

/// The shortest text that [`size`] reads back.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES)
}

/// A kind of quantity and the units it is written in, smallest first.
struct Scale {
    noun: &'static str,
    example: &'static str,
    units: &'static [(&'static str, u64)],
    zero: &'static str,
    max: u64,
}

const DAY: u64 = 24 * 60 * 60 * 1000;

/// In milliseconds. A hundred years are enough, and a clock can still add them to today.
const SPANS: Scale = Scale {
    noun: "duration",
    example: "10s",
    units: &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", DAY)],
    zero: "0s",
    max: 36_500 * DAY,
};

/// In bytes. The store counts with signed numbers of 64 bits.
const SIZES: Scale = Scale {
    noun: "size",
    example: "64KiB",
    units: &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)],
    zero: "0B",
    max: i64::MAX.unsigned_abs(),
};

fn measure(text: &str, scale: &Scale) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = scale.units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let (false, Some(factor)) = (number.is_empty(), factor) else { return Err(unclear(text, number, unit, scale)) };
    let amount = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    amount
        .filter(|amount| *amount <= scale.max)
        .ok_or_else(|| format!("{text:?} is too large; the most is {:?}", show(scale.max, scale)))
}

fn unclear(text: &str, number: &str, unit: &str, scale: &Scale) -> String {
    let Scale { noun, example, .. } = scale;
    let units = scale.units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let problem = match (number, unit) {
        ("", _) => "does not begin with a whole number".to_owned(),
        (_, "") => "has no unit".to_owned(),
        (_, unit) => format!("has the unknown unit {unit:?}"),
    };
    format!("{text:?} {problem}; a {noun} is a whole number and one of {units}, such as {example:?}")
}

fn show(amount: u64, scale: &Scale) -> String {
    let exact = scale.units.iter().rev().find(|(_, factor)| amount.is_multiple_of(*factor));
    match exact {
        Some((unit, factor)) if amount > 0 => format!("{}{unit}", amount / factor),
        _ => scale.zero.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, millis) in
            [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000), ("30d", 30 * DAY), ("0s", 0)]
        {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_in_every_unit() {
        for (text, bytes) in
            [("512B", 512), ("64KiB", 65_536), ("1MiB", 1 << 20), ("20GiB", 20 << 30), ("1TiB", 1 << 40), ("0B", 0)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in ["", "10", "-1s", "+1s", "1.5h", "1 s", "s", "10sec", "10S", " 10s", "10s ", "٣s", "1d2h"] {
            assert!(span(text).unwrap_err().contains("\"10s\""), "{text}");
        }
        for text in ["", "1048576", "1MB", "1mib", "-1B", "1e3B", "64 KiB"] {
            assert!(size(text).unwrap_err().contains("\"64KiB\""), "{text}");
        }
    }

    #[test]
    fn what_overflows_is_refused() {
        for text in ["36501d", "18446744073709551615d", "99999999999999999999ms"] {
            assert!(span(text).unwrap_err().contains("too large"), "{text}");
        }
        assert!(size("9223372036854775807B").is_ok());
        assert!(size("8388608TiB").unwrap_err().contains("too large"));
    }

    #[test]
    fn the_shortest_form_is_shown() {
        assert_eq!(show_span(Duration::from_secs(75)), "75s");
        assert_eq!(show_span(Duration::from_mins(10)), "10m");
        assert_eq!(show_span(Duration::ZERO), "0s");
        assert_eq!(show_size(1 << 20), "1MiB");
        assert_eq!(show_size(1025), "1025B");
    }

    proptest! {
        #[test]
        fn durations_survive_a_round_trip(millis in 0..=SPANS.max) {
            let given = Duration::from_millis(millis);
            prop_assert_eq!(span(&show_span(given)), Ok(given));
        }

        #[test]
        fn sizes_survive_a_round_trip(bytes in 0..=SIZES.max, shift in 0..63_u32) {
            let given = bytes >> shift << (shift / 2);
            prop_assert_eq!(size(&show_size(given)), Ok(given));
        }
    }
}
