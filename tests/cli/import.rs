//! What left comes back: exports and spills.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::service::{KEY, Service, program, run, run_with, text};

fn ids(service: &Service) -> Vec<String> {
    service.list(&["events", "list", "--limit", "1000"]).iter().map(|row| row["id"].to_string()).collect()
}

/// A spilled push, signed with the key at this time of receipt.
fn spill(stream: &str, key: &str) -> String {
    let sign = run(&["sign", "--key", key, "--t", "1700000600"]).good();
    let body = json!({ "event_type": 1, "stream_id": stream, "event_time": 1_700_000_000, "t": 1_700_000_600,
        "sign": sign.trim() });
    json!({ "spill": 1, "received_at": "2023-11-14T22:13:21.000Z", "path": "/callbacks", "refusal": null,
        "body_base64": BASE64.encode(body.to_string()) })
    .to_string()
}

#[test]
fn an_export_follows_links_and_replaces_nothing_but_files() {
    let service = Service::start();
    service.send_signed(&["relay", "--count", "3"]).good();
    let exported = service.ask(&["events", "export", "--out", "-"]).good();
    assert_eq!(exported.lines().count(), 3);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let export = |name: &str| service.ask(&["events", "export", "--out", text(&at(name))]);

    std::fs::write(at("old"), "old").unwrap();
    std::os::unix::fs::symlink("old", at("link")).unwrap();
    std::os::unix::fs::symlink("new", at("link to nothing")).unwrap();
    for (link, file) in [("link", "old"), ("link to nothing", "new")] {
        export(link).good();
        assert!(at(link).is_symlink(), "{link}");
        assert_eq!(std::fs::read_to_string(at(file)).unwrap(), exported, "{file}");
        let mode = std::fs::metadata(at(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }

    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let pipe = at("pipe");
    let read = std::thread::spawn(move || std::fs::read_to_string(pipe).unwrap());
    export("pipe").good();
    assert_eq!(read.join().unwrap(), exported);
    assert!(std::fs::metadata(at("pipe")).unwrap().file_type().is_fifo());

    // Where standard output goes to a file, that file is written to and not replaced: others may hold it, too.
    let mut output = std::fs::File::create(at("output")).unwrap();
    let mut command = program();
    command.args(["events", "export", "--out", "/dev/stdout", "--admin", &service.admin]);
    assert!(command.stdout(output.try_clone().unwrap()).stderr(Stdio::null()).status().unwrap().success());
    std::io::Write::write_all(&mut output, b"more").unwrap();
    assert_eq!(std::fs::read_to_string(at("output")).unwrap(), format!("{exported}more"));

    std::fs::create_dir(at("folder")).unwrap();
    assert!(export("folder").bad(1).contains("folder is a directory"));
    assert!(export("missing/file").bad(1).contains("missing/file.part"));
    let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["folder", "link", "link to nothing", "new", "old", "output", "pipe"]);
}

#[test]
fn an_export_makes_the_same_store_elsewhere() {
    let (from, to) = (Service::start(), Service::start());
    for _ in 0..3 {
        from.send_signed(&["all"]).good();
    }
    let exported = from.ask(&["events", "export"]).good();
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 54);
    let times: Vec<_> = lines.iter().map(|line| line["receivedat"].to_string()).collect();
    assert!(times.is_sorted(), "oldest first: {times:?}");
    let file = from.path("export.jsonl");
    from.ask(&["events", "export", "--out", text(&file)]).good();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), exported);
    assert_eq!(to.ask(&["import", text(&file)]).good(), "54 imported, 0 duplicates, 0 refused\n");
    assert_eq!(ids(&from), ids(&to));
    let again = run_with(&["import", "-", "--admin", &to.admin, "--format", "json"], &exported).json();
    assert_eq!((&again["imported"], &again["duplicates"]), (&0.into(), &54.into()));
    assert_eq!(from.ask(&["events", "export", "--kind", "highlight"]).good().lines().count(), 3);
}

#[test]
fn spills_come_back_through_the_service_and_faults_are_named() {
    let service = Service::start();
    let log = r#"{"timestamp":"2023-11-14T22:13:20Z","level":"INFO","fields":{"message":"ready"}}"#;
    let lines = [&spill("a", KEY), log, "nonsense", &spill("b", "wrong"), &spill("a", KEY)].map(ToString::to_string);
    let ran = run_with(&["import", "-", "--admin", &service.admin], &lines.join("\n"));
    assert_eq!(ran.out, "1 imported, 1 duplicates, 1 refused\n", "{ran:?}");
    let err = ran.bad(1);
    assert!(err.contains("line 3: ") && err.lines().count() == 1, "{err}");
    assert_eq!(service.list(&["events", "list", "--stream", "a"]).len(), 1);
    assert!(service.ask(&["import", "/nonexistent"]).bad(1).contains("/nonexistent"));
}

#[test]
fn spills_come_back_into_the_store_of_a_stopped_service() {
    let service = Service::start();
    let (file, config) = (service.path("spills"), service.path("c.toml"));
    std::fs::write(&file, format!("{}\n{}\nnonsense\n", spill("a", KEY), spill("b", KEY))).unwrap();
    let busy = run(&["import", text(&file), "--config", text(&config)]).bad(1);
    assert!(busy.contains("in use") && busy.contains("--admin"), "{busy}");
    let dir = service.stop();
    let import = || run(&["import", text(&file), "--config", text(&config)]);
    let first = import();
    assert_eq!(first.out, "2 imported, 0 duplicates, 0 refused\n", "{first:?}");
    assert!(first.bad(1).contains("line 3: "));
    assert_eq!(import().out, "0 imported, 2 duplicates, 0 refused\n");
    std::fs::remove_dir_all(dir).unwrap();
}
