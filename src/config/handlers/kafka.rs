//! The keys of `kafka`.

use super::{Section, Target, ca_file, outside};
use crate::handler::DEFAULT_TIMEOUT;
use crate::handler::kafka::{Login, Mechanism, MessageFormat, Settings, TOPIC_CHARS_MAX, Tls};

/// One topic for all, whose partitions keep the order of each stream.
const TOPIC: &str = "livehook";

pub(super) fn kafka(s: &mut Section<'_>) -> Option<Target> {
    let brokers = brokers(s);
    let tls = tls(s);
    let login = login(s);
    let topic = outside::template(s, "topic", TOPIC, misfit);
    let formats =
        [("binary", MessageFormat::Binary), ("cloudevents", MessageFormat::CloudEvents), ("raw", MessageFormat::Raw)];
    let format = s.word("format", MessageFormat::Binary, &formats);
    // That of the policy is put in its place.
    let timeout = DEFAULT_TIMEOUT;
    Some(Target::Kafka(Settings { brokers: brokers?, tls, login, topic: topic?, format, timeout }))
}

fn brokers(s: &mut Section<'_>) -> Option<Vec<String>> {
    let brokers: Vec<String> = s.required("brokers")?;
    s.demand("brokers", !brokers.is_empty(), || "names no broker");
    for broker in &brokers {
        s.demand("brokers", is_address(broker), || format!("{broker:?} is not host:port"));
    }
    Some(brokers)
}

fn is_address(broker: &str) -> bool {
    let Some((host, port)) = broker.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
    };
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn tls(s: &mut Section<'_>) -> Option<Tls> {
    let is_on = s.read("tls", false);
    let ca_file = ca_file(s);
    s.demand("ca_file", is_on || ca_file.is_none(), || "is for tls = true only");
    let verify_host = s.read("verify_host", true);
    s.demand("verify_host", is_on || verify_host, || "is for tls = true only");
    is_on.then_some(Tls { ca_file, verify_host })
}

/// Both user and password, or neither.
fn login(s: &mut Section<'_>) -> Option<Login> {
    let user: Option<String> = s.optional("user");
    let password = s.secret("password");
    let mechanisms = [
        ("plain", Mechanism::Plain),
        ("scram-sha-256", Mechanism::ScramSha256),
        ("scram-sha-512", Mechanism::ScramSha512),
    ];
    let mechanism = s.word("sasl", Mechanism::Plain, &mechanisms);
    match (user, password) {
        (None, None) => None,
        (Some(user), Some(password)) => {
            let whole = !user.is_empty() && !user.contains('\0');
            s.demand("user", whole, || "is empty, or has a NUL character");
            s.demand(
                "password",
                !password.expose().contains('\0'),
                || "has a NUL character, which no password may have",
            );
            Some(Login { mechanism, user, password })
        }
        (user, _) => {
            let (missing, there) = if user.is_none() { ("user", "password") } else { ("password", "user") };
            s.fault(missing, format!("is required with {there}"));
            None
        }
    }
}

/// What Kafka would not take for the name of a topic.
fn misfit(topic: &str) -> Option<&'static str> {
    if !topic.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        return Some("may have letters and digits of ASCII, '.', '_' and '-' only");
    }
    if topic.len() > TOPIC_CHARS_MAX {
        return Some("is longer than 249 bytes");
    }
    matches!(topic, "." | "..").then_some("is . or .., which no topic may be called")
}
