//! The program under test, as a child of this process, and the directory it lives in.

use std::io::BufReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::http::{request, try_ask};
use crate::letter::KEY;

/// A directory with a configuration and whatever the program keeps beside it. Goes with the test, unless that fails.
pub(crate) struct Place(Option<TempDir>);

impl Place {
    /// On the disk the program was built on: what lies in memory is synced by doing nothing.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("crash-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self(Some(dir))
    }

    /// One whose configuration has these handlers.
    pub(crate) fn with(handlers: &str) -> Self {
        let place = Self::new();
        place.configure("", handlers);
        place
    }

    /// Writes the configuration: `keys` are lines with the whole name of a key each. Unless they say so, the store is a file,
    /// a stop takes no longer than it must, and nothing is spilled because a machine is slow.
    pub(crate) fn configure(&self, keys: &str, handlers: &str) {
        let store = format!("sqlite:{DATABASE}");
        let usual = [("server.drain_delay", "0s"), ("ack.deadline", "19s"), ("store.url", &store)].into_iter();
        let usual = usual.filter(|(key, _)| !keys.contains(key)).map(|(key, value)| format!("{key} = {value:?}\n"));
        let usual: String = usual.collect();
        let text = format!(
            "server.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n\
             signature.key = \"{KEY}\"\nlog.level = \"warn,livehook::app=info\"\nlog.format = \"json\"\n\
             {usual}{keys}\n{handlers}"
        );
        std::fs::write(self.path(CONFIG), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.as_ref().unwrap().path().join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path(DATABASE)
    }

    /// The write-ahead log.
    pub(crate) fn log(&self) -> PathBuf {
        self.path(&format!("{DATABASE}-wal"))
    }

    /// The index of the log, which is made anew after a crash.
    pub(crate) fn index(&self) -> PathBuf {
        self.path(&format!("{DATABASE}-shm"))
    }

    /// Another place with the same configuration and store, as a disk keeps them: the index of the log is not on it.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        for name in [CONFIG, DATABASE, &format!("{DATABASE}-wal")] {
            if self.path(name).exists() {
                std::fs::copy(self.path(name), copy.path(name)).unwrap();
            }
        }
        copy
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(dir) = self.0.take().filter(|_| std::thread::panicking()) {
            crate::tell(&format!("kept: {}", dir.keep().display()));
        }
    }
}

const CONFIG: &str = "livehook.toml";
const DATABASE: &str = "livehook.db";

/// The `file` handler of all tests, which sets its file aside often.
pub(crate) const FILE_HANDLER: &str = "[[handlers]]\nname = \"file\"\ntype = \"file\"\npath = \"events.jsonl\"\n\
    rotate_bytes = \"1MiB\"\nrotate_keep = 10000\n";

/// An `http` handler that posts bodies as they were received.
pub(crate) fn http_handler(address: SocketAddr) -> String {
    format!(
        "[[handlers]]\nname = \"hook\"\ntype = \"http\"\nurl = \"http://{address}/\"\nformat = \"raw\"\n\
         concurrency = 32\nretry = {{ max_attempts = 1000, min_delay = \"10ms\", max_delay = \"100ms\" }}\n"
    )
}

/// A running program. Killed when dropped.
pub(crate) struct Program {
    child: Child,
    /// Reads all it says.
    said: Option<JoinHandle<Vec<u8>>>,
    ready: Option<oneshot::Receiver<(SocketAddr, SocketAddr)>>,
    pub(crate) callbacks: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) begun: Instant,
}

/// A program that has ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Its standard error.
    pub(crate) said: Vec<u8>,
}

impl Program {
    /// Starts it and does not wait.
    pub(crate) fn spawn(place: &Place) -> Self {
        Self::spawn_as(command(place))
    }

    /// Starts it with a library that writes down what it does, and waits until it is ready.
    pub(crate) async fn witnessed(place: &Place, library: &Path, notes: &Path) -> Self {
        let mut command = command(place);
        command.env("LD_PRELOAD", library).env("WITNESS", notes);
        let mut program = Self::spawn_as(command);
        assert!(program.is_ready().await);
        program
    }

