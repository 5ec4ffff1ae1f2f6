//! Events delivered once more, because a person asks for it.
//!
//! A replay is written down before it begins and goes on after a restart, so whoever asked for it may go away. It works in
//! steps, between which callbacks are stored. Its events are found newest first, as lists are, and replayed oldest first:
//! so the cursors of pages are noted on the way back.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};

use super::{Intake, Route};
use crate::clock::Timestamp;
use crate::event::{EventId, Kind, Verification};
use crate::store::{
    EventFilter, EventRow, Owed, Replay, ReplayId, ReplayState, StoreError, Wanted, Wish, cursor_up_to,
};

/// Events read at once.
const PAGE: usize = 1000;
/// Deliveries queued in one transaction: few enough not to keep callbacks waiting.
const QUEUED_AT_ONCE: usize = 500;
/// Pause after the store could not be asked which replays run.
const BACKOFF: Duration = Duration::from_secs(1);

/// Why there is no such replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The configuration has no handler of that name.
    #[error("there is no handler `{0}` in the configuration")]
    Handler(String),
    /// There is no event of that id.
    #[error("there is no event `{0}`")]
    Event(EventId),
    /// As many run as may.
    #[error("too many replays run; wait for one to end, or cancel one")]
    TooMany,
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What those who ask for replays and the one who makes them tell each other.
#[derive(Debug, Default)]
pub(super) struct Desk {
    asked: Notify,
    ended: watch::Sender<u64>,
}

/// The events of a replay.
#[derive(Default)]
struct Found {
    count: u64,
    /// The place of the last.
    last: i64,
    /// Cursors of the pages that hold them, newest first.
    pages: Vec<String>,
}

impl Intake {
    /// How many events a replay would be about.
    pub async fn count_replay(&self, wish: &Wish) -> Result<u64, ReplayError> {
        Ok(self.look_for(wish).await?.count)
    }

    /// Begins a replay. [`run_replays`](Self::run_replays) makes it.
    pub async fn replay(&self, wish: Wish) -> Result<Replay, ReplayError> {
        let found = self.look_for(&wish).await?;
        let begun = self.store.begin_replay(wish, found.count, found.last).await?.ok_or(ReplayError::TooMany)?;
        note_begin(&begun);
        self.desk.asked.notify_one();
        Ok(begun)
    }

    /// Waits until a replay has ended.
    pub async fn replay_ended(&self, id: ReplayId) -> Result<Option<Replay>, StoreError> {
        let mut ended = self.desk.ended.subscribe();
        loop {
            let found = self.store.find_replay(id).await?;
            if found.as_ref().is_none_or(|replay| replay.state != ReplayState::Running) {
                return Ok(found);
            }
            // We hold the sender.
            let _ = ended.changed().await;
        }
    }

    /// Ends a replay by a person's wish, and tells how it stands.
    pub async fn cancel_replay(&self, id: ReplayId) -> Result<Option<Replay>, StoreError> {
        let replay = self.store.end_replay(id, ReplayState::Cancelled, None).await?;
        self.desk.ended.send_modify(|count| *count += 1);
        Ok(replay)
    }

    /// Makes replays, those that a former process left unfinished first. Never ends.
    pub async fn run_replays(&self) {
        let mut known = HashSet::new();
        let mut running = FuturesUnordered::new();
        loop {
            match self.store.replays().await {
                Ok(all) => {
                    let new = all.into_iter().filter(|replay| replay.state == ReplayState::Running);
                    running.extend(new.filter(|replay| known.insert(replay.id)).map(|replay| self.run(replay)));
                }
                Err(error) => {
                    tracing::warn!(%error, "the store cannot be asked for replays");
                    self.desk.asked.notify_one();
                    tokio::time::sleep(BACKOFF).await;
                }
            }
            tokio::select! {
                () = self.desk.asked.notified() => {}
                Some(id) = running.next() => {
                    known.remove(&id);
                    self.desk.ended.send_modify(|count| *count += 1);
                }
            }
        }
    }

