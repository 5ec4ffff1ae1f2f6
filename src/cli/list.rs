//! What all lists of the admin API have in common.

use serde_json::{Value, json};

use super::api::{AdminFlags, Api, Page};
use super::http;
use super::output::{self, Format, FormatFlag};
use super::table::Table;

/// How much of a list, how, and from where.
#[derive(Debug, clap::Args)]
pub(super) struct ListFlags {
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

impl ListFlags {
    /// Asks for the rows that the answer has under `name`, and prints them.
    pub(super) fn print(
        self,
        name: &str,
        path: &[&str],
        query: &[(&str, String)],
        table: impl FnOnce(&[Value]) -> Table,
    ) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        let page = http::block_on(api.rows(name, path, query, self.limit))?;
        self.show(name, &page, table)
    }

    /// Where to ask, and for how many rows.
    pub(super) fn api(&self) -> anyhow::Result<(Api, usize)> {
        Ok((self.admin.api()?, self.limit))
    }

    /// Prints rows, which are called `name`.
    pub(super) fn show(&self, name: &str, page: &Page, table: impl FnOnce(&[Value]) -> Table) -> anyhow::Result<()> {
        match self.format.format {
            Format::Text => table(&page.rows).print(),
            Format::Json => output::json(&json!({ name: page.rows, "next": page.next }).to_string()),
        }
    }
}
