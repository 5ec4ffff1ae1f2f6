//! `livehook handlers pause` and `resume`

use serde_json::{Value, json};

use crate::cli::api::{AdminFlags, cell};
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Pause {
    /// Name of the handler
    handler: String,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

impl Pause {
    pub(super) fn run(self, verdict: &str) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        let row: Value = http::block_on(api.post(&["handlers", &self.handler, verdict], &json!({})))?;
        match self.format.format {
            Format::Json => output::json(&row.to_string()),
            Format::Text => {
                let [name, state, pending] = ["name", "state", "pending"].map(|member| cell(&row, member));
                output::line(&output::plain(&format!("{name} is {state}, {pending} pending")))
            }
        }
    }
}
