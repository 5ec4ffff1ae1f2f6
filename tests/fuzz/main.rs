//! The seeds of the fuzz targets, and whatever they have found, go through the same properties in every run of the tests.
//! The targets of the listeners need what only a fuzz build has; their seeds are tried in `tests/hostile`.
#![expect(clippy::print_stdout, reason = "where a test ends, the last seed named is the one")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "properties/body.rs"]
mod body;
#[path = "properties/configuration.rs"]
mod configuration;
#[path = "properties/kinds.rs"]
mod kinds;
#[path = "properties/signature.rs"]
mod signature;
#[path = "properties/spills.rs"]
mod spills;
#[path = "properties/when.rs"]
mod when;

use std::fs;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz");

/// Holds the property to all files of the target's folders, and of `further` ones.
fn replay(target: &str, further: &[&str], holds: fn(&[u8])) {
    let own = ["seeds", "regressions"].map(|folder| format!("{FUZZ}/{folder}/{target}"));
    let folders = own.into_iter().chain(further.iter().map(|folder| format!("{FUZZ}/{folder}")));
    let mut count = 0;
    for file in folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        holds(&fs::read(path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{target} has no seeds");
}

#[test]
fn every_seed_of_bodies_holds() {
    replay("body", &["../samples"], body::holds);
}

#[test]
fn every_seed_of_signatures_holds() {
    replay("signature", &[], signature::holds);
}

#[test]
fn every_seed_of_kinds_holds() {
    replay("kinds", &["../samples", "seeds/body"], kinds::holds);
}

#[test]
fn every_seed_of_configurations_holds() {
    replay("configuration", &["../../config"], configuration::holds);
}

#[test]
fn every_seed_of_spills_holds() {
    replay("spills", &["../samples"], spills::holds);
}

#[test]
fn every_seed_of_expressions_holds() {
    replay("when", &[], when::holds);
}
