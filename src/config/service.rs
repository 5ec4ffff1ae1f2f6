//! `[server]`, `[ack]`, `[admin]`, `[log]`, `[store]` and `[quarantine]`.

use std::time::Duration;

use axum::http::HeaderValue;

use super::field::{Size, StoreUrl};
use super::reader::Section;
use super::secret;
use super::sources::LEVEL_VARIABLE;
use super::units::show_span;
use crate::receive::{Ack, Unstored};
use crate::secret::Secret;
use crate::store::QuarantineSettings;
use crate::telemetry::Format;
use crate::{admin, receive, store, telemetry};

/// A stop takes 25 s at most, of which attempts in hand get the rest.
const DRAIN_DELAY_MAX: Duration = Duration::from_secs(15);
/// Less leaves no time for a sync of a busy disk.
const DEADLINE_MIN: Duration = Duration::from_millis(100);
/// CSS hangs up after 20 s.
const DEADLINE_MAX: Duration = Duration::from_secs(19);
/// A larger body would not fit the line of a spill.
const BODY_LIMIT_MAX: usize = 32 << 20;
/// More connections than one machine has files for.
const CONNECTIONS_MAX: usize = 1 << 20;

pub(super) fn server(s: &mut Section<'_>) -> receive::Settings {
    let default = receive::Settings::default();
    let settings = receive::Settings {
        listen: s.read("listen", default.listen),
        body_limit: s.size("body_limit", default.body_limit),
        header_timeout: s.read("header_timeout", default.header_timeout),
        read_timeout: s.read("read_timeout", default.read_timeout),
        idle_timeout: s.read("idle_timeout", default.idle_timeout),
        max_connections: s.count("max_connections", default.max_connections),
        body_bytes_in_flight: s.size("body_bytes_in_flight", default.body_bytes_in_flight),
        drain_delay: s.read("drain_delay", default.drain_delay),
        ack: default.ack,
    };
    judge_limits(s, &settings);
    let (header_timeout, read_timeout) =
        ordered(s, ("header_timeout", settings.header_timeout), ("read_timeout", settings.read_timeout));
    receive::Settings { header_timeout, read_timeout, ..settings }
}

fn judge_limits(s: &mut Section<'_>, settings: &receive::Settings) {
    for (key, span) in [
        ("header_timeout", settings.header_timeout),
        ("read_timeout", settings.read_timeout),
        ("idle_timeout", settings.idle_timeout),
    ] {
        s.demand(key, !span.is_zero(), || "must not be zero");
    }
    s.demand("max_connections", settings.max_connections > 0, || "must be at least 1");
    s.demand(
        "body_limit",
        (1..=BODY_LIMIT_MAX).contains(&settings.body_limit),
        || "must be at least one byte and at most \"32MiB\"",
    );
    s.demand("max_connections", settings.max_connections <= CONNECTIONS_MAX, || {
        format!("must be at most {CONNECTIONS_MAX}")
    });
    s.demand("drain_delay", settings.drain_delay <= DRAIN_DELAY_MAX, || {
        format!("must be at most {:?}", show_span(DRAIN_DELAY_MAX))
    });
}

/// Two durations of which the first must not be the longer. One that was not given follows the other.
pub(super) fn ordered(
    s: &mut Section<'_>,
    (low_key, low): (&str, Duration),
    (high_key, high): (&str, Duration),
) -> (Duration, Duration) {
    match (s.given(low_key), s.given(high_key)) {
        _ if low <= high => (low, high),
        (true, false) => (low, s.settle(high_key, low)),
        (false, _) => (s.settle(low_key, high), high),
        (true, true) => {
            s.fault(low_key, format!("must not be longer than {}", s.path_of(high_key)));
            (low, high)
        }
    }
}

pub(super) fn ack(s: &mut Section<'_>) -> Ack {
    let default = Ack::default();
    let deadline = s.read("deadline", default.deadline);
    s.demand("deadline", (DEADLINE_MIN..=DEADLINE_MAX).contains(&deadline), || {
        format!("must lie between {:?} and {:?}", show_span(DEADLINE_MIN), show_span(DEADLINE_MAX))
    });
    let words = [("accept", Unstored::Accept), ("refuse", Unstored::Refuse)];
    Ack { deadline, unstored: s.word("unstored", default.unstored, &words) }
}

pub(super) fn admin(s: &mut Section<'_>) -> admin::Settings {
    let default = admin::Settings::default();
    let settings = admin::Settings { listen: s.read("listen", default.listen), token: s.secret("token") };
    let token = settings.token.as_ref().map_or("", Secret::expose);
    let edges = [token.chars().next(), token.chars().next_back()];
    // Blanks at the ends of a header are no part of it, and nobody types a byte order mark.
    let sendable =
        HeaderValue::from_bytes(token.as_bytes()).is_ok() && !edges.into_iter().flatten().any(secret::is_unseen);
    s.demand("token", sendable, || {
        "cannot be sent in a header: it has a line break or another character that is not printed, or blanks at an end"
    });
    settings
}

pub(super) fn log(s: &mut Section<'_>) -> telemetry::Settings {
    let default = telemetry::Settings::default();
    let level = s.read("level", default.level);
    let ours = !s.given_by("level", LEVEL_VARIABLE);
    if let Err(what) = judge_level(&level, ours) {
        s.fault("level", what);
    }
    let words = [("auto", Format::Auto), ("text", Format::Text), ("json", Format::Json)];
    telemetry::Settings { level, format: s.word("format", default.format, &words) }
}

/// A single word of `ours` is a level: taken for a target, a slip of the pen would silence everything else.
fn judge_level(level: &str, ours: bool) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
    let word = ours && level.chars().all(|c| c.is_ascii_alphanumeric());
    if word && !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
        return Err(format!("{level:?} is none of {}, nor a list of directives", LEVELS.join(", ")));
    }
    telemetry::log::parse_directives(level).map(drop).map_err(|e| format!("{level:?} is no list of directives: {e}"))
}

pub(super) fn store(s: &mut Section<'_>) -> store::Settings {
    let default = store::Settings::default();
    let settings = store::Settings {
        url: s.read("url", StoreUrl(default.url)).0,
        retention: s.read("retention", default.retention),
        max_bytes: s.optional("max_bytes").map(|Size(bytes)| bytes),
        dedup_window: s.read("dedup_window", default.dedup_window),
        queue_count: s.count("queue_count", default.queue_count),
        queue_bytes: s.size("queue_bytes", default.queue_bytes),
        quarantine: default.quarantine,
    };
    if let Some(what) = store::fault_of_url(&settings.url) {
        s.fault("url", what);
    }
    s.demand("queue_count", settings.queue_count > 0, || "must be at least 1");
    s.demand("queue_bytes", settings.queue_bytes > 0, || "must not be zero");
    settings
}

pub(super) fn quarantine(s: &mut Section<'_>) -> QuarantineSettings {
    let default = QuarantineSettings::default();
    QuarantineSettings {
        max_count: s.count("max_count", default.max_count),
        max_bytes: s.size("max_bytes", default.max_bytes),
    }
}
