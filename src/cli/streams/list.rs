//! `livehook streams list`

use clap::ValueEnum;

use super::{cause, lasted};
use crate::cli::api::{AdminFlags, cell, second};
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};
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
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Live,
    Ended,
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        let page = http::block_on(api.rows("streams", &["streams"], &self.query(), self.limit))?;
        if self.format.format == Format::Json {
            return output::json(&serde_json::json!({ "streams": page.rows, "next": page.next }).to_string());
        }
        let mut table =
            Table::new(&["STREAM", "STATE", "STARTED", "ENDED", "LASTED", "CAUSE", "PUSHES", "FILES", "APP", "DOMAIN"]);
        for row in &page.rows {
            let moments = ["started_at", "ended_at"].map(|member| second(&cell(row, member)));
            let rest = ["pushes", "recordings", "app", "domain"].map(|member| cell(row, member));
            let first = ["stream", "state"].map(|member| cell(row, member));
            table.row(first.into_iter().chain(moments).chain([lasted(row), cause(row)]).chain(rest));
        }
        table.print()
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
