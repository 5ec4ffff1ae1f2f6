//! Which events a handler gets.

use std::cell::OnceCell;

use wildmatch::WildMatch;

use super::when::{Scope, When, WhenError};
use crate::event::{Event, Facts, Kind};

/// Which events a handler gets. The default is all of them.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// These kinds only.
    pub kinds: Option<Vec<Kind>>,
    /// Events whose domain matches one of these patterns only; `*` and `?` match.
    pub domains: Option<Vec<WildMatch>>,
    /// Events whose stream name matches one of these patterns only.
    pub streams: Option<Vec<WildMatch>>,
    /// Events for which this holds only, asked last.
    pub when: Option<When>,
}

/// What becomes of an event at a handler's filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The handler gets it.
    Wanted,
    /// The handler does not get it.
    Unwanted(Unwanted),
    /// The expression came to no result. The handler gets it: what is delivered needlessly does less harm than what is
    /// lost.
    Undecided(WhenError),
}

/// The filter that keeps an event from a handler, the first of them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the members of Filter")]
pub enum Unwanted {
    Kinds,
    Domains,
    Streams,
    When,
}

impl Verdict {
    /// Whether the handler gets the event.
    pub fn delivers(&self) -> bool {
        !matches!(self, Self::Unwanted(_))
    }
}

impl Unwanted {
    /// The key of the configuration.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Kinds => "kinds",
            Self::Domains => "domains",
            Self::Streams => "streams",
            Self::When => "when",
        }
    }
}

/// An event before the filters of all handlers. What expressions see of it is made once, when the first one asks.
pub struct Candidate<'e> {
    event: &'e Event,
    scope: OnceCell<Result<Scope<'e>, WhenError>>,
}

impl<'e> Candidate<'e> {
    /// Costs nothing yet.
    pub fn new(event: &'e Event) -> Self {
        Self { event, scope: OnceCell::new() }
    }
}

impl Filter {
    /// Whether what an event says about itself passes `kinds`, `domains` and `streams`. An event that names no domain or
    /// stream passes a pattern only if that matches empty text.
    pub fn matches(&self, facts: &Facts) -> bool {
        self.refuses(facts).is_none()
    }

    /// Asks all filters.
    pub fn judge(&self, candidate: &Candidate<'_>) -> Verdict {
        if let Some(unwanted) = self.refuses(&candidate.event.facts) {
            return Verdict::Unwanted(unwanted);
        }
        let Some(when) = &self.when else { return Verdict::Wanted };
        let holds = match candidate.scope.get_or_init(|| Scope::of(candidate.event)) {
            Ok(scope) => when.holds(scope),
            Err(error) => Err(error.clone()),
        };
        match holds {
            Ok(true) => Verdict::Wanted,
            Ok(false) => Verdict::Unwanted(Unwanted::When),
            Err(error) => Verdict::Undecided(error),
        }
    }

    fn refuses(&self, facts: &Facts) -> Option<Unwanted> {
        let fails = |patterns: &Option<Vec<WildMatch>>, name: &Option<String>| {
            patterns.as_ref().is_some_and(|p| !p.iter().any(|p| p.matches(name.as_deref().unwrap_or_default())))
        };
        if self.kinds.as_ref().is_some_and(|kinds| !kinds.contains(&facts.kind)) {
            return Some(Unwanted::Kinds);
        }
        if fails(&self.domains, &facts.domain) {
            return Some(Unwanted::Domains);
        }
        fails(&self.streams, &facts.stream).then_some(Unwanted::Streams)
    }
}
