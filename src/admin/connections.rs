//! Connections: how many there may be, which of them makes room for another, and how long each may keep us waiting for the
//! head of a request.
//!
//! Nothing is shared with the callback listener but the rule. Its limits are of the configuration and change while it is
//! served, it counts requests and times their bytes; here the numbers are fixed and a body is a matter of its call.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Body as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::telemetry::{Repeats, SUMMARY_EVERY};

const LIMITS: Limits = Limits {
    // More than people, probes and scrapers together open.
    connections: 256,
    first_head: Duration::from_secs(5),
    // Longer than most scrapers pause.
    head: Duration::from_secs(75),
};
/// Bytes of a head; more is answered 431.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Pause after the machine could not give us another connection, and until another is asked to make room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What strangers may take of us.
struct Limits {
    /// At the same time.
    connections: usize,
    /// From the beginning of a connection until the head of its first request is complete.
    first_head: Duration,
    /// From one answer until the head of the next request is complete.
    head: Duration,
}

struct Connections {
    limits: Limits,
    places: Arc<Semaphore>,
    /// By their number, which grows.
    open: Mutex<BTreeMap<u64, Arc<State>>>,
    troubles: Repeats<Trouble>,
}

/// What may befall a connection that is not its own doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// It had to go, so that another is served.
    MadeRoom,
    /// The machine could not give it to us.
    Unaccepted,
}

/// One connection.
struct State {
    phase: Mutex<Phase>,
    evict: Notify,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// We wait for its first request.
    New(Instant),
    /// We wait for its next request, or for the body of one whose sender has not been let in yet. Since when it has
    /// completed none.
    Waiting(Instant),
    /// It waits for us.
    InHand,
}

/// What a request knows of its connection.
#[derive(Clone)]
pub(super) struct Line(Arc<State>);

impl Line {
    /// Whoever sends the request was let in: until it is answered its connection makes room for no other, however long
    /// its body takes.
    pub(super) fn keep(&self) {
        self.0.set(Phase::InHand);
    }
}

/// Takes connections until `stop`, then has each finish its request in hand.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    Connections::new(LIMITS).serve(listener, router, stop).await;
}

