//! `[[handlers]]`: what all have in common, then the keys of each type.

#[cfg(feature = "amqp")]
mod amqp;
#[cfg(feature = "chat")]
mod chat;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
#[cfg(any(
    feature = "amqp",
    feature = "kafka",
    feature = "mysql",
    feature = "nats",
    feature = "postgres",
    feature = "redis"
))]
#[cfg_attr(
    not(any(feature = "amqp", feature = "nats", feature = "redis")),
    expect(dead_code, reason = "databases and Kafka have fewer of these keys")
)]
mod outside;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod sql;
mod when;

use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path, PathBuf};

use axum::http::{HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tracing::Level;
use url::Url;
use wildmatch::WildMatch;

use super::field::{Field, Size};
use super::reader::Section;
use super::service::ordered;
use super::tree::{Node, Origin, What};
use crate::event::Kind;
use crate::handler::{Filter, Order, Policy, RetryPolicy, Settings, Target, exec, file, http, log};

/// Beside the file in use: enough to look back, and bounded.
const ROTATE_KEEP: usize = 10;
/// More attempts at the same time than one machine should make of one handler.
const CONCURRENCY_MAX: usize = 10_000;
/// Long enough for any name, short enough for a label and a column.
const NAME_MAX: usize = 64;

/// Reads the keys of a type; none when one that is required is missing.
type TargetReader = fn(&mut Section<'_>) -> Option<Target>;

/// The types, with the readers of their keys.
const TYPES: &[(&str, TargetReader)] = &[
    ("log", log),
    ("file", file),
    ("http", http),
    ("exec", exec),
    #[cfg(feature = "chat")]
    ("chat", chat::chat),
    #[cfg(feature = "nats")]
    ("nats", nats::nats),
    #[cfg(feature = "redis")]
    ("redis", redis::redis),
    #[cfg(feature = "amqp")]
    ("amqp", amqp::amqp),
    #[cfg(feature = "kafka")]
    ("kafka", kafka::kafka),
    #[cfg(feature = "postgres")]
    ("postgres", sql::postgres),
    #[cfg(feature = "mysql")]
    ("mysql", sql::mysql),
];
/// Types that are there when the program is built with the feature of that name.
const TYPES_OF_FEATURES: [&str; 7] = ["nats", "redis", "amqp", "kafka", "postgres", "mysql", "chat"];

/// All handlers; without any one that logs.
pub(super) fn handlers(s: &mut Section<'_>) -> Vec<Settings> {
    let mut names = HashSet::new();
    let handlers = s.blocks("handlers", || vec![unconfigured("log")], |s| handler(s, &mut names));
    judge_files(s, &handlers);
    handlers.into_iter().flatten().collect()
}

/// No two handlers write one file, nor does one write where another sets its files aside: each would remove what the
/// other has recorded as delivered.
fn judge_files(s: &mut Section<'_>, handlers: &[Option<Settings>]) {
    let read = handlers.iter().enumerate();
    let files: Vec<_> = read.filter_map(|(at, settings)| Written::by(at, settings.as_ref()?)).collect();
    for (behind, one) in files.iter().enumerate() {
        let key = format!("handlers[{}].path", one.at);
        for other in &files[..behind] {
            s.demand(&key, one.path != other.path, || format!("is the file of handler `{}`, too", other.name));
            s.demand(&key, !one.path_is_set_aside_by(other) && !other.path_is_set_aside_by(one), || {
                format!("collides with the files that are set aside of handler `{}`", other.name)
            });
        }
    }
}

/// A file that a handler writes.
struct Written<'a> {
    /// Which of the handlers.
    at: usize,
    name: &'a str,
    path: PathBuf,
    rotates: bool,
}

impl<'a> Written<'a> {
    fn by(at: usize, settings: &'a Settings) -> Option<Self> {
        let Settings { policy, target: Target::File(file) } = settings else { return None };
        let path = normalized(&std::path::absolute(&file.path).ok()?);
        Some(Self { at, name: &policy.name, path, rotates: file.rotate_bytes.is_some() })
    }

    fn path_is_set_aside_by(&self, other: &Self) -> bool {
        let rest = self.path.as_os_str().as_encoded_bytes().strip_prefix(other.path.as_os_str().as_encoded_bytes());
        let number = rest.and_then(|rest| rest.strip_prefix(b"."));
        other.rotates && number.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
    }
}

/// An absolute path without `..`, as if there were no links; those only show when the file is opened.
fn normalized(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut before, component| {
        if component == Component::ParentDir {
            before.pop();
        } else {
            before.push(component);
        }
        before
    })
}

