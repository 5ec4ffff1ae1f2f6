//! A system of the customer's that is idempotent: it keeps what it has got under its id, and counts what comes again.
//! How it behaves is up to the test: it may answer with an error, hang up, or take its time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::letter::{Digest, digest};

/// What it does with a request that it has read.
pub(crate) enum Act {
    Accept,
    Fail,
    HangUp,
    AcceptAfter(Duration),
    /// Answers when there is a permit.
    AcceptWith(Arc<Semaphore>),
}

/// What came under an id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt {
    pub(crate) body: Digest,
    /// Its place among the first receipts of all ids.
    pub(crate) place: u64,
    /// The stream it belongs to, where it names one.
    pub(crate) stream: Option<Digest>,
    pub(crate) times: u32,
    /// Whether it was ever answered with success.
    pub(crate) accepted: bool,
}

/// What it has got.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) by_id: HashMap<Uuid, Receipt>,
    /// Ids that came with different bodies.
    pub(crate) torn: Vec<Uuid>,
}

/// Serves until it is dropped.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Received>>,
    _serving: JoinSet<()>,
}

struct Shared {
    received: Arc<Mutex<Received>>,
    act: Box<dyn Fn() -> Act + Send + Sync>,
}

impl Sink {
    /// `act` is asked at each request.
    pub(crate) async fn start(act: impl Fn() -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Received>>::default();
        let shared = Arc::new(Shared { received: Arc::clone(&received), act: Box::new(act) });
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, shared));
        Self { address, received, _serving: serving }
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => drop(conversations.spawn(converse(stream, Arc::clone(&shared)))),
            // The programs that are killed leave many behind.
            Some(_) = conversations.join_next() => {}
        }
    }
}

async fn converse(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        while let Some(request) = Request::first_of(&buffer) {
            shared.received.lock().unwrap().note(&request);
            let (id, length) = (request.id, request.length);
            buffer.drain(..length);
            let answer: &[u8] = match (shared.act)() {
                Act::Accept => ACCEPTED,
                Act::Fail => FAILED,
                Act::HangUp => return Ok(()),
                Act::AcceptAfter(pause) => {
                    tokio::time::sleep(pause).await;
                    ACCEPTED
                }
                Act::AcceptWith(permits) => {
                    permits.acquire().await.map_err(io::Error::other)?.forget();
                    ACCEPTED
                }
            };
            if answer == ACCEPTED {
                shared.received.lock().unwrap().by_id.get_mut(&id).unwrap().accepted = true;
            }
            stream.write_all(answer).await?;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

const ACCEPTED: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";

impl Received {
    fn note(&mut self, request: &Request<'_>) {
        let (place, body) = (self.by_id.len() as u64, digest(request.body));
        match self.by_id.entry(request.id) {
            Entry::Vacant(new) => {
                new.insert(Receipt { body, place, stream: request.stream, times: 1, accepted: false });
            }
            Entry::Occupied(mut known) => {
                known.get_mut().times += 1;
                if known.get().body != body {
                    self.torn.push(request.id);
                }
            }
        }
    }
}

/// A delivery.
struct Request<'a> {
    id: Uuid,
    stream: Option<Digest>,
    body: &'a [u8],
    length: usize,
}

impl<'a> Request<'a> {
    /// The first in the buffer, once it is there whole.
    fn first_of(buffer: &'a [u8]) -> Option<Self> {
        let head = buffer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&buffer[..head]).expect("a head is text");
        let header = |name: &str| {
            let mut headers = text.lines().filter_map(|line| line.split_once(": "));
            headers.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let length = head + header("content-length").expect("a length").parse::<usize>().expect("a number");
        let body = buffer.get(head..length)?;
        let id = header("ce-id").expect("an id").parse().expect("a UUID");
        let stream = header("ce-subject").map(|subject| {
            let source = header("ce-source").expect("a source");
            digest(format!("{source}\n{subject}").as_bytes())
        });
        Some(Self { id, stream, body, length })
    }
}
