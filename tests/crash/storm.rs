//! Pulls the plug on the real program, again and again: what was answered is there, unaltered, and arrives.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::app::{ANSWER, eventually, push};
use crate::http::{Connection, ask, request};

const ROUNDS: u64 = 10;
const SENDERS: usize = 6;

/// The program, killed without warning when dropped.
struct Program {
    child: Child,
    callbacks: SocketAddr,
    admin: SocketAddr,
}

impl Program {
    /// Starts it over the directory and waits until it says that it is ready, and where.
    fn start(directory: &Path) -> Self {
        let config = directory.join("livehook.toml");
        let out = directory.join("out.jsonl");
        let handler = format!("[[handlers]]\nname = \"file\"\ntype = \"file\"\npath = '{}'\n", out.display());
        std::fs::write(&config, handler).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_livehook"))
            .arg("serve")
            .env("LIVEHOOK_SERVER__LISTEN", "127.0.0.1:0")
            .env("LIVEHOOK_ADMIN__LISTEN", "127.0.0.1:0")
            .env("LIVEHOOK_STORE__URL", format!("sqlite:{}", directory.join("livehook.db").display()))
            .env("LIVEHOOK_CONFIG", config)
            .env("LIVEHOOK_LOG__FORMAT", "json")
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = loop {
            let line = lines.next().expect("it ended before it was ready").unwrap();
            let Ok(line) = serde_json::from_str::<Value>(&line) else { panic!("{line}") };
            if line.to_string().contains("\"ready\"") {
                break line;
            }
        };
        // Somebody must read on, or the pipe fills up.
        std::thread::spawn(move || lines.for_each(drop));
        let address = |name: &str| {
            let found = [&ready[name], &ready["fields"][name]].into_iter().find_map(Value::as_str);
            found.unwrap_or_else(|| panic!("{ready}")).parse().unwrap()
        };
        Self { callbacks: address("callbacks"), admin: address("admin"), child }
    }

    fn kill(&mut self) {
        // On Unix this is SIGKILL, to this child alone.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn stored(&self) -> HashMap<String, String> {
        let mut stored = HashMap::new();
        let mut target = "/api/v1/events?limit=1000".to_owned();
        loop {
            let page = ask(self.admin, &request("GET", &target, &[], b"")).await.json();
            for event in page["events"].as_array().unwrap() {
                let text = |name: &str| event[name].as_str().unwrap().to_owned();
                assert!(stored.insert(text("sequence"), text("id")).is_none(), "stored twice");
            }
            let Some(next) = page["next"].as_str() else { return stored };
            target = format!("/api/v1/events?limit=1000&cursor={next}");
        }
    }

    async fn pending(&self) -> usize {
        let page = ask(self.admin, &request("GET", "/api/v1/deliveries?state=pending", &[], b"")).await.json();
        page["deliveries"].as_array().unwrap().len()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Posts distinct events until the connection breaks; notes each that was answered.
async fn send(address: SocketAddr, next: Arc<AtomicU64>, answered: Arc<Mutex<Vec<u64>>>) {
    let mut connection = Connection::open(address).await;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let body = push(&format!("room-{}", number % 7), number).to_string();
        let sent = connection.try_send(&request("POST", "/callbacks", &[], body.as_bytes())).await;
        let Some(response) = (if sent.is_ok() { connection.response().await } else { None }) else {
            return;
        };
        assert_eq!((response.status, response.text().as_str()), (200, ANSWER));
        answered.lock().unwrap().push(number);
    }
}

fn sequence(number: u64) -> String {
    push("", number)["sequence"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_was_answered_survives_every_kill_and_is_delivered() {
    let directory = tempfile::tempdir().unwrap();
    let (next, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    for round in 0..ROUNDS {
        let mut program = Program::start(directory.path());
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            senders.spawn(send(program.callbacks, Arc::clone(&next), Arc::clone(&answered)));
        }
        // Not to wait for something, but to break in somewhere.
        tokio::time::sleep(Duration::from_millis(30 + fastrand::u64(0..200))).await;
        program.kill();
        while let Some(ended) = senders.join_next().await {
            ended.unwrap();
        }
        if round % 3 == 2 {
            scribble(&directory.path().join("livehook.db-wal"));
        }
    }
    let answered = answered.lock().unwrap().clone();
    assert!(answered.len() > 100, "{}", answered.len());

    let program = Program::start(directory.path());
    let stored = program.stored().await;
    let lost: Vec<_> = answered.iter().filter(|number| !stored.contains_key(&sequence(**number))).collect();
    assert!(lost.is_empty(), "lost {lost:?} of {}", answered.len());
    for number in answered.iter().step_by(50) {
        let id = &stored[&sequence(*number)];
        let body = ask(program.admin, &request("GET", &format!("/api/v1/events/{id}/body"), &[], b"")).await;
        assert_eq!(body.text(), push(&format!("room-{}", number % 7), *number).to_string());
    }
    eventually("all delivered", async || (program.pending().await == 0).then_some(())).await;
    let delivered = delivered(&directory.path().join("out.jsonl"));
    let expected: HashMap<_, _> = stored.iter().map(|(sequence, id)| (id.clone(), sequence.clone())).collect();
    assert_eq!(delivered, expected, "each stored event is delivered under its id, and nothing else");
}

/// What a torn write may leave behind the synced part of the log.
fn scribble(log: &Path) {
    if let Ok(mut log) = std::fs::File::options().append(true).open(log) {
        log.write_all(&vec![0xA5; 10_000]).unwrap();
    }
}

/// Sequence by id. A line may stand twice, and one may have been torn by a kill.
fn delivered(file: &Path) -> HashMap<String, String> {
    let text = String::from_utf8(std::fs::read(file).unwrap()).unwrap();
    let whole = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let pairs: HashSet<_> = whole
        .map(|event| {
            let data: Value = event["data"].clone();
            assert_eq!(event["sequence"], data["sequence"]);
            (event["id"].as_str().unwrap().to_owned(), event["sequence"].as_str().unwrap().to_owned())
        })
        .collect();
    let count = pairs.len();
    let by_id: HashMap<_, _> = pairs.into_iter().collect();
    assert_eq!(by_id.len(), count, "one id, one event");
    by_id
}