    pub(crate) fn spawn_as(mut command: Command) -> Self {
        let begun = Instant::now();
        let mut child = command.arg("serve").stdout(Stdio::null()).spawn().unwrap();
        let pipe = BufReader::new(child.stderr.take().unwrap());
        let (tell, ready) = oneshot::channel();
        let said = Some(std::thread::spawn(move || listen(pipe, tell)));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { child, said, ready: Some(ready), callbacks: nowhere, admin: nowhere, begun }
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(place: &Place) -> Self {
        let mut program = Self::spawn(place);
        if !program.is_ready().await {
            let Ended { status, said } = program.ended();
            panic!("it ended with {status} before it was ready: {}", String::from_utf8_lossy(&said));
        }
        program
    }

    /// Waits until it says that it is ready, and where it listens; false when it ends instead.
    pub(crate) async fn is_ready(&mut self) -> bool {
        let ready = self.ready.take().expect("it is waited for once");
        let found = tokio::time::timeout(crate::DEADLINE, ready).await.expect("it neither starts nor ends");
        found.map(|(callbacks, admin)| (self.callbacks, self.admin) = (callbacks, admin)).is_ok()
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it without a warning: on Unix this is SIGKILL, to this child alone.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.ended()
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(mut self) -> Ended {
        self.terminate();
        crate::eventually("it stops", async || (!self.is_running()).then_some(())).await;
        self.ended()
    }

    /// Waits until it has ended.
    pub(crate) fn ended(mut self) -> Ended {
        let status = self.child.wait().unwrap();
        Ended { status, said: self.said.take().unwrap().join().unwrap() }
    }

    /// Asks its admin listener; none when it has gone meanwhile.
    pub(crate) async fn try_get(&self, target: &str) -> Option<crate::http::Response> {
        try_ask(self.admin, &request("GET", target, &[], b"")).await
    }

    pub(crate) async fn get(&self, target: &str) -> Value {
        let answer = self.try_get(target).await.expect("an answer");
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        answer.json()
    }

    /// Posts a body. None: the connection broke instead of an answer.
    pub(crate) async fn post(&self, body: impl AsRef<[u8]>) -> Option<u16> {
        let answer = try_ask(self.callbacks, &request("POST", "/callbacks", &[], body.as_ref())).await?;
        Some(answer.status)
    }

    /// Deliveries that are pending for a handler.
    pub(crate) async fn pending(&self, handler: &str) -> u64 {
        let text = self.try_get("/metrics").await.expect("an answer").text();
        let name = format!("livehook_queue_depth{{handler=\"{handler}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).expect("the handler is known")
    }

    /// Waits until nothing is pending, as long as there is less of it from time to time.
    pub(crate) async fn drained(&self, handlers: &[&str]) {
        let (mut least, mut since) = (u64::MAX, Instant::now());
        loop {
            let mut pending = 0;
            for handler in handlers {
                pending += self.pending(handler).await;
            }
            if pending == 0 {
                return;
            }
            if pending < least {
                (least, since) = (pending, Instant::now());
            }
            assert!(since.elapsed() < crate::DEADLINE, "{pending} deliveries are pending, and it stays at that");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `livehook import` straight into the store.
pub(crate) fn import(place: &Place, file: &Path) -> Command {
    let mut command = command(place);
    command.arg("import").arg("--config").arg(CONFIG).arg(file).stdout(Stdio::piped());
    command
}

/// The program with its place and nothing else of this process's environment.
pub(crate) fn command(place: &Place) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livehook"));
    command.env_clear().current_dir(place.path("")).env("LIVEHOOK_CONFIG", CONFIG);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Reads to the end, and tells where it listens when it says so.
fn listen(mut pipe: impl std::io::BufRead, tell: oneshot::Sender<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let (mut said, mut tell, mut begin) = (Vec::new(), Some(tell), 0);
    // Not every line is text, and the last one may be torn.
    while pipe.read_until(b'\n', &mut said).is_ok_and(|read| read > 0) {
        let line = &said[begin..];
        if let Some(addresses) = ready(line).filter(|_| tell.is_some()) {
            let _ = tell.take().map(|tell| tell.send(addresses));
        }
        begin = said.len();
    }
    said
}

fn ready(line: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_slice(line).ok()?;
    let address = |name: &str| line.get(name)?.as_str()?.parse().ok();
    Some((address("callbacks")?, address("admin")?))
}
