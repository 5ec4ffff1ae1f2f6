//! The program as a process of its own, so that its memory can be read from outside.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use livehook::clock::{Clock as _, SystemClock};
use livehook::secret::Secret;
use livehook::signature;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::http::{Response, ask, request};

pub(crate) const KEY: &str = "abc123";
pub(crate) const ANSWER: &str = r#"{"code":0}"#;
/// As in the container and under systemd. Otherwise each heap of the allocator keeps up to twice the largest body.
const TUNABLES: &str = "glibc.malloc.trim_threshold=131072";
/// What does not come about in this time never will.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

/// The limits that bound memory, as they are configured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_connections: u64,
    pub(crate) body_limit: u64,
    pub(crate) body_bytes_in_flight: u64,
    pub(crate) queue_bytes: u64,
}

/// The defaults.
impl Default for Limits {
    fn default() -> Self {
        Self { max_connections: 4096, body_limit: MIB, body_bytes_in_flight: 64 * MIB, queue_bytes: 64 * MIB }
    }
}

/// At rest: the program, two caches of SQLite of 16 MiB, its readers' of 2 MiB each, its log in memory, stacks.
const AT_REST: u64 = 64 * MIB;
/// Of each connection: a buffer for the head and one for what follows, of 16 KiB each, the beginning of a body that is
/// let in whatever others hold, 16 KiB, and what hyper and we know of it.
const CONNECTION: u64 = 56 * KIB;
/// Of each large body while it is looked at, as many at a time as there are processors: sixteen thousand items of the
/// largest kind.
const JUDGED: u64 = 8 * MIB;
/// What waits for standard error: spills of 64 MiB, a log of 8 MiB.
const STANDARD_ERROR: u64 = 72 * MIB;

/// Stored bodies that are read at once for lists and streams, up to the one that goes beyond it.
const CATALOGUED: u64 = 4 * MIB;

impl Limits {
    /// Bytes that stay resident at most, whatever strangers send.
    pub(crate) fn memory(self) -> u64 {
        let processors = std::thread::available_parallelism().map_or(2, |n| n.get().max(2)) as u64;
        let connections = self.max_connections * CONNECTION;
        // The body that has been reading longest may be in excess of the bytes in flight.
        let bodies = self.body_bytes_in_flight + self.body_limit;
        let catalogued = CATALOGUED + self.body_limit;
        AT_REST + connections + bodies + self.queue_bytes + processors * JUDGED + catalogued
    }

    /// The same where callbacks are spilled.
    pub(crate) fn memory_spilling(self) -> u64 {
        self.memory() + STANDARD_ERROR
    }

    fn toml(self) -> String {
        format!(
            "server.max_connections = {}\nserver.body_limit = \"{}B\"\nserver.body_bytes_in_flight = \"{}B\"\nstore.queue_bytes = \"{}B\"\n",
            self.max_connections, self.body_limit, self.body_bytes_in_flight, self.queue_bytes
        )
    }
}

pub(crate) struct Program {
    child: Child,
    pub(crate) callbacks: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) limits: Limits,
    log: Arc<Mutex<Vec<String>>>,
    unread: Option<BufReader<ChildStderr>>,
    directory: Arc<TempDir>,
}

impl Program {
    /// Starts it with these limits and further lines of configuration. Its standard error is read.
    pub(crate) fn start(limits: Limits, toml: &str) -> Self {
        let mut program = Self::start_unread(Arc::new(tempfile::tempdir().unwrap()), limits, toml);
        program.read_log();
        program
    }

    /// Starts it over a store that may have been there before. Nobody reads its standard error until
    /// [`read_log`](Self::read_log).
    pub(crate) fn start_unread(directory: Arc<TempDir>, limits: Limits, toml: &str) -> Self {
        raise_file_limit();
        let mut text = String::from("server.listen = \"127.0.0.1:0\"\nserver.drain_delay = \"0s\"\n");
        let store = directory.path().join("s.db");
        writeln!(
            text,
            "admin.listen = \"127.0.0.1:0\"\nlog.format = \"json\"\nstore.url = \"sqlite:{}\"",
            store.display()
        )
        .unwrap();
        text.push_str(&limits.toml());
        writeln!(text, "signature.key = \"{KEY}\"\n{toml}").unwrap();
        let config = directory.path().join("c.toml");
        fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_livehook"))
            .arg("--config")
            .arg(config)
            .env_clear()
            .env("GLIBC_TUNABLES", TUNABLES)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut unread = BufReader::new(child.stderr.take().unwrap());
        let ready: Value = loop {
            let mut line = String::new();
            assert!(unread.read_line(&mut line).unwrap() > 0, "it ended before it was ready");
            if line.contains("\"ready\"") {
                break serde_json::from_str(&line).unwrap();
            }
        };
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        let (callbacks, admin) = (address("callbacks"), address("admin"));
        Self { child, callbacks, admin, limits, log: Arc::default(), unread: Some(unread), directory }
    }

