//! The keys of `redis`.

use std::time::Duration;

use super::{Section, Target, ca_file, outside};
use crate::handler::redis::{Settings, Trim};

/// One stream for all, in which events stand in the order in which they were delivered.
const KEY: &str = "livehook";

pub(super) fn redis(s: &mut Section<'_>) -> Option<Target> {
    let server = outside::server(s, &["redis", "rediss"]);
    let ca_file = ca_file(s);
    let key = outside::template(s, "key", KEY, |_| None);
    let trim = trim(s);
    let dedup_window: Option<Duration> = s.optional("dedup_window");
    s.demand(
        "dedup_window",
        dedup_window.is_none_or(|window| window >= Duration::from_secs(1)),
        || "must be at least 1s",
    );
    let format = outside::format(s);
    Some(Target::Redis(Settings { server: server?, ca_file, key: key?, trim, dedup_window, format }))
}

fn trim(s: &mut Section<'_>) -> Option<Trim> {
    let max_length: Option<u64> = s.optional("max_length");
    s.demand("max_length", max_length != Some(0), || "must not be zero; leave it out for a stream that grows");
    let max_age: Option<Duration> = s.optional("max_age");
    s.demand("max_age", max_age != Some(Duration::ZERO), || "must not be zero; leave it out for a stream that grows");
    s.demand(
        "max_age",
        max_length.is_none() || max_age.is_none(),
        || "there may be one of max_length and max_age: Redis trims by one of them",
    );
    max_length.map(Trim::Length).or(max_age.map(Trim::Age))
}
