//! The log at its most talkative: one line for each thing, and no secret in any.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use livehook::clock::{Clock as _, SystemClock};
use serde_json::Value;

use crate::service::{KEY, Service, eventually, run};

const URL_TOKEN: &str = "url-token-5e1fae";
const ADMIN_TOKEN: &str = "admin-token-77ac02";
const HEADER: &str = "header-value-b01dface";
const WEBHOOK: &str = "webhook-secret-19d3";
const QUERY: &str = "query-of-url-60c4";
const PARAM: &str = "param-secret-8f2e";
const WRONG_SIGN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn nothing_secret_is_in_the_log_at_trace_level() {
    let (good, bad) = (sink("200 OK"), sink("503 Service Unavailable"));
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
[signature]
key = "{KEY}"
url_token = "{URL_TOKEN}"
[admin]
token = "{ADMIN_TOKEN}"
{}{}
[[handlers]]
name = "shell"
type = "exec"
command = ["sh", "-c", "cat >&2; exit 1"]
retry = {{ max_attempts = 2, min_delay = "10ms", max_delay = "10ms" }}
"#,
        http("good", &good),
        http("bad", &bad),
    );
    std::fs::write(dir.path().join("c.toml"), Service::text(dir.path(), &config)).unwrap();
    let service = Service::start_logging(dir, "c.toml", "127.0.0.1:0", "trace");
    let t = SystemClock.now().secs() + 600;
    let right = sign(t);
    let mut bodies = 0;
    for mut body in samples() {
        for (sign, token) in [(right.as_str(), URL_TOKEN), (WRONG_SIGN, URL_TOKEN), (&right, "wrong-token-aa31")] {
            body["stream_param"] = format!("txSecret={PARAM}&txTime=1").into();
            body["sign"] = sign.into();
            body["t"] = t.into();
            post(&service.callbacks, &format!("/callbacks?token={token}"), "", &body.to_string());
            bodies += 1;
        }
    }
    assert!(bodies > 3 * 40, "the samples are all there");
    post(&service.callbacks, &format!("/callbacks?token={URL_TOKEN}"), "", &format!("{{\"stream_param\":\"{PARAM}"));
    for token in [ADMIN_TOKEN, "wrong-token-aa31"] {
        post(&service.admin, "/api/v1/session", "", &format!("{{\"token\":\"{token}\"}}"));
        let authorization = format!("Authorization: Bearer {token}\r\n");
        post(&service.admin, "/api/v1/deliveries/retry", &authorization, "{\"state\":\"dead\"}");
    }
    for handler in ["good", "bad", "shell"] {
        let named = format!("\"handler\":\"{handler}\"");
        eventually(handler, || service.log().iter().any(|line| line.contains(&named)).then_some(()));
    }
    eventually("all are dead", || {
        let dead = |line: &&String| line.contains("delivery is dead");
        (service.log().iter().filter(dead).count() > 40).then_some(())
    });
    let log = [service.start.clone(), service.log()].concat();
    for told in ["event stored", "callback refused", "delivered", "attempt failed", "delivery is dead"] {
        assert!(log.iter().any(|line| line.contains(told)), "{told}");
    }
    let secrets =
        [KEY, URL_TOKEN, ADMIN_TOKEN, HEADER, WEBHOOK, QUERY, PARAM, WRONG_SIGN, &right, "wrong-token-aa31", "v1,"];
    let shown: Vec<_> = log.iter().filter(|line| secrets.iter().any(|secret| line.contains(secret))).collect();
    assert!(shown.is_empty(), "{} lines, the first: {:#?}", shown.len(), &shown[..shown.len().min(5)]);
}

#[test]
fn who_tries_tokens_leaves_a_trace_and_no_token() {
    let service = Service::start_with(&format!("[admin]\ntoken = \"{ADMIN_TOKEN}\"\n"));
    for number in 0..60 {
        let guess = format!("Authorization: Bearer guess-{number}\r\n");
        post(&service.admin, "/api/v1/deliveries/drop", &guess, "{}");
    }
    let told = eventually("the sums", || {
        let log = service.log();
        let about = |line: &&String| {
            line.contains("without the admin token were refused")
                || line.contains("without the admin token was refused")
        };
        let lines: Vec<_> = log.iter().filter(about).cloned().collect();
        let count = |line: &String| serde_json::from_str::<Value>(line).unwrap()["tries"].as_u64().unwrap_or(1);
        (lines.iter().map(count).sum::<u64>() == 60).then_some(lines)
    });
    assert!(told.len() < 60 && told.iter().all(|line| !line.contains("guess-")), "{told:#?}");
    assert!(told.iter().all(|line| line.contains("WARN")), "{told:#?}");
    assert!(told.iter().any(|line| line.contains("too-many")), "{told:#?}");
}

