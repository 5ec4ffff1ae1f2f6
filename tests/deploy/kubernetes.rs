//! The manifests for Kubernetes.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::folder::{check, good, of_image, path, program, yaml};

/// The files that `kubectl apply` takes of the folder.
fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path("kubernetes")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect()
}

fn manifests() -> Vec<Value> {
    let name = |file: &PathBuf| format!("kubernetes/{}", file.file_name().unwrap().to_str().unwrap());
    files().iter().flat_map(|file| yaml(&name(file))).collect()
}

#[track_caller]
fn manifest(kind: &str, name: &str) -> Value {
    let found = manifests().into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

fn pod() -> Value {
    manifest("StatefulSet", "livehook")["spec"]["template"]["spec"].clone()
}

fn container() -> Value {
    pod()["containers"][0].clone()
}

#[test]
fn manifests_follow_the_schemas_of_kubernetes() {
    let Some(mut validator) = program("kubernetes-validate", "PyPI's kubernetes-validate") else { return };
    good(validator.arg("--strict").args(files()).arg(path("kubernetes/secret.example.yaml.txt")));
    // The check sees faults.
    let wrong = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(wrong.path(), "apiVersion: v1\nkind: Service\nmetadata: { name: x }\nspec: { port: 1 }\n").unwrap();
    let mut validator = program("kubernetes-validate", "").unwrap();
    assert!(!validator.arg("--strict").arg(wrong.path()).output().unwrap().status.success());
}

#[test]
fn the_config_map_is_a_configuration_whose_ports_paths_and_secrets_are_those_of_the_pod() {
    let config = manifest("ConfigMap", "livehook")["data"]["livehook.toml"].as_str().unwrap().to_owned();
    let [listen, url] = ["LIVEHOOK_SERVER__LISTEN", "LIVEHOOK_STORE__URL"].map(|name| (name, of_image(name)));
    let variables = [(listen.0, listen.1.as_str()), (url.0, url.1.as_str())];
    let (effective, secrets) = check(&config, "/run/secrets/livehook/", &variables);
    let container = container();
    let ports: Vec<_> =
        container["ports"].as_array().unwrap().iter().map(|port| port["containerPort"].to_string()).collect();
    let port = |key: &str| effective[key]["listen"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    assert_eq!(ports, [port("server"), port("admin")]);
    let mounts: Vec<_> =
        container["volumeMounts"].as_array().unwrap().iter().filter_map(|mount| mount["mountPath"].as_str()).collect();
    let file = container["env"][0]["value"].as_str().unwrap();
    for path in [url.1.strip_prefix("sqlite:").unwrap(), file, "/run/secrets/livehook/css-key"] {
        assert!(
            mounts.iter().any(|mount| path.starts_with(&format!("{mount}/"))),
            "{path} is in no volume: {mounts:?}"
        );
    }
    let example = &yaml("kubernetes/secret.example.yaml.txt")[0];
    let given: Vec<_> = example["stringData"].as_object().unwrap().keys().collect();
    for secret in &secrets {
        assert!(given.contains(&secret), "{secret} is not in the example of a Secret");
    }
    assert_eq!(given.len(), secrets.len());
}

#[test]
fn there_is_one_pod_that_may_do_nothing_and_has_time_to_stop() {
    assert_eq!(manifest("StatefulSet", "livehook")["spec"]["replicas"], 1, "one process has the store open");
    let (pod, container) = (pod(), container());
    assert_eq!(pod["terminationGracePeriodSeconds"], 30);
    assert_eq!(pod["automountServiceAccountToken"], false);
    let context = &pod["securityContext"];
    assert_eq!(
        (&context["runAsNonRoot"], &context["seccompProfile"]["type"]),
        (&json!(true), &json!("RuntimeDefault"))
    );
    let user = std::fs::read_to_string(path("../Dockerfile")).unwrap();
    assert!(user.contains(&format!("\nUSER {}:{}\n", context["runAsUser"], context["runAsGroup"])));
    let own = &container["securityContext"];
    assert_eq!(own["allowPrivilegeEscalation"], false);
    assert_eq!(own["readOnlyRootFilesystem"], true);
    assert_eq!(own["capabilities"], json!({ "drop": ["ALL"] }));
}

#[test]
fn probes_ask_what_does_not_turn_red_while_callbacks_are_taken() {
    let container = container();
    for probe in ["startupProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"], json!({ "path": "/healthz", "port": "callbacks" }), "{probe}");
    }
    assert_eq!(container["livenessProbe"]["httpGet"], json!({ "path": "/livez", "port": "admin" }));
}

#[test]
fn every_object_is_in_the_namespace_and_every_selector_finds_the_pod() {
    let labels = manifest("StatefulSet", "livehook")["spec"]["template"]["metadata"]["labels"].clone();
    let manifests = manifests();
    assert!(manifests.len() > 7, "{}", manifests.len());
    for object in manifests.iter().filter(|object| object["kind"] != "Namespace") {
        assert_eq!(object["metadata"]["namespace"], "livehook", "{}", object["kind"]);
        let spec = &object["spec"];
        let selectors = [&spec["selector"], &spec["selector"]["matchLabels"], &spec["podSelector"]["matchLabels"]];
        if object["kind"] != "ConfigMap" {
            assert!(selectors.contains(&&labels), "{}", object["kind"]);
        }
    }
    let headless = manifest("StatefulSet", "livehook")["spec"]["serviceName"].as_str().unwrap().to_owned();
    assert_eq!(manifest("Service", &headless)["spec"]["clusterIP"], "None");
    // What administers is reached by its own Service only.
    for name in ["livehook", "livehook-headless"] {
        let ports = manifest("Service", name)["spec"]["ports"].clone();
        assert!(ports.as_array().unwrap().iter().all(|port| port["targetPort"] == "callbacks"), "{name}");
    }
}
