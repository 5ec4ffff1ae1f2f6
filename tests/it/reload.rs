//! Another configuration while everything goes on: taken over whole or not at all, and no stream gets out of order.

use std::sync::Arc;
use std::time::Duration;

use livehook::clock::{Clock, SystemClock};
use livehook::config::Fault;
use livehook::dispatch::{Dispatcher, Subscriber};
use livehook::handler::{Order, Policy, Settings, Target, exec, file};
use livehook::intake::{Callback, Intake, Receipt};
use livehook::secret::Secret;
use livehook::signature::{self, Key, LegacyHeaders};
use livehook::store::{self, Store};
use livehook::telemetry::traces::Traces;
use livehook::telemetry::{KnownLabels, Metrics};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::{Setup, TestApp, eventually, push};
use crate::http::{ask, request};
use crate::recorder::{Act, Recorder};

/// The second road alone, with handlers that change.
struct Road {
    intake: Intake,
    policies: Vec<Policy>,
    subscribers: watch::Sender<Vec<Subscriber>>,
    stop: CancellationToken,
    running: JoinSet<()>,
    number: u64,
    _directory: TempDir,
}

impl Road {
    fn with(policy: Policy, recorder: &Recorder) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("s.db").display());
        let settings = store::Settings { url, ..store::Settings::default() };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let names = [policy.name.clone()];
        let store = Store::open(settings, &names, Duration::from_secs(5), Arc::clone(&clock)).unwrap();
        let metrics = Metrics::new(KnownLabels::default());
        let policies = vec![policy.clone()];
        let intake =
            Intake::new(store.clone(), signature::Settings::default(), &policies, Arc::clone(&clock), metrics.clone());
        let subscribers = watch::Sender::new(vec![Subscriber { policy, handler: Arc::new(recorder.clone()) }]);
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        let dispatcher = Dispatcher { store, clock, metrics, traces: Traces::default() };
        running.spawn(dispatcher.run(subscribers.subscribe(), stop.clone(), Duration::from_secs(5)));
        Self { intake, policies, subscribers, stop, running, number: 0, _directory: directory }
    }

    /// Has the handler be this one from now on; without one it leaves.
    fn become_handler(&self, now: Option<(Policy, &Recorder)>) {
        let subscriber = now.map(|(policy, recorder)| Subscriber { policy, handler: Arc::new(recorder.clone()) });
        self.subscribers.send_replace(subscriber.into_iter().collect());
    }

    async fn take(&mut self, stream: &str) {
        self.number += 1;
        let callback = Callback {
            received_at: SystemClock.now(),
            path: "/callbacks".to_owned(),
            route: None,
            token: None,
            headers: LegacyHeaders::default(),
            body: push(stream, self.number).to_string().into(),
            excess: None,
        };
        let receipt = self.intake.keep(self.intake.rule(&callback)).await.unwrap();
        assert!(matches!(receipt, Receipt::Stored(_)));
    }

    async fn finish(mut self) {
        let name = self.policies[0].name.clone();
        eventually("nothing pending", async || (self.intake.store().tally().pending[&name] == 0).then_some(())).await;
        self.stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap();
        }
    }
}

fn gated() -> (Arc<Semaphore>, Recorder) {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    (gate, Recorder::with(move |_, _| Act::Wait(Arc::clone(&wait), Box::new(Act::Done))))
}

fn streams(recorder: &Recorder) -> Vec<String> {
    recorder.calls().into_iter().filter_map(|call| call.stream).collect()
}

fn numbers(recorder: &Recorder) -> Vec<u64> {
    let time = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["event_time"].as_u64().unwrap();
    recorder.done().iter().map(|call| time(&call.body) - 1_703_128_000).collect()
}

async fn calls(recorder: &Recorder, count: usize) {
    eventually(&format!("{count} calls"), async || (recorder.calls().len() == count).then_some(())).await;
}

