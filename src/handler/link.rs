//! A connection that all attempts of a handler share. It is made when an attempt needs it, once for all who wait, and
//! forgotten when it has ended or an attempt got no answer on it. While none can be made, attempts fail at once with the
//! reason of the last try, and there is a pause between tries.
//!
//! No task stands behind it: when the handler goes, the connection goes with it.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use super::HandlerError;

/// Makes connections of one kind.
pub(super) trait Dial: Send + Sync + 'static {
    /// What is made. Dropping it ends it.
    type Connection: Send + Sync + 'static;

    /// Makes one, in bounded time. The error says what an operator should know.
    fn dial(&self) -> BoxFuture<'static, Result<Self::Connection, HandlerError>>;

    /// Whether the connection still stands, as far as is known.
    fn is_open(connection: &Self::Connection) -> bool;
}

/// See the module.
pub(super) struct Link<D: Dial> {
    dial: D,
    state: Mutex<State<D::Connection>>,
}

struct State<C> {
    making: Option<Making<C>>,
    /// Tries that failed one after the other.
    failures: u32,
}

type Making<C> = Shared<BoxFuture<'static, Result<Arc<C>, Failed>>>;

#[derive(Clone)]
struct Failed {
    error: HandlerError,
    at: Instant,
}

/// The pause after the first try that fails. It doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause: so long at most is a server that is back left alone.
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl<D: Dial> Link<D> {
    pub(super) fn new(dial: D) -> Self {
        Self { dial, state: Mutex::new(State { making: None, failures: 0 }) }
    }

    /// The connection, for one exchange. Unless that is [settled](Held::settle) the connection is forgotten, for nobody
    /// knows whether it still leads anywhere; others who hold it go on.
    pub(super) async fn hold(&self) -> Result<Held<'_, D>, HandlerError> {
        let making = self.making();
        let connection = making.await.map_err(|failed| failed.error)?;
        Ok(Held { link: self, connection, is_settled: false })
    }

    /// The making of a connection: that which is under way, stands or has failed a moment ago, or a new one.
    fn making(&self) -> Making<D::Connection> {
        let mut state = self.state();
        let failed = match state.making.as_ref().map(|making| (making, making.peek())) {
            Some((making, None)) => return making.clone(),
            Some((making, Some(Ok(connection)))) if D::is_open(connection) => return making.clone(),
            Some((making, Some(Err(failed)))) if failed.at.elapsed() < pause(state.failures) => return making.clone(),
            Some((_, Some(Err(_)))) => true,
            Some((_, Some(Ok(_)))) | None => false,
        };
        state.failures = if failed { state.failures.saturating_add(1) } else { 0 };
        let dialled = self.dial.dial();
        let dialled = dialled.map(|made| made.map(Arc::new).map_err(|error| Failed { error, at: Instant::now() }));
        let making = dialled.boxed().shared();
        state.making = Some(making.clone());
        making
    }

    fn forget(&self, connection: &Arc<D::Connection>) {
        let mut state = self.state();
        let made = state.making.as_ref().and_then(Shared::peek);
        if made.is_some_and(|made| made.as_ref().is_ok_and(|made| Arc::ptr_eq(made, connection))) {
            state.making = None;
        }
    }

    fn state(&self) -> MutexGuard<'_, State<D::Connection>> {
        // Nothing that can panic leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pause(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failures.min(8)).min(PAUSE_MAX)
}

/// A connection while one attempt uses it.
pub(super) struct Held<'l, D: Dial> {
    link: &'l Link<D>,
    connection: Arc<D::Connection>,
    is_settled: bool,
}

impl<D: Dial> Held<'_, D> {
    /// The other side has answered, so that the connection is good for others.
    pub(super) fn settle(mut self) {
        self.is_settled = true;
    }
}

impl<D: Dial> Deref for Held<'_, D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        &self.connection
    }
}

impl<D: Dial> Drop for Held<'_, D> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.link.forget(&self.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    /// Fails so often, then makes connections that are numbered.
    #[derive(Default)]
    struct Switchboard {
        failing: usize,
        tries: Arc<AtomicUsize>,
        closed: Arc<AtomicBool>,
    }

    struct Line {
        number: usize,
        closed: Arc<AtomicBool>,
    }

    impl Dial for Switchboard {
        type Connection = Line;

        fn dial(&self) -> BoxFuture<'static, Result<Line, HandlerError>> {
            let number = self.tries.fetch_add(1, Ordering::SeqCst);
            let (refused, closed) = (number < self.failing, Arc::clone(&self.closed));
            Box::pin(async move {
                tokio::task::yield_now().await;
                if refused { Err(HandlerError::transient("refused")) } else { Ok(Line { number, closed }) }
            })
        }

        fn is_open(line: &Line) -> bool {
            !line.closed.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn all_who_wait_share_one_connection() {
        let link = Link::new(Switchboard::default());
        let (one, other) = tokio::join!(link.hold(), link.hold());
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!((one.number, other.number), (0, 0));
        one.settle();
        other.settle();
        assert_eq!(link.hold().await.unwrap().number, 0);
    }

    #[tokio::test]
    async fn a_connection_is_made_anew_when_it_ended_or_an_exchange_had_no_end() {
        let switchboard = Switchboard::default();
        let closed = Arc::clone(&switchboard.closed);
        let link = Link::new(switchboard);
        link.hold().await.unwrap().settle();
        closed.store(true, Ordering::SeqCst);
        let held = link.hold().await.unwrap();
        assert_eq!(held.number, 1);
        closed.store(false, Ordering::SeqCst);
        let other = link.hold().await.unwrap();
        drop(held);
        assert_eq!(link.hold().await.unwrap().number, 2);
        // Which was the other's is not forgotten for the new one.
        drop(other);
    }

    #[tokio::test]
    async fn what_an_older_connection_meets_is_not_held_against_a_newer_one() {
        let link = Link::new(Switchboard::default());
        let (older, also) = (link.hold().await.unwrap(), link.hold().await.unwrap());
        drop(older);
        let newer = link.hold().await.unwrap();
        drop(also);
        newer.settle();
        assert_eq!(link.hold().await.unwrap().number, 1);
    }

    #[tokio::test]
    async fn attempts_fail_with_the_last_reason_during_the_pause_and_one_tries_again_behind_it() {
        let switchboard = Switchboard { failing: 2, ..Switchboard::default() };
        let tries = Arc::clone(&switchboard.tries);
        let link = Link::new(switchboard);
        let mut failed = 0;
        let held = loop {
            match link.hold().await {
                Ok(held) => break held,
                Err(error) => assert_eq!(error, HandlerError::transient("refused")),
            }
            failed += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!((held.number, tries.load(Ordering::SeqCst)), (2, 3));
        assert!(failed > 4, "{failed} attempts and as many tries: there was no pause");
    }

    #[test]
    fn pauses_grow_and_have_an_end() {
        assert_eq!(pause(0), PAUSE_MIN);
        assert!((0..40).all(|failures| pause(failures) <= pause(failures + 1)));
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }
}
