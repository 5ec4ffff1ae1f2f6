//! `livehook completions`

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Arguments, output};

#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "livehook", &mut script);
        output::line(String::from_utf8_lossy(&script).trim_end())
    }
}
