//! Commands that work on the store itself, while the service is stopped.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::app;
use crate::clock::Clock;
use crate::config::{self, Config, Sources};
use crate::store::{OpenError, Store};

/// What waits in the store's queue is written within this time.
const CLOSE_PATIENCE: Duration = Duration::from_secs(20);

/// The configuration of a file, with the environment, and the store it names. `online` says how the same is done while the
/// service runs and has the store.
pub(super) fn open(file: &Path, clock: Arc<dyn Clock>, online: &str) -> anyhow::Result<(Config, Store)> {
    let config = config::load(&Sources::from_process(Some(file.to_owned())))?.config;
    let names: Vec<_> = config.handlers.iter().map(|handler| handler.policy.name.clone()).collect();
    let store = Store::open(config.store.clone(), &names, app::stall(&config), clock);
    let store = store.map_err(|error| match error {
        OpenError::InUse(path) => {
            anyhow::anyhow!("the store {} is in use: {online}, or stop the service", path.display())
        }
        other => other.into(),
    })?;
    Ok((config, store))
}

/// Writes what waits, and closes.
pub(super) async fn close(store: &Store) {
    store.close(CLOSE_PATIENCE).await;
}
