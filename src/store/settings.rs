//! What the store works by.

use std::fmt;
use std::time::Duration;

/// Where events are kept, for how long, and how much may wait.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// `sqlite:PATH` or `postgres://…`, which may hold a password: shown by [`shown_url`] only.
    pub url: String,
    /// Events whose deliveries have all ended are pruned this long after receipt.
    pub retention: Duration,
    /// Prune earlier, oldest first, when the store grows past this many bytes.
    pub max_bytes: Option<u64>,
    /// Copies are recognised this long after receipt, and always while their event is stored.
    pub dedup_window: Duration,
    /// Callbacks that may wait for the store.
    pub queue_count: usize,
    /// Bytes of bodies that may wait for the store.
    pub queue_bytes: usize,
    /// How much of what was refused is kept.
    pub quarantine: QuarantineSettings,
}

impl Default for Settings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self {
            url: "sqlite:data/livehook.db".to_owned(),
            retention: 30 * DAY,
            max_bytes: None,
            dedup_window: 3 * DAY,
            queue_count: 65_536,
            queue_bytes: 64 << 20,
            quarantine: QuarantineSettings::default(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, retention, max_bytes, dedup_window, queue_count, queue_bytes, quarantine } = self;
        f.debug_struct("Settings")
            .field("url", &shown_url(url))
            .field("retention", retention)
            .field("max_bytes", max_bytes)
            .field("dedup_window", dedup_window)
            .field("queue_count", queue_count)
            .field("queue_bytes", queue_bytes)
            .field("quarantine", quarantine)
            .finish()
    }
}

/// A password among the parameters of a URL.
const PASSWORD: &str = "password=";

/// The URL of a store as it may be shown: without its password, be it well written or not.
pub fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (rest, parameter) = match rest.to_ascii_lowercase().find(PASSWORD) {
        Some(at) => {
            let (before, value) = rest.split_at(at + PASSWORD.len());
            (before, value.find('&').map_or("…".to_owned(), |end| format!("…{}", &value[end..])))
        }
        None => (rest, String::new()),
    };
    let shown = match rest.rsplit_once('@') {
        Some((user, place)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:…@{place}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    };
    format!("{scheme}://{shown}{parameter}")
}

/// How much of what was refused is kept. Beyond it the oldest of the reason that holds most goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantineSettings {
    /// Callbacks.
    pub max_count: u64,
    /// Bytes of their bodies.
    pub max_bytes: u64,
}

impl Default for QuarantineSettings {
    fn default() -> Self {
        Self { max_count: 10_000, max_bytes: 256 << 20 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("sqlite:/a/b.db", "sqlite:/a/b.db"),
            ("postgres://h/d?sslmode=require", "postgres://h/d?sslmode=require"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://u:geheim@h:5432/d", "postgres://u:…@h:5432/d"),
            ("postgres://u:ge/he?im@x@h/d", "postgres://u:…@h/d"),
            ("postgres://u@h/d?password=geheim&schema=x", "postgres://u@h/d?password=…&schema=x"),
            ("postgres://u:geheim@h/d?PASSWORD=geheim@x", "postgres://u:…@h/d?PASSWORD=…"),
        ] {
            assert_eq!(shown_url(url), shown);
            let settings = Settings { url: url.to_owned(), ..Settings::default() };
            assert!(!format!("{settings:?}").contains("geheim"));
        }
    }
}
