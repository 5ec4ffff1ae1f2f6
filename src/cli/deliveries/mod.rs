//! `livehook deliveries`

mod decide;
mod list;

use clap::Subcommand;
use serde_json::Value;

use super::api::cell;
use super::table::Table;
use crate::store::DeliveryState;

#[derive(Debug, Subcommand)]
pub(super) enum Deliveries {
    /// List deliveries, those of the newest events first
    List(list::List),
    /// Make deliveries pending and due now, with a fresh allowance of attempts
    Retry(decide::Decide),
    /// Give deliveries up: nobody tries them again
    Drop(decide::Decide),
}

impl Deliveries {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(command) => command.run(),
            Self::Retry(command) => command.run("retry"),
            Self::Drop(command) => command.run("drop"),
        }
    }
}

/// Deliveries as a table.
pub(super) fn table(rows: &[Value]) -> Table {
    let mut table = Table::new(&["EVENT", "HANDLER", "STATE", "ATTEMPTS", "LAST ERROR", "NEXT ATTEMPT"]);
    for row in rows {
        let members = ["event_id", "handler", "state", "attempts", "last_error", "next_attempt_at"];
        table.row(members.map(|member| cell(row, member)));
    }
    table
}

fn parse_state(text: &str) -> Result<DeliveryState, String> {
    DeliveryState::from_slug(text).ok_or_else(|| "it is one of pending, done, dead and dropped".to_owned())
}
