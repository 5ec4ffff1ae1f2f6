//! `livehook events list`

use serde_json::Value;

use super::EventFilters;
use crate::cli::api::{cell, second};
use crate::cli::list::ListFlags;
use crate::cli::table::Table;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    filters: EventFilters,
    #[command(flatten)]
    page: ListFlags,
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<()> {
        self.page.print("events", &["events"], &self.filters.query(), table)
    }
}

fn table(rows: &[Value]) -> Table {
    let mut table = Table::new(&["ID", "RECEIVED", "KIND", "STREAM", "APP", "DOMAIN", "VERIFIED", "COPIES"]);
    for row in rows {
        let [id, received_at] = [cell(row, "id"), second(&cell(row, "received_at"))];
        let rest = ["kind", "stream", "app", "domain", "verification", "duplicates"].map(|member| cell(row, member));
        table.row([id, received_at].into_iter().chain(rest));
    }
    table
}
