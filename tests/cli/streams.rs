//! Streams, from a terminal.

use serde_json::Value;

use crate::service::{Service, run, text};

/// Plays a push of a stream and, if it ends, its interruption.
fn play(service: &Service, stream: &str, sequence: u64, ends: bool) {
    let (stream, sequence) = (format!("stream_id={stream}"), format!("sequence=\"{sequence}\""));
    let set = ["--set", &stream, "--set", &sequence];
    service.send_signed(&[&["stream-push"][..], &set].concat()).good();
    if ends {
        let end = ["--set", "errcode=3", "--set", "push_duration=\"187000\""];
        service.send_signed(&[&["stream-interruption"][..], &set, &end].concat()).good();
    }
}

fn streams(answer: &Value) -> Vec<&str> {
    answer["streams"].as_array().unwrap().iter().map(|row| row["stream"].as_str().unwrap()).collect()
}

#[test]
fn streams_are_listed_shown_and_made_anew() {
    let service = Service::start();
    play(&service, "room-a", 7, true);
    play(&service, "room-b", 8, false);
    let table = service.ask(&["streams", "list"]).good();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("STREAM") && lines.len() == 3, "{table}");
    assert!(lines[1].contains("ended") && lines[1].contains("client (3)") && lines[1].contains("3m07s"), "{table}");
    assert!(lines[2].contains("room-b") && lines[2].contains("live"), "{table}");
    let list = |args: &[&str]| service.ask(&[&["streams", "list", "--format", "json"], args].concat()).json();
    assert_eq!(streams(&list(&["--state", "live"])), ["room-b"]);
    assert_eq!(streams(&list(&["--app", "nothing"])), [""; 0]);
    let before = list(&["--limit", "1"]);
    assert_eq!(streams(&before), ["room-a"]);
    assert!(before["next"].is_string());
    let row = &before["streams"][0];
    let [domain, app] = ["domain", "app"].map(|member| row[member].as_str().unwrap().to_owned());
    let shown = service.ask(&["streams", "show", &domain, &app, "room-a"]).good();
    assert!(shown.contains("the client closed the connection") && shown.contains("SEQUENCE"), "{shown}");
    let shown = service.ask(&["streams", "show", &domain, &app, "room-b", "--format", "json"]).json();
    assert_eq!((&shown["state"], shown["timeline"].as_array().unwrap().len()), (&"live".into(), 1));
    assert!(service.ask(&["streams", "show", &domain, "", "room-a"]).bad(1).contains("no push of a stream"));
    assert!(service.ask(&["streams", "list", "--state", "lost"]).bad(2).contains("live"));
    let anew = service.ask(&["streams", "rebuild"]).good();
    assert_eq!(anew, "streams made anew from 3 events\n");
    assert_eq!(list(&["--limit", "1"]), before);
}

#[test]
fn a_stream_is_shown_by_its_very_name() {
    let service = Service::start();
    for name in ["ab", r"a\tb", r"a\nb", "a/b", "a%09b"] {
        service.send_signed(&["stream-push", "--set", &format!("stream_id=\"{name}\"")]).good();
    }
    for name in ["ab", "a\tb", "a\nb", "a/b", "a%09b"] {
        let shown = ["streams", "show", "push.example.com", "live", name, "--format", "json"];
        assert_eq!(service.ask(&shown).json()["stream"], name);
    }
}

#[test]
fn streams_are_made_anew_while_the_service_is_stopped() {
    let service = Service::start();
    play(&service, "room-a", 7, true);
    let config = service.path("c.toml");
    let busy = run(&["streams", "rebuild", "--config", text(&config)]).bad(1);
    assert!(busy.contains("is in use"), "{busy}");
    let directory = service.stop();
    let config = directory.join("c.toml");
    let anew = run(&["streams", "rebuild", "--config", text(&config), "--format", "json"]).json();
    assert_eq!(anew["events"], 2);
    assert!(run(&["streams", "rebuild", "--config", "nowhere.toml"]).bad(78).contains("nowhere.toml"));
    std::fs::remove_dir_all(directory).unwrap();
}
