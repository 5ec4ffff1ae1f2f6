//! Where in the order of storing the events of a span of time are.
//!
//! Events are stored in the order of their receipt, but for those that are imported or readmitted. So it is enough to
//! know, of each block of places, between which times its events were received: mostly one span, and a second one of long
//! ago where an import went on.

use std::collections::BTreeMap;

use super::Entry;

/// A block holds the places that differ in this many bits only. A list of a span of time looks at the events of the
/// blocks at its ends one by one, and at all spans of all blocks.
pub(in crate::store) const BLOCK_BITS: u32 = if cfg!(test) { 2 } else { 9 };
/// Milliseconds between two events of a block that make two spans of them.
const GAP: i64 = 60_000;
/// Spans of a block; where there would be more, those nearest to each other become one.
const SPANS_MAX: usize = 8;

/// From the first moment to the last, both included, in milliseconds since 1970.
pub(in crate::store) type Span = (i64, i64);

/// When events were received, by their blocks.
pub(in crate::store) fn by_block(entries: &[Entry]) -> BTreeMap<i64, Vec<Span>> {
    let mut blocks: BTreeMap<i64, Vec<Span>> = BTreeMap::new();
    for entry in entries {
        let moment = entry.row.received_at.millis();
        blocks.entry(entry.row.seq >> BLOCK_BITS).or_default().push((moment, moment));
    }
    blocks
}

/// The places of these blocks, given in order: from the first on and before the second of each pair.
pub(in crate::store) fn places(blocks: impl IntoIterator<Item = i64>) -> Vec<(i64, i64)> {
    let mut places: Vec<(i64, i64)> = Vec::new();
    for block in blocks {
        let (start, end) = (block << BLOCK_BITS, (block + 1) << BLOCK_BITS);
        match places.last_mut() {
            Some(last) if last.1 >= start => last.1 = end,
            _ => places.push((start, end)),
        }
    }
    places
}

/// As few spans as tell these apart.
pub(in crate::store) fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for (first, last) in spans {
        match joined.last_mut() {
            Some(own) if first.saturating_sub(own.1) <= GAP => own.1 = own.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    while joined.len() > SPANS_MAX {
        let gap = |at: &usize| joined[*at + 1].0.saturating_sub(joined[*at].1);
        let nearest = (0..joined.len() - 1).min_by_key(gap).unwrap_or(0);
        joined[nearest].1 = joined[nearest + 1].1;
        joined.remove(nearest + 1);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_near_each_other_are_one_span_and_those_of_an_import_another() {
        assert_eq!(joined(vec![(120_000, 120_000), (0, 0), (60_000, 60_000)]), [(0, 120_000)]);
        assert_eq!(joined(vec![(0, 5), (60_006, 60_006), (1, 7)]), [(0, 60_006)]);
        assert_eq!(joined(vec![(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)]).len(), 2);
    }

    #[test]
    fn of_too_many_spans_the_nearest_are_joined() {
        let far = |at: i64| (at * 1_000_000, at * 1_000_000);
        let mut spans: Vec<_> = (0..8).map(far).collect();
        spans.push((3_100_000, 3_100_000));
        let joined = joined(spans);
        assert_eq!(joined.len(), 8);
        assert_eq!(joined[3], (3_000_000, 3_100_000));
    }
}
