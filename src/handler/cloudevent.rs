//! The form in which an event leaves us: a CloudEvents 1.0 JSON object.

use crate::event::Event;

/// The event as one line of JSON.
pub fn json(_event: &Event) -> String {
    String::new()
}
