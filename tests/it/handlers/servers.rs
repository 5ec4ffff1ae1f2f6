//! What the tests of handlers that speak to other systems have in common.

use std::time::Duration;

use livehook::event::{Event, EventId, Incoming, Verification};
use livehook::handler::{Handler, HandlerError, Policy, Settings, Target};
use serde_json::Value;

pub(crate) use super::process::{Server, ready_made_table};
use crate::app::{START, Setup, eventually, push};
use crate::handlers::handler;

/// Makes the handler.
pub(crate) async fn made(target: Target) -> Box<dyn Handler> {
    try_made(target).await.unwrap()
}

pub(crate) async fn try_made(target: Target) -> Result<Box<dyn Handler>, livehook::handler::BuildError> {
    let clock: std::sync::Arc<dyn livehook::clock::Clock> =
        std::sync::Arc::new(livehook::clock::ManualClock::new(START));
    tokio::task::spawn_blocking(move || target.build(&clock)).await.unwrap()
}

/// The event that a body makes.
pub(crate) fn event(number: u128, body: &Value) -> Event {
    let body = body.to_string();
    Event {
        id: EventId::from_u128(number),
        facts: Incoming::read(body.as_bytes()).unwrap().facts(),
        received_at: START,
        verification: Verification::Unsigned,
        body: body.into(),
    }
}

/// The reason of a failure after which there is another attempt.
#[track_caller]
pub(crate) fn transient(outcome: Result<(), HandlerError>) -> String {
    match outcome {
        Err(HandlerError::Transient { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// The reason of a failure that is the last.
#[track_caller]
pub(crate) fn permanent(outcome: Result<(), HandlerError>) -> String {
    match outcome {
        Err(HandlerError::Permanent { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

/// What may go down in the middle and come back with what it had.
pub(crate) trait Breakable {
    fn kill(&mut self);
    async fn restart(&mut self);
    /// Where it listens.
    fn ports(&self) -> Vec<u16>;
}

impl Breakable for Server {
    fn kill(&mut self) {
        Self::kill(self);
    }

    async fn restart(&mut self) {
        Self::restart(self).await;
    }

    fn ports(&self) -> Vec<u16> {
        vec![self.port]
    }
}

/// How many events [`deliver_through_a_crash`] sends, of how many streams.
pub(crate) const EVENTS: u64 = 240;
const STREAMS: u64 = 8;

/// Has a whole service deliver to a server that is killed in the middle and comes back later. Returns when nothing is
/// owed any more, with the ids of all events.
pub(crate) async fn deliver_through_a_crash(target: Target, server: &mut impl Breakable) -> Vec<String> {
    let settings = Settings { policy: Policy::new("outside"), target };
    let app = Setup::new().configured(|config| config.handlers.push(settings)).start().await;
    let post = async |numbers: std::ops::Range<u64>| {
        for number in numbers {
            app.accept_signed(&push(&format!("room-{}", number % STREAMS), number)).await;
        }
    };
    post(0..EVENTS / 3).await;
    eventually("some are delivered", async || (app.deliveries("done").await.len() > 10).then_some(())).await;
    server.kill();
    post(EVENTS / 3..EVENTS * 2 / 3).await;
    let error = eventually("the server is missed", async || {
        // So that what fails now fails later than what went well a moment ago.
        app.clock.advance(Duration::from_secs(1));
        handler(&app, "outside").await["last_error"].as_str().map(str::to_owned)
    });
    let error = error.await;
    assert!(error.contains("connect"), "{error}");
    server.restart().await;
    post(EVENTS * 2 / 3..EVENTS).await;
    eventually("all are delivered", async || {
        app.clock.advance(Duration::from_secs(10));
        app.pending().await.is_empty().then_some(())
    })
    .await;
    let done = app.await_deliveries("done", usize::try_from(EVENTS).unwrap()).await;
    app.finish().await;
    let left = || server.ports().into_iter().map(connections_to).sum::<usize>();
    eventually("no connection is left behind", async || (left() == 0).then_some(())).await;
    done.iter().map(|delivery| delivery["event_id"].as_str().unwrap().to_owned()).collect()
}

/// Connections of anybody to a port of this machine that stand; none are seen where there is no such list.
pub(crate) fn connections_to(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let remote = format!(":{port:04X}");
    let lists = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let rows = lists.iter().flat_map(|list| list.lines().skip(1)).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[2].ends_with(&remote) && row[3] == ESTABLISHED).count()
}

/// Holds what arrived, CloudEvents in order of arrival, to what is promised: every event, none twice in a row of its
/// stream out of order. Copies, of which a crash may make some, are left out of account unless `once`.
pub(crate) fn assert_all_in_order(mut ids: Vec<String>, arrived: &[Value], once: bool) {
    let mut seen = std::collections::HashSet::new();
    let mut last = std::collections::HashMap::new();
    for event in arrived {
        let (id, stream) = (event["id"].as_str().unwrap(), event["subject"].as_str().unwrap());
        if !seen.insert(id.to_owned()) {
            assert!(!once, "{id} is there twice");
            continue;
        }
        let number = event["data"]["event_time"].as_u64().unwrap();
        let before = last.insert(stream.to_owned(), number);
        assert!(before.is_none_or(|before| before < number), "{stream}: {number} came after {before:?}");
    }
    ids.retain(|id| !seen.contains(id));
    assert!(ids.is_empty(), "{} are lost: {ids:?}", ids.len());
}

/// What a handler of the ready-made table of a database is configured with.
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) fn rows_at(url: &str) -> livehook::handler::sql::Settings {
    use livehook::handler::sql::{Field, Settings};
    let defaults = Field::ALL.into_iter().filter(|(name, _)| Field::DEFAULTS.contains(name));
    Settings {
        server: livehook::handler::server::ServerUrl::new(url.parse().unwrap()),
        table: vec!["css_events".to_owned()],
        columns: defaults.map(|(name, field)| (field, name.to_owned())).collect(),
        connections: 4,
    }
}
