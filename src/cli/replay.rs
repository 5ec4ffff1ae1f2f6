//! `livehook replay`

use std::pin::pin;
use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use serde_json::{Map, Value, json};

use super::api::{self, AdminFlags, Api, cell, second};
use super::events::EventFilters;
use super::exit::Failed;
use super::http;
use super::output::{self, Format, FormatFlag};
use super::table::Table;

#[derive(Debug, clap::Args)]
#[command(after_help = "Ctrl-C ends a replay under way; what it has queued stays queued.")]
#[command(group = clap::ArgGroup::new("which").args(WHICH).required(true).multiple(true))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct Replay {
    #[command(flatten)]
    events: EventFilters,
    /// This event; may be given more than once
    #[arg(long = "id", value_name = "EVENT", conflicts_with_all = FILTERS)]
    ids: Vec<String>,
    /// All events there are
    #[arg(long)]
    all: bool,
    /// Only to this handler; may be given more than once
    #[arg(long = "handler", value_name = "NAME")]
    handlers: Vec<String>,
    /// Say how many events there are, and deliver none
    #[arg(long)]
    dry_run: bool,
    /// At most so many events in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Do not wait for the end
    #[arg(long, conflicts_with = "dry_run")]
    background: bool,
    /// List replays and how far they have come, newest first
    #[arg(long, conflicts_with_all = NEW, conflicts_with = "cancel")]
    list: bool,
    /// End this replay
    #[arg(long, value_name = "REPLAY", conflicts_with_all = NEW)]
    cancel: Option<String>,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

const FILTERS: [&str; 8] = ["kind", "domain", "app", "stream", "since", "until", "verification", "all"];
const WHICH: [&str; 11] =
    ["kind", "domain", "app", "stream", "since", "until", "verification", "all", "ids", "list", "cancel"];
/// What says how a new replay is to be.
const NEW: [&str; 13] = [
    "kind",
    "domain",
    "app",
    "stream",
    "since",
    "until",
    "verification",
    "all",
    "ids",
    "handlers",
    "dry_run",
    "rate",
    "background",
];
/// How often a replay under way is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        let answer = http::block_on(self.ask(&api))?;
        match self.format.format {
            Format::Json => output::json(&answer.to_string())?,
            Format::Text if self.list => table(&answer).print()?,
            Format::Text => output::line(&output::plain(&said(&answer)))?,
        }
        match answer["state"].as_str() {
            Some("failed") => bail!("the replay failed: {}", output::plain(&cell(&answer, "detail"))),
            Some("cancelled") if self.cancel.is_none() => Err(Failed.into()),
            _ => Ok(()),
        }
    }

    async fn ask(&self, api: &Api) -> anyhow::Result<Value> {
        if self.list {
            return api::read(&api.get(&["replay"], &[]).await?);
        }
        if let Some(id) = &self.cancel {
            return api.post(&["replay", id, "cancel"], &json!({})).await;
        }
        let counting = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        counting.set_style(ProgressStyle::with_template("{msg}")?);
        counting.set_message("counting the events that match");
        let begun = api.post(&["replay"], &self.wish()).await;
        counting.finish_and_clear();
        let begun = begun?;
        if self.dry_run || self.background { Ok(begun) } else { follow(api, &begun).await }
    }

    fn wish(&self) -> Value {
        let filters = self.events.query().into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
        let mut wish: Map<String, Value> = filters.collect();
        for (name, list) in [("ids", &self.ids), ("handlers", &self.handlers)] {
            if !list.is_empty() {
                wish.insert(name.to_owned(), json!(list));
            }
        }
        wish.extend(self.rate.map(|rate| ("rate".to_owned(), rate.into())));
        let manner = if self.dry_run { "dry_run" } else { "background" };
        wish.insert(manner.to_owned(), true.into());
        wish.into()
    }
}

/// Waits for the end of a replay, and shows how far it has come. Ctrl-C ends it.
async fn follow(api: &Api, begun: &Value) -> anyhow::Result<Value> {
    let id = cell(begun, "id");
    let look = async || -> anyhow::Result<Value> { api::read(&api.get(&["replay", &id], &[]).await?) };
    let bar = ProgressBar::with_draw_target(begun["matched"].as_u64(), ProgressDrawTarget::stderr());
    let bar = bar.with_finish(ProgressFinish::AndClear);
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        let row = look().await?;
        if row["state"] != "running" {
            return Ok(row);
        }
        bar.set_position(row["replayed"].as_u64().unwrap_or(0));
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = &mut interrupted => {
                // It may have ended by itself just now.
                let cancelled: anyhow::Result<Value> = api.post(&["replay", &id, "cancel"], &json!({})).await;
                return match cancelled {
                    Ok(row) => Ok(row),
                    Err(_) => look().await,
                };
            }
        }
    }
}

fn said(answer: &Value) -> String {
    let [matched, queued] = ["matched", "queued"].map(|member| cell(answer, member));
    match answer["state"].as_str() {
        Some("running") => format!("replay {} is running, {matched} matched", cell(answer, "id")),
        Some("cancelled") => format!("cancelled: {matched} matched, {queued} queued"),
        _ => format!("{matched} matched, {queued} queued"),
    }
}

fn table(answer: &Value) -> Table {
    let mut table = Table::new(&["ID", "STATE", "MATCHED", "REPLAYED", "QUEUED", "STARTED", "ENDED", "DETAIL"]);
    for row in answer["replays"].as_array().into_iter().flatten() {
        let counts = ["id", "state", "matched", "replayed", "queued"].map(|member| cell(row, member));
        let moments = ["started_at", "ended_at"].map(|member| second(&cell(row, member)));
        table.row(counts.into_iter().chain(moments).chain([cell(row, "detail")]));
    }
    table
}
