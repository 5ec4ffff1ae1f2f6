//! Connections: how many, and how long each may keep us waiting.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::{Route, Settings};
use crate::telemetry::{Metrics, Repeats};

/// Bytes of a request's head; more is answered 431, as are more than hyper's hundred headers. A connection's buffers grow
/// to this size, and there may be thousands of connections.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Pause after the machine could not give us another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// All connections of a listener.
#[derive(Clone)]
pub(super) struct Connections(Arc<Shared>);

struct Shared {
    timeouts: Arc<Timeouts>,
    places: Arc<Semaphore>,
    places_max: AtomicUsize,
    open: Mutex<HashMap<u64, Arc<State>>>,
    tasks: TaskTracker,
    /// Ends connections between two requests.
    finishing: CancellationToken,
    /// Ends them wherever they are.
    cut: CancellationToken,
    metrics: Metrics,
    unaccepted: Repeats<()>,
}

/// Milliseconds, looked up whenever somebody waits, so that a change holds for open connections too. An alarm that is
/// set already rings when it would have.
#[derive(Debug)]
struct Timeouts {
    head: AtomicU64,
    idle: AtomicU64,
}

/// One connection, as others see it.
#[derive(Debug)]
struct State {
    phase: Mutex<Phase>,
    evict: Notify,
    /// Ends it between two requests.
    finishing: CancellationToken,
}

/// What a connection is doing, and since when.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Between requests, or before the first.
    Idle(Instant),
    /// In the head of a request, since its first byte. `idle_since` is when it last completed one.
    Head { since: Instant, idle_since: Instant },
    /// In the body of a request, since its first byte.
    Body { since: Instant, idle_since: Instant },
    /// In our hands: its request is complete and being answered.
    Answering,
}

/// What a request knows of its connection.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    first_byte: Instant,
    state: Arc<State>,
}

impl Origin {
    /// When the request's first byte came.
    pub(super) fn first_byte(&self) -> Instant {
        self.first_byte
    }

    /// The body has been read: from now on the peer waits for us, and its connection makes room for no other.
    pub(super) fn body_complete(&self) {
        *self.state.phase() = Phase::Answering;
    }
}

