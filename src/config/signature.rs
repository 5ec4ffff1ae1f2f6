//! `[signature]`.

use std::collections::HashSet;

use super::reader::Section;
use super::secret;
use crate::secret::Secret;
use crate::signature::{Key, LegacyPorn, Settings};

/// What the key given as `signature.key` is called.
const MAIN: &str = "main";

pub(super) fn signature(s: &mut Section<'_>) -> Settings {
    let default = Settings::default();
    Settings {
        keys: keys(s),
        required: s.read("required", default.required),
        unsigned_kinds: s.read("unsigned_kinds", default.unsigned_kinds),
        expiry_grace: s.read("expiry_grace", default.expiry_grace),
        future_limit: s.read("future_limit", default.future_limit),
        legacy_porn: s.table("legacy_porn", legacy_porn),
        url_token: s.secret("url_token"),
    }
}

fn keys(s: &mut Section<'_>) -> Vec<Key> {
    let main = s.secret("key").map(|key| Key { name: MAIN.to_owned(), key, domains: Vec::new() });
    if let Some(main) = &main {
        judge_key(s, &main.key);
    }
    let listed = s.tables("keys", key);
    let mut names: HashSet<String> = main.iter().map(|key| key.name.clone()).collect();
    for (index, key) in listed.iter().enumerate() {
        let free = key.name.is_empty() || names.insert(key.name.clone());
        s.demand(&format!("keys[{index}].name"), free, || {
            let hint = if key.name == MAIN { "; signature.key is named so" } else { "" };
            format!("{:?} is the name of another key{hint}", key.name)
        });
    }
    main.into_iter().chain(listed).collect()
}

fn key(s: &mut Section<'_>) -> Key {
    let name = filled(s, "name");
    let key = s.required_secret("key");
    judge_key(s, &key);
    let domains: Vec<String> = s.read("domains", Vec::new());
    s.demand("domains", domains.iter().all(|domain| !domain.trim().is_empty()), || "has an empty domain");
    Key { name, key, domains }
}

/// A blank or a mark that slipped into the file would have every signature mismatch.
fn judge_key(s: &mut Section<'_>, key: &Secret) {
    s.demand("key", !key.expose().contains(secret::is_unseen), || {
        "has white space or other characters that are not printed, as a second line break or a byte order mark at an end \
         of its file; the callback key of CSS is letters and digits"
    });
}

fn legacy_porn(s: &mut Section<'_>) -> LegacyPorn {
    LegacyPorn { secret_id: filled(s, "secret_id"), secret_key: s.required_secret("secret_key") }
}

/// Required text that is not empty.
fn filled(s: &mut Section<'_>, key: &str) -> String {
    let text: Option<String> = s.required(key);
    s.demand(key, text.as_deref() != Some(""), || "is empty");
    text.unwrap_or_default()
}
