//! Callbacks that the store could not confirm in time leave as lines on standard error.

use std::io;

use futures_util::future::BoxFuture;

use crate::event::Reason;
use crate::intake::{Callback, spill_line};

/// Where spilled lines go. A trait, so that a test can be the stalled pipe.
pub trait SpillSink: Send + Sync + 'static {
    /// Completes once the whole line, which ends in a line break, is written.
    fn write_line(&self, line: Vec<u8>) -> BoxFuture<'_, io::Result<()>>;
}

/// Standard error, in one piece each among the log lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandardError;

impl SpillSink for StandardError {
    fn write_line(&self, line: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(crate::telemetry::stderr::write_line(line))
    }
}

/// Writes a callback out.
pub(super) async fn write(sink: &dyn SpillSink, callback: &Callback, refusal: Option<Reason>) -> io::Result<()> {
    let mut line = spill_line(callback, refusal).into_bytes();
    line.push(b'\n');
    sink.write_line(line).await
}
