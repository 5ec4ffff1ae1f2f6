//! `livehook quarantine list`

use serde_json::Value;

use crate::cli::api::{cell, second};
use crate::cli::list::ListFlags;
use crate::cli::table::Table;
use crate::event::Reason;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    /// Only those refused for this reason, such as signature-mismatch
    #[arg(long)]
    reason: Option<Reason>,
    #[command(flatten)]
    page: ListFlags,
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let query: Vec<_> = self.reason.map(|reason| ("reason", reason.slug().to_owned())).into_iter().collect();
        self.page.print("items", &["quarantine"], &query, table)
    }
}

fn table(rows: &[Value]) -> Table {
    let mut table = Table::new(&["ID", "RECEIVED", "REASON", "DETAIL", "PATH", "BYTES"]);
    for row in rows {
        let [id, received_at] = [cell(row, "id"), second(&cell(row, "received_at"))];
        let rest = ["reason", "detail", "path", "bytes"].map(|member| cell(row, member));
        table.row([id, received_at].into_iter().chain(rest));
    }
    table
}
