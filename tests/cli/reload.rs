//! The program is given another configuration, by a signal or by the file itself, while callbacks come in.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::service::{KEY, Service, eventually, program, text};

/// Callbacks a load sends, and how many a second: some seconds, in which everything happens.
const COUNT: &str = "900";
const RATE: &str = "150";

/// The state of the configuration, as the admin API has it.
fn state(service: &Service, token: &str) -> Option<Value> {
    let address = service.admin.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let authorization = format!("Authorization: Bearer {token}");
    write!(stream, "GET /api/v1/config HTTP/1.1\r\nHost: {address}\r\n{authorization}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    head.starts_with("HTTP/1.1 200").then(|| serde_json::from_str(body).unwrap())
}

/// Does something, and waits until the configuration has been read again. Returns the state then.
fn after(service: &Service, what: impl FnOnce()) -> Value {
    let attempt = |state: Value| state["last_attempt_at"].clone();
    let before = state(service, "").map(attempt);
    // The moments differ by a millisecond at least.
    std::thread::sleep(Duration::from_millis(5));
    what();
    eventually("read again", || state(service, "").filter(|now| before.as_ref() != Some(&now["last_attempt_at"])))
}

fn rewrite(service: &Service, config: &str) {
    std::fs::write(service.path("c.toml"), Service::text(service.dir(), config)).unwrap();
}

/// Puts another configuration into the file and hangs up.
fn reload(service: &Service, config: &str) -> Value {
    let now = after(service, || {
        rewrite(service, config);
        service.hang_up();
    });
    assert_eq!(now["successful"], true, "{now}");
    now
}

/// Keeps `send` busy; the answer says whether every callback was answered 200.
struct Load(std::process::Child);

impl Load {
    fn begin(service: &Service, stream: &str, key: &str) -> Self {
        let stream = format!("stream_id={stream}");
        let args = ["send", "stream-push", "--count", COUNT, "--rate", RATE, "--set", &stream, "--key", key];
        let mut command = program();
        command.args(args).args(["--to", &service.callbacks]).stdout(std::process::Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn is_under_way(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    #[track_caller]
    fn end(mut self) {
        assert!(self.0.wait().unwrap().success(), "a callback was refused");
    }
}

fn signed_with(keys: &[(&str, &str)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(name, key)| format!("{{ name = \"{name}\", key = \"{key}\" }}")).collect();
    format!("signature.keys = [{}]\n", keys.join(", "))
}

fn file_handler(name: &str, path: &Path) -> String {
    format!("[[handlers]]\nname = \"{name}\"\ntype = \"file\"\npath = \"{}\"\n", text(path))
}

/// The ids of each stream in the order of the file.
fn by_stream(path: &Path) -> HashMap<String, Vec<String>> {
    let mut streams: HashMap<String, Vec<String>> = HashMap::new();
    for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let [stream, id] = ["subject", "id"].map(|member| event[member].as_str().unwrap().to_owned());
        streams.entry(stream).or_default().push(id);
    }
    streams
}

/// The ids of each stream in the order of storing.
fn as_stored(service: &Service) -> HashMap<String, Vec<String>> {
    let mut streams: HashMap<String, Vec<String>> = HashMap::new();
    for event in service.list(&["events", "list", "--limit", "10000"]).into_iter().rev() {
        let [stream, id] = ["stream", "id"].map(|member| event[member].as_str().unwrap().to_owned());
        streams.entry(stream).or_default().push(id);
    }
    streams
}

fn nothing_pending(service: &Service) {
    eventually("nothing pending", || {
        service.list(&["deliveries", "list", "--state", "pending"]).is_empty().then_some(())
    });
}

#[test]
fn under_load_keys_and_handlers_change_without_a_loss() {
    let (old, both, new) = (
        signed_with(&[("old", KEY)]),
        signed_with(&[("old", KEY), ("new", "second2")]),
        signed_with(&[("new", "second2")]),
    );
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let first = file_handler("archive", &path("first"));
    let service = Service::start_with(&format!("{old}{first}"));
    let mut loads = vec![Load::begin(&service, "a", KEY)];
    std::thread::sleep(Duration::from_millis(300));
    reload(&service, &format!("{both}{first}"));
    loads.push(Load::begin(&service, "b", "second2"));
    let added = file_handler("added", &path("added"));
    reload(&service, &format!("{both}{first}{added}"));
    std::thread::sleep(Duration::from_millis(300));
    let second = file_handler("archive", &path("second"));
    reload(&service, &format!("{both}{second}{added}"));
    std::thread::sleep(Duration::from_millis(300));
    let faulty = after(&service, || {
        rewrite(&service, &format!("server.body_limit = \"0KiB\"\n{new}{second}"));
        service.hang_up();
    });
    assert_eq!(faulty["successful"], false, "{faulty}");
    reload(&service, &format!("{both}{second}"));
    assert!(loads.iter_mut().all(Load::is_under_way), "the machine was too slow: nothing was shown");
    loads.into_iter().for_each(Load::end);
    nothing_pending_but_of(&service, "added");

    assert!(service.list(&["quarantine", "list"]).is_empty());
    let (mut first, second) = (by_stream(&path("first")), by_stream(&path("second")));
    for (stream, ids) in second {
        first.entry(stream).or_default().extend(ids);
    }
    let count: usize = COUNT.parse().unwrap();
    let stored = as_stored(&service);
    for stream in ["a", "b"] {
        let ids = &first[stream];
        assert_eq!(ids.len(), count, "each event of {stream} arrived once");
        assert_eq!(*ids, stored[stream], "{stream} is in the order of storing across the change");
    }
    // What the removed handler is owed waits for it.
    let owed = service.list(&["deliveries", "list", "--handler", "added", "--limit", "10000"]).len();
    let now = reload(&service, &format!("{new}{}", file_handler("added", &path("added"))));
    assert_eq!(now["needs_restart"], serde_json::json!([]));
    nothing_pending(&service);
    let arrived = by_stream(&path("added"));
    assert_eq!(arrived.values().map(Vec::len).sum::<usize>(), owed);
    assert!(owed > 0);
    for (stream, ids) in arrived {
        let mut in_order = stored[&stream].clone();
        in_order.retain(|id| ids.contains(id));
        assert_eq!(ids, in_order);
    }
    service.send(&["stream-push", "--key", KEY]).good();
    assert_eq!(service.list(&["quarantine", "list"]).len(), 1, "the old key is none any more");
}

/// What a handler that has left is owed stays pending.
fn nothing_pending_but_of(service: &Service, gone: &str) {
    eventually("nothing pending", || {
        let pending = service.list(&["deliveries", "list", "--state", "pending", "--limit", "10000"]);
        pending.iter().all(|delivery| delivery["handler"] == gone).then_some(())
    });
}

#[test]
fn a_faulty_file_stays_out_and_every_fault_is_in_the_log() {
    let service = Service::start();
    let now = after(&service, || {
        rewrite(
            &service,
            "server.body_limt = 1\nserver.read_timeout = \"soon\"\nsignature.key = { env = \"NO_SUCH\" }\n",
        );
        service.hang_up();
    });
    let faults: Vec<_> = now["faults"].as_array().unwrap().iter().map(|fault| fault.as_str().unwrap()).collect();
    assert_eq!(faults.len(), 3, "{faults:?}");
    for fault in ["body_limt", "read_timeout", "NO_SUCH"] {
        assert!(faults.iter().any(|text| text.contains(fault)), "{fault}: {faults:?}");
        eventually(fault, || service.log().concat().contains(fault).then_some(()));
    }
    service.send_signed(&["stream-push"]).good();
    assert!(service.list(&["quarantine", "list"]).is_empty(), "the key is the one it began with");
}

#[test]
fn a_file_that_was_emptied_takes_nothing_away() {
    let service = Service::start();
    for left in ["", " \n\n", "# livehook\n"] {
        let now = after(&service, || {
            std::fs::write(service.path("c.toml"), left).unwrap();
            service.hang_up();
        });
        assert_eq!(now["successful"], false, "{left:?}: {now}");
        let fault = now["faults"][0].as_str().unwrap();
        assert!(fault.contains("c.toml: sets no key any more"), "{fault}");
    }
    eventually("said", || service.log().concat().contains("sets no key any more").then_some(()));
    service.send(&["stream-push", "--key", "another1"]).good();
    assert_eq!(service.list(&["quarantine", "list"]).len(), 1, "the key is asked for as before");
    reload(&service, &format!("signature.key = \"{KEY}\"\n"));
}

#[test]
fn a_reload_that_takes_key_token_or_work_away_says_which() {
    let rooms = "[[handlers]]\nname = \"rooms\"\ntype = \"exec\"\ncommand = [\"/bin/false\"]\n";
    let service = Service::start_with(&format!("signature.key = \"{KEY}\"\nadmin.token = \"sesame\"\n{rooms}"));
    service.send_signed(&["stream-push"]).good();
    rewrite(&service, "");
    service.hang_up();
    let warned = |word: &str| {
        eventually(word, || service.log().into_iter().find(|line| line.contains(word) && line.contains("WARN")))
    };
    warned("no callback key");
    warned("no admin token");
    let left: Value = serde_json::from_str(&warned("has left the configuration")).unwrap();
    assert_eq!((&left["handler"], &left["pending"], &left["dead"]), (&"rooms".into(), &1.into(), &0.into()), "{left}");
}

#[test]
fn the_environment_wins_over_a_file_that_was_read_again() {
    let service = Service::start();
    // Its address comes from the environment.
    let now = reload(&service, &format!("admin.listen = \"127.0.0.1:1\"\nsignature.key = \"{KEY}\"\n"));
    assert_eq!(now["needs_restart"], serde_json::json!([]));
    let now =
        reload(&service, &format!("server.idle_timeout = \"9s\"\nlog.level = \"debug\"\nsignature.key = \"{KEY}\"\n"));
    assert_eq!(now["needs_restart"], serde_json::json!([]));
    service.send_signed(&["stream-push"]).good();
    eventually("a line of the new level", || {
        service.log().iter().any(|line| line.contains("event stored")).then_some(())
    });
}

#[test]
fn another_token_is_asked_for_at_once() {
    let service = Service::start();
    rewrite(&service, &format!("signature.key = \"{KEY}\"\nadmin.token = \"sesame\"\n"));
    service.hang_up();
    eventually("the token counts", || state(&service, "").is_none().then_some(()));
    assert_eq!(state(&service, "sesame").unwrap()["successful"], true);
}

/// As Kubernetes lays out a volume: names that point through `..data` at a directory for each version.
struct Volume(PathBuf);

impl Volume {
    fn publish(&self, version: &str, files: &[(&str, &str)]) {
        std::fs::create_dir_all(self.0.join(version)).unwrap();
        for (name, content) in files {
            std::fs::write(self.0.join(version).join(name), content).unwrap();
            let _ = std::os::unix::fs::symlink(format!("..data/{name}"), self.0.join(name));
        }
        std::os::unix::fs::symlink(version, self.0.join("..data_tmp")).unwrap();
        std::fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).unwrap();
    }
}

#[test]
fn a_volume_of_kubernetes_that_is_swapped_is_read_without_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, secrets) = (Volume(dir.path().join("settings")), Volume(dir.path().join("secrets")));
    let config = |limit: &str| {
        let key = secrets.0.join("css-key");
        Service::text(
            dir.path(),
            &format!("server.body_limit = \"{limit}\"\nsignature.key = {{ file = \"{}\" }}\n", text(&key)),
        )
    };
    secrets.publish("..2026_1", &[("css-key", KEY)]);
    settings.publish("..2026_1", &[("livehook.toml", &config("1MiB"))]);
    let settings_path = settings.0.clone();
    let secrets_path = secrets.0.clone();
    let (limited, secrets) = (config("100B"), Volume(secrets_path));
    let service = Service::start_in(dir, "settings/livehook.toml", "127.0.0.1:0");
    service.send_signed(&["stream-push"]).good();

    let now = after(&service, || secrets.publish("..2026_2", &[("css-key", "second2")]));
    assert_eq!(now["successful"], true, "{now}");
    service.send(&["stream-push", "--key", "second2"]).good();
    assert!(service.list(&["quarantine", "list"]).is_empty(), "the new key counts");

    let now = after(&service, || Volume(settings_path).publish("..2026_2", &[("livehook.toml", &limited)]));
    assert_eq!(now["successful"], true, "{now}");
    service.send(&["stream-push", "--key", "second2"]).good();
    assert_eq!(service.list(&["quarantine", "list"])[0]["reason"], "too-large");
}
