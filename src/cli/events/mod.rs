//! `livehook events`

mod export;
mod list;
mod show;
mod sink;
mod tail;

use clap::Subcommand;

use super::moment;
use crate::clock::Timestamp;
use crate::event::{Kind, Verification};

#[derive(Debug, Subcommand)]
pub(super) enum Events {
    /// List events, newest first
    List(list::List),
    /// Show one event: what it says, how it departs from its documentation, and its deliveries
    Show(show::Show),
    /// Follow events as they are stored
    Tail(tail::Tail),
    /// Write events as JSON lines, in the order of their storing; `livehook import` reads them back
    Export(export::Export),
}

impl Events {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Tail(command) => command.run(),
            Self::Export(command) => command.run(),
        }
    }
}

/// Which events.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct EventFilters {
    /// Only events of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<Kind>,
    /// Only events of this push domain
    #[arg(long)]
    domain: Option<String>,
    /// Only events of this app
    #[arg(long)]
    app: Option<String>,
    /// Only events of this stream
    #[arg(long)]
    stream: Option<String>,
    /// Only events received at or after this time: RFC 3339, or a span such as 2h for that long ago
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    since: Option<Timestamp>,
    /// Only events received before this time
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    until: Option<Timestamp>,
    /// Only events of this verification: verified, unsigned or forced
    #[arg(long, value_parser = parse_verification)]
    verification: Option<Verification>,
}

impl EventFilters {
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("kind", self.kind.map(|kind| kind.slug().to_owned())),
            ("domain", self.domain.clone()),
            ("app", self.app.clone()),
            ("stream", self.stream.clone()),
            ("since", self.since.map(Timestamp::rfc3339)),
            ("until", self.until.map(Timestamp::rfc3339)),
            ("verification", self.verification.map(|verification| verification.slug().to_owned())),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

fn parse_verification(text: &str) -> Result<Verification, String> {
    Verification::from_slug(text).ok_or_else(|| "it is one of verified, unsigned and forced".to_owned())
}
