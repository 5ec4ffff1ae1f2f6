//! The document of the admin API: it is one, and the service does what it says.

use std::process::{Command, Output};

use livehook::secret::Secret;
use serde_json::json;

use crate::app::{Setup, push};
use crate::http::{ask, request};
use crate::recorder::{Act, Recorder};

/// Calls the schema-driven tool makes of each operation and phase.
const EXAMPLES: &str = "15";

/// Runs a tool; none where it is not installed, which is a failure where `CI` is set.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test asks where it runs, and says what it skips"
)]
async fn tool(program: &str, version: &str, args: Vec<String>) -> Option<Output> {
    let name = program.to_owned();
    // Tools leave things where they run.
    let directory = tempfile::tempdir().unwrap();
    let run = move || Command::new(name).args(args).current_dir(directory.path()).output();
    let ran = tokio::task::spawn_blocking(run).await.unwrap().ok();
    if ran.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{program} is not installed; .ci/run does that");
        eprintln!("SKIPPED: {program} is not installed; `pip install {program}=={version}` gives it");
    }
    ran
}

#[track_caller]
fn assert_good(output: &Output) {
    let text = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

#[tokio::test]
async fn the_document_is_open_and_a_validator_takes_it() {
    let token = |config: &mut livehook::Config| config.admin.token = Some(Secret::new("s3cret"));
    let app = Setup::new().configured(token).start().await;
    let response = app.get("/openapi.json").await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    let document = response.json();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(document["paths"]["/api/v1/replay"]["post"]["requestBody"].is_object(), "{document}");
    assert_eq!(document["paths"]["/livez"]["get"]["security"], json!([{}]));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("openapi.json");
    std::fs::write(&file, response.text()).unwrap();
    if let Some(output) = tool("openapi-spec-validator", "0.9.0", vec![file.display().to_string()]).await {
        assert_good(&output);
    }
    app.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_answers_as_its_document_says() {
    let (good, bad) = (Recorder::new(), Recorder::with(|_, _| Act::Permanent));
    let app = Setup::new().handler("good", &good).handler("bad", &bad).start().await;
    for number in 0..20 {
        app.accept_signed(&push(&format!("room-{}", number % 3), number)).await;
        app.accept(format!("nonsense {number}")).await;
    }
    app.await_deliveries("done", 20).await;
    app.await_deliveries("dead", 20).await;
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                  response_schema_conformance,unsupported_method,allow_header_conformance";
    let args =
        ["run", "--checks", checks, "--max-examples", EXAMPLES, "--seed", "1", "--phases", "examples,coverage,fuzzing"];
    let mut args: Vec<_> = args.map(str::to_owned).into();
    args.extend(["--no-color", "--max-failures", "20"].map(str::to_owned));
    args.push(format!("http://{}/openapi.json", app.admin));
    if let Some(output) = tool("schemathesis", "4.32.5", args).await {
        assert_good(&output);
        assert_eq!(app.ready().await, 200);
    }
    app.leave().await;
}

#[tokio::test]
async fn whatever_is_wrong_is_a_problem_document() {
    let app = Setup::new().start().await;
    let json = [("Content-Type", "application/json")];
    let large = "x".repeat(100_000);
    for (method, target, headers, body, status) in [
        ("GET", "/api/v1/events/%FF", &json[..0], "", 400),
        ("POST", "/api/v1/deliveries/%FF/rooms/retry", &json, "{}", 400),
        ("GET", "/api/v1/quarantine/%C3%28/body", &json[..0], "", 400),
        ("POST", "/api/v1/handlers/%80/pause", &json, "{}", 400),
        ("GET", "/api/v1/replay/%80", &json[..0], "", 400),
        ("GET", "/api/v1/events?kind=%FF", &json[..0], "", 400),
        ("GET", "/nothing", &json[..0], "", 404),
        ("GET", "/api/v1/nothing", &json[..0], "", 404),
        ("DELETE", "/api/v1/events", &json, "", 405),
        ("POST", "/livez", &json, "", 405),
        ("POST", "/openapi.json", &json, "", 405),
        ("POST", "/api/v1/replay", &json[..0], "{}", 415),
        ("POST", "/api/v1/replay", &json, &large, 413),
        ("POST", "/api/v1/replay", &json, "[]", 400),
    ] {
        let response = ask(app.admin, &request(method, target, headers, body.as_bytes())).await;
        assert_eq!(response.status, status, "{method} {target}: {}", response.text());
        assert_eq!(response.header("content-type"), Some("application/problem+json"), "{method} {target}");
        assert_eq!(response.json()["status"], status);
        assert_eq!(response.header("allow").is_some(), status == 405, "{method} {target}");
    }
    app.finish().await;
}
