//! `livehook check`

use super::{ConfigFlag, output};
use crate::config::{self, Sources};

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFlag,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let loaded = config::load(&Sources::from_process(self.config.config))?;
        output::line(loaded.effective.trim_end())
    }
}
