//! What the service says about itself: log lines, metrics, and what a service manager is told.

pub mod log;
mod metrics;
mod repeats;
pub mod stderr;
mod supervisor;
pub mod traces;

pub use self::metrics::{KnownLabels, Metrics};
pub use self::repeats::{Repeats, SUMMARY_EVERY};
pub use self::supervisor::Supervisor;

/// How and how much is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A level, or directives as in `RUST_LOG`.
    pub level: String,
    /// The form of the lines.
    pub format: Format,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Auto }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
