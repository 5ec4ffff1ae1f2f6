//! The admin API, from a terminal.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::service::{KEY, Service, eventually, program, run};

fn id(row: &Value, member: &str) -> String {
    row[member].as_str().unwrap().to_owned()
}

#[test]
fn events_are_listed_filtered_and_shown() {
    let service = Service::start();
    service.send_signed(&["all"]).good();
    let table = service.ask(&["events", "list"]).good();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 19);
    assert!(lines[0].starts_with("ID ") && lines[1].contains("highlight"), "{table}");
    assert_eq!(service.list(&["events", "list", "--limit", "5"]).len(), 5);
    let row = &service.list(&["events", "list", "--kind", "recording", "--since", "1h"])[0];
    assert!(service.list(&["events", "list", "--until", "1h"]).is_empty());
    let shown = service.ask(&["events", "show", &id(row, "id")]).good();
    assert!(shown.contains("specversion") && shown.contains("push.example.com"), "{shown}");
    let body = service.ask(&["events", "show", &id(row, "id"), "--body"]).good();
    assert!(body.contains(r#""sign":"#), "{body}");
    assert!(service.ask(&["events", "show", "nonsense"]).bad(1).contains("there is no event `nonsense`"));
}

#[test]
fn what_steers_terminals_is_escaped() {
    let service = Service::start();
    service.send_signed(&["stream-push", "--set", "stream_id=\"a\\u001b[2Jb\\nc\""]).good();
    let listed = service.ask(&["events", "list"]).good();
    let row = &service.list(&["events", "list"])[0];
    let shown = service.ask(&["events", "show", &id(row, "id")]).good();
    for text in [&listed, &shown] {
        assert!(!text.contains('\x1b') && text.contains("\\u{1b}[2Jb\\nc"), "{text}");
    }
    assert_eq!(listed.lines().count(), 2);
}

#[test]
fn more_than_a_page_is_listed() {
    let service = Service::start();
    service.send_signed(&["relay", "--count", "1100"]).good();
    assert_eq!(service.list(&["events", "list", "--limit", "2000"]).len(), 1100);
    assert_eq!(service.list(&["events", "list", "--limit", "1050"]).len(), 1050);
}

#[test]
fn tail_prints_each_new_event_once() {
    let service = Service::start();
    service.send_signed(&["recording", "--count", "3"]).good();
    let mut tail = program();
    tail.args(["events", "tail", "-n", "2", "--format", "json", "--admin", &service.admin]);
    let mut tail = tail.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let mut tailed: Vec<_> = (0..2).map(|_| id(&next(), "id")).collect();
    service.send_signed(&["relay", "--count", "1050"]).good();
    tailed.extend((0..1050).map(|_| id(&next(), "id")));
    service.send_signed(&["highlight"]).good();
    tailed.push(id(&next(), "id"));
    tail.kill().unwrap();
    tail.wait().unwrap();
    let mut listed: Vec<_> =
        service.list(&["events", "list", "--limit", "1053"]).iter().map(|row| id(row, "id")).collect();
    listed.reverse();
    assert_eq!(tailed, listed);
}

#[test]
fn tail_goes_on_when_the_service_is_back_and_misses_nothing() {
    let service = Service::start();
    service.send_signed(&["recording", "--count", "12"]).good();
    service.send_signed(&["relay"]).good();
    let mut tail = program();
    tail.args(["events", "tail", "--since", "1h", "--kind", "recording", "--format", "json"]);
    tail.args(["--admin", &service.admin]);
    let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut notes = BufReader::new(tail.stderr.take().unwrap()).lines();
    let mut next = || id(&serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap(), "id");
    let mut tailed: Vec<_> = (0..12).map(|_| next()).collect();
    let service = service.restarted();
    service.send_signed(&["recording", "--count", "3"]).good();
    service.send_signed(&["relay"]).good();
    tailed.extend((0..3).map(|_| next()));
    service.send_signed(&["recording"]).good();
    tailed.push(next());
    tail.kill().unwrap();
    tail.wait().unwrap();
    let listed = service.list(&["events", "list", "--kind", "recording"]);
    let listed: Vec<_> = listed.iter().rev().map(|row| id(row, "id")).collect();
    assert_eq!(tailed, listed);
    // Whether it was asked while nobody answered is up to the pace of this machine.
    if let Some(Ok(note)) = notes.next() {
        assert!(note.contains("trying again until it answers"), "{note}");
        assert_eq!(notes.next().unwrap().unwrap(), "livehook: it answers again");
    }
}

/// A handler whose program fails, so that deliveries are pending.
fn failing() -> Service {
    let handler =
        "[[handlers]]\nname = \"bad\"\ntype = \"exec\"\ncommand = [\"/bin/false\"]\nretry = { max_attempts = 1 }\n";
    Service::start_with(&format!("[signature]\nkey = \"{KEY}\"\n{handler}"))
}

#[test]
fn deliveries_are_listed_retried_and_dropped() {
    let service = failing();
    service.send_signed(&["recording", "--count", "3"]).good();
    let dead = || Some(service.list(&["deliveries", "list", "--state", "dead"])).filter(|dead| dead.len() == 3);
    let rows = eventually("three deliveries are dead", dead);
    let event = id(&rows[0], "event_id");
    assert!(service.ask(&["deliveries", "list", "--handler", "bad"]).good().contains("dead"));
    let dry = service.ask(&["deliveries", "retry", "--state", "dead", "--dry-run", "--format", "json"]).json();
    assert_eq!((&dry["matched"], &dry["changed"]), (&3.into(), &0.into()));
    assert!(service.ask(&["deliveries", "drop", &event, "bad"]).good().contains("is dropped"));
    assert!(service.ask(&["deliveries", "retry", &event, "bad"]).good().contains("is pending"));
    eventually("it is dead again", dead);
    assert!(service.ask(&["deliveries", "drop", "--all"]).good().contains("3 matched, 3 changed"));
    assert_eq!(service.list(&["deliveries", "list", "--state", "dropped"]).len(), 3);
    let unknown = service.ask(&["deliveries", "retry", &event, "nobody"]).bad(1);
    assert!(unknown.contains("there is no delivery"), "{unknown}");
}

#[test]
fn a_mistyped_name_decides_nothing_and_is_no_success() {
    let service = failing();
    service.send_signed(&["stream-push", "--count", "2"]).good();
    let all_are_there = || service.list(&["deliveries", "list"]).len() == 2;
    eventually("the deliveries", || all_are_there().then_some(()));
    let states =
        || -> Vec<_> { service.list(&["deliveries", "list"]).iter().map(|row| row["state"].clone()).collect() };
    assert!(service.ask(&["deliveries", "drop", "--handler", "rooom"]).bad(1).contains("there is no handler `rooom`"));
    for format in ["text", "json"] {
        let listed = service.ask(&["deliveries", "list", "--handler", "rooom", "--format", format]);
        assert!(listed.bad(1).contains("there is no handler `rooom`"));
    }
    assert!(service.list(&["deliveries", "list", "--handler", "bad", "--state", "dropped"]).is_empty());
    for name in ["", ".", ".."] {
        assert!(service.ask(&["deliveries", "drop", name, name]).bad(1).contains("there is nothing of the name"));
    }
    assert!(states().iter().all(|state| state != "dropped"), "{:?}", states());
}

#[test]
fn handlers_are_listed_paused_and_resumed() {
    let service = failing();
    let rows = || service.ask(&["handlers", "list", "--format", "json"]).json();
    assert_eq!((&rows()[0]["name"], &rows()[0]["type"]), (&"bad".into(), &"exec".into()));
    assert!(service.ask(&["handlers", "pause", "bad"]).good().contains("bad is paused, 0 pending"));
    service.send_signed(&["recording", "--count", "2"]).good();
    assert_eq!((&rows()[0]["pending"], &rows()[0]["dead"]), (&2.into(), &0.into()));
    let table = service.ask(&["handlers", "list"]).good();
    assert!(table.starts_with("HANDLER") && table.contains("paused"), "{table}");
    let resumed = service.ask(&["handlers", "resume", "bad", "--format", "json"]).json();
    assert_eq!(resumed["state"], "running");
    eventually("both are dead", || (rows()[0]["dead"] == 2).then_some(()));
    assert!(rows()[0]["last_error"].is_string());
    assert!(service.ask(&["handlers", "pause", "nobody"]).bad(1).contains("there is no handler `nobody`"));
}

#[test]
fn events_are_replayed_by_filter_by_id_and_to_a_handler() {
    let service = failing();
    service.send_signed(&["recording", "--count", "2"]).good();
    service.send_signed(&["relay"]).good();
    let dead = || Some(service.list(&["deliveries", "list", "--state", "dead"])).filter(|dead| dead.len() == 3);
    eventually("three deliveries are dead", dead);
    assert!(service.ask(&["replay"]).bad(2).contains("--all"), "no filter is no wish for all");
    assert!(service.ask(&["replay", "--all", "--dry-run"]).good().contains("3 matched, 0 queued"));
    service.ask(&["handlers", "pause", "bad"]).good();
    assert!(service.ask(&["replay", "--kind", "relay", "--since", "1h"]).good().contains("1 matched, 1 queued"));
    let id = id(&service.list(&["events", "list", "--kind", "recording"])[0], "id");
    let by_id = service.ask(&["replay", "--id", &id, "--handler", "bad", "--format", "json"]).json();
    assert_eq!((&by_id["state"], &by_id["queued"]), (&"done".into(), &1.into()));
    assert!(service.ask(&["replay", "--all"]).good().contains("3 matched, 1 queued"));
    assert!(service.ask(&["replay", "--all", "--handler", "nobody"]).bad(1).contains("there is no handler `nobody`"));
    service.ask(&["replay", "--id", &id, "--kind", "relay"]).bad(2);
    service.ask(&["replay", "--all", "--rate", "0"]).bad(2);
    let listed = service.ask(&["replay", "--list"]).good();
    assert!(listed.starts_with("ID") && listed.lines().count() == 4, "{listed}");
    service.ask(&["handlers", "resume", "bad"]).good();
    eventually("they are dead again", dead);
}

#[test]
fn a_replay_is_ended_by_an_interrupt_or_by_its_number() {
    let service = failing();
    service.send_signed(&["recording", "--count", "5"]).good();
    let mut slow = program();
    slow.args(["replay", "--all", "--rate", "1", "--admin", &service.admin]);
    let mut slow = slow.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let replays = || service.ask(&["replay", "--list", "--format", "json"]).json()["replays"].clone();
    eventually("it runs", || (replays()[0]["replayed"].as_u64() >= Some(1)).then_some(()));
    eventually("it heeds an interrupt", || catches_interrupts(&slow).then_some(()));
    rustix::process::kill_process(rustix::process::Pid::from_child(&slow), rustix::process::Signal::INT).unwrap();
    let mut said = String::new();
    slow.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(slow.wait().unwrap().code(), Some(1));
    assert!(said.starts_with("cancelled: 5 matched, "), "{said}");
    let begun = service.ask(&["replay", "--all", "--rate", "1", "--background"]).good();
    assert!(begun.contains("replay 2 is running, 5 matched"), "{begun}");
    assert!(service.ask(&["replay", "--cancel", "2"]).good().contains("cancelled"));
    assert!(service.ask(&["replay", "--cancel", "9"]).bad(1).contains("there is no replay `9`"));
    let states: Vec<_> = replays().as_array().unwrap().iter().map(|replay| replay["state"].clone()).collect();
    assert_eq!(states, ["cancelled", "cancelled"]);
}

/// Whether a signal would be handled that otherwise ends the program: the second bit of those it catches.
fn catches_interrupts(program: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & 2 > 0
}

#[test]
fn refused_callbacks_are_shown_and_readmitted() {
    let service = Service::start();
    service.send_signed(&["recording", "--forge", "--count", "3"]).good();
    let items = service.list(&["quarantine", "list", "--reason", "signature-mismatch"]);
    assert_eq!(items.len(), 3);
    let first = id(&items[0], "id");
    assert!(service.ask(&["quarantine", "list"]).good().contains("signature-mismatch"));
    let shown = service.ask(&["quarantine", "show", &first]).good();
    assert!(shown.contains("reason       signature-mismatch") && shown.contains("record_file_id"), "{shown}");
    let again = service.ask(&["quarantine", "readmit", &first]);
    assert!(again.out.contains("0 readmitted, 1 refused") && again.bad(1).contains("--force admits"));
    assert!(service.ask(&["quarantine", "readmit", &first, "--force"]).good().contains("1 readmitted, 0 refused"));
    let rest = ["quarantine", "readmit", "--reason", "signature-mismatch", "--force", "--format", "json"];
    assert_eq!(service.ask(&rest).json()["readmitted"], 2);
    assert!(service.list(&["quarantine", "list"]).is_empty());
    assert_eq!(service.list(&["events", "list", "--verification", "forced"]).len(), 3);
    assert!(service.ask(&["quarantine", "show", "99"]).bad(1).contains("there is no refused callback"));
}

#[test]
fn what_no_force_can_admit_is_said_so() {
    let service = Service::start();
    let file = service.path("odd");
    std::fs::write(&file, "{").unwrap();
    service.send(&["unknown", "--body", file.to_str().unwrap()]).good();
    let [force, reason] = ["--force", "--reason=malformed-json"];
    for args in [&["--all", force][..], &[reason], &[reason, force]] {
        let said = service.ask(&[&["quarantine", "readmit"], args].concat()).bad(1);
        assert!(said.contains("can never be admitted") && !said.contains("--force"), "{args:?}: {said}");
    }
    let said = service.ask(&["quarantine", "readmit", "--all"]).bad(1);
    assert!(said.contains("can never be admitted") && said.contains("--force admits"), "{said}");
}

#[test]
fn hundreds_of_refused_callbacks_are_readmitted_and_added_up() {
    let service = Service::start();
    service.send_signed(&["recording", "--forge", "--count", "250"]).good();
    let refused = service.ask(&["quarantine", "readmit", "--all"]);
    assert!(refused.out.contains("0 readmitted, 250 refused"), "{}", refused.out);
    assert!(service.ask(&["quarantine", "readmit", "--all", "--force"]).good().contains("250 readmitted, 0 refused"));
    assert!(service.list(&["quarantine", "list"]).is_empty());
}

#[test]
fn the_admin_token_is_asked_for() {
    let service = Service::start_with(&format!("admin.token = \"s3cret\"\n[signature]\nkey = \"{KEY}\"\n"));
    assert!(service.ask(&["events", "list"]).bad(1).contains("give --token"));
    assert!(service.ask(&["events", "list", "--token", "wrong"]).bad(1).contains("does not take this token"));
    service.ask(&["events", "list", "--token", "s3cret"]).good();
    let file = service.path("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    service.ask(&["events", "list", "--token-file", file.to_str().unwrap()]).good();
}

#[test]
fn health_is_asked_of_url_and_configuration() {
    let service = Service::start();
    assert_eq!(run(&["healthcheck", "--url", &service.admin]).good(), "ready\n");
    run(&["healthcheck", "--url", &format!("{}/livez", service.admin)]).good();
    assert!(run(&["healthcheck", "--url", &service.callbacks]).bad(1).contains("404"));
    let port = service.admin.rsplit_once(':').unwrap().1;
    let mut configured = program();
    configured.arg("healthcheck").env("LIVEHOOK_ADMIN__LISTEN", format!("0.0.0.0:{port}"));
    configured.env("LIVEHOOK_ADMIN__TOKEN", "any");
    assert!(configured.output().unwrap().status.success());
}

#[test]
fn an_example_of_a_url_has_the_port_that_is_meant() {
    for (command, port) in [(["send", "relay", "--to", "foo"], "8080"), (["events", "list", "--admin", "foo"], "9090")]
    {
        let err = run(&command).bad(2);
        assert!(err.contains(&format!("http://127.0.0.1:{port}")), "{err}");
    }
}

#[test]
fn an_address_that_is_not_the_admin_api_is_said_so() {
    let service = Service::start();
    let err = run(&["events", "list", "--admin", &service.callbacks]).bad(1);
    assert!(err.contains("--admin"), "{err}");
}

#[test]
fn a_program_learns_nothing_of_our_own_variables() {
    let seen = tempfile::tempdir().unwrap();
    let service = Service::start_with(&format!(
        "[[handlers]]\nname = \"env\"\ntype = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", \"env > $SEEN/part; mv $SEEN/part $SEEN/all\"]\n\
         env = {{ SEEN = \"{}\", PATH = \"/usr/bin:/bin\", LIVEHOOK_ROOM = \"7\" }}\n",
        seen.path().display()
    ));
    service.send(&["stream-push"]).good();
    let variables = eventually("the program", || std::fs::read_to_string(seen.path().join("all")).ok());
    let ours: Vec<_> = variables.lines().filter(|line| line.starts_with("LIVEHOOK_")).collect();
    assert_eq!(ours, ["LIVEHOOK_ROOM=7"], "what is configured for it, and not where we listen");
}
