//! `livehook handlers list`

use serde_json::Value;

use crate::cli::api::{self, AdminFlags};
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        let answer = http::block_on(api.get(&["handlers"], &[]))?;
        let rows: Vec<Value> = api::read(&answer)?;
        match self.format.format {
            Format::Text => super::table(&rows).print(),
            Format::Json => output::json(&Value::Array(rows).to_string()),
        }
    }
}
