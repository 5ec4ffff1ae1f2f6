//! A real server with its own directory, ports and clock.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use livehook::clock::{Clock as _, ManualClock, Timestamp};
use livehook::handler::Policy;
use livehook::receive::SpillSink;
use livehook::secret::Secret;
use livehook::signature::{self, Key};
use livehook::{Config, Server};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::http::{Connection, Response, ask, request};
use crate::place::Place;
use crate::recorder::Recorder;

pub(crate) const KEY: &str = "abc123";
pub(crate) const ANSWER: &str = r#"{"code":0}"#;
/// Where the clocks of all tests begin: 2023-12-21T03:12:37.104Z.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_703_128_357_104);
/// What does not come about in this time never will.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks again and again until there is something.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < until, "never came about: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Spilled lines.
#[derive(Default)]
pub(crate) struct Spills {
    lines: Mutex<Vec<String>>,
    stalled: bool,
}

impl Spills {
    /// A pipe that nobody reads.
    pub(crate) fn stalled() -> Arc<Self> {
        Arc::new(Self { stalled: true, ..Self::default() })
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl SpillSink for Spills {
    fn write_line(&self, line: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            if self.stalled {
                std::future::pending::<()>().await;
            }
            self.lines.lock().unwrap().push(String::from_utf8(line).unwrap());
            Ok(())
        })
    }
}

/// What a test wants to be different.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) spills: Arc<Spills>,
    clock: ManualClock,
    handlers: Vec<(Policy, Recorder)>,
    directory: Arc<Place>,
}

impl Setup {
    /// One key, no handlers, no delay at the end.
    pub(crate) fn new() -> Self {
        Self::at(Arc::new(Place::new()))
    }

    fn at(directory: Arc<Place>) -> Self {
        let mut config = Config::default();
        config.handlers.clear();
        config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.admin.listen = config.server.listen;
        config.server.drain_delay = Duration::ZERO;
        config.store.url = directory.url();
        config.signature.keys = vec![Key { name: "main".to_owned(), key: Secret::new(KEY), domains: Vec::new() }];
        let clock = ManualClock::new(START);
        Self { config, spills: Arc::default(), clock, handlers: Vec::new(), directory }
    }

