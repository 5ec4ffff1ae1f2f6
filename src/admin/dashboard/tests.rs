use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::*;
use crate::event::{Cause, CauseClass, KINDS, Reason};

/// Of all files together, uncompressed.
const SIZE_MAX: usize = 150 << 10;

fn file(path: &str) -> &'static str {
    FILES.iter().find(|(name, ..)| *name == path).unwrap_or_else(|| panic!("no {path}")).2
}

fn texts(language: &str) -> Map<String, Value> {
    let source = file(&format!("/dashboard/{language}.js"));
    let (_, table) = source.split_once("export default ").unwrap();
    serde_json::from_str(table.trim_end().trim_end_matches(';')).unwrap()
}

fn text<'a>(table: &'a Map<String, Value>, key: &str) -> &'a str {
    table.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no text for {key}"))
}

/// All scripts but the tables of texts.
fn scripts() -> String {
    let scripts = FILES
        .iter()
        .filter(|(path, kind, _)| *kind == SCRIPT && !path.ends_with("/en.js") && !path.ends_with("/zh.js"));
    scripts.map(|(.., text)| *text).collect()
}

#[test]
fn both_languages_have_the_same_texts_in_the_same_order() {
    let [en, zh] = ["en", "zh"].map(texts);
    assert!(en.keys().eq(zh.keys()), "{:?}", en.keys().zip(zh.keys()).find(|(a, b)| a != b));
    for (key, english) in &en {
        let names = |text: &str| {
            text.split('{').skip(1).map(|rest| rest[..rest.find('}').unwrap()].to_owned()).collect::<BTreeSet<_>>()
        };
        assert_eq!(names(english.as_str().unwrap()), names(text(&zh, key)), "{key} fills in different things");
    }
}

#[test]
fn kinds_reasons_and_causes_are_called_what_the_service_calls_them() {
    for (language, at) in [("en", 0), ("zh", 1)] {
        let table = texts(language);
        for facts in &KINDS {
            assert_eq!(text(&table, &format!("kind.{}", facts.slug)), facts.title[at]);
        }
        for errcode in 0..100 {
            let cause = Cause::of(errcode);
            let told = table
                .get(&format!("cause.{errcode}"))
                .map_or(text(&table, "cause.unknown"), |told| told.as_str().unwrap());
            assert_eq!(told, [cause.meaning, cause.meaning_zh][at], "{errcode}");
        }
        for class in CauseClass::ALL {
            text(&table, &format!("class.{}", class.slug()));
        }
        for reason in Reason::ALL {
            for part in ["", ".means", ".todo"] {
                text(&table, &format!("reason.{}{part}", reason.slug()));
            }
        }
    }
}

#[test]
fn filters_offer_every_kind_and_reason() {
    let pieces = file("/dashboard/pieces.js");
    let slugs = KINDS.iter().map(|facts| facts.slug).chain(Reason::ALL.map(Reason::slug));
    let missing: Vec<_> = slugs.filter(|slug| !pieces.contains(&format!("\"{slug}\""))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_text_that_is_asked_for_is_there() {
    let (scripts, table) = (scripts(), texts("en"));
    let mut asked = 0;
    for call in ["t(\"", "count(\""] {
        for rest in scripts.split(call).skip(1) {
            let key = &rest[..rest.find('"').unwrap()];
            // What only looks like a call, as `closest("…")`, names no text.
            if key.contains('.') && key.starts_with(|c: char| c.is_ascii_lowercase()) {
                text(&table, key);
                asked += 1;
            }
        }
    }
    assert!(asked > 200, "{asked}");
}

#[test]
fn every_file_that_a_file_names_is_served() {
    let mut named = BTreeSet::new();
    for (path, _, source) in FILES {
        let folder = &path[..=path.rfind('/').unwrap()];
        for name in source.split("from \"").skip(1).map(|rest| &rest[..rest.find('"').unwrap()]) {
            let path = match name.strip_prefix("../") {
                Some(above) => format!("/dashboard/{above}"),
                None => format!("{folder}{}", name.strip_prefix("./").unwrap()),
            };
            assert!(FILES.iter().any(|(served, ..)| *served == path), "{path}");
            named.insert(path);
        }
        for attribute in ["href=\"", "src=\""] {
            let addresses = source.split(attribute).skip(1).map(|rest| rest[..rest.find('"').unwrap()].to_owned());
            named.extend(addresses.filter(|address| path == "/" && !address.is_empty()));
        }
    }
    let served: BTreeSet<_> = FILES.iter().map(|(path, ..)| (*path).to_owned()).filter(|path| path != "/").collect();
    assert_eq!(named, served);
}

#[test]
fn nothing_makes_markup_or_code_of_text() {
    let scripts = scripts();
    for banned in [
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "DOMParser",
        "\"style\"",
        "onclick",
    ] {
        assert!(!scripts.contains(banned), "{banned}");
    }
    let page = file("/");
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" on"), "inline style or script");
}

#[test]
fn all_files_together_are_small() {
    let size: usize = FILES.iter().map(|(.., text)| text.len()).sum();
    assert!(size < SIZE_MAX, "{size}");
}
