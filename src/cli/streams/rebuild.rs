//! `livehook streams rebuild`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::json;

use crate::cli::api::{self, AdminFlags, Api};
use crate::cli::http;
use crate::cli::offline;
use crate::cli::output::{self, Format, FormatFlag};
use crate::clock::SystemClock;
use crate::store::{Store, StoreError};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Rebuild {
    /// Work on the store of this configuration, while the service is stopped; one on PostgreSQL may be in use
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

impl Rebuild {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let events = match &self.config {
            Some(config) => http::block_on(in_store(config, &bar)),
            None => http::block_on(in_service(&self.admin.api()?, &bar)),
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
async fn in_service(api: &Api, bar: &ProgressBar) -> anyhow::Result<u64> {
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

async fn in_store(config: &Path, bar: &ProgressBar) -> anyhow::Result<u64> {
    let online = "leave --config out to have the running service do it";
    let (_, store) = offline::open(config, Arc::new(SystemClock), online)?;
    let outcome = rebuild(&store, bar).await;
    offline::close(&store).await;
    Ok(outcome?)
}

async fn rebuild(store: &Store, bar: &ProgressBar) -> Result<u64, StoreError> {
    bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    // Not until none come: where replicas share the store, they go on receiving.
    while let Some(step) = store.catalogue().await?.filter(|step| step.behind > 0) {
        bar.set_message(format!("{} events are to be catalogued first", step.behind));
    }
    bar.set_style(ProgressStyle::default_bar());
    // Replicas may do all the rest before anybody looks.
    let mut events = store.begin_streams_rebuild().await?.total;
    while store.rebuild_streams().await? {
        if let Some(progress) = store.streams_rebuild().await? {
            events = progress.total;
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        }
    }
    Ok(events)
}
