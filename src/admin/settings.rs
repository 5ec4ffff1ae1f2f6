use std::net::SocketAddr;

use crate::secret::Secret;

/// The admin listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Bearer token for `/api`; none: a loopback address only.
    pub token: Option<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9090)), token: None }
    }
}
