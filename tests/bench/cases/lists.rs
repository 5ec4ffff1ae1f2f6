//! Lists over a store with many events, as people ask for them: from the plain to those of which no two conditions are
//! ever met by the same event.
//!
//! The store is filled through its own code, not over HTTP: ten times as fast, and the same rows.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use hdrhistogram::Histogram;
use livehook::clock::{Clock as _, SystemClock, Timestamp};
use livehook::event::{Event, EventId, Identity, Incoming, Verification};
use livehook::store::{Claim, HandlerId, NewEvent, Owed, Settings, Settlement, Store, StoreError, Verdict};

use super::{Bench, float};
use crate::child::Server;
use crate::report::{Bound, aside};

/// Appends under way at the same time.
const AT_ONCE: usize = 1024;
/// Events between two looks at what is owed.
const BATCH: u64 = 20_000;
/// Over which the events are spread: shorter than they are kept.
const SPAN: Duration = Duration::from_hours(20 * 24);
/// Events of a stream, which follow one another.
const STREAM_EVENTS: u64 = 40;
/// Streams that are live at the same time.
const LIVE: u64 = 500;
/// Times that each question is asked, after some that do not count.
const ASKED: (usize, usize) = (3, 200);
/// Bytes of a body.
const BODY_BYTES: usize = 742;
const HANDLER: &str = "sink";
const CLOSE: Duration = Duration::from_mins(1);

/// What is asked, with `{mid}` and `{end}` for ten minutes in the middle, and `{room}` for a stream of about then.
const QUESTIONS: &[(&str, &str)] = &[
    ("newest events", "events?limit=100"),
    ("a common kind", "events?kind=stream-push"),
    ("a kind, all of them old", "events?kind=recording"),
    ("a kind that is not there", "events?kind=highlight"),
    ("a domain", "events?domain=push-b.example.com"),
    ("an app", "events?app=vod"),
    ("a domain and an app", "events?domain=push-b.example.com&app=vod"),
    ("a domain and an app that never meet", "events?domain=push-a.example.com&app=vod"),
    ("a kind and a domain that never meet", "events?kind=screencapture&domain=push-b.example.com"),
    ("a verification and a kind that never meet", "events?verification=unsigned&kind=stream-push"),
    ("a verification", "events?verification=verified"),
    ("a stream", "events?stream={room}"),
    ("a stream and its domain and app", "events?domain=push-a.example.com&app=live&stream={room}"),
    ("a stream and a kind that never meet", "events?stream={room}&kind=highlight"),
    ("a stream that is not there", "events?stream=nobody"),
    ("ten minutes", "events?since={mid}&until={end}"),
    ("ten minutes, a kind and a domain", "events?since={mid}&until={end}&kind=stream-push&domain=push-a.example.com"),
    ("ten minutes without one of a kind", "events?since={mid}&until={end}&kind=recording"),
    ("before a moment long ago", "events?until={mid}"),
    ("before all others", "events?until=2020-01-01T00:00:00Z"),
    ("newest events, 1000 of them", "events?limit=1000"),
    ("pending deliveries", "deliveries?state=pending"),
    ("pending deliveries of a handler", "deliveries?state=pending&handler=sink"),
    ("dead deliveries", "deliveries?state=dead"),
    ("dead deliveries of a handler", "deliveries?state=dead&handler=sink"),
    ("dropped deliveries of a handler", "deliveries?state=dropped&handler=sink"),
    ("done deliveries of a handler", "deliveries?state=done&handler=sink"),
    ("statistics of a day", "stats"),
    ("statistics of 30 days", "stats?span=30d"),
];

impl Bench {
    pub(crate) async fn lists(&mut self) -> io::Result<()> {
        self.room()?;
        self.stores.clear(&self.dir, "lists").await?;
        std::fs::create_dir_all(self.dir.join("lists"))?;
        self.fill_directly(self.stores.url(&self.dir, "lists")).await.map_err(io::Error::other)?;
        let server = self.again("lists")?;
        let middle = self.stored / 2;
        for (what, question) in QUESTIONS {
            let question = question
                .replace("{mid}", &received_at(middle, self.stored).rfc3339_secs())
                .replace("{end}", &received_at(middle, self.stored).plus(Duration::from_mins(10)).rfc3339_secs())
                .replace("{room}", &room(middle));
            self.ask_often(&server, what, &format!("/api/v1/{question}")).await?;
        }
        Ok(())
    }

