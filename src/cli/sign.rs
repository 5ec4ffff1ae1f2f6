//! `livehook sign`

use super::key::KeyFlags;
use super::output;
use crate::signature;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("needed").args(["key", "key_file"]).required(true))]
pub(super) struct Sign {
    #[command(flatten)]
    key: KeyFlags,
    /// When the signature expires, in seconds since 1970
    #[arg(long, value_name = "T", value_parser = parse_t, allow_hyphen_values = true)]
    t: String,
}

impl Sign {
    pub(super) fn run(self) -> anyhow::Result<()> {
        output::line(&signature::sign(&self.key.demand()?, &self.t))
    }
}

fn parse_t(text: &str) -> Result<String, String> {
    if signature::is_strict_t(text) {
        return Ok(text.to_owned());
    }
    Err("`t` is strict decimal digits: not beginning with 0, no sign, at most 9223372036854775807".to_owned())
}
