//! What keeps the events: an enum, since we own every case.

use std::sync::Arc;
use std::time::Duration;

use super::model::HandlerId;
use super::{OpenError, Settings, postgres, sqlite};
use crate::clock::Clock;

/// The store behind the facade. Every engine has the same methods; they are called by [`on_engine`].
#[derive(Debug)]
pub(super) enum Engine {
    /// On the disk of this machine.
    Sqlite(sqlite::Engine),
    /// On a server, for several replicas.
    Postgres(postgres::Engine),
}

/// Asks the engine of a store, whichever it is.
macro_rules! on_engine {
    ($store:expr, $engine:ident => $call:expr) => {
        match &$store.0.engine {
            $crate::store::engine::Engine::Sqlite($engine) => $call,
            $crate::store::engine::Engine::Postgres($engine) => $call,
        }
    };
}
pub(super) use on_engine;

impl Engine {
    /// Opens the engine the URL names. Returns the numbers of the handlers.
    pub(super) fn open(
        settings: &Settings,
        handlers: &[String],
        stall: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Vec<HandlerId>), OpenError> {
        if is_postgres(&settings.url) {
            let (engine, ids) = postgres::Engine::open(settings, handlers, stall, clock)?;
            return Ok((Self::Postgres(engine), ids));
        }
        let (engine, ids) = sqlite::Engine::open(settings, handlers, stall, clock)?;
        Ok((Self::Sqlite(engine), ids))
    }
}

/// What is wrong with the URL of a store, if anything. Says nothing of its value, which may hold a password.
pub fn fault_of_url(url: &str) -> Option<String> {
    if is_postgres(url) {
        return postgres::fault_of_url(url);
    }
    let fault = match url.strip_prefix("sqlite:") {
        None => "must be \"sqlite:PATH\", such as \"sqlite:data/livehook.db\", or \"postgres://USER@HOST/DATABASE\"",
        Some("") => "names no file; write \"sqlite:PATH\"",
        Some(path) if path.starts_with(":memory:") || path.starts_with("file:") => {
            "must name a plain file: what is kept in memory is lost with the process"
        }
        Some(path) if path.starts_with("//") => {
            "is a path, not a location: write \"sqlite:data/livehook.db\" or \"sqlite:/var/lib/livehook/livehook.db\""
        }
        Some(_) => return None,
    };
    Some(fault.to_owned())
}

/// Whether a URL names a PostgreSQL server.
fn is_postgres(url: &str) -> bool {
    matches!(url.split(':').next(), Some("postgres" | "postgresql"))
}
