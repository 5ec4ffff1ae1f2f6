//! Log lines: what is logged, in which form, and the way to standard error that never holds anybody up.

use std::fmt;
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::stderr::{self, Lost, Stderr};
use super::{Format, Settings};
use crate::clock::{Clock, SystemClock};

/// Sends the log of this process to standard error. Panics are logged too, because the usual hook would wait for a
/// stalled pipe.
pub fn init(settings: &Settings) -> Result<Guard, InitError> {
    let filter = filter(&settings.level)?;
    let terminal = io::stderr().is_terminal();
    let form = match settings.format {
        Format::Json => Form::Json,
        Format::Auto if !terminal => Form::Json,
        Format::Auto | Format::Text => Form::Text { colours: terminal },
    };
    let stderr = stderr::global().map_err(InitError::Thread)?;
    let (subscriber, filter) = subscriber(filter, form, stderr.clone());
    subscriber.try_init().map_err(|_| InitError::AlreadySet)?;
    panic::set_hook(Box::new(log_panic));
    Ok(Guard { stderr, filter })
}

/// Keep it until the end: dropping it waits, for a second at most, until what was logged is written.
#[must_use = "the last lines may be lost without it"]
pub struct Guard {
    stderr: Stderr,
    filter: reload::Handle<EnvFilter, Formatted>,
}

impl Guard {
    /// Logs at another level, or by other directives, from now on.
    pub fn set_level(&self, level: &str) -> Result<(), InitError> {
        self.filter.reload(filter(level)?).map_err(|_| InitError::Level(level.to_owned()))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stderr.flush(FLUSH_MAX);
    }
}

const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Why nothing is logged.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The level is none, and the directives are none.
    #[error("`{0}` is neither a log level (error, warn, info, debug, trace, off) nor a list of directives")]
    Level(String),
    /// Somebody else in this process takes the log.
    #[error("the log of this process goes elsewhere already")]
    AlreadySet,
    /// There is no thread to write it.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(io::Error),
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Text { colours: bool },
    Json,
}

/// What forms the lines, before anything is filtered out.
type Formatted = Layered<Box<dyn Layer<Registry> + Send + Sync>, Registry>;

fn subscriber(
    filter: EnvFilter,
    form: Form,
    stderr: Stderr,
) -> (impl Subscriber + Send + Sync, reload::Handle<EnvFilter, Formatted>) {
    stderr.report_losses_with(match form {
        Form::Text { .. } => text_report,
        Form::Json => json_report,
    });
    let base = tracing_subscriber::fmt::layer::<Registry>()
        .with_timer(Now)
        .with_writer(Lines(stderr))
        .log_internal_errors(false);
    let layer = match form {
        Form::Text { colours } => base.with_ansi(colours).boxed(),
        Form::Json => {
            base.json().flatten_event(true).with_current_span(false).with_span_list(false).with_ansi(false).boxed()
        }
    };
    let (filter, handle) = reload::Layer::new(filter);
    (Registry::default().with(layer).with(filter), handle)
}

/// A bare word that is no level would be taken for the name of a target and silence everything else, so it is refused.
fn filter(level: &str) -> Result<EnvFilter, InitError> {
    let word = level.trim();
    let is_level = !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if !is_level && !word.contains('=') {
        return Err(InitError::Level(level.to_owned()));
    }
    directives_filter(word)
}

fn directives_filter(directives: &str) -> Result<EnvFilter, InitError> {
    parse_directives(directives).map_err(|_| InitError::Level(directives.to_owned()))
}

/// Reads directives as in `RUST_LOG`. Blanks around them are no part of them: the library counts them wrongly, so that it
/// misreads what stands behind, or panics.
pub fn parse_directives(text: &str) -> Result<EnvFilter, ParseError> {
    let directives = SILENT.split(',').chain(text.split(',')).map(str::trim);
    EnvFilter::builder().parse(directives.collect::<Vec<_>>().join(","))
}

/// Clients of other systems that log what they also report, and which attempts then tell. Directives bring them back.
const SILENT: &str = "async_nats=off,lapin=off";

fn log_panic(info: &PanicHookInfo<'_>) {
    let at = info.location().map(ToString::to_string);
    let message = info.payload_as_str().unwrap_or("no message");
    tracing::error!(target: "livehook::panic", at, panic = message, "panicked");
}