#[tokio::test]
async fn a_handler_that_changes_ends_what_it_began_and_no_stream_is_attempted_twice_at_once() {
    let ((gate, old), new) = (gated(), Recorder::new());
    let mut road = Road::with(Policy::new("rooms"), &old);
    for _ in 0..3 {
        road.take("a").await;
    }
    calls(&old, 1).await;
    road.become_handler(Some((Policy::new("rooms"), &new)));
    road.take("b").await;
    calls(&new, 1).await;
    assert_eq!((streams(&new), streams(&old)), (vec!["b".to_owned()], vec!["a".to_owned()]));
    gate.add_permits(1);
    calls(&new, 3).await;
    road.finish().await;
    assert_eq!((numbers(&old), numbers(&new)), (vec![1], vec![4, 2, 3]));
}

#[tokio::test]
async fn a_handler_that_leaves_ends_what_it_began_and_its_successor_waits_for_that() {
    let ((gate, old), new) = (gated(), Recorder::new());
    let mut road = Road::with(Policy::new("rooms"), &old);
    road.take("a").await;
    road.take("a").await;
    calls(&old, 1).await;
    road.become_handler(None);
    road.become_handler(Some((Policy::new("rooms"), &new)));
    road.take("b").await;
    calls(&new, 1).await;
    assert_eq!(streams(&new), ["b"], "nothing of the stream that is still in hand");
    gate.add_permits(5);
    calls(&new, 2).await;
    road.finish().await;
    assert_eq!((numbers(&old), numbers(&new)), (vec![1], vec![3, 2]));
}

#[tokio::test]
async fn another_concurrency_counts_from_the_next_attempt_on() {
    let policy = |concurrency| Policy { order: Order::None, concurrency, ..Policy::new("rooms") };
    let ((old_gate, old), (new_gate, new)) = (gated(), gated());
    let mut road = Road::with(policy(4), &old);
    for _ in 0..10 {
        road.take("a").await;
    }
    calls(&old, 4).await;
    road.become_handler(Some((policy(1), &new)));
    old_gate.add_permits(4);
    calls(&new, 1).await;
    new_gate.add_permits(3);
    calls(&new, 4).await;
    assert_eq!(new.most_running(), 1);
    road.become_handler(Some((policy(3), &new)));
    calls(&new, 6).await;
    assert_eq!(new.most_running(), 3);
    new_gate.add_permits(10);
    road.finish().await;
    assert_eq!(old.done().len() + new.done().len(), 10);
}

fn writing_to(name: &str, path: &std::path::Path) -> Settings {
    let settings = file::Settings { path: path.to_owned(), rotate_bytes: None, rotate_keep: 1 };
    Settings { policy: Policy::new(name), target: Target::File(settings) }
}

