//! Leaves a trace of those who are not let in: counted, and in the log when they try tokens.

use prometheus::IntCounterVec;

use crate::telemetry::{Metrics, Repeats};

/// Why somebody was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stranger {
    /// He showed neither token nor login, as a browser does before it asks for one.
    Nameless,
    /// His token was wrong.
    Wrong,
    /// So many wrong ones came that his was not looked at.
    Unheard,
}

/// Those who were not let in.
#[derive(Debug)]
pub(super) struct Strangers {
    refused: IntCounterVec,
    tries: Repeats<Stranger>,
}

impl Strangers {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self { refused: metrics.admin_refused_total.clone(), tries: Repeats::default() }
    }

    /// Notes one who was not let in. What he showed is written down nowhere: it may be a token mistyped.
    pub(super) fn count(&self, stranger: Stranger) {
        self.refused.with_label_values(&[stranger.slug()]).inc();
        if stranger != Stranger::Nameless && self.tries.is_told(stranger) {
            tracing::warn!(reason = stranger.slug(), "somebody without the admin token was refused");
        }
    }

    /// Logs in sum what had no line of its own.
    pub(super) fn sum_up(&self) {
        for (stranger, tries) in self.tries.untold() {
            tracing::warn!(reason = stranger.slug(), tries, "more tries without the admin token were refused");
        }
    }
}

impl Stranger {
    const fn slug(self) -> &'static str {
        match self {
            Self::Nameless => "missing",
            Self::Wrong => "token",
            Self::Unheard => "too-many",
        }
    }
}