impl Connections {
    fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(limits.connections)),
            limits,
            open: Mutex::default(),
            troubles: Repeats::default(),
        })
    }

    async fn serve(self: Arc<Self>, listener: TcpListener, router: Router, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut summaries = tokio::time::interval(SUMMARY_EVERY);
        let mut arrived = None;
        let mut next_id = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                stream = self.accept(&listener), if arrived.is_none() => arrived = Some(stream),
                place = self.place(), if arrived.is_some() => if let Some(stream) = arrived.take() {
                    next_id += 1;
                    tasks.spawn(Arc::clone(&self).run(next_id, stream, router.clone(), stop.clone(), place));
                },
                Some(_) = tasks.join_next() => {}
                _ = summaries.tick() => self.sum_up(),
            }
        }
        while tasks.join_next().await.is_some() {}
        self.sum_up();
    }

    async fn accept(&self, listener: &TcpListener) -> TcpStream {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    return stream;
                }
                Err(error) => {
                    self.note_unaccepted(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A place for a connection. When all are taken, the one that has waited longest without completing a request makes
    /// room; when all are in hand, the first that is done.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return Some(place);
            }
            self.evict();
            let freed = Arc::clone(&self.places).acquire_owned();
            if let Ok(place) = tokio::time::timeout(ACCEPT_PAUSE, freed).await {
                // Never closed, so there is always a permit to come.
                return place.ok();
            }
        }
    }

    fn evict(&self) {
        let open = self.open();
        let longest = open.values().filter_map(|state| Some((state.waiting_since()?, state))).min_by_key(|(at, _)| *at);
        if let Some((_, state)) = longest {
            state.evict.notify_one();
        }
    }

    async fn run(
        self: Arc<Self>,
        id: u64,
        stream: TcpStream,
        router: Router,
        stop: CancellationToken,
        place: Option<OwnedSemaphorePermit>,
    ) {
        let state = Arc::new(State { phase: Mutex::new(Phase::New(Instant::now())), evict: Notify::new() });
        self.open().insert(id, Arc::clone(&state));
        let _listed = Listed { connections: &self, id };
        self.converse(stream, router, stop, &state).await;
        drop(place);
    }

    async fn converse(&self, stream: TcpStream, router: Router, stop: CancellationToken, state: &Arc<State>) {
        let service = service_fn(|request| {
            let (router, state) = (router.clone(), Arc::clone(state));
            async move { Ok::<_, Infallible>(respond(request, router, &state).await) }
        });
        let mut conversation = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.limits.head)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service)
        );
        let mut first_head = std::pin::pin!(tokio::time::sleep(self.limits.first_head));
        let (mut is_begun, mut finishing) = (false, false);
        let outcome = loop {
            tokio::select! {
                outcome = conversation.as_mut() => break outcome,
                // Its request may have become complete since it was chosen; then it waits for us, not we for it.
                () = state.evict.notified() => if state.waiting_since().is_some() {
                    self.note_made_room();
                    return;
                },
                () = first_head.as_mut(), if !is_begun => {
                    if state.is_new() {
                        return;
                    }
                    is_begun = true;
                }
                () = stop.cancelled(), if !finishing => {
                    conversation.as_mut().graceful_shutdown();
                    finishing = true;
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "connection to the admin listener ended");
        }
    }

    fn note_made_room(&self) {
        if self.troubles.is_told(Trouble::MadeRoom) {
            let connections_max = self.limits.connections;
            tracing::warn!(connections_max, "the admin listener is full; who waited longest without asking makes room");
        }
    }

    fn note_unaccepted(&self, error: &io::Error) {
        if self.troubles.is_told(Trouble::Unaccepted) {
            tracing::warn!(%error, "a connection to the admin listener could not be accepted");
        }
    }

    /// Logs in sum what had no line of its own.
    fn sum_up(&self) {
        for (trouble, connections) in self.troubles.untold() {
            match trouble {
                Trouble::MadeRoom => {
                    tracing::warn!(connections, "more connections to the admin listener had to make room");
                }
                Trouble::Unaccepted => {
                    tracing::warn!(connections, "more connections to the admin listener could not be accepted");
                }
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<State>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in the list of those that are open; taken out when dropped, also by a panic.
struct Listed<'a> {
    connections: &'a Connections,
    id: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
    }
}

async fn respond(request: Request<hyper::body::Incoming>, router: Router, state: &Arc<State>) -> Response {
    let is_complete = request.body().is_end_stream();
    state.head_complete(is_complete);
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Line(Arc::clone(state)));
    let Ok(response) = router.oneshot(request).await;
    state.set(Phase::Waiting(Instant::now()));
    response
}

