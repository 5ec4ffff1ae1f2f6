//! `livehook check --event`: filters tried without a service.

use serde_json::{Value, json};

use crate::service::{run, run_with};

const CONFIG: &str = r#"
[[handlers]]
name = "all"
type = "log"
[[handlers]]
name = "recordings"
type = "log"
kinds = ["recording"]
[[handlers]]
name = "elsewhere"
type = "log"
domains = ["*.elsewhere.example"]
[[handlers]]
name = "rooms"
type = "log"
streams = ["room-*"]
[[handlers]]
name = "blocked"
type = "log"
when = 'event.kind == "image-audit" && data.suggestion == "Block"'
[[handlers]]
name = "passed"
type = "log"
when = 'data.suggestion == "Pass"'
"#;
const AUDIT: &str = r#"{"event_type":317,"app":"push.example.com","appname":"live","streamId":"room-7",
    "suggestion":"Block","t":1,"sign":"ab"}"#;
const PUSH: &str = r#"{"event_type":1,"app":"push.example.com","appname":"live","stream_id":"hall"}"#;

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.file("livehook.toml", CONFIG);
        bench
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn config(&self) -> String {
        self.0.path().join("livehook.toml").to_str().unwrap().to_owned()
    }
}

fn args<'a>(config: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    ["check", "--config", config].iter().chain(more).copied().collect()
}

fn delivered(judged: &Value) -> Vec<&str> {
    let handlers = judged["handlers"].as_array().unwrap().iter();
    handlers.filter(|row| row["delivered"] == true).map(|row| row["handler"].as_str().unwrap()).collect()
}

#[test]
fn each_handler_says_whether_it_would_get_the_event_and_why_not() {
    let bench = Bench::new();
    let (config, audit) = (bench.config(), bench.file("audit.json", AUDIT));
    let text = run(&args(&config, &["--event", &audit])).good();
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "image-audit push.example.com/live/room-7",
            "HANDLER GETS IT WHY",
            "all yes",
            "recordings no `kinds` does not let it through",
            "elsewhere no `domains` does not let it through",
            "rooms yes",
            "blocked yes",
            "passed no `when` does not let it through",
        ]
    );
}

#[test]
fn an_expression_that_fails_delivers_says_why_and_exits_with_1() {
    let bench = Bench::new();
    let (config, push) = (bench.config(), bench.file("push.json", PUSH));
    let ran = run(&args(&config, &["--event", &push, "--format", "json"]));
    assert_eq!(ran.code, 1, "{}", ran.err);
    let judged: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(delivered(&judged), ["all", "passed"]);
    let failed = &judged["handlers"][5];
    assert_eq!((&failed["failed"], &failed["filter"]), (&json!(true), &json!("when")));
    assert!(failed["reason"].as_str().unwrap().contains("no such member: suggestion"), "{failed}");
    assert_eq!(
        judged["handlers"][3],
        json!({
            "handler": "rooms", "delivered": false, "filter": "streams", "failed": false,
            "reason": "`streams` does not let it through",
        })
    );
}

#[test]
fn exported_events_and_cloud_events_are_read_too_one_after_the_other() {
    let bench = Bench::new();
    let config = bench.config();
    let cloudevent = json!({
        "specversion": "1.0", "id": "0198c700-0000-7000-8000-000000000001", "receivedat": "2023-12-21T03:12:37.104Z",
        "verification": "forced", "data": serde_json::from_str::<Value>(AUDIT).unwrap(),
    });
    let mut exported = cloudevent.clone();
    exported["rawbody_base64"] = base64(AUDIT).into();
    exported["data"] = json!({});
    let lines = format!("{cloudevent}\n{exported}\n{AUDIT}\n");
    let ran = run_with(&args(&config, &["--event", "-", "--format", "json"]), &lines);
    let judged: Vec<Value> = ran.good().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(judged.len(), 3);
    for one in &judged {
        assert_eq!(delivered(one), ["all", "rooms", "blocked"]);
    }
    assert_eq!(judged[0]["id"], "0198c700-0000-7000-8000-000000000001");
    assert_eq!(judged[1]["id"], judged[0]["id"]);
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn what_is_no_event_is_said() {
    let bench = Bench::new();
    let config = bench.config();
    for (text, expected) in [
        ("", "there is no event in it"),
        ("{\"event_type\":1}\n{", "event 2: it is no JSON"),
        ("{\"app\":\"a\"}", "event 1: it would be refused as no-event-type"),
        ("[1]", "event 1: it would be refused as malformed-json"),
        ("{\"specversion\":\"1.0\"}", "the CloudEvent has no `data`"),
    ] {
        let err = run_with(&args(&config, &["--event", "-"]), text).bad(1);
        assert!(err.contains(expected), "{text}: {err}");
    }
    run(&args(&config, &["--event", "/nowhere/at/all"])).bad(1);
    run(&args(&config, &["--format", "json"])).bad(2);
}

#[test]
fn a_faulty_expression_exits_with_78_and_tells_where() {
    let bench = Bench::new();
    let config = bench.file("faulty.toml", "[[handlers]]\nname = \"x\"\ntype = \"log\"\nwhen = 'event.knd == 1'\n");
    let err = run(&args(&config, &["--event", "-"])).bad(78);
    assert!(err.contains("handlers[0].when"), "{err}");
    assert!(err.contains("line 4") && err.contains("at 1:7: `event` has no member `knd`"), "{err}");
}