#[test]
fn what_a_person_decides_for_many_is_told_with_what_was_asked() {
    let service = Service::start_with("[[handlers]]\nname = \"rooms\"\ntype = \"log\"\n");
    let decide = |path: &str, body: &str| post(&service.admin, path, "", body);
    decide("/api/v1/deliveries/drop", r#"{"handler":"rooms","since":"2026-01-31T08:00:00Z","dry_run":true}"#);
    decide("/api/v1/deliveries/drop", r#"{"handler":"rooms","state":"dead","since":"2026-01-31T08:00:00Z"}"#);
    decide("/api/v1/replay", r#"{"kind":"relay","stream":"a\nb","until":"2026-01-31T08:00:00Z","handlers":["rooms"]}"#);
    let line = |message: &str| {
        let lines = eventually(message, || {
            let lines: Vec<_> = service.log().into_iter().filter(|line| line.contains(message)).collect();
            (!lines.is_empty()).then_some(lines)
        });
        assert_eq!(lines.len(), 1, "a dry run decides nothing: {lines:#?}");
        lines[0].clone()
    };
    let decided = line("deliveries decided by a person");
    for named in
        [r#""verdict":"Drop""#, r#""handler":"rooms""#, r#""state":"dead""#, r#""since":"2026-01-31T08:00:00.000Z""#]
    {
        assert!(decided.contains(named), "{named}: {decided}");
    }
    let begun = line("replay begun by a person");
    for named in [r#""kind":"relay""#, r#""stream":"a\nb""#, r#""until":"2026-01-31T08:00:00.000Z""#, "rooms"] {
        assert!(begun.contains(named), "{named}: {begun}");
    }
    assert!(!begun.contains("since") && !begun.contains("domain"), "what was not asked is not named: {begun}");
}

#[test]
fn an_expression_that_fails_is_told_in_sum_and_without_what_the_event_holds() {
    let handler = "[[handlers]]\nname = \"odd\"\ntype = \"log\"\nlevel = \"trace\"\nwhen = 'data.stream_param > 5'\n";
    let service = Service::start_with(&format!("[signature]\nkey = \"{KEY}\"\n{handler}"));
    service.send_signed(&["stream-push", "--count", "60", "--set", &format!("stream_param={PARAM}")]).good();
    let told = eventually("the sums", || {
        let log = service.log();
        let about = |line: &&String| line.contains("`when` came to no result");
        let count = |line: &String| serde_json::from_str::<Value>(line).unwrap()["events"].as_u64().unwrap_or(1);
        let lines: Vec<_> = log.iter().filter(about).cloned().collect();
        (lines.iter().map(count).sum::<u64>() == 60).then_some(lines)
    });
    assert!(told.len() < 60 && told.iter().all(|line| !line.contains(PARAM)), "{told:#?}");
    assert!(told[0].contains("does not take values of these types") && told[0].contains("\"odd\""), "{}", told[0]);
}

#[test]
fn a_dead_sink_is_told_in_sum() {
    let bad = sink("503 Service Unavailable");
    let config = format!("[signature]\nkey = \"{KEY}\"\n{}", http("bad", &bad));
    let service = Service::start_with(&config);
    service.send_signed(&["stream-push", "--count", "60"]).good();
    let sums = eventually("the sums", || {
        let log = service.log();
        let sum = |message: &str, counted: &str| -> u64 {
            let lines = log.iter().filter(|line| line.contains(message));
            lines.filter_map(|line| serde_json::from_str::<Value>(line).unwrap()[counted].as_u64()).sum()
        };
        let lines = |message: &str| log.iter().filter(|line| line.contains(message)).count() as u64;
        let failed = (lines("\"attempt failed\""), sum("more attempts failed", "attempts"));
        let dead = (lines("\"delivery is dead\""), sum("more deliveries are dead", "deliveries"));
        (failed.0 + failed.1 == 60 && dead.0 + dead.1 == 60).then_some((failed, dead))
    });
    assert!(sums.0.0 < 60 && sums.1.0 < 60, "{sums:?}");
}

/// An `http` handler that posts bodies as they are, twice at most.
fn http(name: &str, address: &str) -> String {
    format!(
        r#"
[[handlers]]
name = "{name}"
type = "http"
format = "raw"
order = "none"
url = "http://{address}/?key={QUERY}"
secret = "{WEBHOOK}"
headers = {{ X-Key = "Bearer {HEADER}" }}
retry = {{ max_attempts = 2, min_delay = "10ms", max_delay = "10ms" }}
"#
    )
}

/// A server that answers each request with this status and all that was asked. Its threads end with the process.
fn sink(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || repeat(stream, status));
        }
    });
    address
}

fn repeat(mut stream: TcpStream, status: &str) {
    let mut asked = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        asked.extend_from_slice(&bytes[..count]);
        let text = String::from_utf8_lossy(&asked).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() >= length.unwrap_or(0) {
            // The end of a body is where `sign` and `stream_param` were put, and a reason shows the beginning.
            let said: String = body.chars().rev().take(170).collect::<Vec<_>>().into_iter().rev().collect();
            let length = said.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{said}");
            let _ = stream.write_all(answer.as_bytes());
            return;
        }
    }
}

fn samples() -> Vec<Value> {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples")).unwrap();
    let paths = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    paths.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
}

/// The right signature for `t`, as the program computes it.
fn sign(t: i64) -> String {
    let said = run(&["sign", "--key", KEY, "--t", &t.to_string()]).good();
    said.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 32).unwrap().to_owned()
}

/// Sends a request and waits for its answer, whatever that is.
fn post(base: &str, path: &str, headers: &str, body: &str) {
    let address = base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n{headers}");
    write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
}