/// The types there are.
pub(super) fn type_names() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(name, _)| *name)
}

/// A handler of which nothing is given but a type, after which it is named.
pub(super) fn unconfigured(kind: &str) -> Node {
    let text = || Node { what: What::Text(kind.to_owned()), origin: Origin::Merged };
    let members = BTreeMap::from([("name".to_owned(), text()), ("type".to_owned(), text())]);
    Node { what: What::Table(members), origin: Origin::Merged }
}

fn handler(s: &mut Section<'_>, names: &mut HashSet<String>) -> Option<Settings> {
    let name: Option<String> = s.required("name");
    if let Some(name) = &name {
        judge_name(s, name, names);
    }
    let read_target = reader_of_type(s);
    let policy = policy(s, name.unwrap_or_default());
    let Some(read_target) = read_target else {
        s.excuse_the_rest();
        return None;
    };
    let target = read_target(s)?;
    #[cfg(feature = "kafka")]
    let target = target.within(policy.timeout);
    Some(Settings { policy, target })
}

fn judge_name(s: &mut Section<'_>, name: &str, names: &mut HashSet<String>) {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    // A name is part of paths, in which dots alone mean another place.
    let dots = name.chars().all(|c| c == '.');
    s.demand("name", (1..=NAME_MAX).contains(&name.len()) && name.chars().all(allowed) && !dots, || {
        format!("{name:?} is no name: 1 to {NAME_MAX} of a-z, 0-9, '.', '_' and '-', and not dots alone")
    });
    s.demand("name", names.insert(name.to_owned()), || format!("{name:?} is the name of another handler"));
}

fn reader_of_type(s: &mut Section<'_>) -> Option<TargetReader> {
    let word: String = s.required("type")?;
    let found = TYPES.iter().find(|(name, _)| *name == word).map(|(_, read)| *read);
    s.demand("type", found.is_some(), || {
        let names = type_names().collect::<Vec<_>>().join(", ");
        let problem = match word.as_str() {
            word if TYPES_OF_FEATURES.contains(&word) => {
                format!("not built into this program: build it with --features {word}")
            }
            _ => "unknown".to_owned(),
        };
        format!("{word:?} is {problem}; the types are {names}")
    });
    found
}

fn policy(s: &mut Section<'_>, name: String) -> Policy {
    let default = Policy::new(name);
    let policy = Policy {
        filter: filter(s),
        order: s.word("order", default.order, &[("stream", Order::Stream), ("none", Order::None)]),
        concurrency: s.count("concurrency", default.concurrency),
        timeout: s.read("timeout", default.timeout),
        retry: s.table_of_defaults("retry", retry),
        ..default
    };
    let concurrency = 1..=CONCURRENCY_MAX;
    s.demand("concurrency", concurrency.contains(&policy.concurrency), || {
        format!("must lie between 1 and {CONCURRENCY_MAX}")
    });
    s.demand("timeout", !policy.timeout.is_zero(), || "must not be zero");
    policy
}

fn filter(s: &mut Section<'_>) -> Filter {
    Filter {
        kinds: some_of::<Kind>(s, "kinds"),
        domains: patterns(s, "domains"),
        streams: patterns(s, "streams"),
        when: when::when(s),
    }
}

fn patterns(s: &mut Section<'_>, key: &str) -> Option<Vec<WildMatch>> {
    let patterns = some_of::<String>(s, key)?;
    Some(patterns.iter().map(|pattern| WildMatch::new(pattern)).collect())
}

fn some_of<T: Field>(s: &mut Section<'_>, key: &str) -> Option<Vec<T>> {
    let list: Option<Vec<T>> = s.optional(key);
    let empty = list.as_ref().is_some_and(Vec::is_empty);
    s.demand(key, !empty, || "is empty, which would match nothing; leave it out to match all");
    list
}

