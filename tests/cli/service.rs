//! A service of our own: the real program, on free ports, with a store in a directory that goes with it.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const KEY: &str = "abc123";

/// The program, with nothing of this process's environment that could configure it.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livehook"));
    command.env_clear();
    command
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn run(args: &[&str]) -> Ran {
    run_with(args, "")
}

pub(crate) fn run_with(args: &[&str], input: &str) -> Ran {
    let mut command = program();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input may be gone.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Ran::of(&child.wait_with_output().unwrap())
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// Standard output of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.good()).unwrap()
    }

    /// Standard error of a command that must have ended so.
    #[track_caller]
    pub(crate) fn bad(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        self.err
    }
}

pub(crate) struct Service {
    child: Child,
    /// What it logged before it was ready.
    pub(crate) start: Vec<String>,
    pub(crate) callbacks: String,
    pub(crate) admin: String,
    log: Arc<Mutex<Vec<String>>>,
    dir: TempDir,
}

impl Service {
    pub(crate) fn start() -> Self {
        Self::start_with(&format!("[signature]\nkey = \"{KEY}\"\n"))
    }

    /// `config` is put after what names ports and store.
    pub(crate) fn start_with(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c.toml"), Self::text(dir.path(), config)).unwrap();
        Self::start_in(dir, "c.toml", "127.0.0.1:0")
    }

    /// Stops it and starts it again at the same admin address; that of callbacks is another.
    pub(crate) fn restarted(mut self) -> Self {
        self.end();
        let empty = tempfile::tempdir().unwrap();
        let dir = std::mem::replace(&mut self.dir, empty);
        Self::start_in(dir, "c.toml", self.admin.trim_start_matches("http://"))
    }

    /// Begins with the configuration of this name, which is in the directory, and this admin address.
    pub(crate) fn start_in(dir: TempDir, name: &str, admin: &str) -> Self {
        Self::start_logging(dir, name, admin, "")
    }

    /// The same, with the directives of `RUST_LOG`.
    pub(crate) fn start_logging(dir: TempDir, name: &str, admin: &str, directives: &str) -> Self {
        let mut command = program();
        command
            .arg("--config")
            .arg(dir.path().join(name))
            .env("LIVEHOOK_ADMIN__LISTEN", admin)
            .env("RUST_LOG", directives);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut start = Vec::new();
        let ready = loop {
            let line = lines.next().unwrap().unwrap();
            if line.contains("\"ready\"") {
                break line;
            }
            start.push(line);
        };
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line)));
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let address = |name: &str| {
            let at = ready.get(name).or_else(|| ready["fields"].get(name)).unwrap();
            format!("http://{}", at.as_str().unwrap())
        };
        Self { callbacks: address("callbacks"), admin: address("admin"), child, start, log, dir }
    }

    /// A configuration with ports and store of a service in this directory.
    pub(crate) fn text(dir: &Path, config: &str) -> String {
        let mut text = String::from("server.listen = \"127.0.0.1:0\"\nserver.drain_delay = \"0s\"\n");
        writeln!(text, "store.url = \"sqlite:{}\"\n{config}", dir.join("s.db").display()).unwrap();
        text
    }

    /// What it has logged since it was ready.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    pub(crate) fn send(&self, args: &[&str]) -> Ran {
        run(&[&["send"], args, &["--to", &self.callbacks]].concat())
    }

    /// `send` with the right key.
    pub(crate) fn send_signed(&self, args: &[&str]) -> Ran {
        self.send(&[args, &["--key", KEY]].concat())
    }

    /// A command that asks the admin API.
    pub(crate) fn ask(&self, args: &[&str]) -> Ran {
        run(&[args, &["--admin", &self.admin]].concat())
    }

    /// The rows of a list.
    pub(crate) fn list(&self, args: &[&str]) -> Vec<Value> {
        let answer = self.ask(&[args, &["--format", "json"]].concat()).json();
        ["events", "deliveries", "items"].iter().find_map(|name| answer[name].as_array().cloned()).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Stops it and returns its directory; the configuration is `c.toml` there.
    pub(crate) fn stop(mut self) -> PathBuf {
        self.end();
        let empty = tempfile::tempdir().unwrap();
        std::mem::replace(&mut self.dir, empty).keep()
    }

    fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if self.child.try_wait().unwrap().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

/// Tries until it is so.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
