//! Rules and scrape configuration for Prometheus.

use std::collections::BTreeSet;

use livehook::telemetry::{KnownLabels, Metrics};
use serde_json::Value;

use crate::folder::{assert_commands_exist, good, path, program, read, yaml};

const RULES: &str = "prometheus/livehook.rules.yaml";
const TESTS: [&str; 2] = ["prometheus/livehook.rules.test.yaml", "prometheus/livehook.rules.hours.test.yaml"];

fn rules() -> Vec<Value> {
    let groups = yaml(RULES)[0]["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

#[test]
fn rules_fire_when_they_should_and_are_quiet_otherwise() {
    let Some(mut promtool) = program("promtool", "Debian's prometheus") else { return };
    let said = good(promtool.args(["test", "rules"]).args(TESTS.map(path)));
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn every_rule_has_a_test_that_fires_it_and_one_that_keeps_it_quiet() {
    let tests: Vec<Value> = TESTS.iter().flat_map(|file| yaml(file)[0]["tests"].as_array().unwrap().clone()).collect();
    let rules = rules();
    assert!(rules.len() > 15, "{}", rules.len());
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap();
        let named = |start: String| {
            tests.iter().find(move |test| test["name"].as_str().is_some_and(|name| name.starts_with(&start)))
        };
        let expected = |test: Option<&Value>| {
            test.unwrap_or_else(|| panic!("{name} lacks a test"))["promql_expr_test"][0]["exp_samples"].clone()
        };
        let labels = format!("{{alertname=\"{name}\"}}");
        assert_eq!(expected(named(format!("{name} fires: "))), serde_json::json!([{ "labels": labels, "value": 1 }]));
        assert_eq!(expected(named(format!("{name} stays quiet: "))), serde_json::json!([]));
    }
}

#[test]
fn every_rule_says_what_it_means_and_what_to_do_first() {
    let mut text = String::new();
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap();
        assert!(["page", "ticket"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        let [summary, description] = ["summary", "description"].map(|key| rule["annotations"][key].as_str().unwrap());
        assert!(summary.contains("{{ $labels.instance }}") && summary.contains("livehook"), "{name}");
        assert!(description.to_lowercase().contains("first step: "), "{name} says no first step");
        text += description;
        text += "\n";
    }
    let filled = text.replace("{{ $labels.", "X").replace(" }}", "");
    assert_commands_exist(RULES, &filled, 20);
}

#[test]
fn rules_name_only_metrics_and_label_values_that_there_are() {
    let texts: Vec<String> = rules().iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect();
    assert_metrics_exist(RULES, &texts.join("\n"));
    let inputs: Vec<String> = TESTS.iter().map(|file| read(file)).collect();
    assert_metrics_exist("the tests of the rules", &inputs.join("\n"));
    for reason in ["signature-mismatch", "signature-missing", "signature-expired", "signature-future", "token"] {
        assert!(texts.iter().any(|text| text.contains(reason)));
        assert!(livehook::event::Reason::ALL.iter().any(|known| known.slug() == reason), "{reason}");
    }
}

#[test]
fn the_limit_of_the_rules_is_that_of_the_manifests() {
    let limited: Vec<_> =
        rules().iter().map(|rule| rule["expr"].to_string()).filter(|expr| expr.contains("20 *")).collect();
    assert_eq!(limited.len(), 2, "{limited:?}");
    assert!(limited.iter().all(|expr| expr.contains("1.05 * 20 * 1024 ^ 3")), "{limited:?}");
    for file in ["kubernetes/configmap.yaml", "systemd/livehook.toml"] {
        assert!(read(file).contains("max_bytes = \"20GiB\""), "{file}");
    }
    assert!(read("compose.yaml").contains("LIVEHOOK_STORE__MAX_BYTES: 20GiB"));
}

#[test]
fn the_scrape_configuration_is_sound_and_names_the_job_of_the_rules() {
    let jobs = yaml("prometheus/scrape.yaml")[0]["scrape_configs"].clone();
    assert_eq!(jobs[0]["job_name"], "livehook");
    let Some(mut promtool) = program("promtool", "Debian's prometheus") else { return };
    good(promtool.args(["check", "config"]).arg(path("prometheus/scrape.yaml")));
}

/// Fails when a text names a metric of ours that there is not.
#[track_caller]
pub(crate) fn assert_metrics_exist(name: &str, text: &str) {
    let there = metrics();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with("livehook_")).collect();
    assert!(named.len() > 10, "{name}: {named:?}");
    let plain = |word: &&str| {
        let parts = ["_bucket", "_count", "_sum"].iter().find_map(|part| word.strip_suffix(part));
        there.contains(*word) || parts.is_some_and(|base| there.contains(base))
    };
    let missing: Vec<_> = named.iter().filter(|word| !plain(word)).collect();
    assert!(missing.is_empty(), "{name}: there are no metrics {missing:?}");
}

fn metrics() -> BTreeSet<String> {
    let metrics =
        Metrics::new(KnownLabels { kinds: &["x"], reasons: &["x"], keys: &["x"], handlers: &["x"], routes: &["x"] });
    let text = metrics.render();
    text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next().map(str::to_owned)).collect()
}
