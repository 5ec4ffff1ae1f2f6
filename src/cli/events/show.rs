//! `livehook events show`

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::api::{self, AdminFlags, cell};
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Show {
    /// Id of the event
    id: String,
    /// Print the body alone, exactly as it was received
    #[arg(long, conflicts_with = "format")]
    body: bool,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

/// What is not shown as it comes.
#[derive(Deserialize)]
struct Detail {
    cloudevent: Box<RawValue>,
    deliveries: Vec<Value>,
    drift: Vec<String>,
    #[serde(flatten)]
    row: Value,
}

impl Show {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        if self.body {
            return output::bytes(&http::block_on(api.get(&["events", &self.id, "body"], &[]))?);
        }
        let answer = http::block_on(api.get(&["events", &self.id], &[]))?;
        if self.format.format == Format::Json {
            return output::json(&String::from_utf8_lossy(&answer));
        }
        explain(&api::read(&answer)?)
    }
}

fn explain(detail: &Detail) -> anyhow::Result<()> {
    for member in MEMBERS {
        output::line(&format!("{member:<13} {}", output::plain(&cell(&detail.row, member))))?;
    }
    for drift in &detail.drift {
        output::line(&format!("{:<13} {}", "drift", output::plain(drift)))?;
    }
    if !detail.deliveries.is_empty() {
        output::line("")?;
        crate::cli::deliveries::table(&detail.deliveries).print()?;
    }
    output::line("")?;
    output::json(detail.cloudevent.get())
}

const MEMBERS: [&str; 12] = [
    "id",
    "kind",
    "event_type",
    "domain",
    "app",
    "stream",
    "sequence",
    "occurred_at",
    "received_at",
    "verification",
    "duplicates",
    "bytes",
];
