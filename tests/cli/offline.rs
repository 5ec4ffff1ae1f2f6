//! Commands that need no service.

use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::service::{program, run, run_with, text};

/// MD5 of `abc1231234567890`.
const SIGN: &str = "db6025d933be0dac8829ed47217446e1";
/// Nobody listens there: the port is reserved, and a connection is refused at once.
const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn a_store_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    std::fs::write(&config, format!("store.url = \"sqlite:{}\"", dir.path().join("odd.db").display())).unwrap();
    std::fs::write(dir.path().join("odd.db"), "no database, but long enough to be taken for one. ".repeat(100))
        .unwrap();
    let said = run(&["streams", "rebuild", "--config", text(&config)]).bad(1);
    assert!(said.contains("odd.db cannot be opened"), "{said}");
}

#[test]
fn every_command_has_help() {
    for command in [
        "",
        "serve",
        "check",
        "send",
        "sign",
        "verify",
        "events",
        "events list",
        "events show",
        "events tail",
        "events export",
        "deliveries",
        "deliveries list",
        "deliveries retry",
        "deliveries drop",
        "quarantine",
        "quarantine list",
        "quarantine show",
        "quarantine readmit",
        "import",
        "healthcheck",
        "completions",
        "man",
    ] {
        let args: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let help = run(&args).good();
        assert!(help.contains("Usage:"), "{command}: {help}");
    }
    assert!(run(&["--version"]).good().starts_with("livehook "));
}

#[test]
fn wrong_usage_exits_with_2() {
    for args in [
        &["nonsense"][..],
        &["send"],
        &["send", "nonsense"],
        &["send", "recording", "--set", "x"],
        &["send", "recording", "--rate", "0"],
        &["send", "recording", "--count", "0"],
        &["send", "recording", "--to", "ftp://x"],
        &["send", "recording", "--body", "-", "--forge"],
        &["sign", "--t", "1"],
        &["sign", "--key", "k", "--t", "01"],
        &["sign", "--key", "k", "--t", "1e9"],
        &["sign", "--key", "k", "--t", "-1"],
        &["sign", "--key", "k", "--key-file", "f", "--t", "1"],
        &["verify", "--key", "k"],
        &["verify", "--key", "k", "-", "--grace", "soon"],
        &["events", "list", "--kind", "nonsense"],
        &["events", "list", "--since", "yesterday"],
        &["events", "list", "--format", "yaml"],
        &["deliveries", "retry"],
        &["deliveries", "retry", "only-an-event"],
        &["deliveries", "drop", "--dry-run"],
        &["quarantine", "readmit"],
        &["quarantine", "readmit", "1", "--all"],
        &["import", "-", "--config", "c", "--admin", "http://h"],
        &["completions", "nonsense"],
        &["--config", "c", "check"],
    ] {
        let err = run(args).bad(2);
        assert!(err.contains("error:"), "{args:?}: {err}");
    }
}

#[test]
fn signatures_are_computed() {
    assert_eq!(run(&["sign", "--key", "abc123", "--t", "1234567890"]).good(), format!("{SIGN}\n"));
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "abc123\n").unwrap();
    assert_eq!(run(&["sign", "--key-file", text(&key), "--t", "1234567890"]).good(), format!("{SIGN}\n"));
    assert!(run(&["sign", "--key-file", "/nonexistent", "--t", "1"]).bad(1).contains("/nonexistent"));
}

