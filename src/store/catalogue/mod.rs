//! What is made of events after they were stored, as far as it is the same whatever they are stored in: sums, and where
//! the events of a span of time are.

pub(super) mod counts;
pub(super) mod moments;
pub(super) mod stats;

use std::borrow::Cow;

use super::model::EventRow;
use super::streams::Told;

/// An event that is taken in or out, without its body.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) row: EventRow,
    /// Its kind as it is written, also where a later version wrote it that knew more kinds.
    pub(super) kind: Cow<'static, str>,
    /// What it says about its stream, if anything.
    pub(super) told: Option<Told>,
}