    async fn run(&self, replay: Replay) -> ReplayId {
        let id = replay.id;
        let outcome = match self.work_off(replay).await {
            Ok(()) => self.store.end_replay(id, ReplayState::Done, None).await,
            // It goes on where it is once the store can be read again.
            Err(ReplayError::Store(error @ (StoreError::Unreadable(_) | StoreError::Closed))) => Err(error),
            Err(error) => self.store.end_replay(id, ReplayState::Failed, Some(error.to_string())).await,
        };
        match outcome {
            Ok(Some(replay)) => {
                let Replay { state, matched, queued, detail, .. } = replay;
                tracing::info!(replay = id.0, state = state.slug(), matched, queued, detail, "replay ended");
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(replay = id.0, %error, "a replay is interrupted; it goes on in a moment");
                tokio::time::sleep(BACKOFF).await;
            }
        }
        id
    }

    /// Returns when all is queued, or the replay was cancelled.
    async fn work_off(&self, replay: Replay) -> Result<(), ReplayError> {
        let Replay { id, wish, reached, last, .. } = replay;
        let mut work = Work { intake: self, id, reached, last, wish: &wish, pace: Pace::new(self, wish.rate) };
        match &wish.events {
            Wanted::These(ids) => {
                let mut rows = Vec::new();
                for id in ids {
                    // What was pruned meanwhile is left out.
                    rows.extend(self.store.event(*id).await?.map(|stored| stored.row));
                }
                rows.sort_by_key(|row| std::cmp::Reverse(row.seq));
                rows.dedup_by_key(|row| row.seq);
                work.take(rows).await?;
            }
            Wanted::Matching(filter) => {
                let found = self.matching(filter, reached, Some(last)).await?;
                for cursor in found.pages.iter().rev() {
                    let page = self.store.events(filter.clone(), PAGE, Some(cursor)).await?;
                    if !work.take(page.items).await? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// What a new replay would be about; an error where something it names is not there.
    async fn look_for(&self, wish: &Wish) -> Result<Found, ReplayError> {
        self.routes_of(wish)?;
        match &wish.events {
            Wanted::Matching(filter) => Ok(self.matching(filter, 0, None).await?),
            Wanted::These(ids) => {
                let mut places = HashSet::new();
                for id in ids {
                    let stored = self.store.event(*id).await?.ok_or(ReplayError::Event(*id))?;
                    places.insert(stored.row.seq);
                }
                let last = places.iter().copied().max().unwrap_or(0);
                Ok(Found { count: places.len() as u64, last, pages: Vec::new() })
            }
        }
    }

    /// The events behind the place `after`, up to the place `last`; none: up to the newest there is now. What comes later
    /// is on none of their pages, and pushes nothing off them.
    async fn matching(&self, filter: &EventFilter, after: i64, last: Option<i64>) -> Result<Found, StoreError> {
        let newest = async || Ok(self.store.events(filter.clone(), 1, None).await?.items.first().map(|row| row.seq));
        let Some(last) = (if last.is_some() { last } else { newest().await? }) else {
            return Ok(Found::default());
        };
        let mut found = Found { last, ..Found::default() };
        let mut cursor = Some(cursor_up_to(last));
        while let Some(begin) = cursor {
            let page = self.store.events(filter.clone(), PAGE, Some(&begin)).await?;
            let count = page.items.iter().filter(|row| row.seq > after).count();
            if count > 0 {
                found.count += count as u64;
                found.pages.push(begin);
            }
            let oldest = page.items.last().map_or(after, |row| row.seq);
            cursor = page.next.filter(|_| oldest > after);
        }
        Ok(found)
    }

    /// A handler gets nothing that its filters keep from it, whoever asks. The event is read only where an expression asks.
    async fn owed_again(&self, row: &EventRow, routes: &[Route]) -> Result<Vec<Owed>, StoreError> {
        let open: Vec<_> = routes.iter().filter(|route| route.filter.matches(&row.facts)).cloned().collect();
        if open.iter().all(|route| route.filter.when.is_none()) {
            return Ok(open.iter().map(|route| route.owed).collect());
        }
        // What was pruned meanwhile is owed to nobody.
        let stored = self.store.event(row.id).await?;
        Ok(stored.map_or(Vec::new(), |stored| self.owed(&open, &stored.event)))
    }

    /// The handlers a replay goes to.
    fn routes_of(&self, wish: &Wish) -> Result<Vec<Route>, ReplayError> {
        let Some(names) = &wish.handlers else {
            return Ok(self.rules.load().routes.clone());
        };
        let own = |name: &String| self.store.handler(name).ok_or_else(|| ReplayError::Handler(name.clone()));
        let wanted: Vec<_> = names.iter().map(own).collect::<Result<_, _>>()?;
        Ok(self.rules.load().routes.iter().filter(|route| wanted.contains(&route.owed.handler)).cloned().collect())
    }
}

/// Ids of events that are named in a line of the log.
const IDS_TOLD: usize = 10;

/// Writes down what a person asked for: what it does cannot be taken back.
fn note_begin(begun: &Replay) {
    let Wish { events, handlers, rate } = &begun.wish;
    let (filter, ids) = match events {
        Wanted::Matching(filter) => (filter.clone(), None),
        Wanted::These(ids) => (EventFilter::default(), Some(ids)),
    };
    tracing::info!(
        replay = begun.id.0,
        matched = begun.matched,
        handlers = handlers.as_ref().map(tracing::field::debug),
        rate,
        kind = filter.kind.map(Kind::slug),
        domain = filter.domain,
        app = filter.app,
        stream = filter.stream,
        verification = filter.verification.map(Verification::slug),
        since = filter.since.map(Timestamp::rfc3339),
        until = filter.until.map(Timestamp::rfc3339),
        ids = ids.map(Vec::len),
        first_ids = ids.map(|ids| ids.iter().take(IDS_TOLD).map(ToString::to_string).collect::<Vec<_>>().join(" ")),
        "replay begun by a person"
    );
}

/// A replay under way.
struct Work<'a> {
    intake: &'a Intake,
    id: ReplayId,
    reached: i64,
    last: i64,
    wish: &'a Wish,
    pace: Pace,
}

impl Work<'_> {
    /// Replays those of a page that are left, oldest first. Returns false when the replay was cancelled.
    async fn take(&mut self, mut rows: Vec<EventRow>) -> Result<bool, ReplayError> {
        let routes = self.intake.routes_of(self.wish)?;
        // Where events were pruned a page reaches back to what was replayed.
        rows.retain(|row| row.seq > self.reached && row.seq <= self.last);
        rows.reverse();
        let at_once = (QUEUED_AT_ONCE / routes.len().max(1)).clamp(1, self.pace.at_once);
        while !rows.is_empty() {
            let rest = rows.split_off(at_once.min(rows.len()));
            let mut step = Vec::new();
            for row in std::mem::replace(&mut rows, rest) {
                let owed = self.intake.owed_again(&row, &routes).await?;
                step.push((row, owed));
            }
            let count = step.len();
            self.reached = step.last().map_or(self.reached, |(row, _)| row.seq);
            self.pace.wait(self.intake).await;
            if !self.intake.store.replay(self.id, step).await? {
                return Ok(false);
            }
            self.pace.made(count);
        }
        Ok(true)
    }
}

/// Spreads events over time.
struct Pace {
    since: Timestamp,
    made: u64,
    rate: Option<u32>,
    /// Events of one step: what a second brings at most.
    at_once: usize,
}

impl Pace {
    fn new(intake: &Intake, rate: Option<u32>) -> Self {
        let at_once = rate.map_or(usize::MAX, |rate| usize::try_from(rate).unwrap_or(usize::MAX).max(1));
        Self { since: intake.clock.now(), made: 0, rate, at_once }
    }

    fn made(&mut self, events: usize) {
        self.made += events as u64;
    }

    /// Waits until it is time for more.
    async fn wait(&self, intake: &Intake) {
        if let Some(rate) = self.rate {
            let after = Duration::from_millis(self.made.saturating_mul(1000) / u64::from(rate.max(1)));
            intake.clock.sleep_until(self.since.plus(after)).await;
        }
    }
}
