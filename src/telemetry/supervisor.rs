//! What a service manager is told: the protocol of `sd_notify(3)`, a datagram to the socket that `NOTIFY_SOCKET` names.
//!
//! Written here because the libraries for it read the environment themselves, which only `config` does.

use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// Whoever started us and waits to hear how we are; nobody, unless it is systemd or one that does as systemd does.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    socket: Option<SocketAddr>,
}

impl Supervisor {
    /// From the value of `NOTIFY_SOCKET`: a path, or `@` and the name of an abstract socket. Any other is nobody.
    pub fn new(notify_socket: Option<&str>) -> Self {
        let socket = notify_socket.filter(|name| !name.is_empty()).and_then(|name| match address(name) {
            Ok(address) => Some(address),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET is of no use: the service manager is told nothing");
                None
            }
        });
        Self { socket }
    }

    /// Callbacks are taken: after the start, and after a reload, whether it changed something or not.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being read again; [`ready`](Self::ready) must follow.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        // Since version 253 systemd takes a reload for failed that does not say when it began.
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec / 1000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// A stop has begun.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// A manager that does not listen is no reason to fail.
    fn tell(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        let told = UnixDatagram::unbound().and_then(|from| {
            from.set_nonblocking(true)?;
            from.send_to_addr(state.as_bytes(), socket)
        });
        if let Err(error) = told {
            tracing::warn!(%error, state, "the service manager could not be told");
        }
    }
}

fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => SocketAddr::from_abstract_name(name),
        _ if name.starts_with('/') => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "it is neither a path nor an abstract socket")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 200];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_hears_each_state_on_a_path_and_on_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("livehook-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, variable) in [(by_path, path.to_str().unwrap().to_owned()), (by_name, format!("@{name}"))] {
            let supervisor = Supervisor::new(Some(&variable));
            supervisor.ready();
            supervisor.reloading();
            supervisor.stopping();
            assert_eq!(heard(&socket), "READY=1");
            let reloading = heard(&socket);
            let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(micros.parse::<u64>().unwrap() > 0, "{reloading}");
            assert_eq!(heard(&socket), "STOPPING=1");
        }
    }

    #[test]
    fn nobody_is_told_nothing() {
        for variable in [None, Some(""), Some("relative"), Some("vsock:2:1234"), Some("/nonexistent/socket")] {
            Supervisor::new(variable).ready();
        }
    }
}
