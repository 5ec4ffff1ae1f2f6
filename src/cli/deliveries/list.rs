//! `livehook deliveries list`

use super::{parse_state, table};
use crate::cli::list::ListFlags;
use crate::store::DeliveryState;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    /// Only those to this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Only those in this state: pending, done, dead or dropped
    #[arg(long, value_parser = parse_state)]
    state: Option<DeliveryState>,
    #[command(flatten)]
    page: ListFlags,
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut query: Vec<_> = self.handler.map(|handler| ("handler", handler)).into_iter().collect();
        query.extend(self.state.map(|state| ("state", state.slug().to_owned())));
        self.page.print("deliveries", &["deliveries"], &query, table)
    }
}
