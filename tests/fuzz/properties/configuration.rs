//! Any TOML and any environment. A configuration is loaded, or all its faults are said with their keys; no secret ever
//! stands in what is said.
//!
//! The input has parts, with a line of two percent signs between them: the file, what all secrets end with, then variables
//! as `NAME=VALUE`.

use std::fs;

use livehook::config::{self, Sources};
use tempfile::TempDir;

/// How all secrets begin. What holds it elsewhere is not tried: there it may be said.
const MARK: &str = "hush-";
/// Where secrets stand, whatever else is configured.
const SECRETS: [&str; 5] = [
    "LIVEHOOK_SIGNATURE__KEY",
    "LIVEHOOK_SIGNATURE__URL_TOKEN",
    "LIVEHOOK_SIGNATURE__LEGACY_PORN__SECRET_KEY",
    "LIVEHOOK_ADMIN__TOKEN",
    "SECRET",
];

thread_local! {
    static DIRECTORY: TempDir = tempfile::tempdir().expect("a directory");
}

pub(crate) fn holds(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // A file that never ends is nobody's configuration.
    if text.contains(MARK) || text.contains("/dev") || text.contains("/proc") || text.contains("\\u") {
        return;
    }
    let mut parts = text.split("\n%%\n");
    let toml = parts.next().unwrap_or_default();
    let secret = format!("{MARK}{}", parts.next().unwrap_or_default());
    let mut environment: Vec<(String, String)> = parts
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    environment.retain(|(name, _)| !SECRETS.iter().any(|secret| name.starts_with(secret)));
    environment.extend(SECRETS.map(|name| (name.to_owned(), secret.clone())));
    let listed = serde_json::json!([{ "name": "listed", "key": secret }]).to_string();
    environment.push(("LIVEHOOK_SIGNATURE__KEYS".to_owned(), listed));
    let file = DIRECTORY.with(|directory| directory.path().join("livehook.toml"));
    fs::write(&file, toml).expect("a file");
    let sources = Sources { file: Some(file), environment, ..Sources::default() };
    match config::load(&sources) {
        Ok(loaded) => {
            assert!(!loaded.effective.contains(MARK), "{}", loaded.effective);
            assert!(!format!("{:?}", loaded.config).contains(MARK));
            assert!(!loaded.config.handlers.is_empty());
            shown_again(&loaded.effective);
        }
        Err(faults) => {
            assert!(!format!("{faults}{faults:?}{sources:?}").contains(MARK), "{faults}");
            assert!(faults.iter().count() > 0);
            assert!(faults.iter().all(|fault| !fault.key.is_empty() && !fault.what.is_empty()), "{faults:?}");
        }
    }
}

/// What is printed as the effective configuration is TOML, of keys that exist: its faults are about the masks, which
/// are nobody's secrets.
fn shown_again(effective: &str) {
    let file = DIRECTORY.with(|directory| directory.path().join("effective.toml"));
    fs::write(&file, effective).expect("a file");
    if let Err(faults) = config::load(&Sources { file: Some(file), ..Sources::default() }) {
        let about_masks =
            |key: &str| ["secret", "headers", "env", "url", "key", "token"].iter().any(|name| key.contains(name));
        assert!(faults.iter().all(|fault| about_masks(&fault.key)), "{faults}\n{effective}");
    }
}
