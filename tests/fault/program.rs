//! The real program on a real file system that is full for a while.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use serde_json::Value;

use crate::app::{assert_answered, eventually, push};
use crate::http::{Response, ask, request};

/// Bytes of the file system, as `mount` takes them.
const SIZE: &str = "size=4m";
/// Said once it is mounted, so that what ends after it is no want of privileges.
const MOUNTED: &str = "mounted";
/// Callbacks that may wait for the store.
const QUEUE: &str = "4";

/// The program, over a file system that nobody else sees; killed when dropped.
struct Program {
    child: Child,
    callbacks: SocketAddr,
    admin: SocketAddr,
    /// Everything it has written to standard error.
    lines: Arc<Mutex<Vec<String>>>,
    /// The file system, seen from outside.
    disk: PathBuf,
}

impl Program {
    /// None where no file system can be mounted without a privilege.
    fn start(mount: &Path) -> Option<Self> {
        let script = format!("mount -t tmpfs -o {SIZE} livehook \"$0\" && echo {MOUNTED} >&2 && exec \"$@\"");
        let mut child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .arg(mount)
            .args([env!("CARGO_BIN_EXE_livehook"), "serve"])
            .env("LIVEHOOK_SERVER__LISTEN", "127.0.0.1:0")
            .env("LIVEHOOK_ADMIN__LISTEN", "127.0.0.1:0")
            .env("LIVEHOOK_STORE__URL", format!("sqlite:{}", mount.join("livehook.db").display()))
            .env("LIVEHOOK_STORE__QUEUE_COUNT", QUEUE)
            .env("LIVEHOOK_ACK__DEADLINE", "1s")
            .env("LIVEHOOK_LOG__FORMAT", "json")
            .env_remove("LIVEHOOK_CONFIG")
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        if !lines.by_ref().any(|line| line.unwrap() == MOUNTED) {
            child.wait().unwrap();
            return None;
        }
        let ready = loop {
            let line = lines.next().expect("it ended before it was ready").unwrap();
            let Ok(line) = serde_json::from_str::<Value>(&line) else { panic!("{line}") };
            if line.to_string().contains("\"ready\"") {
                break line;
            }
        };
        let address = |name: &str| {
            let found = [&ready[name], &ready["fields"][name]].into_iter().find_map(Value::as_str);
            found.unwrap_or_else(|| panic!("{ready}")).parse().unwrap()
        };
        let all = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&all);
        std::thread::spawn(move || lines.for_each(|line| kept.lock().unwrap().push(line.unwrap())));
        let disk = PathBuf::from(format!("/proc/{}/root", child.id())).join(mount.strip_prefix("/").unwrap());
        Some(Self { callbacks: address("callbacks"), admin: address("admin"), child, lines: all, disk })
    }

    async fn get(&self, target: &str) -> Response {
        ask(self.admin, &request("GET", target, &[], b"")).await
    }

    async fn sequences(&self) -> Vec<String> {
        let page = self.get("/api/v1/events?limit=1000").await.json();
        assert_eq!(page["next"], Value::Null);
        let sequence = |event: &Value| event["sequence"].as_str().unwrap().to_owned();
        let mut sequences: Vec<_> = page["events"].as_array().unwrap().iter().map(sequence).collect();
        sequences.sort_unstable();
        sequences
    }

    fn spills(&self) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.starts_with("{\"spill\":1")).count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_full_disk_spills_to_standard_error_and_import_brings_it_all_back() {
    let directory = tempfile::tempdir().unwrap();
    let Some(program) = Program::start(directory.path()) else {
        assert!(option_env!("CI").is_none(), "CI must be able to mount a file system in a namespace of its own");
        println!("SKIPPED: a file system cannot be mounted here in a namespace of its own");
        return;
    };
    let mut offered = Vec::new();
    let mut send = async |count: u64| {
        let numbers = offered.len() as u64..offered.len() as u64 + count;
        let bodies: Vec<_> = numbers
            .map(|number| {
                let mut body = push("room", number);
                body["padding"] = "x".repeat(10_000).into();
                body
            })
            .collect();
        offered.extend(bodies.iter().map(|body| body["sequence"].as_str().unwrap().to_owned()));
        let requests = bodies.iter().map(|body| request("POST", "/callbacks", &[], body.to_string().as_bytes()));
        let requests: Vec<_> = requests.collect();
        for response in join_all(requests.iter().map(|bytes| ask(program.callbacks, bytes))).await {
            assert_answered(&response);
        }
    };
    send(5).await;
    let filler = program.disk.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let full = (0..).find_map(|_| file.write_all(&[0; 4096]).err()).unwrap();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    eventually("a full queue", async || {
        send(10).await;
        (program.spills() > 20).then_some(())
    })
    .await;
    assert_eq!(program.get("/readyz").await.status, 503);

    drop(file);
    std::fs::remove_file(&filler).unwrap();
    eventually("ready", async || (program.get("/readyz").await.status == 200).then_some(())).await;
    let spills = program.spills();
    send(1).await;
    assert_eq!(program.spills(), spills, "nothing is spilled any more");
    assert!(program.sequences().await.len() < offered.len(), "some are in the spills alone");

    let log = directory.path().join("stderr.log");
    std::fs::write(&log, program.lines.lock().unwrap().join("\n")).unwrap();
    let import = Command::new(env!("CARGO_BIN_EXE_livehook"))
        .args(["import", "--format", "json", "--admin", &format!("http://{}", program.admin)])
        .arg(&log)
        .output()
        .unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    let outcome: Value = serde_json::from_slice(&import.stdout).unwrap();
    let count = |name: &str| outcome[name].as_u64().unwrap();
    assert!(count("imported") > 0, "{outcome}");
    assert_eq!(count("imported") + count("duplicates"), spills as u64, "{outcome}");
    offered.sort_unstable();
    assert_eq!(program.sequences().await, offered);
}
