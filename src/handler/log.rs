//! Writes each event to the log: one line, target `livehook::event`, with what names the event and not its body, whose
//! `stream_param` and `sign` are secrets. A success is a line that left for standard error; where the log's directives
//! filter such lines out, or another subscriber takes them, there is nothing to wait for.

use futures_util::future::BoxFuture;
use tracing::Level;

use super::{Handler, HandlerError};
use crate::event::Event;
use crate::telemetry::stderr::{self, Stderr};

/// How events are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The level of the lines.
    pub level: Level,
}

/// The `log` handler.
#[derive(Debug)]
pub struct Log {
    level: Level,
    /// Where the log goes; none: to the process's standard error.
    stderr: Option<Stderr>,
}

impl Log {
    /// A handler with these settings.
    pub fn new(settings: &Settings) -> Self {
        Self { level: settings.level, stderr: None }
    }

    async fn write(&self, event: &Event) -> Result<(), HandlerError> {
        let stderr = self.stderr.clone().map_or_else(stderr::global, Ok);
        let mark = stderr.map_err(|e| HandlerError::transient(format!("cannot log: {e}")))?.mark();
        log(self.level, event);
        mark.written().await.map_err(|lost| HandlerError::transient(lost.to_string()))
    }
}

impl Handler for Log {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(self.write(event))
    }
}

/// The level of a line must be known when it is compiled.
macro_rules! log_at {
    ($level:ident, $event:ident) => {
        tracing::event!(
            target: "livehook::event",
            Level::$level,
            id = %$event.id,
            kind = $event.facts.kind.slug(),
            domain = $event.facts.domain.as_deref(),
            app = $event.facts.app.as_deref(),
            stream = $event.facts.stream.as_deref(),
            verification = $event.verification.slug(),
            "{}",
            $event.facts.kind.facts().title[0],
        )
    };
}

fn log(level: Level, event: &Event) {
    match level {
        Level::ERROR => log_at!(ERROR, event),
        Level::WARN => log_at!(WARN, event),
        Level::INFO => log_at!(INFO, event),
        Level::DEBUG => log_at!(DEBUG, event),
        Level::TRACE => log_at!(TRACE, event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::cloudevent::tests::event;
    use crate::telemetry::log::tests::capture;

    const PUSH: &str = r#"{"event_type":1,"app":"a.b","appname":"live","stream_id":"room-7",
        "stream_param":"txSecret=hidden1","t":1703129000,"sign":"hidden2"}"#;

    #[tokio::test]
    async fn an_event_is_one_line_without_its_secrets() {
        let (pipe, stderr, _capturing) = capture("info");
        let handler = Log { level: Level::WARN, stderr: Some(stderr) };
        handler.deliver(&event(PUSH)).await.unwrap();
        let text = pipe.text();
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        for (field, value) in [
            ("level", "WARN"),
            ("target", "livehook::event"),
            ("message", "push started"),
            ("id", "0198c700-0000-7000-8000-000000000001"),
            ("kind", "stream-push"),
            ("domain", "a.b"),
            ("app", "live"),
            ("stream", "room-7"),
            ("verification", "verified"),
        ] {
            assert_eq!(line[field], value, "{text}");
        }
        assert!(!text.contains("hidden") && !text.contains("1703129000"), "{text}");
    }

    #[tokio::test]
    async fn an_event_without_names_has_no_such_fields() {
        let (pipe, stderr, _capturing) = capture("info");
        let handler = Log { level: Level::INFO, stderr: Some(stderr) };
        handler.deliver(&event(r#"{"event_type":999}"#)).await.unwrap();
        assert!(pipe.text().contains("unknown event") && !pipe.text().contains("\"stream\""));
    }

    #[tokio::test]
    async fn a_line_that_standard_error_does_not_take_is_tried_again() {
        let (pipe, stderr, _capturing) = capture("info");
        pipe.script(&[Err(std::io::ErrorKind::BrokenPipe)]);
        let handler = Log { level: Level::INFO, stderr: Some(stderr) };
        assert!(matches!(handler.deliver(&event(PUSH)).await, Err(HandlerError::Transient { .. })));
        handler.deliver(&event(PUSH)).await.unwrap();
    }

    #[tokio::test]
    async fn success_waits_for_a_stalled_pipe() {
        let (pipe, stderr, _capturing) = capture("info");
        pipe.stall(true);
        let handler = Log { level: Level::INFO, stderr: Some(stderr) };
        let event = event(PUSH);
        let mut delivery = handler.deliver(&event);
        assert!(futures_util::FutureExt::now_or_never(&mut delivery).is_none());
        pipe.stall(false);
        delivery.await.unwrap();
        assert_eq!(pipe.text().lines().count(), 1);
    }
}
