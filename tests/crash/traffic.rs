//! CSS: many connections that stay open, new callbacks, copies, refused ones, and what was not answered once more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::http::{Connection, request};
use crate::ledger::Ledger;
use crate::letter::{Letters, Sort, digest};

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    /// Callbacks in all.
    pub(crate) callbacks: usize,
}

/// What is sent to one program until it ends.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    senders: JoinSet<()>,
    first: watch::Receiver<Option<Instant>>,
}

struct Shared {
    address: SocketAddr,
    letters: Arc<Letters>,
    ledger: Arc<Ledger>,
    left: AtomicUsize,
    over: AtomicBool,
    first: watch::Sender<Option<Instant>>,
}

impl Traffic {
    pub(crate) fn begin(
        address: SocketAddr,
        plan: Plan,
        (letters, ledger): (&Arc<Letters>, &Arc<Ledger>),
        dice: &mut fastrand::Rng,
    ) -> Self {
        let (tell, first) = watch::channel(None);
        let shared = Arc::new(Shared {
            address,
            letters: Arc::clone(letters),
            ledger: Arc::clone(ledger),
            left: AtomicUsize::new(plan.callbacks),
            over: AtomicBool::new(false),
            first: tell,
        });
        let repeats = ledger.lock().take_unanswered();
        let mut by_sender: Vec<Vec<u64>> = vec![Vec::new(); plan.connections];
        repeats.into_iter().enumerate().for_each(|(at, number)| by_sender[at % plan.connections].push(number));
        let mut senders = JoinSet::new();
        for repeats in by_sender {
            let sender = Sender { shared: Arc::clone(&shared), dice: dice.fork(), repeats };
            senders.spawn(sender.run());
        }
        Self { shared, senders, first }
    }

    /// The moment of the first answer; none when there has been none in time.
    pub(crate) async fn first_answer(&mut self) -> Option<Instant> {
        let first = self.first.wait_for(Option::is_some);
        tokio::time::timeout(crate::DEADLINE, first).await.ok()?.ok().and_then(|first| *first)
    }

    /// Something else that goes on until the program ends.
    pub(crate) fn beside(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.senders.spawn(work);
    }

    /// Waits until all is sent and answered.
    pub(crate) async fn finished(mut self) {
        while let Some(ended) = self.senders.join_next().await {
            ended.unwrap();
        }
    }

    /// Ends with the program.
    pub(crate) async fn end(self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.finished().await;
    }
}

/// One connection after the other.
struct Sender {
    shared: Arc<Shared>,
    dice: fastrand::Rng,
    /// What is sent again because it was not answered.
    repeats: Vec<u64>,
}

/// A callback on its way.
struct Posted {
    number: u64,
    request: Vec<u8>,
}

impl Sender {
    async fn run(mut self) {
        while !self.is_over() {
            let Ok(mut connection) = Connection::try_open(self.shared.address).await else {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            };
            while let Some(posted) = self.next() {
                if !self.send(&mut connection, &posted).await {
                    break;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.shared.over.load(Ordering::Relaxed) || self.shared.left.load(Ordering::Relaxed) == 0
    }

    /// Chooses a callback and enters it into the books.
    fn next(&mut self) -> Option<Posted> {
        let Shared { letters, ledger, left, .. } = &*self.shared;
        if self.is_over()
            || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
        {
            return None;
        }
        let (number, sort, copy) = {
            let mut entries = ledger.lock();
            let number = match self.repeats.pop() {
                Some(number) => number,
                None => match self.dice.u32(..100) {
                    0..4 if !entries.callbacks.is_empty() => recent_event(&entries.callbacks, &mut self.dice),
                    4..7 => entries.begin(Sort::Forged),
                    7 => entries.begin(if self.dice.bool() { Sort::Garbage } else { Sort::Nameless }),
                    _ => entries.begin(Sort::Event),
                },
            };
            let callback = *entries.of(number);
            (number, callback.sort, callback.posted)
        };
        let body = letters.body(number, sort, copy);
        ledger.lock().post(number, digest(body.as_bytes()));
        Some(Posted { number, request: request("POST", "/callbacks", &[], body.as_bytes()) })
    }

    /// Returns whether the connection is good for another.
    async fn send(&self, connection: &mut Connection, posted: &Posted) -> bool {
        let sent = connection.try_send(&posted.request).await;
        let response = if sent.is_ok() { connection.response().await } else { None };
        let text = response.as_ref().map(|response| (response.status, response.text()));
        let answer = text.as_ref().map(|(status, body)| (*status, body.as_str()));
        self.shared.ledger.lock().outcome(posted.number, answer);
        if answer.is_some() {
            self.shared.first.send_if_modified(|first| first.is_none() && first.replace(Instant::now()).is_none());
        }
        response.is_some_and(|response| response.header("connection") != Some("close"))
    }
}

/// An event, one of the last more likely: its first copy may still be on its way.
fn recent_event(callbacks: &[crate::ledger::Callback], dice: &mut fastrand::Rng) -> u64 {
    let window = callbacks.len().min(if dice.bool() { 50 } else { callbacks.len() });
    let start = callbacks.len() - window + dice.usize(..window);
    let events = (start..callbacks.len()).chain(0..start).find(|at| callbacks[*at].sort == Sort::Event);
    events.unwrap_or_default() as u64
}