#[test]
fn signatures_are_explained() {
    let body = format!(r#"{{"event_type":1,"t":1234567890,"sign":"{SIGN}"}}"#);
    let verify = |args: &[&str]| run_with(&[&["verify", "--key", "abc123", "-"], args].concat(), &body);
    assert!(verify(&["--at", "2009-02-13T23:31:00Z"]).good().contains("good"));
    let late = verify(&["--at", "2009-02-14T02:31:30Z"]);
    assert!(late.code == 1 && late.out.contains("expired 3h ago"), "{late:?}");
    assert!(verify(&["--at", "2009-02-14T02:31:30Z", "--grace", "4h"]).good().contains("good"));
    let wrong = run_with(&["verify", "--key", "other", "-"], &body);
    assert!(wrong.code == 1 && wrong.out.contains("signature-mismatch"), "{wrong:?}");
    assert!(run(&["verify", "--key", "k", "/nonexistent"]).bad(1).contains("/nonexistent"));
}

#[test]
fn a_configuration_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.toml"), dir.path().join("bad.toml"));
    std::fs::write(&good, "[signature]\nkey = \"do-not-print\"\n").unwrap();
    let effective = run(&["check", "--config", text(&good)]).good();
    assert!(effective.contains("listen") && !effective.contains("do-not-print"), "{effective}");
    std::fs::write(&bad, "[server]\nlisten = 1\nlisen = 2\n[ack]\nunstored = \"perhaps\"\n").unwrap();
    let faults = run(&["check", "--config", text(&bad)]);
    assert_eq!(faults.out, "");
    let faults = faults.bad(78);
    assert!(["server.listen", "server.lisen", "ack.unstored"].iter().all(|key| faults.contains(key)), "{faults}");
    assert_eq!(run(&["--config", text(&bad)]).code, 78, "serve");
    assert_eq!(run(&["healthcheck", "--config", text(&bad)]).code, 78);
}

#[test]
fn a_service_that_is_not_there_is_named() {
    let send = run(&["send", "recording", "--to", NOBODY]).bad(1);
    assert!(send.contains("livehook serve") && send.contains("127.0.0.1:1"), "{send}");
    for args in [
        &["events", "list"][..],
        &["events", "show", "x"],
        &["events", "tail"],
        &["events", "export"],
        &["deliveries", "list"],
        &["deliveries", "retry", "--all"],
        &["quarantine", "list"],
        &["quarantine", "readmit", "--all"],
        &["import", "-"],
    ] {
        let err = run(&[args, &["--admin", NOBODY]].concat()).bad(1);
        assert!(err.contains("livehook serve") && err.contains("127.0.0.1:1"), "{args:?}: {err}");
    }
    assert!(run(&["healthcheck", "--url", NOBODY]).bad(1).contains("not ready"));
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(run(&["completions", shell]).good().contains("livehook"), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page_that_renders() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("man1");
    assert_eq!(run(&["man", text(&into)]).good(), "");
    let pages: Vec<_> = std::fs::read_dir(&into).unwrap().map(|page| page.unwrap().path()).collect();
    let names: Vec<_> = pages.iter().map(|page| page.file_name().unwrap().to_str().unwrap()).collect();
    for name in ["livehook.1", "livehook-serve.1", "livehook-events-tail.1", "livehook-quarantine-readmit.1"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("help")), "{names:?}");
    let first = std::fs::read_to_string(into.join("livehook.1")).unwrap();
    assert_eq!(run(&["man"]).good().trim_end(), first.trim_end());
    if !is_there("mandoc") {
        return;
    }
    for page in &pages {
        let rendered = Command::new("mandoc").args(["-T", "html", "-W", "error"]).arg(page).output().unwrap();
        let shown = String::from_utf8_lossy(&rendered.stdout);
        assert!(rendered.status.success() && shown.contains("SYNOPSIS"), "{}: {rendered:?}", page.display());
    }
    let blocked = dir.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    assert!(run(&["man", text(&blocked)]).bad(1).contains("file"));
}

/// Whether a program that is no part of us is installed; continuous integration must have it.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test asks where it runs, and says what it skips"
)]
fn is_there(name: &str) -> bool {
    let there = Command::new(name).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).spawn().is_ok();
    if !there {
        assert!(std::env::var_os("CI").is_none(), "{name} is not installed; .ci/run does that");
        eprintln!("SKIPPED: {name} is not installed; on Debian: apt-get install {name}");
    }
    there
}

#[test]
fn a_service_manager_hears_of_the_start_and_of_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = program();
    command.env("NOTIFY_SOCKET", dir.path().join("notify")).current_dir(dir.path()).stderr(Stdio::null());
    command.env("LIVEHOOK_ADMIN__LISTEN", "127.0.0.1:0").env("LIVEHOOK_SERVER__LISTEN", "127.0.0.1:0");
    let mut child = command.env("LIVEHOOK_SERVER__DRAIN_DELAY", "0s").spawn().unwrap();
    let hear = || {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    assert_eq!(hear(), "READY=1");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert_eq!(hear(), "STOPPING=1");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let mut child =
        program().args(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(child.wait().unwrap().success(), "{err}");
    assert_eq!(err, "");
}