impl State {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        *self.phase() = phase;
    }

    fn head_complete(&self, is_complete: bool) {
        let mut phase = self.phase();
        *phase = match *phase {
            Phase::New(since) | Phase::Waiting(since) if !is_complete => Phase::Waiting(since),
            _ => Phase::InHand,
        };
    }

    fn is_new(&self) -> bool {
        matches!(*self.phase(), Phase::New(_))
    }

    /// Since when it has completed no request; none while it waits for us.
    fn waiting_since(&self) -> Option<Instant> {
        match *self.phase() {
            Phase::New(since) | Phase::Waiting(since) => Some(since),
            Phase::InHand => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use axum::middleware::{self, Next};
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Long enough that only making room can explain an answer.
    const NEVER: Duration = Duration::from_hours(1);
    const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const LAST_GET: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    struct Serving {
        address: std::net::SocketAddr,
        stop: CancellationToken,
        /// Lets `/slow` go on.
        release: Arc<Notify>,
        tasks: JoinSet<()>,
    }

    impl Serving {
        async fn start(limits: Limits) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let stop = CancellationToken::new();
            let release = Arc::new(Notify::new());
            let released = Arc::clone(&release);
            let slow = async move || {
                released.notified().await;
                "slow"
            };
            let router = Router::new()
                .route("/", get(|| async { "here" }))
                .route("/slow", get(slow))
                .route("/let-in", post(|_: Bytes| async { "let in" }).layer(middleware::from_fn(let_in)))
                .route("/body", post(|_: Bytes| async { "body" }));
            let mut tasks = JoinSet::new();
            tasks.spawn(Connections::new(limits).serve(listener, router, stop.clone()));
            Self { address, stop, release, tasks }
        }

        async fn connect(&self, bytes: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(bytes.as_bytes()).await.unwrap();
            stream
        }

        async fn end(self) {
            self.stop.cancel();
            self.tasks.join_all().await;
        }
    }

    async fn let_in(request: axum::extract::Request, next: Next) -> Response {
        request.extensions().get::<Line>().unwrap().keep();
        next.run(request).await
    }

    async fn until_closed(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
        // A reset is an end, too.
        let _ = read.expect("it is never closed");
        String::from_utf8(answer).unwrap()
    }

    async fn until_answered(stream: &mut TcpStream) {
        until_answered_with(stream, "here").await;
    }

    async fn until_answered_with(stream: &mut TcpStream, end: &str) {
        let mut answer = Vec::new();
        while !answer.ends_with(end.as_bytes()) {
            let read = tokio::time::timeout(Duration::from_secs(30), stream.read_buf(&mut answer)).await;
            assert_ne!(read.expect("it is never answered").unwrap(), 0, "closed");
        }
    }

    #[tokio::test]
    async fn who_has_waited_longest_makes_room_for_the_next() {
        let serving = Serving::start(Limits { connections: 3, first_head: NEVER, head: NEVER }).await;
        let mut kept = serving.connect(GET).await;
        until_answered(&mut kept).await;
        let mut silent = serving.connect("").await;
        let mut half = serving.connect("GET / HTTP/1.1\r\nHost: x\r\nA: ").await;
        kept.write_all(GET.as_bytes()).await.unwrap();
        until_answered(&mut kept).await;
        let mut others = Vec::new();
        for oldest in [&mut silent, &mut half] {
            let mut next = serving.connect(GET).await;
            until_answered(&mut next).await;
            assert_eq!(until_closed(oldest).await, "");
            others.push(next);
        }
        kept.write_all(LAST_GET.as_bytes()).await.unwrap();
        assert!(until_closed(&mut kept).await.ends_with("here"), "it had asked after the others came");
        serving.end().await;
    }

    #[tokio::test]
    async fn who_sends_a_body_without_end_makes_room() {
        let serving = Serving::start(Limits { connections: 1, first_head: NEVER, head: NEVER }).await;
        let mut slow = serving.connect("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc").await;
        let mut next = serving.connect(LAST_GET).await;
        assert!(until_closed(&mut next).await.ends_with("here"));
        assert_eq!(until_closed(&mut slow).await, "");
        serving.end().await;
    }

    #[tokio::test]
    async fn the_body_of_who_was_let_in_is_taken_to_its_end() {
        let serving = Serving::start(Limits { connections: 2, first_head: NEVER, head: NEVER }).await;
        let mut slow = serving.connect("POST /let-in HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc").await;
        let mut others = Vec::new();
        for _ in 0..3 {
            let mut next = serving.connect(GET).await;
            until_answered(&mut next).await;
            others.push(next);
        }
        slow.write_all(b"defghi").await.unwrap();
        until_answered_with(&mut slow, "let in").await;
        serving.end().await;
    }

    #[tokio::test]
    async fn a_request_in_hand_is_answered_before_it_makes_room() {
        let serving = Serving::start(Limits { connections: 1, first_head: NEVER, head: NEVER }).await;
        let mut asking = serving.connect("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut next = serving.connect(LAST_GET).await;
        serving.release.notify_one();
        assert!(until_closed(&mut next).await.ends_with("here"));
        assert!(until_closed(&mut asking).await.ends_with("slow"));
        serving.end().await;
    }

    #[tokio::test]
    async fn who_asks_nothing_at_first_is_cut_off_and_who_has_asked_may_pause() {
        let first_head = Duration::from_millis(300);
        let serving = Serving::start(Limits { connections: 9, first_head, head: NEVER }).await;
        let mut kept = serving.connect(GET).await;
        until_answered(&mut kept).await;
        let mut silent = serving.connect("").await;
        let mut half = serving.connect("GET / HTTP/1.1\r\nHost: x\r\nA: ").await;
        for idle in [&mut silent, &mut half] {
            assert_eq!(until_closed(idle).await, "");
        }
        kept.write_all(LAST_GET.as_bytes()).await.unwrap();
        assert!(until_closed(&mut kept).await.ends_with("here"));
        serving.end().await;
    }

    #[tokio::test]
    async fn who_pauses_too_long_between_two_requests_is_cut_off() {
        let head = Duration::from_millis(300);
        let serving = Serving::start(Limits { connections: 9, first_head: NEVER, head }).await;
        let mut kept = serving.connect(GET).await;
        assert!(until_closed(&mut kept).await.ends_with("here"));
        serving.end().await;
    }
}
