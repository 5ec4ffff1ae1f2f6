//! What a run comes to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

/// What must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A callback that was answered 200 is kept nowhere.
    Lost,
    /// A body that is stored, or has arrived, is not what was sent.
    Altered,
    /// One event is stored more than once.
    Twice,
    /// An event did not arrive.
    Missing,
    /// Events of a stream arrived in another order than they were stored in.
    Order,
    /// What arrived is not stored.
    Invented,
    /// A line of the file handler is none.
    Torn,
    /// What a person has decided is not so any more.
    Undone,
    /// A copy that was answered was not counted.
    Uncounted,
    /// An answer is none of those there are.
    Answer,
    /// The program panicked, or ended otherwise than it should.
    End,
    /// The database is damaged.
    Damage,
}

const FAULTS: [(Fault, &str); 12] = [
    (Fault::Lost, "lost"),
    (Fault::Altered, "altered"),
    (Fault::Twice, "stored twice"),
    (Fault::Missing, "deliveries missing"),
    (Fault::Order, "out of order in a stream"),
    (Fault::Invented, "delivered, but not stored"),
    (Fault::Torn, "torn lines in the file"),
    (Fault::Undone, "decisions undone"),
    (Fault::Uncounted, "copies not counted"),
    (Fault::Answer, "odd answers"),
    (Fault::End, "panics, odd ends"),
    (Fault::Damage, "damage to the database"),
];

/// The faults that were found.
#[derive(Debug, Default)]
pub(crate) struct Faults(BTreeMap<Fault, (u64, Vec<String>)>);

/// Examples of each that are told.
const EXAMPLES: usize = 5;

impl Faults {
    pub(crate) fn note(&mut self, fault: Fault, what: impl FnOnce() -> String) {
        let (count, examples) = self.0.entry(fault).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(what());
        }
    }

    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.0.get(&fault).map_or(0, |(count, _)| *count)
    }

    /// Ends the test where there is any.
    #[track_caller]
    pub(crate) fn assert_none(&self) {
        assert!(self.0.is_empty(), "{self:#?}");
    }
}

/// A table of two columns.
#[derive(Default)]
pub(crate) struct Table(Vec<(String, String)>);

impl Table {
    pub(crate) fn row(&mut self, name: &str, value: impl fmt::Display) {
        self.0.push((name.to_owned(), value.to_string()));
    }

    pub(crate) fn faults(&mut self, faults: &Faults) {
        for (fault, name) in FAULTS {
            self.row(name, faults.count(fault));
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        writeln!(f)?;
        self.0.iter().try_for_each(|(name, value)| writeln!(f, "{name:<width$}  {value}"))
    }
}

/// Spans of time.
pub(crate) struct Spans(Histogram<u64>);

impl Spans {
    pub(crate) fn new() -> Self {
        Self(Histogram::new(3).unwrap())
    }

    pub(crate) fn note(&mut self, span: Duration) {
        self.0.record(u64::try_from(span.as_micros()).unwrap()).unwrap();
    }

    pub(crate) fn median(&self) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(0.5))
    }
}

impl fmt::Display for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1000.0;
        let at = |quantile| millis(self.0.value_at_quantile(quantile));
        write!(f, "p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms", at(0.5), at(0.99), millis(self.0.max()))
    }
}
