//! `livehook handlers`

mod list;
mod pause;

use clap::Subcommand;
use serde_json::Value;

use super::api::{cell, second};
use super::table::Table;

#[derive(Debug, Subcommand)]
pub(super) enum Handlers {
    /// List handlers: how much waits for each, and how it went of late
    List(list::List),
    /// Hand nothing more out to a handler; what is owed to it waits
    Pause(pause::Pause),
    /// Have a paused handler go on
    Resume(pause::Pause),
}

impl Handlers {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(command) => command.run(),
            Self::Pause(command) => command.run("pause"),
            Self::Resume(command) => command.run("resume"),
        }
    }
}

fn table(rows: &[Value]) -> Table {
    let mut table =
        Table::new(&["HANDLER", "TYPE", "STATE", "PENDING", "DEAD", "OLDEST PENDING", "LAST SUCCESS", "LAST ERROR"]);
    for row in rows {
        let plain = ["name", "type", "state", "pending", "dead"].map(|member| cell(row, member));
        let moments = ["oldest_pending_at", "last_success_at"].map(|member| second(&cell(row, member)));
        table.row(plain.into_iter().chain(moments).chain([cell(row, "last_error")]));
    }
    table
}
