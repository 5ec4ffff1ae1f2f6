//! The callback key on the command line.

use std::path::PathBuf;

use super::http;
use crate::secret::Secret;

/// `--key` and `--key-file`.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "callback-key", multiple = false)]
pub(super) struct KeyFlags {
    /// Callback key; others may see it in the list of processes, so prefer --key-file
    #[arg(long, value_name = "KEY", value_parser = http::parse_secret)]
    key: Option<Secret>,
    /// File that holds the callback key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl KeyFlags {
    /// The key, if one was given.
    pub(super) fn get(&self) -> anyhow::Result<Option<Secret>> {
        http::secret(self.key.clone(), self.key_file.as_ref())
    }

    /// The key, which must be given.
    pub(super) fn demand(&self) -> anyhow::Result<Secret> {
        self.get()?.ok_or_else(|| anyhow::anyhow!("no callback key; give --key or --key-file"))
    }
}
