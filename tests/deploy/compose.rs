//! `compose.yaml`.

use serde_json::Value;

use crate::folder::{check, good, path, program, yaml};

fn service() -> Value {
    yaml("compose.yaml")[0]["services"]["livehook"].clone()
}

#[test]
fn compose_follows_its_schema() {
    let Some(mut checker) = program("check-jsonschema", "PyPI's check-jsonschema") else { return };
    good(checker.args(["--builtin-schema", "vendor.compose-spec"]).arg(path("compose.yaml")));
    // The check sees faults.
    let wrong = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(wrong.path(), "services: { livehook: { stop_grace: 30s } }\n").unwrap();
    let mut checker = program("check-jsonschema", "").unwrap();
    checker.args(["--builtin-schema", "vendor.compose-spec"]).arg(wrong.path());
    assert!(!checker.output().unwrap().status.success());
}

#[test]
fn compose_sets_variables_that_exist_and_gives_the_secrets_they_name() {
    let service = service();
    let variables = service["environment"].as_object().unwrap();
    let mut secrets: Vec<&str> = Vec::new();
    let dir = tempfile::tempdir().unwrap();
    let mut environment = Vec::new();
    for (name, value) in variables {
        let mut value = value.as_str().unwrap().to_owned();
        if let Some(secret) = value.strip_prefix("/run/secrets/").map(str::to_owned) {
            secrets
                .extend(service["secrets"].as_array().unwrap().iter().filter_map(Value::as_str).find(|s| *s == secret));
            let file = dir.path().join(secret);
            std::fs::write(&file, "secret").unwrap();
            value = file.display().to_string();
        }
        environment.push((name.as_str(), value));
    }
    assert_eq!(secrets.len(), service["secrets"].as_array().unwrap().len());
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (effective, _) = check("", "/run/secrets/", &environment);
    let ports: Vec<_> = service["ports"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let admin = effective["admin"]["listen"].as_str().unwrap().rsplit(':').next().unwrap();
    let callbacks = crate::folder::of_image("LIVEHOOK_SERVER__LISTEN");
    let callbacks = callbacks.rsplit(':').next().unwrap();
    assert_eq!(ports, [format!("127.0.0.1:{callbacks}:{callbacks}"), format!("127.0.0.1:{admin}:{admin}")]);
}

#[test]
fn compose_leaves_time_to_stop_and_rights_to_nobody() {
    let service = service();
    assert_eq!(service["stop_grace_period"], "30s");
    assert_eq!(service["read_only"], true);
    assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]));
    assert_eq!(service["logging"]["options"]["mode"], "blocking", "no spill may be dropped");
    let volumes: Vec<_> = service["volumes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let store = crate::folder::of_image("LIVEHOOK_STORE__URL");
    assert!(volumes.iter().any(|volume| store.starts_with(&format!("sqlite:{}/", volume.split(':').nth(1).unwrap()))));
}
