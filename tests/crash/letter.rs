//! The callbacks that are sent: the recorded ones of all kinds, each time with a number, so that no two are the same
//! event, and none needs to be remembered.

use livehook::clock::{Clock as _, SystemClock};
use md5::{Digest as _, Md5};
use serde_json::Value;
use sha2::Sha256;

/// The callback key of every program that is tested.
pub(crate) const KEY: &str = "crash-key";

/// Enough of a digest to tell bodies apart.
pub(crate) type Digest = [u8; 16];

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes)[..16].try_into().unwrap()
}

/// What is to become of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Stored and delivered.
    Event,
    /// Refused for its signature; may be readmitted.
    Forged,
    /// Refused because it is no JSON.
    Garbage,
    /// Refused because it names no event type.
    Nameless,
}

/// Makes callbacks.
#[derive(Debug)]
pub(crate) struct Letters {
    templates: Vec<Template>,
    /// Those of them that start and stop a stream.
    of_streams: Vec<usize>,
}

#[derive(Debug)]
struct Template {
    text: String,
    signed: bool,
}

const NUMBER: &str = "@NUMBER@";
const STREAM: &str = "@STREAM@";
const TIME: &str = "\"@TIME@\"";
/// Few enough that many events of one stream wait for each other.
const STREAMS: u64 = 60;
/// A time like any other.
const FIRST_TIME: u64 = 1_703_128_000;
/// CSS signs for ten minutes.
const VALID_SECS: i64 = 600;
/// One in so many callbacks does not fit on a page of the store.
const LARGE_EVERY: u64 = 150;
const LARGE_BYTES: usize = 20_000;
/// One in so many is looked at away from the threads that serve connections.
const HUGE_EVERY: u64 = 1500;
const HUGE_BYTES: usize = 200_000;
/// CSS never signs these.
const UNSIGNED: [u64; 2] = [314, 328];

impl Letters {
    /// Reads the recorded callbacks.
    pub(crate) fn load() -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples");
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let read = |path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
        let templates: Vec<_> = paths.into_iter().map(read).filter_map(Template::of).collect();
        assert!(templates.len() > 30, "only {} recorded callbacks are to be used", templates.len());
        let of_streams = (0..templates.len()).filter(|at| templates[*at].text.contains(TIME)).collect();
        Self { templates, of_streams }
    }

    /// The body of callback `number`. Its copies differ in what a retry of CSS may change.
    pub(crate) fn body(&self, number: u64, sort: Sort, copy: u32) -> String {
        match sort {
            Sort::Event => self.event(number, copy, KEY),
            Sort::Forged => self.event(number, copy, "another-key"),
            Sort::Garbage => format!("{{\"crash_number\":\"{number}\", and no more"),
            Sort::Nameless => format!("{{\"crash_number\":\"{number}\"}}"),
        }
    }

    fn event(&self, number: u64, copy: u32, key: &str) -> String {
        let mut dice = fastrand::Rng::with_seed(number);
        let any = dice.usize(..self.templates.len());
        let at = if dice.bool() || key != KEY { self.of_streams[any % self.of_streams.len()] } else { any };
        let Template { text, signed } = &self.templates[at];
        let stream = format!("room-{}", dice.u64(..STREAMS));
        let time = (FIRST_TIME + number).to_string();
        let filled = text.replace(NUMBER, &number.to_string()).replace(STREAM, &stream).replace(TIME, &time);
        let members = &filled[1..filled.len() - 1];
        let pad = match number {
            n if n % HUGE_EVERY == HUGE_EVERY - 1 => HUGE_BYTES,
            n if n % LARGE_EVERY == LARGE_EVERY - 1 => LARGE_BYTES,
            _ => 0,
        };
        let pad = format!("\"crash_pad\":\"{}\"", "x".repeat(pad));
        if !signed {
            return format!("{{{}{members},{pad}}}", " ".repeat(usize::try_from(copy).unwrap()));
        }
        let t = SystemClock.now().secs() + VALID_SECS + i64::from(copy);
        let sign = hex::encode(Md5::digest(format!("{key}{t}")));
        match copy % 2 {
            0 => format!("{{{members},{pad},\"t\":{t},\"sign\":\"{sign}\"}}"),
            _ => format!("{{ \"sign\":\"{sign}\",{pad},{members},\n\"t\":{t} }}"),
        }
    }
}

impl Template {
    /// None of what is quarantined because it names no event type.
    fn of(mut recorded: Value) -> Option<Self> {
        let members = recorded.as_object_mut()?;
        let signed = !UNSIGNED.contains(&members.get("event_type")?.as_u64()?);
        // A copy is signed anew, and says so when it was sent.
        members.retain(|name, _| !matches!(name.as_str(), "t" | "sign" | "sendTime"));
        for (name, value) in members.iter_mut() {
            match (name.as_str(), &*value) {
                ("stream_id" | "streamId", Value::String(_)) => *value = STREAM.into(),
                ("sequence", Value::String(_)) => *value = NUMBER.into(),
                // As far as it is in seconds.
                ("event_time", Value::Number(n)) if n.as_u64().is_some_and(|n| n < 1 << 40) => *value = "@TIME@".into(),
                _ => {}
            }
        }
        members.insert("crash_number".to_owned(), NUMBER.into());
        Some(Self { text: recorded.to_string(), signed })
    }
}

/// The content of an event as a handler gets it: all but `t` and `sign`.
pub(crate) fn content(mut body: Value) -> Digest {
    if let Some(members) = body.as_object_mut() {
        members.retain(|name, _| !matches!(name.as_str(), "t" | "sign"));
    }
    digest(body.to_string().as_bytes())
}
