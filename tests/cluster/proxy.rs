//! A way to a server that can be stopped: bytes stay where they are, as behind a switch that has lost its mind; or cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Nothing passes, and nobody is told.
    Stopped,
    /// Connections are ended, and new ones are, too.
    Cut,
    /// A connection is ended when the answer to a `COMMIT` of a writer has come, which nobody gets. The next one is spared.
    NoCommits,
}

/// Serves until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    dialled: Arc<AtomicU64>,
    server: watch::Sender<u16>,
    way: watch::Sender<Way>,
    _serving: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialled = Arc::<AtomicU64>::default();
        let count = Arc::clone(&dialled);
        let (server, led) = watch::channel(server);
        let spared = Arc::new(AtomicBool::new(true));
        let (way, seen) = watch::channel(Way::Open);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((client, _)) = listener.accept() => {
                        count.fetch_add(1, Ordering::Relaxed);
                        let server = SocketAddr::from(([127, 0, 0, 1], *led.borrow()));
                        connections.spawn(carry(client, server, seen.clone(), Arc::clone(&spared)));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { address, dialled, server, way, _serving: serving }
    }

    /// How many connections there were.
    pub(crate) fn dialled(&self) -> u64 {
        self.dialled.load(Ordering::Relaxed)
    }

    /// Has new connections lead to another server.
    pub(crate) fn lead_to(&self, server: u16) {
        self.server.send_replace(server);
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

/// How a message ends that ends a transaction which is to last.
const COMMIT: &[u8] = b"; COMMIT\0";

async fn carry(client: TcpStream, server: SocketAddr, mut way: watch::Receiver<Way>, spared: Arc<AtomicBool>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (commits, begun) = watch::channel(false);
    let (asked, lost) = (way.clone(), way.clone());
    let ask = pass(from_client, to_server, way.clone(), |bytes| {
        if bytes.windows(COMMIT.len()).any(|window| window == COMMIT) {
            // Whether the last one was spared; this one is not then.
            commits.send_replace(*asked.borrow() == Way::NoCommits && spared.fetch_not(Ordering::Relaxed));
        }
        true
    });
    let answer = pass(from_server, to_client, way.clone(), |_| !*begun.borrow() || *lost.borrow() != Way::NoCommits);
    tokio::select! {
        () = ask => {}
        () = answer => {}
        _ = way.wait_for(|way| *way == Way::Cut) => {}
    }
}

/// Passes bytes on until there are no more, or until they are not to pass.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    passes: impl Fn(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let opened = way.wait_for(|way| *way != Way::Stopped).await.is_ok();
        if !opened || !passes(&buffer[..read]) || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
