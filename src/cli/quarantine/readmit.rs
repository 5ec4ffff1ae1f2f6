//! `livehook quarantine readmit`

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::api::AdminFlags;
use crate::cli::exit::Failed;
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};
use crate::event::Reason;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").args(["id", "reason", "all"]).required(true))]
pub(in crate::cli) struct Readmit {
    /// Id of one refused callback
    id: Option<String>,
    /// All that were refused for this reason
    #[arg(long)]
    reason: Option<Reason>,
    /// All there are
    #[arg(long)]
    all: bool,
    /// Admit in spite of token and signature; without it the exit code is 1 when any is refused again
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

#[derive(Deserialize, Serialize)]
struct Outcome {
    readmitted: u64,
    refused: u64,
}

impl Readmit {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        let outcome: Outcome = if let Some(id) = &self.id {
            http::block_on(api.post(&["quarantine", id, "readmit"], &json!({ "force": self.force })))?
        } else {
            let which = json!({ "reason": self.reason.map(Reason::slug), "force": self.force });
            http::block_on(api.post(&["quarantine", "readmit"], &which))?
        };
        match self.format.format {
            Format::Json => output::json(&json!(outcome).to_string())?,
            Format::Text => output::line(&format!("{} readmitted, {} refused", outcome.readmitted, outcome.refused))?,
        }
        if outcome.refused == 0 {
            return Ok(());
        }
        output::note("what was refused stays in the quarantine; --force admits in spite of token and signature");
        Err(Failed.into())
    }
}
