//! `livehook streams`

mod list;
mod rebuild;
mod show;

use clap::Subcommand;
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(super) enum Streams {
    /// List streams by name: who is live, and why the others are not
    List(list::List),
    /// Show one stream: its pushes, and the files, pictures and faults of each
    Show(show::Show),
    /// Make all streams anew from the events that are stored
    Rebuild(rebuild::Rebuild),
}

impl Streams {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Rebuild(command) => command.run(),
        }
    }
}

/// How long a push lasted, as `2h05m`, `3m07s` or `12s`; a dash where that is not known.
fn lasted(push: &Value) -> String {
    let Some(secs) = push["duration_ms"].as_u64().map(|millis| millis / 1000) else { return "-".to_owned() };
    match (secs / 3600, secs / 60 % 60, secs % 60) {
        (0, 0, secs) => format!("{secs}s"),
        (0, minutes, secs) => format!("{minutes}m{secs:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

/// Why a push ended, in a word and a code.
fn cause(push: &Value) -> String {
    match (push["end"]["class"].as_str(), push["end"]["errcode"].as_i64()) {
        (Some(class), Some(errcode)) => format!("{class} ({errcode})"),
        (Some(class), None) => class.to_owned(),
        (None, _) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_as_short_as_they_can_be() {
        for (millis, expected) in
            [(json!(null), "-"), (json!(12_999), "12s"), (json!(187_000), "3m07s"), (json!(7_530_000), "2h05m")]
        {
            assert_eq!(lasted(&json!({ "duration_ms": millis })), expected);
        }
    }
}
