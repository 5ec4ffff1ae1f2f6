//! `livehook quarantine`

mod list;
mod readmit;
mod show;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Quarantine {
    /// List refused callbacks, newest first
    List(list::List),
    /// Show one refused callback
    Show(show::Show),
    /// Check refused callbacks again, with the configuration of today
    Readmit(readmit::Readmit),
}

impl Quarantine {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Readmit(command) => command.run(),
        }
    }
}
