//! `livehook import`

mod offline;
mod online;

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::AsyncRead;
use tokio_util::io::InspectReader;

use super::api::AdminFlags;
use super::exit::Failed;
use super::http;
use super::output::{self, Format, FormatFlag};

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// Lines of standard error or of an export; - for standard input
    file: PathBuf,
    /// Import into the store of this configuration, while the service is stopped
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin", "token", "token_file"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

/// What an import came to, as the API says it.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Outcome {
    imported: u64,
    duplicates: u64,
    refused: u64,
    faults: Vec<Fault>,
}

/// A line that was skipped.
#[derive(Debug, Deserialize, Serialize)]
struct Fault {
    line: u64,
    detail: String,
}

impl Import {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let outcome = if let Some(config) = &self.config {
            http::block_on(offline::import(config, &self.file))?
        } else {
            let api = self.admin.api()?;
            http::block_on(online::import(&api, &self.file))?
        };
        match self.format.format {
            Format::Json => output::json(&serde_json::json!(outcome).to_string())?,
            Format::Text => output::line(&format!(
                "{} imported, {} duplicates, {} refused",
                outcome.imported, outcome.duplicates, outcome.refused
            ))?,
        }
        for Fault { line, detail } in &outcome.faults {
            output::note(&format!("line {line}: {}", output::plain(detail)));
        }
        if outcome.faults.is_empty() { Ok(()) } else { Err(Failed.into()) }
    }
}

/// The lines, and a bar that shows how far they are read.
async fn open(file: &Path) -> anyhow::Result<impl AsyncRead + Send + Unpin + use<>> {
    let reading = || format!("reading {}", file.display());
    let opened = if file.as_os_str() == "-" {
        File::from_std(std::io::stdin().as_fd().try_clone_to_owned().with_context(reading)?.into())
    } else {
        File::open(file).await.with_context(reading)?
    };
    let metadata = opened.metadata().await.with_context(reading)?;
    anyhow::ensure!(!metadata.is_dir(), "{} is a directory", file.display());
    let length = Some(metadata.len()).filter(|_| metadata.is_file());
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    let bar = bar.with_finish(ProgressFinish::AndClear);
    Ok(InspectReader::new(opened, move |read| bar.inc(read.len() as u64)))
}