fn lines(path: &std::path::Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// One that fails, and is tried again.
fn failing(name: &str) -> Settings {
    let settings = exec::Settings { command: vec!["/bin/false".to_owned()], env: Vec::new() };
    Settings { policy: Policy::new(name), target: Target::Exec(settings) }
}

async fn readmitted(app: &TestApp, reason: &str) -> u64 {
    let refused = app.refused().await;
    refused.iter().filter(|item| item["reason"] == reason).count() as u64
}

#[tokio::test]
async fn keys_tokens_and_limits_change_while_connections_stay() {
    let app = TestApp::start().await;
    let mut connection = app.connect().await;
    connection.send(&request("POST", "/callbacks", &[], app.signed(&push("room", 1)).as_bytes())).await;
    assert_eq!(connection.response().await.unwrap().status, 200);

    app.reload(|config| {
        config.signature.keys.push(Key { name: "next".to_owned(), key: Secret::new("next1"), domains: Vec::new() });
        config.server.body_limit = 1000;
        config.admin.token = Some(Secret::new("sesame"));
    })
    .await
    .unwrap();
    assert_eq!(app.get("/api/v1/events").await.status, 401, "a token is asked for now");
    assert_eq!(app.metric("livehook_signature_key_matches_total{key=\"next\"}").await, Some(0.0));
    connection.send(&request("POST", "/callbacks", &[], app.signed(&push("room", 2)).as_bytes())).await;
    assert_eq!(connection.response().await.unwrap().status, 200, "the same connection, the old key");
    let mut body = push("room", 3);
    let t = app.t();
    body["t"] = t.into();
    body["sign"] = signature::sign(&Secret::new("next1"), &t.to_string()).into();
    app.accept(body.to_string()).await;
    assert_eq!(app.metric("livehook_signature_key_matches_total{key=\"next\"}").await, Some(1.0));
    app.accept("x".repeat(1001)).await;

    app.reload(|config| {
        config.signature.keys = vec![Key { name: "next".to_owned(), key: Secret::new("next1"), domains: Vec::new() }];
    })
    .await
    .unwrap();
    app.accept_signed(&push("room", 4)).await;
    assert_eq!((app.events().await.len(), readmitted(&app, "too-large").await), (3, 1));
    assert_eq!(readmitted(&app, "signature-mismatch").await, 1, "the old key is none any more");
    app.finish().await;
}

#[tokio::test]
async fn handlers_come_change_and_go() {
    let own = Recorder::new();
    let app = Setup::new().handler("own", &own).start().await;
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    app.accept_signed(&push("room", 1)).await;
    app.reload(|config| config.handlers = vec![writing_to("file", &one)]).await.unwrap();
    assert_eq!(app.metric("livehook_handler_attempts_total{handler=\"file\",outcome=\"done\"}").await, Some(0.0));
    app.accept_signed(&push("room", 2)).await;
    eventually("a line", async || (lines(&one) == 1).then_some(())).await;
    app.reload(|config| config.handlers = vec![writing_to("file", &two)]).await.unwrap();
    app.accept_signed(&push("room", 3)).await;
    eventually("a line", async || (lines(&two) == 1).then_some(())).await;
    let depth = async || app.metric("livehook_queue_depth{handler=\"file\"}").await;
    eventually("recorded", async || (depth().await == Some(0.0)).then_some(())).await;
    app.reload(|config| config.handlers.clear()).await.unwrap();
    app.accept_signed(&push("room", 4)).await;
    eventually("delivered", async || (own.done().len() == 4).then_some(())).await;
    assert_eq!((lines(&one), lines(&two)), (1, 1), "each event went to the handler of its time");
    assert_eq!(depth().await, None);
    app.finish().await;
}

#[tokio::test]
async fn what_is_owed_to_a_handler_that_has_left_stays_in_the_metrics_until_it_is_dropped() {
    let app = TestApp::start().await;
    app.reload(|config| config.handlers = vec![failing("gone")]).await.unwrap();
    app.accept_signed(&push("room", 1)).await;
    app.reload(|config| config.handlers.clear()).await.unwrap();
    let of_gone = async |name: &str| app.metric(&format!("livehook_{name}{{handler=\"gone\"}}")).await;
    assert_eq!((of_gone("queue_depth").await, of_gone("dead_letters").await), (Some(1.0), Some(0.0)));
    assert!(of_gone("queue_oldest_timestamp_seconds").await.is_some_and(|moment| moment > 0.0));
    let many = json!({"handler": "gone", "state": "pending"});
    assert_eq!(app.call("/api/v1/deliveries/drop", &many).await.json()["changed"], 1);
    for name in ["queue_depth", "dead_letters", "queue_oldest_timestamp_seconds"] {
        assert_eq!(of_gone(name).await, None, "{name}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_faulty_configuration_changes_nothing_and_says_everything_that_is_wrong() {
    let app = TestApp::start().await;
    let loaded_at = app.json("/api/v1/config").await["loaded_at"].clone();
    let at = app.metric("livehook_config_last_reload_success_timestamp_seconds").await;
    app.clock.advance(Duration::from_secs(5));
    let dir = tempfile::tempdir().unwrap();
    let error = app
        .reload(|config| {
            config.server.body_limit = 10;
            config.handlers = vec![
                writing_to("good", &dir.path().join("x")),
                writing_to("bad", dir.path()),
                writing_to("worse", dir.path()),
            ];
        })
        .await
        .unwrap_err();
    assert_eq!(error.faults.len(), 2, "{error}");
    assert!(error.faults[0].starts_with("handler `bad`: cannot append to"), "{error}");
    let state = app.json("/api/v1/config").await;
    assert_eq!((&state["successful"], &state["faults"]), (&json!(false), &json!(error.faults)));
    assert_eq!((&state["loaded_at"], state["last_attempt_at"] == loaded_at), (&loaded_at, false));
    assert_eq!(app.metric("livehook_config_last_reload_successful").await, Some(0.0));
    assert_eq!(app.metric("livehook_config_last_reload_success_timestamp_seconds").await, at);
    app.accept_signed(&push("room", 1)).await;
    assert_eq!(app.events().await.len(), 1, "the limit is the old one");

    let fault = Fault { key: "server.listen".to_owned(), place: None, what: "is odd".to_owned() };
    app.reloader.reload(Err(fault.into())).await.unwrap_err();
    assert_eq!(app.json("/api/v1/config").await["faults"], json!(["server.listen: is odd"]));
    app.reload(|_| ()).await.unwrap();
    let state = app.json("/api/v1/config").await;
    assert_eq!((&state["successful"], &state["faults"]), (&json!(true), &json!([])));
    assert_eq!(app.metric("livehook_config_last_reload_successful").await, Some(1.0));
    app.finish().await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_is_taken_over() {
    let app = TestApp::start().await;
    let reloaded = app
        .reload(|config| {
            config.server.listen = ([127, 0, 0, 1], 1).into();
            config.admin.listen = ([127, 0, 0, 1], 2).into();
            config.store.url = "sqlite:elsewhere.db".to_owned();
            config.server.body_limit = 1000;
        })
        .await
        .unwrap();
    assert_eq!(reloaded.needs_restart, ["server.listen", "admin.listen", "store.url"]);
    assert_eq!(app.json("/api/v1/config").await["needs_restart"], json!(reloaded.needs_restart));
    app.accept("x".repeat(1001)).await;
    assert_eq!(readmitted(&app, "too-large").await, 1);
    assert_eq!(app.reload(|_| ()).await.unwrap().needs_restart, [""; 0]);
    app.finish().await;
}

/// The address in the file is harmless without a key; the one that is bound is not.
#[tokio::test]
async fn no_listener_that_is_bound_loses_its_key() {
    let open = |config: &mut livehook::Config| config.server.listen = ([0, 0, 0, 0], 0).into();
    let app = Setup::new().configured(open).start().await;
    let error = app
        .reload(|config| {
            config.server.listen = ([127, 0, 0, 1], 0).into();
            config.signature.keys.clear();
        })
        .await
        .unwrap_err();
    assert!(error.faults[0].starts_with("server.listen: 0.0.0.0:0 is no loopback address"), "{error}");
    let unsigned = request("POST", "/callbacks", &[], b"{\"event_type\":1}");
    let answer = ask(([127, 0, 0, 1], app.callbacks.port()).into(), &unsigned).await;
    assert_eq!(answer.status, 200);
    assert_eq!((app.events().await.len(), readmitted(&app, "signature-missing").await), (0, 1));
    app.finish().await;
}

#[tokio::test]
async fn after_the_end_nothing_can_be_reloaded() {
    let app = TestApp::start().await;
    let reloader = app.reloader.clone();
    app.finish().await;
    assert_eq!(
        reloader.reload(Ok(livehook::Config::default())).await.unwrap_err().to_string(),
        "the service has ended"
    );
}
