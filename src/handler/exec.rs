//! Runs a program for each event.

use futures_util::future::BoxFuture;

use super::{Handler, HandlerError};
use crate::event::Event;
use crate::secret::Secret;

/// What is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// Variables added to the program's environment: name, value.
    pub env: Vec<(String, Secret)>,
}

/// The `exec` handler.
#[derive(Debug)]
pub struct Exec {}

impl Exec {
    /// A handler with these settings.
    pub fn new(_settings: &Settings) -> Self {
        Self {}
    }
}

impl Handler for Exec {
    fn deliver<'a>(&'a self, _event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(async { Ok(()) })
    }
}
