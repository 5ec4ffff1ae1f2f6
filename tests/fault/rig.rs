//! A server over a disk that does as it is told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use faulty_disk::Disk;
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::app::{Setup, TestApp, eventually};
use crate::http::{ask, request};

/// The name of the database in its directory.
pub(crate) const DATABASE: &str = "livehook.db";
/// The name of its write-ahead log.
pub(crate) const LOG: &str = "livehook.db-wal";

/// A directory and the disk under it.
pub(crate) struct Rig {
    // Well again before the directory goes.
    pub(crate) disk: Disk,
    pub(crate) directory: TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        faulty_disk::install();
        let directory = tempfile::tempdir().unwrap();
        Self { disk: Disk::over(directory.path()), directory }
    }

    /// What the power goes out of now, on a disk of its own.
    pub(crate) fn survivor(&self) -> Self {
        let survivor = Self::new();
        self.disk.survivors(survivor.directory.path()).unwrap();
        survivor
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join(DATABASE)
    }

    /// A server over it. What was there before stays.
    pub(crate) fn setup(&self) -> Setup {
        Setup::new().configured(|config| config.store.url = format!("sqlite:{}", self.database().display()))
    }

    /// Another connection to its database, as a stranger would open it.
    pub(crate) fn stranger(&self) -> Connection {
        let db = Connection::open(self.database()).unwrap();
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        db
    }

    /// Whether an operation has failed yet.
    pub(crate) fn has_failed(&self) -> bool {
        self.disk.counts().failed > 0
    }
}

/// What is in a database, looked at as a stranger.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Bodies of events, none of which is there twice.
    pub(crate) good: BTreeSet<String>,
    /// Bodies of what was refused, none of which is there twice.
    pub(crate) bad: BTreeSet<String>,
}

impl Contents {
    pub(crate) fn of(database: &Path) -> Self {
        let db = Connection::open(database).unwrap();
        let intact: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(intact, "ok");
        let bodies = |table: &str| {
            let mut statement = db.prepare(&format!("SELECT body FROM {table}")).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
            let bodies: Vec<_> = rows.map(|body| String::from_utf8(body.unwrap()).unwrap()).collect();
            let set: BTreeSet<_> = bodies.iter().cloned().collect();
            assert_eq!(set.len(), bodies.len(), "some in {table} are there twice");
            set
        };
        Self { good: bodies("events"), bad: bodies("quarantine") }
    }
}

/// The bodies of what was spilled.
pub(crate) fn spilled(app: &TestApp) -> Vec<String> {
    let body = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap();
        String::from_utf8(BASE64.decode(line["body_base64"].as_str().unwrap()).unwrap()).unwrap()
    };
    app.spills.lines().iter().map(body).collect()
}

/// Brings spilled lines back.
pub(crate) async fn import(app: &TestApp, lines: &[String]) -> Value {
    let json_lines = [("Content-Type", "application/x-ndjson")];
    let response = ask(app.admin, &request("POST", "/api/v1/import", &json_lines, lines.concat().as_bytes())).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

pub(crate) async fn ready(app: &TestApp) {
    awaited("ready", async || (app.ready().await == 200).then_some(())).await;
}

/// Asks again and again until there is something, without keeping a machine busy that has many servers to run.
pub(crate) async fn awaited<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(50);
    eventually(what, async || {
        let found = probe().await;
        if found.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
        found
    })
    .await
}
