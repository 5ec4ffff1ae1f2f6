//! `livehook deliveries retry` and `drop`

use serde_json::{Value, json};

use super::parse_state;
use crate::cli::api::{AdminFlags, cell};
use crate::cli::output::{self, Format, FormatFlag};
use crate::cli::{http, moment};
use crate::clock::Timestamp;
use crate::store::DeliveryState;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which")
    .args(["one", "handler", "state", "since", "until", "all"]).required(true).multiple(true))]
pub(in crate::cli) struct Decide {
    /// One delivery: the id of its event and the name of its handler
    #[arg(num_args = 2, value_names = ["EVENT", "HANDLER"])]
    #[arg(conflicts_with_all = ["handler", "state", "since", "until", "all", "dry_run"])]
    one: Vec<String>,
    /// All to this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// All in this state: pending, done, dead or dropped
    #[arg(long, value_parser = parse_state)]
    state: Option<DeliveryState>,
    /// All of events received at or after this time: RFC 3339, or a span such as 2h for that long ago
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    since: Option<Timestamp>,
    /// All of events received before this time
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    until: Option<Timestamp>,
    /// All there are
    #[arg(long)]
    all: bool,
    /// Say how many there are, and change none
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

impl Decide {
    pub(super) fn run(self, verdict: &str) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        let answer: Value = match self.one.as_slice() {
            [event, handler] => http::block_on(api.post(&["deliveries", event, handler, verdict], &json!({})))?,
            _ => http::block_on(api.post(&["deliveries", verdict], &self.filter()))?,
        };
        match self.format.format {
            Format::Json => output::json(&answer.to_string()),
            Format::Text => output::line(&output::plain(&self.said(&answer))),
        }
    }

    fn filter(&self) -> Value {
        json!({
            "handler": self.handler,
            "state": self.state.map(DeliveryState::slug),
            "since": self.since.map(Timestamp::rfc3339),
            "until": self.until.map(Timestamp::rfc3339),
            "dry_run": self.dry_run,
        })
    }

    fn said(&self, answer: &Value) -> String {
        if self.one.is_empty() {
            return format!("{} matched, {} changed", cell(answer, "matched"), cell(answer, "changed"));
        }
        format!("{} to {} is {}", cell(answer, "event_id"), cell(answer, "handler"), cell(answer, "state"))
    }
}
