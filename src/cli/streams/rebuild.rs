//! `livehook streams rebuild`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Deserialize;
use serde_json::json;

use crate::cli::api::{self, AdminFlags, Api};
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};
use crate::clock::SystemClock;
use crate::config::{self, Sources};
use crate::store::{OpenError, Store, StoreError};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Rebuild {
    /// Work on the store of this configuration, while the service is stopped
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin", "token", "token_file"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

/// How far it is, as the API says it.
#[derive(Debug, Deserialize)]
struct Progress {
    state: String,
    done: u64,
    total: u64,
}

const POLL_EVERY: Duration = Duration::from_millis(300);
/// What waits in the store's queue is written within this time.
const CLOSE_PATIENCE: Duration = Duration::from_secs(20);

impl Rebuild {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let events = match &self.config {
            Some(config) => http::block_on(offline(config, &bar)),
            None => http::block_on(online(&self.admin.api()?, &bar)),
        };
        bar.finish_and_clear();
        let events = events?;
        match self.format.format {
            Format::Json => output::json(&json!({ "events": events }).to_string()),
            Format::Text => output::line(&format!("streams made anew from {events} events")),
        }
    }
}

/// Has the service do it, and waits until it has. Interrupted, it goes on there.
async fn online(api: &Api, bar: &ProgressBar) -> anyhow::Result<u64> {
    let mut progress: Progress = api.post(&["streams", "rebuild"], &json!({})).await?;
    let mut events = progress.total;
    while progress.state == "running" {
        events = progress.total;
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        tokio::time::sleep(POLL_EVERY).await;
        progress = api::read(&api.get(&["streams", "rebuild"], &[]).await?)?;
    }
    Ok(events)
}

async fn offline(config: &Path, bar: &ProgressBar) -> anyhow::Result<u64> {
    let config = config::load(&Sources::from_process(Some(config.to_owned())))?.config;
    let names: Vec<_> = config.handlers.iter().map(|handler| handler.policy.name.clone()).collect();
    let clock = Arc::new(SystemClock);
    let store = Store::open(config.store.clone(), &names, config.server.ack.deadline, clock);
    let store = store.map_err(|error| match error {
        OpenError::InUse(path) => anyhow::anyhow!(
            "the store {} is in use: leave --config out to have the running service do it, or stop it",
            path.display()
        ),
        other => other.into(),
    })?;
    let outcome = rebuild(&store, bar).await;
    store.close(CLOSE_PATIENCE).await;
    Ok(outcome?)
}

async fn rebuild(store: &Store, bar: &ProgressBar) -> Result<u64, StoreError> {
    while let Some(step) = store.catalogue().await? {
        bar.set_message(format!("{} events are to be catalogued first", step.behind));
    }
    store.begin_streams_rebuild().await?;
    let mut events = 0;
    while store.rebuild_streams().await? {
        if let Some(progress) = store.streams_rebuild().await? {
            events = progress.total;
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        }
    }
    Ok(events)
}
