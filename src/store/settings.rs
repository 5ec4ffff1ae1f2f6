use std::time::Duration;

/// Where events are kept, for how long, and how much may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `sqlite:PATH`
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