fn retry(s: &mut Section<'_>) -> RetryPolicy {
    let default = RetryPolicy::default();
    let max_attempts = s.count("max_attempts", default.max_attempts);
    s.demand("max_attempts", max_attempts > 0, || "must be at least 1");
    let min_delay = s.read("min_delay", default.min_delay);
    let max_delay = s.read("max_delay", default.max_delay);
    let (min_delay, max_delay) = ordered(s, ("min_delay", min_delay), ("max_delay", max_delay));
    RetryPolicy { max_attempts, min_delay, max_delay }
}

#[expect(clippy::unnecessary_wraps, reason = "all readers of types have one form")]
fn log(s: &mut Section<'_>) -> Option<Target> {
    let levels = [
        ("trace", Level::TRACE),
        ("debug", Level::DEBUG),
        ("info", Level::INFO),
        ("warn", Level::WARN),
        ("error", Level::ERROR),
    ];
    Some(Target::Log(log::Settings { level: s.word("level", Level::INFO, &levels) }))
}

fn file(s: &mut Section<'_>) -> Option<Target> {
    let path: Option<PathBuf> = s.required("path");
    let rotate_bytes = s.optional("rotate_bytes").map(|Size(bytes)| bytes);
    s.demand("rotate_bytes", rotate_bytes != Some(0), || "must not be zero; leave it out for a file that grows");
    let rotate_keep = s.count("rotate_keep", ROTATE_KEEP);
    Some(Target::File(file::Settings { path: path?, rotate_bytes, rotate_keep }))
}

fn http(s: &mut Section<'_>) -> Option<Target> {
    let url: Option<Url> = s.required("url");
    if let Some(url) = &url {
        s.demand("url", matches!(url.scheme(), "http" | "https"), || "must begin with http:// or https://");
    }
    let formats = [("cloudevents", http::Format::CloudEvents), ("raw", http::Format::Raw)];
    let format = s.word("format", http::Format::CloudEvents, &formats);
    let secret = s.secret("secret");
    let encoded = secret.as_ref().and_then(|secret| secret.expose().strip_prefix("whsec_"));
    let decoded = encoded.is_none_or(|text| STANDARD.decode(text).is_ok_and(|bytes| !bytes.is_empty()));
    s.demand("secret", decoded, || "begins with whsec_, but what follows is not Base64");
    let headers = headers(s);
    let ca_file = ca_file(s);
    Some(Target::Http(http::Settings { url: url?, format, secret, headers, ca_file }))
}

/// `ca_file`: certificates to trust, which are read when the handler is made.
fn ca_file(s: &mut Section<'_>) -> Option<PathBuf> {
    let ca_file: Option<PathBuf> = s.optional("ca_file");
    if let Some(path) = &ca_file {
        s.book.files.note(path);
    }
    ca_file
}

fn headers(s: &mut Section<'_>) -> Vec<(String, crate::secret::Secret)> {
    let headers = s.secrets("headers");
    let mut names = HashSet::new();
    for (name, value) in &headers {
        let key = format!("headers.{name}");
        s.demand(&key, HeaderName::from_bytes(name.as_bytes()).is_ok(), || "is no name of a header");
        s.demand(&key, names.insert(name.to_ascii_lowercase()), || "is there twice: case does not matter");
        let sendable = HeaderValue::from_bytes(value.expose().as_bytes()).is_ok();
        s.demand(&key, sendable, || "has characters that no header may have, such as a line break");
    }
    headers
}

#[expect(clippy::unnecessary_wraps, reason = "all readers of types have one form")]
fn exec(s: &mut Section<'_>) -> Option<Target> {
    let command: Option<Vec<String>> = s.required("command");
    let named = command.as_ref().is_none_or(|parts| parts.first().is_some_and(|program| !program.is_empty()));
    s.demand("command", named, || "names no program");
    let command = command.unwrap_or_default();
    let whole = !command.iter().any(|part| part.contains('\0'));
    s.demand("command", whole, || "has a NUL character, which no program can be given");
    Some(Target::Exec(exec::Settings { command, env: variables(s) }))
}

fn variables(s: &mut Section<'_>) -> Vec<(String, crate::secret::Secret)> {
    let variables = s.secrets("env");
    for (name, value) in &variables {
        let key = format!("env.{name}");
        s.demand(&key, !name.is_empty() && !name.contains(['=', '\0']), || "is no name of a variable");
        s.demand(&key, !value.expose().contains('\0'), || "has a NUL character, which no variable may have");
    }
    variables
}
