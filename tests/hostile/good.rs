//! The one whom nobody may hold up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::http::ask;
use crate::program::{ANSWER, Program, post, push};

const STREAM: &str = "good";
/// From one callback to the next.
const PACE: Duration = Duration::from_millis(50);
/// How long CSS waits for an answer.
const CSS_PATIENCE: Duration = Duration::from_secs(20);

/// Posts signed events, each on a connection of its own as a stranger would, until it is told to stop.
pub(crate) struct GoodCaller {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    calling: JoinSet<Duration>,
}

impl GoodCaller {
    pub(crate) fn begin(program: &Program) -> Self {
        Self::begin_with(program, 0)
    }

    /// With so many blanks behind each event.
    pub(crate) fn begin_with(program: &Program, blanks: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let (address, stopped, count) = (program.callbacks, Arc::clone(&stop), Arc::clone(&answered));
        let mut calling = JoinSet::new();
        calling.spawn(async move {
            let mut longest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) || count.load(Ordering::Relaxed) == 0 {
                let number = count.load(Ordering::Relaxed);
                let body = push(STREAM, number) + &" ".repeat(blanks);
                let begun = Instant::now();
                let request = post(body);
                let answer = tokio::time::timeout(CSS_PATIENCE, ask(address, &request)).await;
                let answer = answer.expect("no answer in time");
                assert_eq!((answer.status, answer.text().as_str()), (200, ANSWER), "good event {number}");
                longest = longest.max(begun.elapsed());
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PACE).await;
            }
            longest
        });
        Self { stop, answered, calling }
    }

    /// Waits until it has had so many answers.
    pub(crate) async fn answered(&mut self, count: u64) {
        while self.answered.load(Ordering::Relaxed) < count {
            assert!(self.calling.try_join_next().is_none(), "it has failed");
            tokio::time::sleep(PACE).await;
        }
    }

    /// Ends it, and looks for all it was answered for. Returns how many that were.
    pub(crate) async fn end(mut self, program: &Program) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let longest = self.calling.join_next().await.unwrap().unwrap();
        let answered = self.answered.load(Ordering::Relaxed);
        let events = program.all(&format!("events?stream={STREAM}&"), "events").await;
        let stored: BTreeSet<u64> =
            events.iter().map(|event| event["sequence"].as_str().unwrap().parse().unwrap()).collect();
        assert_eq!(stored, (0..answered).collect(), "answered and not stored, or the other way round");
        println!("good caller: {answered} events, the slowest answered in {longest:?}");
        answered
    }
}
