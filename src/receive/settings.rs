use std::net::SocketAddr;
use std::time::Duration;

/// The callback listener and its limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens, as `HOST:PORT`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Bytes of one body.
    pub body_limit: usize,
    /// Until the head of a request is complete.
    pub header_timeout: Duration,
    /// For a whole request, from its first byte.
    pub read_timeout: Duration,
    /// Between requests of one connection.
    pub idle_timeout: Duration,
    /// Connections at the same time.
    pub max_connections: usize,
    /// Bytes of all bodies being taken; beyond it reading waits.
    pub body_bytes_in_flight: usize,
    /// How long callbacks are still accepted after a stop was asked for.
    pub drain_delay: Duration,
    /// When and how callbacks are answered.
    pub ack: Ack,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            body_limit: 1 << 20,
            header_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            max_connections: 4096,
            body_bytes_in_flight: 64 << 20,
            drain_delay: Duration::from_secs(2),
            ack: Ack::default(),
        }
    }
}

/// When and how callbacks are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// From the last byte of a callback to its answer.
    pub deadline: Duration,
    /// What is answered when the store cannot confirm in time.
    pub unstored: Unstored,
}

impl Default for Ack {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(3), unstored: Unstored::Accept }
    }
}

/// What is answered when the store cannot confirm in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstored {
    /// 200 once the callback is written to standard error.
    Accept,
    /// 503, so that CSS tries again.
    Refuse,
}