impl Connections {
    pub(super) fn new(settings: &Settings, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            timeouts: Arc::new(Timeouts::of(settings)),
            places: Arc::new(Semaphore::new(settings.max_connections)),
            places_max: AtomicUsize::new(settings.max_connections),
            open: Mutex::default(),
            tasks: TaskTracker::new(),
            finishing: CancellationToken::new(),
            cut: CancellationToken::new(),
            metrics,
            unaccepted: Repeats::default(),
        }))
    }

    /// Works by other limits from now on.
    pub(super) fn reconfigure(&self, settings: &Settings) {
        self.0.timeouts.follow(settings);
        let now = settings.max_connections;
        let before = self.0.places_max.swap(now, Ordering::Relaxed);
        self.0.places.add_permits(now.saturating_sub(before));
        let surplus = u32::try_from(before.saturating_sub(now)).unwrap_or(u32::MAX);
        if surplus > 0 {
            self.shrink(now);
            // As connections end, or make room for others.
            let places = Arc::clone(&self.0.places);
            self.0
                .tasks
                .spawn(async move { places.acquire_many_owned(surplus).await.map(OwnedSemaphorePermit::forget) });
        }
    }

    /// Takes connections until `stop`.
    pub(super) async fn serve(&self, listener: TcpListener, router: Router, stop: CancellationToken) {
        let accept_all = async {
            let mut next_id = 0_u64;
            loop {
                let Some(stream) = self.accept(&listener).await else {
                    continue;
                };
                let place = self.place().await;
                next_id += 1;
                let connection = self.clone().run(next_id, stream, router.clone(), place);
                self.0.tasks.spawn(connection);
            }
        };
        tokio::select! {
            () = accept_all => {}
            () = stop.cancelled() => {}
        }
    }

    /// Serves one connection until it ends.
    #[cfg(fuzzing)]
    pub(super) async fn serve_one<S: Stream>(&self, stream: S, router: Router) {
        let place = self.place().await;
        self.clone().run(0, stream, router, place).await;
    }

    /// Lets every connection finish its request in hand and closes it.
    pub(super) async fn finish(&self) {
        self.0.finishing.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Logs in sum what had no line of its own.
    pub(super) fn sum_up(&self) {
        for ((), connections) in self.0.unaccepted.untold() {
            tracing::warn!(connections, "more connections could not be accepted");
        }
    }

    /// Cuts off what has not finished.
    pub(super) fn cut(&self) {
        self.0.cut.cancel();
    }

    async fn accept(&self, listener: &TcpListener) -> Option<TcpStream> {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Our answers are single small writes.
                let _ = stream.set_nodelay(true);
                Some(stream)
            }
            Err(error) => {
                if self.0.unaccepted.is_told(()) {
                    tracing::warn!(%error, "a connection could not be accepted");
                }
                self.evict();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }

    /// A place for a connection. When all are taken, the one that has waited longest without completing a request makes
    /// room.
    async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = Arc::clone(&self.0.places).try_acquire_owned() {
                return place;
            }
            self.evict();
            let freed = Arc::clone(&self.0.places).acquire_owned();
            if let Ok(Ok(place)) = tokio::time::timeout(ACCEPT_PAUSE, freed).await {
                return place;
            }
        }
    }

    /// Ends so many connections that no more than `max` are left, those first that have waited longest. A request in hand
    /// is finished: nobody who asks something notices.
    fn shrink(&self, max: usize) {
        let open = self.lock();
        let mut longest: Vec<_> = open.values().map(|state| (state.waiting_since(), state)).collect();
        longest.sort_by_key(|(since, _)| (since.is_none(), *since));
        let surplus = open.len().saturating_sub(max);
        longest.iter().take(surplus).for_each(|(_, state)| state.finishing.cancel());
    }

    fn evict(&self) {
        let open = self.lock();
        let longest = open.values().filter_map(|state| Some((state.waiting_since()?, state))).min_by_key(|(at, _)| *at);
        if let Some((_, state)) = longest {
            state.evict.notify_one();
        }
    }

    async fn run<S: Stream>(self, id: u64, stream: S, router: Router, place: OwnedSemaphorePermit) {
        let state = Arc::new(State {
            phase: Mutex::new(Phase::Idle(Instant::now())),
            evict: Notify::new(),
            finishing: self.0.finishing.child_token(),
        });
        self.lock().insert(id, Arc::clone(&state));
        let _listed = Listed { connections: &self, id };
        self.converse(stream, router, &state).await;
        drop(place);
    }

    async fn converse<S: Stream>(&self, stream: S, router: Router, state: &Arc<State>) {
        let watched = Watched::new(stream, Arc::clone(state), Arc::clone(&self.0.timeouts));
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            let (router, state, metrics) = (router.clone(), Arc::clone(state), self.0.metrics.clone());
            async move { Ok::<_, Infallible>(respond(request, router, &state, &metrics).await) }
        });
        let mut conversation = std::pin::pin!(
            http1::Builder::new()
                .header_read_timeout(None)
                // Whoever says that he will send no more has still asked, and what he sent is kept.
                .half_close(true)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(watched), service)
        );
        let mut finishing = false;
        let outcome = loop {
            tokio::select! {
                outcome = conversation.as_mut() => break outcome,
                // Its request may have become complete since it was chosen; then it waits for us, not we for it.
                () = state.evict.notified() => if state.waiting_since().is_some() { return },
                () = state.finishing.cancelled(), if !finishing => {
                    conversation.as_mut().graceful_shutdown();
                    finishing = true;
                }
                () = self.0.cut.cancelled() => return,
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "connection ended");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<State>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in the list of those that are open; taken out when dropped, also by a panic.
struct Listed<'a> {
    connections: &'a Connections,
    id: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.id);
    }
}

