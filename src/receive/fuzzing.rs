//! The callback listener without a port.

use axum::Router;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Connections;
use super::{Receiver, router};

/// Takes callbacks from whatever can be read and written.
pub struct Door {
    connections: Connections,
    router: Router,
}

impl Receiver {
    /// Its door.
    pub fn door(self) -> Door {
        Door { connections: self.0.connections.clone(), router: router(self) }
    }
}

impl Door {
    /// Serves one connection until it ends.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        self.connections.serve_one(stream, self.router.clone()).await;
    }
}
