//! `livehook check`

mod event;

use std::path::PathBuf;

use super::output::{self, Format};
use super::{ConfigFlag, verify};
use crate::config::{self, Sources};

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFlag,
    /// Say which handlers would get the events in this file, and why others would not: bodies as CSS posts them, or
    /// CloudEvents, one after the other; - for standard input
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// How to print that
    #[arg(long, value_enum, default_value_t, requires = "event")]
    format: Format,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let loaded = config::load(&Sources::from_process(self.config.config))?;
        match &self.event {
            Some(file) => event::judge(&loaded.config, &verify::read(file)?, self.format),
            None => output::line(loaded.effective.trim_end()),
        }
    }
}
