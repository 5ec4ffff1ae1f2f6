//! `livehook deliveries list`

use super::{parse_state, table};
use crate::cli::api::AdminFlags;
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};
use crate::store::DeliveryState;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    /// Only those to this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Only those in this state: pending, done, dead or dropped
    #[arg(long, value_parser = parse_state)]
    state: Option<DeliveryState>,
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
        let mut query: Vec<_> = self.handler.map(|handler| ("handler", handler)).into_iter().collect();
        query.extend(self.state.map(|state| ("state", state.slug().to_owned())));
        let page = http::block_on(api.rows("deliveries", &["deliveries"], &query, self.limit))?;
        match self.format.format {
            Format::Text => table(&page.rows).print(),
            Format::Json => {
                output::json(&serde_json::json!({ "deliveries": page.rows, "next": page.next }).to_string())
            }
        }
    }
}
