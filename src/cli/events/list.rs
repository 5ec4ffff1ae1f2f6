//! `livehook events list`

use super::EventFilters;
use crate::cli::api::{AdminFlags, cell, second};
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
        let mut table = Table::new(&["ID", "RECEIVED", "KIND", "STREAM", "APP", "DOMAIN", "VERIFIED", "COPIES"]);
        for row in &page.rows {
            let [id, received_at] = [cell(row, "id"), second(&cell(row, "received_at"))];
            let rest =
                ["kind", "stream", "app", "domain", "verification", "duplicates"].map(|member| cell(row, member));
            table.row([id, received_at].into_iter().chain(rest));
        }
        table.print()
    }
}
