//! `livehook streams list`

use clap::ValueEnum;
use serde_json::Value;

use super::{cause, lasted};
use crate::cli::api::{cell, second};
use crate::cli::list::ListFlags;
use crate::cli::table::Table;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    /// Only streams in this state
    #[arg(long)]
    state: Option<State>,
    /// Only streams of this push domain; an empty one for those without
    #[arg(long)]
    domain: Option<String>,
    /// Only streams of this app; an empty one for those without
    #[arg(long)]
    app: Option<String>,
    #[command(flatten)]
    page: ListFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Live,
    Ended,
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let query = self.query();
        self.page.print("streams", &["streams"], &query, table)
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let state = self.state.map(|state| match state {
            State::Live => "live".to_owned(),
            State::Ended => "ended".to_owned(),
        });
        let all = [("state", state), ("domain", self.domain.clone()), ("app", self.app.clone())];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

fn table(rows: &[Value]) -> Table {
    let mut table =
        Table::new(&["STREAM", "STATE", "STARTED", "ENDED", "LASTED", "CAUSE", "PUSHES", "FILES", "APP", "DOMAIN"]);
    for row in rows {
        let moments = ["started_at", "ended_at"].map(|member| second(&cell(row, member)));
        let rest = ["pushes", "recordings", "app", "domain"].map(|member| cell(row, member));
        let first = ["stream", "state"].map(|member| cell(row, member));
        table.row(first.into_iter().chain(moments).chain([lasted(row), cause(row)]).chain(rest));
    }
    table
}
