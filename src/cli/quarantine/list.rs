//! `livehook quarantine list`

use crate::cli::api::{AdminFlags, cell, second};
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};
use crate::cli::table::Table;
use crate::event::Reason;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    /// Only those refused for this reason, such as signature-mismatch
    #[arg(long)]
    reason: Option<Reason>,
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
        let query: Vec<_> = self.reason.map(|reason| ("reason", reason.slug().to_owned())).into_iter().collect();
        let page = http::block_on(api.rows("items", &["quarantine"], &query, self.limit))?;
        if self.format.format == Format::Json {
            return output::json(&serde_json::json!({ "items": page.rows, "next": page.next }).to_string());
        }
        let mut table = Table::new(&["ID", "RECEIVED", "REASON", "DETAIL", "PATH", "BYTES"]);
        for row in &page.rows {
            let [id, received_at] = [cell(row, "id"), second(&cell(row, "received_at"))];
            let rest = ["reason", "detail", "path", "bytes"].map(|member| cell(row, member));
            table.row([id, received_at].into_iter().chain(rest));
        }
        table.print()
    }
}
