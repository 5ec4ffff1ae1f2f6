//! Who is live: what the events of a stream come to, whatever the order and number in which they arrive.
//!
//! An event is read into an [`Entry`]. Those about a push are merged into the [`Push`] they name, by operations that
//! know no order: the earliest beginning, the latest end. Interruptions that name no push are kept beside them. A
//! [`timeline`] is computed from both when somebody asks: which push came last, what ended it, which file is of which.
//!
//! `streams` keeps nothing and knows no store.

mod entry;
mod push;
#[cfg(test)]
mod tests;
mod timeline;

pub use self::entry::{Entry, Notice, Problem};
pub use self::push::{End, Push, PushName};
pub use self::timeline::{Span, owner_of_file, owner_of_moment, timeline};
use crate::event::Facts;

/// What tells a stream from others. A part that its events do not name is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    /// Push domain.
    pub domain: String,
    /// App, the path of the push URL.
    pub app: String,
    /// Stream name; never empty.
    pub stream: String,
}

impl StreamName {
    /// The stream an event is about; none where it names none.
    pub fn of(facts: &Facts) -> Option<Self> {
        let stream = facts.stream.clone()?;
        let part = |name: &Option<String>| name.clone().unwrap_or_default();
        Some(Self { domain: part(&facts.domain), app: part(&facts.app), stream })
    }
}
