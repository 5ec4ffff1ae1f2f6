//! Posts each event to a URL.

use std::path::PathBuf;

use futures_util::future::BoxFuture;

use super::{BuildError, Handler, HandlerError};
use crate::event::Event;
use crate::secret::Secret;

/// Where events are posted, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `http` or `https`.
    pub url: url::Url,
    /// The form of the body.
    pub format: Format,
    /// Key of the Standard Webhooks signature: `whsec_` and Base64, or plain text.
    pub secret: Option<Secret>,
    /// Further headers: name, value.
    pub headers: Vec<(String, Secret)>,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// The form of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A CloudEvents JSON object, `application/cloudevents+json`.
    CloudEvents,
    /// The body as received, `application/json`, with `ce-…` headers.
    Raw,
}

/// The `http` handler.
#[derive(Debug)]
pub struct Http {}

impl Http {
    /// Makes the client.
    pub fn new(_settings: &Settings) -> Result<Self, BuildError> {
        Ok(Self {})
    }
}

impl Handler for Http {
    fn deliver<'a>(&'a self, _event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(async { Ok(()) })
    }
}
