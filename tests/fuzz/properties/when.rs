//! Any expression, on the first line, and any body after it. An expression compiles, or all its faults are said with
//! their places; one that compiles says the same of an event twice, and does so soon.

use std::time::{Duration, Instant};

use livehook::clock::Timestamp;
use livehook::event::{Event, EventId, Incoming, Verification};
use livehook::handler::when::{Scope, When, WhenError};

/// A hundred times what an event may cost, for slow machines and builds with sanitizers.
const EVALUATION_MAX: Duration = Duration::from_secs(5);
/// What is said of an error, whatever the event holds.
const ERROR_CHARS_MAX: usize = 5000;

pub(crate) fn holds(data: &[u8]) {
    let Some((source, body)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else { return };
    let when = match When::compile(source) {
        Ok(when) => when,
        Err(faults) => {
            assert!(!faults.is_empty(), "what is refused has a fault");
            for fault in faults {
                assert!(!fault.what.is_empty() && !fault.what.contains('\n'), "{fault:?}");
                assert!(fault.place.is_none_or(|(line, column)| line > 0 && column > 0), "{fault:?}");
            }
            return;
        }
    };
    assert_eq!(when.source(), source);
    let Ok(incoming) = Incoming::read(body.as_bytes()) else { return };
    let event = Event {
        id: EventId::from_u128(1),
        facts: incoming.facts(),
        received_at: Timestamp::from_millis(1_703_128_357_104),
        verification: Verification::Verified,
        body: body.to_owned().into(),
    };
    let Ok(scope) = Scope::of(&event) else { return };
    let begun = Instant::now();
    let outcome = when.holds(&scope);
    assert!(begun.elapsed() < EVALUATION_MAX, "{:?}", begun.elapsed());
    if let Err(error) = &outcome {
        assert!(error.to_string().chars().count() < ERROR_CHARS_MAX, "{error}");
    }
    // In the words of the interpreter the members of a map stand in any order.
    let said = |outcome: Result<bool, WhenError>| outcome.map_err(|error| (error.why, error.to_string()));
    assert_eq!(said(outcome), said(when.holds(&scope)), "an evaluation leaves nothing behind");
}