    async fn ask_often(&mut self, server: &Server, what: &str, path: &str) -> io::Result<()> {
        let mut took = Histogram::<u64>::new(3).map_err(io::Error::other)?;
        let mut length = 0;
        for at in 0..ASKED.0 + ASKED.1 {
            let (answer, time) = server.get(path).await?;
            length = answer.len();
            if at >= ASKED.0 {
                took.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)).map_err(io::Error::other)?;
            }
        }
        let at = |quantile| float(took.value_at_quantile(quantile)) / 1000.0;
        let note = format!("p99 {:.1} ms; {length} bytes", at(0.99));
        let bound = Bound::Less { must: 50.0, want: 10.0 };
        self.report.add(format!("list: {what}"), at(0.5), " ms", bound, note);
        Ok(())
    }

    /// Fills a store, has its deliveries end in every way there is, and all of it catalogued.
    async fn fill_directly(&mut self, url: String) -> Result<(), StoreError> {
        let settings = Settings { url, ..Settings::default() };
        let store = Store::open(settings, &[HANDLER.to_owned()], CLOSE, Arc::new(SystemClock));
        let store = store.map_err(|error| StoreError::Refused(error.to_string()))?;
        let sink = store.handler(HANDLER).ok_or(StoreError::Closed)?;
        let begun = Instant::now();
        for first in (0..self.stored).step_by(usize::try_from(BATCH).unwrap_or(usize::MAX)) {
            let numbers = first..self.stored.min(first + BATCH);
            let appends = stream::iter(numbers).map(|number| store.append(event(number, self.stored, sink)));
            let mut appends = appends.buffer_unordered(AT_ONCE);
            while let Some(appended) = appends.next().await {
                appended?;
            }
            deliver(&store, sink).await?;
            if first % (BATCH * 20) == 0 {
                aside(&format!("{first} of {} stored, {:.0} s", self.stored, begun.elapsed().as_secs_f64()));
            }
        }
        self.report.tell("lists: store filled", float(self.stored) / begun.elapsed().as_secs_f64(), "/s");
        let begun = Instant::now();
        while store.catalogue().await?.is_some() {}
        self.report.tell("lists: events catalogued", float(self.stored) / begun.elapsed().as_secs_f64(), "/s");
        // What is pending shall stay so.
        store.pause(HANDLER.to_owned(), true).await?;
        store.close(CLOSE).await;
        Ok(())
    }
}

/// An event of three kinds in four of the streams, and of a fourth kind among the first tenth only.
fn event(number: u64, all: u64, handler: HandlerId) -> NewEvent {
    let received_at = received_at(number, all);
    let body = body(number, all, received_at);
    let incoming = Incoming::read(body.as_bytes()).expect("it is a JSON object with an event type");
    let facts = incoming.facts();
    let identity = Identity::of(incoming.body(), facts.occurred_at, None);
    let id = EventId::from_u128(u128::from(received_at.millis().unsigned_abs()) << 80 | u128::from(number));
    let event = Event { id, facts, received_at, verification: Verification::Verified, body: Bytes::from(body) };
    let owed = vec![Owed { handler, ordered: false }];
    NewEvent { event: Arc::new(event), identity, drift: Vec::new(), owed, readmitted: None }
}

fn body(number: u64, all: u64, received_at: Timestamp) -> String {
    let stream = stream_of(number);
    let event_type = match number / LIVE % 8 {
        0 if number < all / 10 => 100,
        1 if stream.is_multiple_of(2) => 200,
        2 => 0,
        _ => 1,
    };
    let (domain, app) = if stream.is_multiple_of(2) { ("push-a", "live") } else { ("push-b", "vod") };
    let (room, secs) = (room(number), received_at.secs());
    let body = |pad: &str| {
        format!(
            r#"{{"event_type":{event_type},"app":"{domain}.example.com","appname":"{app}","stream_id":"{room}","sequence":"{number:019}","event_time":{secs},"end_time":{secs},"create_time":{secs},"note":"{pad}"}}"#
        )
    };
    let bare = body("").len();
    body(&"x".repeat(BODY_BYTES.saturating_sub(bare)))
}

/// At any time some streams are live, and their events alternate.
fn stream_of(number: u64) -> u64 {
    number / (LIVE * STREAM_EVENTS) * LIVE + number % LIVE
}

fn room(number: u64) -> String {
    format!("room-{:08}", stream_of(number))
}

/// Every hundredth was received a day before it was stored, as one that is imported.
fn received_at(number: u64, all: u64) -> Timestamp {
    let nanos = SPAN.as_nanos() / u128::from(all) * u128::from(all - number);
    let late = if number % 100 == 99 { Duration::from_hours(24) } else { Duration::ZERO };
    beginning().minus(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))).minus(late)
}

/// The day this began, so that each event has its time however often it is asked for.
fn beginning() -> Timestamp {
    const DAY: i64 = 24 * 3600;
    Timestamp::from_secs(SystemClock.now().secs() / DAY * DAY)
}

/// Ends what is owed: nearly all is done; of a thousand one stays pending, one is dead, one is dropped.
async fn deliver(store: &Store, sink: HandlerId) -> Result<(), StoreError> {
    loop {
        let claims = store.claim(sink, AT_ONCE).await.claims;
        if claims.is_empty() {
            return Ok(());
        }
        for ended in join_all(claims.into_iter().map(|claim| end(store, claim))).await {
            ended?;
        }
    }
}

async fn end(store: &Store, claim: Claim) -> Result<(), StoreError> {
    let id = claim.event.id;
    let error = || "refused".to_owned();
    match id.as_u128() % 1000 {
        7 => {
            let due = SystemClock.now().plus(SPAN);
            store.settle(claim, Settlement::Retry { due, error: error() }).await
        }
        8 => store.settle(claim, Settlement::Dead { error: error(), exhausted: false }).await,
        9 => {
            store.settle(claim, Settlement::Dead { error: error(), exhausted: false }).await?;
            store.judge(id, HANDLER.to_owned(), Verdict::Drop).await.map(drop)
        }
        _ => store.settle(claim, Settlement::Done).await,
    }
}