async fn respond(
    request: Request<hyper::body::Incoming>,
    router: Router,
    state: &Arc<State>,
    metrics: &Metrics,
) -> Response {
    let begun = Instant::now();
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Origin { first_byte: state.head_complete(), state: Arc::clone(state) });
    let Ok(response) = router.oneshot(request).await;
    state.request_complete();
    let route = response.extensions().get::<Route>().map_or("other", |route| route.0);
    metrics.http_requests_total.with_label_values(&[route, response.status().as_str()]).inc();
    metrics.http_request_duration_seconds.with_label_values(&[route]).observe(begun.elapsed().as_secs_f64());
    response
}

impl State {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn byte_arrived(&self) {
        let mut phase = self.phase();
        if let Phase::Idle(idle_since) = *phase {
            *phase = Phase::Head { since: Instant::now(), idle_since };
        }
    }

    /// Returns when the request's first byte came. That of a pipelined one came with the request before it.
    fn head_complete(&self) -> Instant {
        let mut phase = self.phase();
        let (since, idle_since) = match *phase {
            Phase::Head { since, idle_since } | Phase::Body { since, idle_since } => (since, idle_since),
            Phase::Idle(idle_since) => (Instant::now(), idle_since),
            Phase::Answering => (Instant::now(), Instant::now()),
        };
        *phase = Phase::Body { since, idle_since };
        since
    }

    fn request_complete(&self) {
        *self.phase() = Phase::Idle(Instant::now());
    }

    /// Since when it has completed no request; none while it waits for us.
    fn waiting_since(&self) -> Option<Instant> {
        match *self.phase() {
            Phase::Idle(since) => Some(since),
            Phase::Head { idle_since, .. } | Phase::Body { idle_since, .. } => Some(idle_since),
            Phase::Answering => None,
        }
    }

    /// Until when the peer may keep us waiting for bytes. Within a request its reader sees to that.
    fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        match *self.phase() {
            Phase::Idle(since) => Some(since + timeouts.idle()),
            Phase::Head { since, .. } => Some(since + timeouts.head()),
            Phase::Body { .. } | Phase::Answering => None,
        }
    }
}

impl Timeouts {
    fn of(settings: &Settings) -> Self {
        let timeouts = Self { head: AtomicU64::new(0), idle: AtomicU64::new(0) };
        timeouts.follow(settings);
        timeouts
    }

    fn follow(&self, settings: &Settings) {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.head.store(millis(settings.header_timeout), Ordering::Relaxed);
        self.idle.store(millis(settings.idle_timeout), Ordering::Relaxed);
    }

    fn head(&self) -> Duration {
        Duration::from_millis(self.head.load(Ordering::Relaxed))
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.idle.load(Ordering::Relaxed))
    }
}

/// What a connection is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// A stream that gives up on a peer who keeps it waiting.
struct Watched<S> {
    stream: S,
    state: Arc<State>,
    timeouts: Arc<Timeouts>,
    reading: Pin<Box<Sleep>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S: Stream> Watched<S> {
    fn new(stream: S, state: Arc<State>, timeouts: Arc<Timeouts>) -> Self {
        let reading = Box::pin(tokio::time::sleep(timeouts.idle()));
        Self { stream, state, timeouts, reading, writing: None }
    }

    /// Ready once the deadline for reading has passed. The alarm is moved only when it would ring too late or has rung
    /// too early, so that most requests never touch it.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let Some(deadline) = self.state.deadline(&self.timeouts) else {
                return Poll::Pending;
            };
            if deadline < self.reading.deadline().into_std() {
                self.reading.as_mut().reset(deadline.into());
            }
            if self.reading.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= deadline {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.reading.as_mut().reset(deadline.into());
        }
    }

    /// A peer that takes no bytes is given as long as one that sends none.
    fn poll_stuck<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing = None;
            return written;
        }
        let idle = self.timeouts.idle();
        let alarm = self.writing.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        alarm.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Stream> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(outcome) => {
                if buf.filled().len() > before {
                    self.state.byte_arrived();
                }
                Poll::Ready(outcome)
            }
            Poll::Pending => self.poll_late(cx).map(Err),
        }
    }
}

impl<S: Stream> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.poll_stuck(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.poll_stuck(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.poll_stuck(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
