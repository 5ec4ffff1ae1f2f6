//! One push, as far as the events that name it tell.

use std::cmp::Ordering;

use crate::clock::Timestamp;

/// What tells the pushes of a stream apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PushName {
    /// The time at which one without a sequence began, or ended where only that is known.
    Time(Timestamp),
    /// Its `sequence`, which its interruption repeats.
    Sequence(String),
}

/// An interruption. Of several the greatest counts: the latest, and of those of one moment always the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    /// When the push ended.
    pub at: Timestamp,
    /// Why.
    pub errcode: Option<i64>,
    /// How long it had lasted, in milliseconds: the `push_duration`, where that is usable.
    pub lasted: Option<i64>,
}

/// A push, merged from the events that name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Its name.
    pub name: PushName,
    /// The earliest time of its push events.
    pub began: Option<Timestamp>,
    /// The latest of the interruptions that name it.
    pub end: Option<End>,
}

impl PushName {
    /// The sequence, where it has one.
    pub fn sequence(&self) -> Option<&str> {
        match self {
            Self::Sequence(sequence) => Some(sequence),
            Self::Time(_) => None,
        }
    }

    /// Compares sequences as numbers, which may exceed any number of bits. What is no number is less than any that is,
    /// and no sequence is less than that.
    fn cmp_as_number(&self, other: &Self) -> Ordering {
        fn key(name: &PushName) -> (u8, usize, &str) {
            match name.sequence() {
                None => (0, 0, ""),
                Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                    let digits = text.trim_start_matches('0');
                    (2, digits.len(), digits)
                }
                Some(text) => (1, 0, text),
            }
        }
        key(self).cmp(&key(other)).then_with(|| self.cmp(other))
    }
}

impl End {
    /// When the push began, where the interruption says how long it lasted.
    pub fn beginning(&self) -> Option<Timestamp> {
        self.lasted.map(|lasted| Timestamp::from_millis(self.at.millis().saturating_sub(lasted)))
    }
}

impl Push {
    /// One of which nothing is known yet but its name.
    pub fn named(name: PushName) -> Self {
        Self { name, began: None, end: None }
    }

    /// Adds what is known of the same push from elsewhere. The order of such calls makes no difference, nor does their
    /// number.
    pub fn merge(&mut self, began: Option<Timestamp>, end: Option<End>) {
        self.began = [self.began, began].into_iter().flatten().min();
        self.end = self.end.max(end);
    }

    /// When it began: as its push event says, else as its interruption reckons.
    pub fn beginning(&self) -> Option<Timestamp> {
        self.began.or_else(|| self.end?.beginning())
    }

    /// The order in which pushes began. One of which that is unknown comes before all others; of those that began at the
    /// same time the larger sequence comes later.
    pub fn cmp_by_beginning(&self, other: &Self) -> Ordering {
        self.beginning().cmp(&other.beginning()).then_with(|| self.name.cmp_as_number(&other.name))
    }
}
