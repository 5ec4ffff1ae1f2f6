//! Any text as `t`, before any members. What is believed was signed with the key, by digits alone, in time.

use std::time::Duration;

use livehook::clock::Timestamp;
use livehook::event::{Incoming, Lookup};
use livehook::secret::Secret;
use livehook::signature::{self, Key, LegacyHeaders, Settings};
use md5::{Digest as _, Md5};

const KEY: &str = "abc123";
const NOW: i64 = 1_234_567_890;
const GRACE: i64 = 600;
const FUTURE: i64 = 1200;

pub(crate) fn holds(data: &[u8]) {
    let settings = Settings {
        keys: vec![Key { name: "main".to_owned(), key: Secret::new(KEY), domains: Vec::new() }],
        expiry_grace: Duration::from_secs(GRACE.unsigned_abs()),
        future_limit: Duration::from_secs(FUTURE.unsigned_abs()),
        ..Settings::default()
    };
    as_it_is(data, &settings);
    if let Ok(text) = std::str::from_utf8(data) {
        let (t, members) = text.split_once('\n').unwrap_or((text, ""));
        signed(t, members, &settings);
    }
}

/// Nobody finds a digest by chance, so whatever is believed here as signed carries one that is right.
fn as_it_is(data: &[u8], settings: &Settings) {
    let Ok(incoming) = Incoming::read(data) else { return };
    let verdict = signature::verify(&incoming, &LegacyHeaders::default(), settings, Timestamp::from_secs(NOW));
    let unchecked = settings.unsigned_kinds.contains(&incoming.kind());
    match verdict {
        Ok(verified) if verified.key().is_some() => {
            let (Lookup::Once(t), Lookup::Once(sign)) = (incoming.lookup("t"), incoming.lookup("sign")) else {
                panic!("believed without the two members that sign");
            };
            assert_eq!(Some(&t.text() as &str), strict(&t.text()));
            assert_eq!(md5_of(&t.text()), sign.text().to_ascii_lowercase());
        }
        Ok(_) => assert!(unchecked),
        Err(_) => assert!(!unchecked),
    }
}

/// With the right digest for whatever stands there as `t`, digits and clock decide alone.
fn signed(t: &str, members: &str, settings: &Settings) {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(t) else { return };
    // Numbers are signed as they are written; text as what it says.
    let said = value.as_str().unwrap_or(t.trim());
    let comma = if members.trim().is_empty() { "" } else { "," };
    let body = format!(r#"{{"event_type":1,"t":{t},"sign":"{}"{comma}{members}}}"#, md5_of(said));
    let Ok(incoming) = Incoming::read(body.as_bytes()) else { return };
    if [incoming.lookup("t"), incoming.lookup("sign")].contains(&Lookup::Repeated) {
        return;
    }
    let seconds = (value.is_number() || value.is_string()).then(|| strict(said)?.parse().ok()).flatten();
    let in_time = seconds.is_some_and(|t: i64| NOW <= t.saturating_add(GRACE) && t <= NOW + FUTURE);
    let verdict = signature::verify(&incoming, &LegacyHeaders::default(), settings, Timestamp::from_secs(NOW));
    assert_eq!(verdict.is_ok(), in_time, "{body}: {verdict:?}");
    assert_eq!(signature::is_strict_t(said), strict(said).is_some_and(|t| t.parse::<i64>().is_ok()));
}

/// Digits only, none of them a zero at the front.
fn strict(text: &str) -> Option<&str> {
    let digits = text.strip_prefix(|first: char| ('1'..='9').contains(&first))?;
    digits.chars().all(|c| c.is_ascii_digit()).then_some(text)
}

fn md5_of(t: &str) -> String {
    hex::encode(Md5::digest(format!("{KEY}{t}")))
}
