//! What CSS would post: a body of each kind, as the newest revision of its page describes it, and the values that are
//! different in every event.
//!
//! A template is JSON. A text that is nothing but `$name` or `$name-60` becomes a number; `${name}` inside a text
//! becomes part of it.

use serde_json::Value;

use crate::clock::Timestamp;
use crate::event::Kind;

/// The values of one round: every event of it tells of the same stream and push.
#[derive(Clone, Debug)]
pub(super) struct Round {
    now: Timestamp,
    stream: String,
    url: String,
    sequence: u64,
    session: u64,
    id: u64,
    hex: u128,
    score: f64,
}

/// Streams that many events are spread over.
const STREAMS: u64 = 1000;

impl Round {
    /// The values of the round of that number, as of `now`; the same seed draws the same. `url` is where its events go.
    pub(super) fn draw(number: u64, seed: u64, now: Timestamp, url: &str) -> Self {
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number));
        Self {
            now,
            stream: format!("room-{}", number % STREAMS + 1),
            url: url.to_owned(),
            sequence: nineteen_digits(&mut random),
            session: nineteen_digits(&mut random),
            id: nineteen_digits(&mut random),
            hex: random.u128(..),
            score: random.f64().mul_add(40.0, 30.0),
        }
    }

    /// The body of a kind, without `t` and `sign`.
    pub(super) fn body(&self, kind: Kind) -> Value {
        let mut body = serde_json::from_str(text(kind)).expect("the templates are JSON: a test reads each");
        self.fill(&mut body);
        body
    }

    fn fill(&self, value: &mut Value) {
        match value {
            Value::Object(members) => members.values_mut().for_each(|value| self.fill(value)),
            Value::Array(elements) => elements.iter_mut().for_each(|value| self.fill(value)),
            Value::String(text) => match text.strip_prefix('$').filter(|name| !name.starts_with('{')) {
                Some(name) => *value = self.number(name),
                None => *text = self.interpolated(text),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn number(&self, expression: &str) -> Value {
        let (name, back) = expression.split_once('-').unwrap_or((expression, "0"));
        let back: i64 = back.parse().unwrap_or_default();
        match name {
            "now" => (self.now.secs() - back).into(),
            "now_ms" => (self.now.millis() - back).into(),
            "serial" => (self.id % u64::from(u32::MAX)).into(),
            "score" => self.score.into(),
            _ => Value::Null,
        }
    }

    fn interpolated(&self, text: &str) -> String {
        let mut parts = text.split("${");
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').unwrap_or((part, ""));
            filled.push_str(&self.text(name));
            filled.push_str(rest);
        }
        filled
    }

    fn text(&self, name: &str) -> String {
        let printed = self.now.rfc3339_secs();
        match name {
            "stream" => self.stream.clone(),
            "url" => self.url.clone(),
            "sequence" => self.sequence.to_string(),
            "session" => self.session.to_string(),
            "id" => self.id.to_string(),
            "hex" => format!("{:032x}", self.hex),
            "tx_time" => format!("{:X}", self.now.secs() + DAY_SECS),
            "date" => printed.chars().take(10).collect(),
            "clock" => printed.chars().skip(11).take(8).map(|c| if c == ':' { '-' } else { c }).collect(),
            number => self.number(number).to_string(),
        }
    }
}

const DAY_SECS: i64 = 24 * 60 * 60;

/// Sequence numbers and ids as CSS has them: nineteen digits that fit 64 bits with a sign.
fn nineteen_digits(random: &mut fastrand::Rng) -> u64 {
    random.u64(1_000_000_000_000_000_000..9_000_000_000_000_000_000)
}

fn text(kind: Kind) -> &'static str {
    match kind {
        Kind::StreamPush => include_str!("templates/stream-push.json"),
        Kind::StreamInterruption => include_str!("templates/stream-interruption.json"),
        Kind::Recording => include_str!("templates/recording.json"),
        Kind::RecordingStatus => include_str!("templates/recording-status.json"),
        Kind::RecordingException => include_str!("templates/recording-exception.json"),
        Kind::Screencapture => include_str!("templates/screencapture.json"),
        Kind::ImageAudit => include_str!("templates/image-audit.json"),
        Kind::AudioAudit => include_str!("templates/audio-audit.json"),
        Kind::PushError => include_str!("templates/push-error.json"),
        Kind::Relay => include_str!("templates/relay.json"),
        Kind::Monitor => include_str!("templates/monitor.json"),
        Kind::QualityControl => include_str!("templates/quality-control.json"),
        Kind::EvaluationThreshold => include_str!("templates/evaluation-threshold.json"),
        Kind::EvaluationAverage => include_str!("templates/evaluation-average.json"),
        Kind::SmartErase => include_str!("templates/smart-erase.json"),
        Kind::Subtitles => include_str!("templates/subtitles.json"),
        Kind::Summary => include_str!("templates/summary.json"),
        Kind::Highlight => include_str!("templates/highlight.json"),
        Kind::Unknown => include_str!("templates/unknown.json"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Identity, Incoming, payload};

    const NOW: Timestamp = Timestamp::from_millis(1_760_000_000_500);

    fn body(kind: Kind, number: u64) -> String {
        Round::draw(number, 42, NOW, "http://127.0.0.1:8080/callbacks").body(kind).to_string()
    }

    #[test]
    fn every_template_reads_as_its_kind_without_drift() {
        for kind in Kind::all() {
            let body = body(kind, 0);
            let incoming = Incoming::read(body.as_bytes()).unwrap();
            assert_eq!(incoming.kind(), kind, "{body}");
            let reading = payload::read(kind, incoming.body());
            if kind != Kind::Unknown {
                assert_eq!(reading.drift, Vec::<String>::new(), "{kind}");
                assert!(reading.natural_key.is_some(), "{kind}");
            }
            assert!(!body.contains('$') && !body.contains("null"), "{body}");
        }
    }

    #[test]
    fn every_template_says_when_and_where() {
        for kind in Kind::all() {
            let body = body(kind, 6);
            let facts = Incoming::read(body.as_bytes()).unwrap().facts();
            assert_eq!(facts.stream.as_deref(), Some("room-7"), "{kind}");
            match facts.occurred_at {
                Some(time) => assert!(NOW.since(time).as_secs() < 330 && time <= NOW, "{kind} {time}"),
                None => assert_eq!(kind, Kind::AudioAudit),
            }
        }
    }

    #[test]
    fn events_of_one_moment_are_different_events() {
        for kind in Kind::all() {
            let identity = |number| {
                let body = body(kind, number);
                Identity::of(Incoming::read(body.as_bytes()).unwrap().body(), None, None)
            };
            assert_ne!(identity(0), identity(STREAMS), "{kind}");
        }
    }
}
