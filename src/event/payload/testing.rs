//! Samples for the tests of all payloads, and the tests that go over all of them.

use proptest::prelude::*;
use serde_json::{Map, Value as Tree};

use super::{Payload, Reading};
use crate::event::{Incoming, Kind, json};

/// Reads a body as intake does.
pub(super) fn reading_of(body: &str) -> Reading {
    let incoming = Incoming::read(body.as_bytes()).unwrap();
    super::read(incoming.kind(), incoming.body())
}

pub(super) fn payload_of(body: &str) -> Payload {
    reading_of(body).payload
}

pub(super) fn drift_of(body: &str) -> Vec<String> {
    reading_of(body).drift
}

pub(super) fn key_of(body: &str) -> Option<String> {
    reading_of(body).natural_key
}

/// A documented body.
pub(super) fn sample(name: &str) -> String {
    std::fs::read_to_string(format!("{SAMPLES}/{name}.json")).unwrap()
}

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples");

fn samples() -> Vec<(String, String)> {
    let files = std::fs::read_dir(SAMPLES).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    names.sort();
    let stem = |path: &std::path::Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    names.iter().map(|path| (stem(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// Kinds by how the names of their samples begin.
const KINDS_BY_SAMPLE: [(&str, Kind); 18] = [
    ("stream-push", Kind::StreamPush),
    ("stream-interrupt", Kind::StreamInterruption),
    ("record-file", Kind::Recording),
    ("record-status", Kind::RecordingStatus),
    ("record-exception", Kind::RecordingException),
    ("screenshot", Kind::Screencapture),
    ("image-audit", Kind::ImageAudit),
    ("audio-audit", Kind::AudioAudit),
    ("push-error", Kind::PushError),
    ("relay", Kind::Relay),
    ("monitor", Kind::Monitor),
    ("quality-control", Kind::QualityControl),
    ("evaluation-threshold", Kind::EvaluationThreshold),
    ("evaluation-average", Kind::EvaluationAverage),
    ("smart-erase", Kind::SmartErase),
    ("subtitles", Kind::Subtitles),
    ("summary", Kind::Summary),
    ("highlight", Kind::Highlight),
];

/// Samples that are misprinted, and what is noted about them.
const MISPRINTS: [(&str, &str); 5] = [
    ("evaluation-average-2025", "`event_type` is 344, documented as 345 for evaluation-average"),
    ("image-audit-2021-new", "`socre` stands for `score`"),
    ("image-audit-2021-with-scores", "`socre` stands for `score`"),
    ("image-audit-2024", "`socre` stands for `score`"),
    ("subtitles-2025", "`data.subtitle_tmp_res[0].stead_state` stands for `steady_state`"),
];

/// Samples that lack a member their natural key needs.
const WITHOUT_KEY: [&str; 1] = ["relay"];

#[test]
fn every_sample_is_read_without_drift_but_for_its_misprints() {
    for (name, body) in samples() {
        let misprint: Vec<_> = MISPRINTS.iter().filter(|(sample, _)| *sample == name).map(|(_, note)| *note).collect();
        assert_eq!(drift_of(&body), misprint, "{name}");
    }
}

#[test]
fn every_sample_is_of_the_kind_it_is_named_for_and_has_a_natural_key() {
    for (name, body) in samples() {
        let (_, kind) = KINDS_BY_SAMPLE.iter().find(|(prefix, _)| name.starts_with(prefix)).unwrap();
        let reading = reading_of(&body);
        let variant = format!("{:?}", reading.payload);
        assert!(variant.starts_with(&format!("{kind:?}(")), "{name}: {variant}");
        let key = reading.natural_key;
        assert_eq!(key.is_none(), WITHOUT_KEY.iter().any(|prefix| name.starts_with(prefix)), "{name}");
        assert!(key.is_none_or(|key| key.starts_with(&format!("{kind} "))), "{name}");
    }
}

#[test]
fn every_kind_has_a_sample() {
    let names: Vec<_> = samples().into_iter().map(|(name, _)| name).collect();
    for (prefix, kind) in KINDS_BY_SAMPLE {
        assert!(names.iter().any(|name| name.starts_with(prefix)), "{kind}");
    }
}

#[test]
fn an_unknown_kind_is_one_note() {
    let reading = reading_of(r#"{"event_type":999,"anything":1}"#);
    assert_eq!(reading.payload, Payload::Unknown);
    assert_eq!(reading.drift, ["event_type 999 is not known to this version"]);
    assert_eq!(reading.natural_key, None);
    let long = drift_of(&format!(r#"{{"event_type":{}}}"#, "9".repeat(100_000)));
    assert!(long[0].len() < 150, "{long:?}");
}

#[test]
fn the_common_members_are_understood_in_every_kind() {
    for (name, body) in samples() {
        let mut tree: Map<String, Tree> = serde_json::from_str(&body).unwrap();
        let before = drift_of(&body);
        for (member, value) in [("t", "1754623810"), ("sign", "aa"), ("interface", "general_callback")] {
            tree.insert(member.to_owned(), value.into());
        }
        let body = Tree::Object(tree.clone()).to_string();
        assert_eq!(drift_of(&body), before, "{name}");
        if let Some(number) = tree.get("event_type").map(Tree::to_string) {
            tree.insert("event_type".to_owned(), number.into());
            let drift = drift_of(&Tree::Object(tree).to_string());
            assert!(drift.contains(&"`event_type` is text, documented as a whole number".to_owned()), "{name}");
        }
    }
}

#[test]
fn a_member_that_holds_a_hundred_thousand_levels_costs_only_itself() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    for (member, kind) in [("stream_id", 1), ("labelResults", 317), ("msg", 314), ("exception", 341), ("new", 1)] {
        for value in [&deep, &objects, &serde_json::to_string(&deep).unwrap()] {
            let drift = drift_of(&format!(r#"{{"event_type":{kind},"{member}":{value}}}"#));
            assert!(!drift.is_empty() && drift.iter().all(|note| note.len() < 200));
        }
    }
}

fn any_json() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::from),
        any::<i64>().prop_map(Tree::from),
        any::<u64>().prop_map(Tree::from),
        any::<f64>().prop_map(Tree::from),
        any::<i32>().prop_map(|number| Tree::from(number.to_string())),
        any::<String>().prop_map(Tree::from),
    ];
    let nested = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::from),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    });
    prop_oneof![3 => nested.clone(), 1 => nested.prop_map(|inner| Tree::from(inner.to_string()))]
}

#[derive(Clone, Debug)]
enum Mutation {
    Replace(prop::sample::Index, Tree),
    Drop(prop::sample::Index),
    Add(String, Tree),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        3 => (any::<prop::sample::Index>(), any_json()).prop_map(|(place, value)| Mutation::Replace(place, value)),
        1 => any::<prop::sample::Index>().prop_map(Mutation::Drop),
        1 => (any::<String>(), any_json()).prop_map(|(name, value)| Mutation::Add(name, value)),
    ]
}

/// Places of all values inside `tree`, as JSON pointers.
fn places(tree: &Tree, at: &str, out: &mut Vec<String>) {
    let mut enter = |step: &str, inner: &Tree| {
        let place = format!("{at}/{}", step.replace('~', "~0").replace('/', "~1"));
        places(inner, &place, out);
        out.push(place);
    };
    match tree {
        Tree::Object(members) => members.iter().for_each(|(name, inner)| enter(name, inner)),
        Tree::Array(items) => items.iter().enumerate().for_each(|(index, inner)| enter(&index.to_string(), inner)),
        _ => {}
    }
}

fn mutate(tree: &mut Tree, mutation: &Mutation) {
    let mut all = Vec::new();
    places(tree, "", &mut all);
    match mutation {
        _ if all.is_empty() => {}
        Mutation::Replace(place, value) => {
            if let Some(target) = tree.pointer_mut(place.get(&all).as_str()) {
                *target = value.clone();
            }
        }
        Mutation::Drop(place) => {
            let (parent, name) = place.get(&all).rsplit_once('/').unwrap();
            if let Some(Tree::Object(members)) = tree.pointer_mut(parent) {
                members.remove(name);
            }
        }
        Mutation::Add(name, value) => {
            if let Some(members) = tree.as_object_mut() {
                members.insert(name.clone(), value.clone());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_mutation_of_a_sample_is_too_much(
        which in any::<prop::sample::Index>(),
        mutations in prop::collection::vec(mutation(), 1..6),
        twice in any::<bool>(),
    ) {
        let all = samples();
        let (name, body) = which.get(&all);
        let (_, kind) = KINDS_BY_SAMPLE.iter().find(|(prefix, _)| name.starts_with(prefix)).unwrap();
        let mut tree: Tree = serde_json::from_str(body).unwrap();
        for mutation in &mutations {
            mutate(&mut tree, mutation);
        }
        let mut text = tree.to_string();
        if twice {
            // Every member repeated, under the name it has and with the value it had.
            text = text.replacen('{', &format!("{},", body.trim().trim_end_matches('}')), 1);
        }
        let Ok(value) = json::parse(&text) else { return Ok(()) };
        let reading = super::read(*kind, value);
        prop_assert!(reading.drift.len() <= 33);
        for note in &reading.drift {
            prop_assert!(note.chars().count() < 900 && note.chars().all(|c| !c.is_control()), "{}", note);
        }
        prop_assert_eq!(&super::read(*kind, value), &reading, "reading is a function of the body");
    }
}