    /// From now on its standard error is read, and its lines are kept but for spills.
    pub(crate) fn read_log(&mut self) {
        let log = Arc::clone(&self.log);
        let lines = self.unread.take().unwrap().lines();
        let no_spills = lines.map_while(Result::ok).filter(|line| !line.contains("\"spill\":1"));
        std::thread::spawn(move || no_spills.for_each(|line| log.lock().unwrap().push(line)));
    }

    /// The lines of its log so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Bytes resident at most so far.
    #[track_caller]
    pub(crate) fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * KIB
    }

    /// Holds the memory it has ever taken to what follows from its limits.
    #[track_caller]
    pub(crate) fn assert_bounded(&self, attack: &str) {
        self.assert_below(self.limits.memory(), attack);
    }

    /// Holds the memory it has ever taken to a bound.
    #[track_caller]
    pub(crate) fn assert_below(&self, bound: u64, attack: &str) {
        let peak = self.peak();
        println!("{attack}: {} MiB resident at most, bound {} MiB", peak / MIB, bound / MIB);
        assert!(peak < bound, "{attack}: {} MiB, bound {} MiB", peak / MIB, bound / MIB);
    }

    /// Files it has open, connections included.
    pub(crate) fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Another connection to its database, as a stranger would open it.
    pub(crate) fn stranger(&self) -> rusqlite::Connection {
        let db = rusqlite::Connection::open(self.directory.path().join("s.db")).unwrap();
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        db
    }

    /// Bytes of the database and of its log.
    pub(crate) fn store_bytes(&self) -> u64 {
        let files = ["s.db", "s.db-wal"].map(|name| self.directory.path().join(name));
        files.iter().filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).sum()
    }

    pub(crate) async fn get(&self, target: &str) -> Response {
        ask(self.admin, &request("GET", target, &[], b"")).await
    }

    pub(crate) async fn json(&self, target: &str) -> Value {
        let response = self.get(target).await;
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        response.json()
    }

    /// All rows of a list of the API, page by page.
    pub(crate) async fn all(&self, list: &str, rows: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.json(&format!("/api/v1/{list}limit=1000{cursor}")).await;
            all.extend(page[rows].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { return all };
            cursor = format!("&cursor={next}");
        }
    }

    /// Posts a callback.
    pub(crate) async fn post(&self, body: impl AsRef<[u8]>) -> Response {
        ask(self.callbacks, &post(body)).await
    }

    /// The value of a counter, given its name and labels as they are printed.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let text = self.get("/metrics").await.text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Ends it as a service manager would, and returns what a successor over the same store begins with.
    pub(crate) fn stop(mut self) -> Arc<TempDir> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "it does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
        Arc::clone(&self.directory)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As many files as we may have: thousands of connections are ours too.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Whether a process may have so many files. Where it may not, what needs them is left out, except in CI.
#[expect(clippy::disallowed_methods, reason = "how strict a test is, is no configuration")]
pub(crate) fn may_have_files(count: u64) -> bool {
    let enough = getrlimit(Resource::Nofile).maximum.is_none_or(|maximum| maximum >= count);
    assert!(enough || std::env::var("CI").as_deref() != Ok("true"), "{count} files are needed (ulimit -Hn)");
    if !enough {
        println!("LEFT OUT: {count} files are needed (ulimit -Hn)");
    }
    enough
}

/// Asks again and again until there is something.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < until, "never came about: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs all at the same time, and fails where one of them does.
pub(crate) async fn together<T: Send + 'static>(
    tasks: impl Iterator<Item: Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    tasks.collect::<JoinSet<T>>().join_all().await
}

/// The bytes of a callback.
pub(crate) fn post(body: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST", "/callbacks", &[], body.as_ref())
}

/// `"t":…,"sign":"…"` as of now.
pub(crate) fn signature() -> String {
    let t = (SystemClock.now().secs() + 600).to_string();
    format!(r#""t":{t},"sign":"{}""#, signature::sign(&Secret::new(KEY), &t))
}

/// A signed push of its own for every number.
pub(crate) fn push(stream: &str, number: u64) -> String {
    let body = json!({
        "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": stream, "channel_id": stream,
        "event_time": SystemClock.now().secs(), "sequence": number.to_string(), "node": "10.0.0.1", "user_ip": "10.0.0.2",
        "stream_param": "", "errcode": 0, "errmsg": "ok",
    });
    body.to_string().replacen('{', &format!("{{{},", signature()), 1)
}

/// A callback that nobody has signed.
pub(crate) fn forged(number: u64) -> String {
    format!(
        r#"{{"event_type":1,"app":"push.example.com","stream_id":"forged","sequence":"{number}","t":9999999999,"sign":"{number:032x}"}}"#
    )
}