    pub(crate) fn configured(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    pub(crate) fn handler(self, name: &str, recorder: &Recorder) -> Self {
        self.policy(Policy::new(name), recorder)
    }

    pub(crate) fn policy(mut self, policy: Policy, recorder: &Recorder) -> Self {
        self.handlers.push((policy, recorder.clone()));
        self
    }

    pub(crate) async fn build(&self) -> Result<Server, livehook::BuildError> {
        let mut builder = Server::builder()
            .config(self.config.clone())
            .clock(Arc::new(self.clock.clone()))
            .spills(Arc::clone(&self.spills) as Arc<dyn SpillSink>);
        for (policy, recorder) in &self.handlers {
            builder = builder.handler(policy.clone(), recorder.clone());
        }
        builder.build().await
    }

    pub(crate) async fn start(self) -> TestApp {
        let server = self.build().await.unwrap();
        let (callbacks, admin) = (server.callback_address(), server.admin_address());
        let reloader = server.reloader();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut running = JoinSet::new();
        running.spawn(server.run(async {
            let _ = stopped.await;
        }));
        TestApp {
            callbacks,
            admin,
            clock: self.clock,
            spills: self.spills,
            reloader,
            config: self.config,
            directory: self.directory,
            stop: Some(stop),
            running,
            finished: false,
        }
    }
}

pub(crate) struct TestApp {
    pub(crate) callbacks: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) clock: ManualClock,
    pub(crate) spills: Arc<Spills>,
    pub(crate) reloader: livehook::Reloader,
    config: Config,
    directory: Arc<Place>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinSet<Result<(), livehook::RunError>>,
    finished: bool,
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Setup::new().start().await
    }

    /// Ends the server, which must owe nothing to anybody.
    pub(crate) async fn finish(self) {
        eventually("nothing pending", async || self.pending().await.is_empty().then_some(())).await;
        self.leave().await;
    }

    /// Ends the server, whatever it owes, and returns what a successor over the same store begins with.
    pub(crate) async fn leave(mut self) -> Setup {
        self.begin_stop();
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap().unwrap();
        }
        self.finished = true;
        let mut next = Setup::at(Arc::clone(&self.directory));
        next.config.clone_from(&self.config);
        next.clock = self.clock.clone();
        next
    }

    /// Gives it another configuration: the one it began with, changed so.
    pub(crate) async fn reload(
        &self,
        change: impl FnOnce(&mut Config),
    ) -> Result<livehook::Reloaded, livehook::ReloadError> {
        let mut config = self.config.clone();
        change(&mut config);
        self.reloader.reload(Ok(config)).await
    }

    pub(crate) fn begin_stop(&mut self) {
        self.stop.take().into_iter().for_each(|stop| stop.send(()).unwrap());
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join("livehook.db")
    }

    /// Another connection to its database, as a stranger would open it.
    pub(crate) fn stranger(&self) -> rusqlite::Connection {
        let db = rusqlite::Connection::open(self.database()).unwrap();
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        db
    }

    /// The moment a callback sent now expires.
    pub(crate) fn t(&self) -> i64 {
        self.clock.now().secs() + 600
    }

    /// The object with a `t` and `sign` of now.
    pub(crate) fn signed(&self, body: &Value) -> String {
        signed_at(body, self.t())
    }

    pub(crate) async fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Response {
        ask(self.callbacks, &request("POST", target, &[("Content-Type", "application/json")], body.as_ref())).await
    }

    /// Posts, and holds the answer to its letter.
    pub(crate) async fn accept(&self, body: impl AsRef<[u8]>) {
        let response = self.post("/callbacks", body).await;
        assert_answered(&response);
    }

    /// Signs and posts.
    pub(crate) async fn accept_signed(&self, body: &Value) {
        self.accept(self.signed(body)).await;
    }

    pub(crate) async fn get(&self, target: &str) -> Response {
        ask(self.admin, &request("GET", target, &[], b"")).await
    }

    pub(crate) async fn json(&self, target: &str) -> Value {
        let response = self.get(target).await;
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        response.json()
    }

    pub(crate) async fn call(&self, target: &str, body: &Value) -> Response {
        let json = [("Content-Type", "application/json")];
        ask(self.admin, &request("POST", target, &json, body.to_string().as_bytes())).await
    }

    pub(crate) async fn events(&self) -> Vec<Value> {
        list(self.json("/api/v1/events?limit=1000").await, "events")
    }

    /// The only event there is, in full.
    pub(crate) async fn only_event(&self) -> Value {
        let events = self.events().await;
        assert_eq!(events.len(), 1, "{events:?}");
        self.json(&format!("/api/v1/events/{}", events[0]["id"].as_str().unwrap())).await
    }

    pub(crate) async fn refused(&self) -> Vec<Value> {
        list(self.json("/api/v1/quarantine?limit=1000").await, "items")
    }

    pub(crate) async fn pending(&self) -> Vec<Value> {
        self.deliveries("pending").await
    }

    pub(crate) async fn deliveries(&self, state: &str) -> Vec<Value> {
        list(self.json(&format!("/api/v1/deliveries?state={state}&limit=1000")).await, "deliveries")
    }

    /// Waits until so many deliveries are in that state.
    pub(crate) async fn await_deliveries(&self, state: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} {state}"), async || {
            Some(self.deliveries(state).await).filter(|found| found.len() == count)
        })
        .await
    }

    pub(crate) async fn ready(&self) -> u16 {
        self.get("/readyz").await.status
    }

    /// The value of a metric, given its name and labels as they are printed.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").await.text();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.callbacks).await
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        assert!(self.finished || std::thread::panicking(), "a test ends with `finish` or `leave`");
    }
}

fn list(mut page: Value, name: &str) -> Vec<Value> {
    assert_eq!(page["next"], Value::Null, "one page is not enough");
    serde_json::from_value(page[name].take()).unwrap()
}

#[track_caller]
pub(crate) fn assert_answered(response: &Response) {
    assert_eq!((response.status, response.text().as_str()), (200, ANSWER), "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/json"));
}

pub(crate) fn sign(t: i64) -> String {
    signature::sign(&Secret::new(KEY), &t.to_string())
}

pub(crate) fn signed_at(body: &Value, t: i64) -> String {
    let mut signed = body.clone();
    signed["t"] = t.into();
    signed["sign"] = sign(t).into();
    signed.to_string()
}

/// A push of its own for every number.
pub(crate) fn push(stream: &str, number: u64) -> Value {
    json!({
        "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": stream, "channel_id": stream,
        "event_time": 1_703_128_000 + number, "sequence": (6_000_000_000_000_000_000 + number).to_string(),
        "node": "10.0.0.1", "user_ip": "10.0.0.2", "stream_param": "", "errcode": 0, "errmsg": "ok",
    })
}