fn text_report(lost: u64) -> String {
    format!("{}  {} livehook::telemetry: {}\n", SystemClock.now(), Level::WARN, Lost(lost))
}

fn json_report(lost: u64) -> String {
    let line = serde_json::json!({
        "timestamp": SystemClock.now().rfc3339(),
        "level": Level::WARN.as_str(),
        "message": Lost(lost).to_string(),
        "lost": lost,
        "target": "livehook::telemetry",
    });
    format!("{line}\n")
}

/// UTC with milliseconds.
#[derive(Clone, Copy, Debug)]
struct Now;

impl FormatTime for Now {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", SystemClock.now())
    }
}

#[derive(Clone, Debug)]
struct Lines(Stderr);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

/// Gets each event in one call, as text that ends in a line break.
#[derive(Debug)]
struct Line<'a>(&'a Stderr);

impl io::Write for Line<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.log(one_line(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Breaks inside a message become `\n`, so that a line is an event and nobody can forge one.
fn one_line(text: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(text.len());
    for &byte in text.strip_suffix(b"\n").unwrap_or(text) {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            _ => line.push(byte),
        }
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::stderr::tests::Pipe;
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Sends what this thread logs, as JSON, to a pipe, until the guard goes.
    pub(crate) fn capture(level: &str) -> (Pipe, Stderr, tracing::subscriber::DefaultGuard) {
        capture_as(Form::Json, level)
    }

    fn capture_as(form: Form, level: &str) -> (Pipe, Stderr, tracing::subscriber::DefaultGuard) {
        let pipe = Pipe::default();
        let stderr = Stderr::start(pipe.clone()).unwrap();
        let (subscriber, _) = subscriber(filter(level).unwrap(), form, stderr.clone());
        (pipe, stderr, tracing::subscriber::set_default(subscriber))
    }

    #[test]
    fn json_lines_are_flat_and_timed_in_utc() {
        let (pipe, stderr, _capturing) = capture("info");
        tracing::info!(port = 8080, name = "a\nb", "listening");
        tracing::debug!("not this one");
        assert!(stderr.flush(LONG));
        let line: serde_json::Value = serde_json::from_str(pipe.text().trim_end()).unwrap();
        assert_eq!((line["message"].as_str(), line["port"].as_u64()), (Some("listening"), Some(8080)));
        assert_eq!((line["level"].as_str(), line["name"].as_str()), (Some("INFO"), Some("a\nb")));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_text_line_is_one_line_without_colours() {
        let (pipe, stderr, _capturing) = capture_as(Form::Text { colours: false }, "livehook=debug,info");
        tracing::warn!(name = "x\ny", "first\nsecond\x1b[31m");
        assert!(stderr.flush(LONG));
        let text = pipe.text();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.contains("WARN") && text.contains(r"first\nsecond") && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn another_level_counts_from_then_on() {
        let stderr = Stderr::start(Pipe::default()).unwrap();
        let (subscriber, handle) = subscriber(filter("info").unwrap(), Form::Json, stderr.clone());
        let _capturing = tracing::subscriber::set_default(subscriber);
        let guard = Guard { stderr, filter: handle };
        assert!(!tracing::enabled!(Level::DEBUG));
        guard.set_level("livehook=debug").unwrap();
        assert!(tracing::enabled!(Level::DEBUG));
        assert!(guard.set_level("loud").is_err());
        assert!(tracing::enabled!(Level::DEBUG), "a faulty one changes nothing");
    }

    #[test]
    fn lost_lines_are_told_in_the_form_of_the_log() {
        let told: serde_json::Value = serde_json::from_str(&json_report(3)).unwrap();
        assert_eq!(told["lost"], 3);
        assert!(text_report(3).ends_with("3 log lines were lost: standard error does not take them\n"));
    }

    #[test]
    fn blanks_around_directives_change_nothing() {
        let (pipe, stderr, _capturing) = capture("warn, livehook=debug");
        tracing::debug!("this one");
        assert!(stderr.flush(LONG));
        assert!(pipe.text().contains("this one"));
    }

    #[test]
    fn levels_and_directives_are_taken_and_misspelt_ones_refused() {
        for good in
            ["info", "WARN", "off", "livehook=debug", "warn,livehook::event=info", " debug ", "warn, livehook=info"]
        {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "infoo", "livehook=loud", "verbose", " a[b=\u{e9}\u{e9}"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
