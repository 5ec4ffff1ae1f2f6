//! `livehook events tail`

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use serde_json::Value;

use super::EventFilters;
use crate::cli::api::{AdminFlags, Api, PAGE_MAX, cell};
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Tail {
    #[command(flatten)]
    filters: EventFilters,
    /// Begin with this many of the newest events; otherwise with 10, or with all that --since lets through
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<usize>,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

/// Where neither a number nor a time is given to begin with.
const LINES: usize = 10;
const POLL_EVERY: Duration = Duration::from_secs(1);
/// Events that are remembered as printed. The newest of them may be pruned; not all of them, while any are left.
const SEEN_MAX: usize = 10_000;

/// Events that were printed, or that were there before.
#[derive(Debug, Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Tail {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        http::block_on(self.follow(&api))
    }

    async fn follow(&self, api: &Api) -> anyhow::Result<()> {
        let query = self.filters.query();
        let mut seen = Seen::default();
        let lines = self.lines();
        let first = api.rows("events", &["events"], &query, lines.max(1)).await?.rows;
        let beginning = first.iter().rev();
        beginning.clone().for_each(|row| seen.add(row));
        beginning.skip(first.len().saturating_sub(lines)).try_for_each(|row| self.print(row))?;
        let mut in_trouble = false;
        loop {
            tokio::time::sleep(POLL_EVERY).await;
            match fresh(api, &query, &seen).await {
                Ok(rows) => {
                    if std::mem::take(&mut in_trouble) {
                        output::note("it answers again");
                    }
                    for row in rows.iter().rev() {
                        seen.add(row);
                        self.print(row)?;
                    }
                }
                Err(error) if !in_trouble => {
                    in_trouble = true;
                    output::note(&format!("{error:#}; trying again until it answers"));
                }
                Err(_) => {}
            }
        }
    }

    fn lines(&self) -> usize {
        let all = self.filters.since.map(|_| usize::MAX);
        self.lines.or(all).unwrap_or(LINES)
    }

    fn print(&self, row: &Value) -> anyhow::Result<()> {
        if self.format.format == Format::Json {
            return output::json(&row.to_string());
        }
        let place: Vec<_> = ["domain", "app", "stream"].iter().map(|member| cell(row, member)).collect();
        let (received_at, kind, id) = (cell(row, "received_at"), cell(row, "kind"), cell(row, "id"));
        let text = format!("{received_at}  {kind:<20}  {id}  {:<10}  {}", cell(row, "verification"), place.join("/"));
        output::line(&output::plain(&text))
    }
}

/// Everything above the first row we have seen, newest first, however many pages that takes.
async fn fresh(api: &Api, query: &[(&str, String)], seen: &Seen) -> anyhow::Result<Vec<Value>> {
    let mut rows = Vec::new();
    let mut cursor = None;
    loop {
        let page = api.page("events", &["events"], query, PAGE_MAX, cursor.as_deref()).await?;
        let known = page.rows.iter().position(|row| seen.has(row));
        rows.extend(page.rows.into_iter().take(known.unwrap_or(PAGE_MAX)));
        match page.next.filter(|_| known.is_none()) {
            Some(next) => cursor = Some(next),
            None => return Ok(rows),
        }
    }
}

impl Seen {
    fn add(&mut self, row: &Value) {
        let id = cell(row, "id");
        if self.ids.insert(id.clone()) {
            self.order.push_back(id);
        }
        if self.order.len() > SEEN_MAX {
            self.order.pop_front().inspect(|oldest| {
                self.ids.remove(oldest);
            });
        }
    }

    fn has(&self, row: &Value) -> bool {
        self.ids.contains(&cell(row, "id"))
    }
}
