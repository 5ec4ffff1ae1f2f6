//! Standard output and standard error of a command: data on the one, diagnostics on the other.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;

/// Whoever read our standard output has had enough, as `head` does: no failure, and nothing more to do.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(super) struct Closed;

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Columns for people
    #[default]
    Text,
    /// As the admin API has it
    Json,
}

/// `--format`
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct FormatFlag {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

/// Writes a line to standard output.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    told(stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush()))
}

/// Writes JSON to standard output as a line. On a terminal, what could steer it is escaped; it is the same JSON.
pub(super) fn json(text: &str) -> anyhow::Result<()> {
    if is_terminal() { line(&escaped(text, |c| format!("\\u{:04x}", u32::from(c)))) } else { line(text) }
}

/// Writes bytes to standard output as they are, but escaped on a terminal.
pub(super) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    if is_terminal() {
        return String::from_utf8_lossy(bytes).lines().try_for_each(|text| line(&plain(text)));
    }
    let mut stdout = io::stdout().lock();
    told(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Writes a diagnostic to standard error. Should that be closed, nobody is left to tell.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "livehook: {text}");
}

/// Whether a person reads standard output.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Columns of the terminal; none when standard output is no terminal.
pub(super) fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// A text from outside as it may be shown in a line: what could steer a terminal, or break or reorder a line, is escaped.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_unsafe) { escaped(text, |c| c.escape_default().to_string()) } else { text.into() }
}

fn escaped(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    text.chars().map(|c| if is_unsafe(c) { escape(c) } else { c.to_string() }).collect::<String>().into()
}

/// Controls, and what is invisible or turns the direction of writing, tags included.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{FEFF}')
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}')
        || matches!(c, '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

fn told(outcome: io::Result<()>) -> anyhow::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        outcome => outcome.context("writing to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(plain("room-7 直播"), "room-7 直播");
        assert_eq!(plain("a\x1b[2J\n\u{9b}1m"), "a\\u{1b}[2J\\n\\u{9b}1m");
        for c in ['\u{202e}', '\u{61c}', '\u{2066}', '\u{ad}', '\u{fffa}', '\u{e0041}'] {
            assert_eq!(plain(&format!("{c}txt.exe")), format!("\\u{{{:x}}}txt.exe", u32::from(c)));
        }
    }
}
