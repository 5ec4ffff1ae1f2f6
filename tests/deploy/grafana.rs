//! The dashboard for Grafana.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::folder::{assert_commands_exist, good, program, read};
use crate::prometheus::assert_metrics_exist;

const DASHBOARD: &str = "grafana/livehook.json";

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).unwrap()
}

/// Those that draw something.
fn panels() -> Vec<Value> {
    let panels = dashboard()["panels"].as_array().unwrap().clone();
    panels.into_iter().filter(|panel| panel["type"] != "row").collect()
}

fn expressions() -> Vec<String> {
    let panels = panels();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let annotations = dashboard()["annotations"]["list"].as_array().unwrap().clone();
    let all = targets.chain(&annotations).map(|target| target["expr"].as_str().unwrap().to_owned());
    all.collect()
}

#[test]
fn every_panel_draws_something_from_the_chosen_source_and_says_what() {
    let panels = panels();
    assert!(panels.len() > 20, "{}", panels.len());
    let mut ids = BTreeSet::new();
    for panel in &panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is taken");
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{title} says nothing");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        let references: BTreeSet<_> = targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert!(!targets.is_empty() && references.len() == targets.len(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            assert!(target["expr"].as_str().unwrap().contains("instance=~\"$instance\""), "{title}");
        }
    }
}

#[test]
fn no_panel_lies_on_another_or_outside() {
    let mut taken = BTreeSet::new();
    for panel in dashboard()["panels"].as_array().unwrap() {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{}", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} lies on another", panel["title"]);
        }
    }
}

#[test]
fn the_dashboard_names_only_metrics_and_commands_that_there_are() {
    assert_metrics_exist(DASHBOARD, &read(DASHBOARD));
    let texts: Vec<String> = panels().iter().map(|panel| panel["description"].as_str().unwrap().to_owned()).collect();
    let quoted: String = texts
        .iter()
        .filter_map(|text| text.split_once("livehook "))
        .fold(String::new(), |all, (_, rest)| all + "livehook " + rest.trim_end_matches('.') + "\n");
    assert_commands_exist(DASHBOARD, &quoted, 4);
}

#[test]
fn prometheus_can_read_every_expression() {
    let Some(mut promtool) = program("promtool", "Debian's prometheus") else { return };
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    let variables = [("$__rate_interval", "2m"), ("$__interval", "1m"), ("$instance", ".+")];
    for (number, expression) in expressions().into_iter().enumerate() {
        let filled = variables.iter().fold(expression, |text, (variable, value)| text.replace(variable, value));
        assert!(!filled.contains('$'), "{filled}");
        let quoted = serde_json::to_string(&filled).unwrap();
        writeln!(rules, "      - {{ record: \"dashboard:{number}\", expr: {quoted} }}").unwrap();
    }
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), rules).unwrap();
    good(promtool.args(["check", "rules"]).arg(file.path()));
}
