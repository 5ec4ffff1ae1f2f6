//! `livehook events list`

use super::EventFilters;
use crate::cli::api::{AdminFlags, cell};
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};
use crate::cli::table::Table;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    filters: EventFilters,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        let page = http::block_on(api.rows("events", &["events"], &self.filters.query(), self.limit))?;
        if self.format.format == Format::Json {
            return output::json(&serde_json::json!({ "events": page.rows, "next": page.next }).to_string());
        }
        let mut table = Table::new(&["RECEIVED", "KIND", "DOMAIN", "APP", "STREAM", "VERIFIED", "COPIES", "ID"]);
        for row in &page.rows {
            let members = ["received_at", "kind", "domain", "app", "stream", "verification", "duplicates", "id"];
            table.row(members.map(|member| cell(row, member)));
        }
        table.print()
    }
}
