//! `livehook events export`

use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::stream::{self, StreamExt as _};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::EventFilters;
use super::sink::Sink;
use crate::cli::api::{self, AdminFlags, Api, PAGE_MAX, cell};
use crate::cli::{http, output};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Export {
    #[command(flatten)]
    filters: EventFilters,
    /// Write to this file instead of standard output; it appears once it is complete, for nobody else to read. A device
    /// or a pipe gets the lines as they come; - is standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminFlags,
}

/// Events asked for at the same time.
const IN_HAND: usize = 8;

#[derive(Deserialize)]
struct Detail {
    cloudevent: Box<RawValue>,
}

impl Export {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        http::block_on(self.export(&api))
    }

    /// The API lists the newest first, so the ids are taken first and the events asked for from their end.
    async fn export(&self, api: &Api) -> anyhow::Result<()> {
        let mut sink = Sink::open(self.out.as_deref())?;
        let ids = ids(api, &self.filters.query()).await?;
        let mut exported = 0;
        let bar = ProgressBar::with_draw_target(Some(ids.len() as u64), ProgressDrawTarget::stderr());
        let lines = stream::iter(ids.iter().rev()).map(|id| line(api, id)).buffered(IN_HAND);
        let mut lines = std::pin::pin!(lines);
        while let Some(line) = lines.next().await {
            if let Some(line) = line? {
                bar.suspend(|| sink.write(&line))?;
                exported += 1;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        sink.end()?;
        output::note(&format!("{exported} events exported"));
        Ok(())
    }
}

/// The ids of all events, newest first.
async fn ids(api: &Api, query: &[(&str, String)]) -> anyhow::Result<Vec<String>> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let mut ids = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = api.page("events", &["events"], query, PAGE_MAX, cursor.as_deref()).await?;
        ids.extend(page.rows.iter().map(|row| cell(row, "id")));
        bar.set_position(ids.len() as u64);
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    bar.finish_and_clear();
    Ok(ids)
}

/// The CloudEvent as the service writes it, with the body it was made from; none when it was pruned meanwhile.
async fn line(api: &Api, id: &str) -> anyhow::Result<Option<String>> {
    let Some(detail) = api.find(&["events", id]).await? else { return Ok(None) };
    let Some(body) = api.find(&["events", id, "body"]).await? else { return Ok(None) };
    let detail: Detail = api::read(&detail)?;
    let object = detail.cloudevent.get().trim_end();
    let open = object.strip_suffix('}').with_context(|| format!("event {id} is no JSON object"))?;
    Ok(Some(format!("{open},\"rawbody_base64\":\"{}\"}}", BASE64.encode(&body))))
}
