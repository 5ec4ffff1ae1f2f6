//! Writes each event to the log.

use futures_util::future::BoxFuture;

use super::{Handler, HandlerError};
use crate::event::Event;

/// How events are logged.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The level of the lines.
    pub level: tracing::Level,
}

/// The `log` handler.
#[derive(Debug)]
pub struct Log {}

impl Log {
    /// A handler with these settings.
    pub fn new(_settings: &Settings) -> Self {
        Self {}
    }
}

impl Handler for Log {
    fn deliver<'a>(&'a self, _event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(async { Ok(()) })
    }
}
