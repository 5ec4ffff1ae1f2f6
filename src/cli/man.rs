//! `livehook man`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};

use super::{Arguments, output};

#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Write all pages into this directory, which is made; otherwise the first is printed
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match &self.dir {
            Some(dir) => write_all(dir),
            None => print_first(),
        }
    }
}

fn write_all(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    clap_mangen::generate_to(program(), dir).with_context(|| format!("writing manual pages into {}", dir.display()))
}

fn print_first() -> anyhow::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(program()).render(&mut page).context("rendering the manual page")?;
    output::line(String::from_utf8_lossy(&page).trim_end())
}

/// Without `help`, which would have a page for each command once more.
fn program() -> Command {
    Arguments::command().disable_help_subcommand(true)
}
