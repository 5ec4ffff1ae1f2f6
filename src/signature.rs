//! `sign` = MD5(key + t), in hexadecimal (page 38080).
//!
//! The signature covers `t` and nothing else: neither body nor event. Hence strict digits, which end length extension,
//! a bound on both sides of `t`, and identity by content elsewhere.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use subtle::{Choice, ConstantTimeEq as _};

use crate::clock::Timestamp;
use crate::event::json::{Shape, Value};
use crate::event::{Incoming, Kind, Lookup, Refusal};
use crate::secret::Secret;

/// What is demanded of callbacks before they are believed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The callback keys; none: nothing is checked.
    pub keys: Vec<Key>,
    /// Whether events without `t` and `sign` are refused while keys are configured.
    pub required: bool,
    /// Kinds that are not checked, whatever they carry.
    pub unsigned_kinds: Vec<Kind>,
    /// How long past `t` a callback is accepted.
    pub expiry_grace: Duration,
    /// How far `t` may lie ahead of our clock.
    pub future_limit: Duration,
    /// Image audits of before August 2020, signed by headers; none: they are refused.
    pub legacy_porn: Option<LegacyPorn>,
    /// What callback URLs must carry as `?token=…`; none: nothing.
    pub url_token: Option<Secret>,
}

/// A callback key.
#[derive(Clone, Debug)]
pub struct Key {
    /// What it is called in logs and metrics.
    pub name: String,
    /// The key itself.
    pub key: Secret,
    /// The push domains it signs for, compared without case; none: any.
    pub domains: Vec<String>,
}

/// The account whose key signs image audits of before August 2020.
#[derive(Clone, Debug)]
pub struct LegacyPorn {
    /// `TPD-SecretID`
    pub secret_id: String,
    /// The key of `TPD-CallBack-Auth`.
    pub secret_key: Secret,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            required: true,
            unsigned_kinds: vec![Kind::Relay, Kind::Monitor],
            expiry_grace: Duration::from_mins(10),
            future_limit: Duration::from_mins(20),
            legacy_porn: None,
            url_token: None,
        }
    }
}

/// A callback that may be believed: its `sign` matched, or nothing is demanded of it. Only [`verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    key: Option<String>,
}

impl Verified {
    /// The name of the key that matched; none for a callback that need not be signed.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

/// The headers that signed image audits of before August 2020.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LegacyHeaders {
    /// `TPD-SecretID`
    pub secret_id: Option<String>,
    /// `TPD-CallBack-Auth`: Base64 of HMAC-SHA1 over the body.
    pub auth: Option<String>,
}

impl LegacyHeaders {
    /// Whether the request carried neither.
    pub fn is_empty(&self) -> bool {
        self.secret_id.is_none() && self.auth.is_none()
    }
}

/// The name under which a match of the pre-2020 header scheme is reported.
const LEGACY_KEY_NAME: &str = "legacy-porn";

/// Checks a callback against the keys for its domain, then its `t` against the clock.
///
/// `now` is the moment of receipt. Refuses in the order `signature-malformed`, `-missing`, `-mismatch`, `-expired`,
/// `-future`; a body of before August 2020 has no `event_type` where its scheme is switched off.
pub fn verify(
    incoming: &Incoming<'_>,
    headers: &LegacyHeaders,
    settings: &Settings,
    now: Timestamp,
) -> Result<Verified, Refusal> {
    if incoming.is_signed_by_headers() {
        return verify_headers(incoming, headers, settings);
    }
    if settings.keys.is_empty() || settings.unsigned_kinds.contains(&incoming.kind()) {
        return Ok(Verified { key: None });
    }
    let stamp = match (read_t(incoming)?, read_sign(incoming)?) {
        (Some(t), Some(sign)) => Stamp { t, sign },
        (None, None) if !settings.required => return Ok(Verified { key: None }),
        (None, Some(_)) => return Err(missing("`t` is missing", incoming)),
        (Some(_), None) => return Err(missing("`sign` is missing", incoming)),
        (None, None) => return Err(missing("`t` and `sign` are missing", incoming)),
    };
    let key = matching_key(&stamp, incoming.domain(), &settings.keys)?;
    check_window(&stamp, settings, now)?;
    Ok(Verified { key: Some(key.name.clone()) })
}

/// `sign` for `t`: the lower-case hexadecimal MD5 of the key followed by the decimal digits of `t`.
pub fn sign(key: &Secret, t: &str) -> String {
    hex::encode(digest(key, t))
}

/// Whether `text` is a `t` we take: ASCII digits that do not begin with 0 and fit 64 bits with a sign. No sign
/// character, blank, exponent or fraction, so that no padding of a length extension can pass for it.
pub fn is_strict_t(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit())
        && !text.starts_with('0')
        && text.len() <= 19
        && text.parse::<i64>().is_ok()
}

/// A `t` and a `sign` of the right form.
struct Stamp {
    t: String,
    sign: [u8; 16],
}

fn malformed(detail: &str) -> Refusal {
    Refusal::SignatureMalformed { detail: detail.to_owned() }
}

fn missing(missing: &'static str, incoming: &Incoming<'_>) -> Refusal {
    Refusal::SignatureMissing { missing, kind: incoming.kind() }
}

fn read_t(incoming: &Incoming<'_>) -> Result<Option<String>, Refusal> {
    let strict = |value: Value<'_>| matches!(value.shape(), Shape::Number | Shape::Text) && is_strict_t(&value.text());
    match incoming.lookup("t") {
        Lookup::Absent => Ok(None),
        Lookup::Once(value) if strict(value) => Ok(Some(value.text().into_owned())),
        Lookup::Once(_) => Err(malformed("`t` is not strict decimal digits")),
        Lookup::Repeated => Err(malformed("`t` is repeated")),
    }
}

fn read_sign(incoming: &Incoming<'_>) -> Result<Option<[u8; 16]>, Refusal> {
    let value = match incoming.lookup("sign") {
        Lookup::Absent => return Ok(None),
        Lookup::Once(value) => value,
        Lookup::Repeated => return Err(malformed("`sign` is repeated")),
    };
    let mut sign = [0; 16];
    if value.shape() != Shape::Text || hex::decode_to_slice(value.bytes(), &mut sign).is_err() {
        return Err(malformed("`sign` is not 32 hexadecimal digits"));
    }
    Ok(Some(sign))
}

/// The key among those for `domain` that made the sign. All are tried, so that the time taken does not tell which.
fn matching_key<'k>(stamp: &Stamp, domain: Option<String>, keys: &'k [Key]) -> Result<&'k Key, Refusal> {
    let candidates: Vec<&Key> = keys.iter().filter(|key| key.signs_for(domain.as_deref())).collect();
    let mut found = None;
    for key in &candidates {
        if digest(&key.key, &stamp.t).ct_eq(&stamp.sign).into() {
            found = found.or(Some(*key));
        }
    }
    found.ok_or_else(|| Refusal::SignatureMismatch {
        keys: candidates.len(),
        domain: domain.map_or_else(|| "an event without domain".to_owned(), |d| format!("domain `{}`", shown(&d))),
    })
}

/// A domain as it may stand in a log, cut down to the length of the longest one there can be.
fn shown(domain: &str) -> String {
    domain.chars().take(DOMAIN_CHARS_MAX).flat_map(char::escape_debug).collect()
}

/// RFC 1035, section 2.3.4, as text.
const DOMAIN_CHARS_MAX: usize = 253;

impl Key {
    /// Whether it may sign for a push domain. An event that names none is checked against every key.
    fn signs_for(&self, domain: Option<&str>) -> bool {
        self.domains.is_empty() || domain.is_none_or(|d| self.domains.iter().any(|own| own.eq_ignore_ascii_case(d)))
    }
}

fn check_window(stamp: &Stamp, settings: &Settings, now: Timestamp) -> Result<(), Refusal> {
    // Strict digits fit; what does not would count as the far future and be refused.
    let t = Timestamp::from_secs(stamp.t.parse().unwrap_or(i64::MAX));
    if now > t.plus(settings.expiry_grace) {
        return Err(Refusal::SignatureExpired { past: now.since(t), grace: settings.expiry_grace });
    }
    if t > now.plus(settings.future_limit) {
        return Err(Refusal::SignatureFuture { ahead: t.since(now), limit: settings.future_limit });
    }
    Ok(())
}

fn digest(key: &Secret, t: &str) -> [u8; 16] {
    Md5::new().chain_update(key.expose()).chain_update(t).finalize().into()
}

/// The scheme of image audits before August 2020 (page 31564): HMAC-SHA1 over the body, in a header. It has no time.
fn verify_headers(incoming: &Incoming<'_>, headers: &LegacyHeaders, settings: &Settings) -> Result<Verified, Refusal> {
    let account = settings.legacy_porn.as_ref().ok_or(Refusal::NoEventType)?;
    let auth = match headers.auth.as_deref().map(|text| BASE64.decode(text.trim())) {
        None => return Err(missing("the header `TPD-CallBack-Auth` is missing", incoming)),
        Some(Err(_)) => return Err(malformed("`TPD-CallBack-Auth` is not Base64")),
        Some(Ok(auth)) => auth,
    };
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(account.secret_key.expose().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(incoming.body_as_received());
    let same_account =
        headers.secret_id.as_deref().map_or(Choice::from(0), |id| id.as_bytes().ct_eq(account.secret_id.as_bytes()));
    if (same_account & mac.finalize().into_bytes().ct_eq(&auth)).into() {
        return Ok(Verified { key: Some(LEGACY_KEY_NAME.to_owned()) });
    }
    Err(Refusal::SignatureMismatch { keys: 1, domain: "the pre-2020 header scheme".to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "abc123";
    /// MD5 of `abc1231234567890`, computed with another program; the documentation prints no vector.
    const SIGN: &str = "db6025d933be0dac8829ed47217446e1";

    fn key(name: &str, key: &str, domains: &[&str]) -> Key {
        Key { name: name.to_owned(), key: Secret::new(key), domains: domains.iter().map(|&d| d.to_owned()).collect() }
    }

    fn settings() -> Settings {
        Settings { keys: vec![key("main", KEY, &[])], ..Settings::default() }
    }

    fn check_with(settings: &Settings, now_secs: i64, body: &str) -> Result<Option<String>, &'static str> {
        check_headers(settings, now_secs, body, &LegacyHeaders::default())
    }

    fn check_headers(
        settings: &Settings,
        now_secs: i64,
        body: &str,
        headers: &LegacyHeaders,
    ) -> Result<Option<String>, &'static str> {
        let incoming = Incoming::read(body.as_bytes()).unwrap();
        verify(&incoming, headers, settings, Timestamp::from_secs(now_secs))
            .map(|v| v.key().map(str::to_owned))
            .map_err(|refusal| refusal.reason().slug())
    }

    fn check(body: &str) -> Result<Option<String>, &'static str> {
        check_with(&settings(), 1_234_567_890, body)
    }

    #[test]
    fn the_vector_matches_in_every_form_we_take() {
        let main = Ok(Some("main".to_owned()));
        assert_eq!(sign(&Secret::new(KEY), "1234567890"), SIGN);
        assert_eq!(check(&format!(r#"{{"event_type":1,"t":1234567890,"sign":"{SIGN}"}}"#)), main);
        assert_eq!(check(&format!(r#"{{"event_type":1,"t":"1234567890","sign":"{SIGN}"}}"#)), main);
        assert_eq!(check(&format!(r#"{{"event_type":1,"t":1234567890,"sign":"{}"}}"#, SIGN.to_uppercase())), main);
    }

    #[test]
    fn a_loose_t_or_sign_is_malformed() {
        for t in [
            "1234567890.0",
            "1.23456789e9",
            "-1",
            "0",
            "\"\"",
            "\" 1234567890\"",
            "\"+1\"",
            "null",
            "\"1234567890\\u0080\"",
            "\"12345678901234567890\"",
            "9223372036854775808",
            "[1234567890]",
            "true",
            "\"١\"",
        ] {
            let body = format!(r#"{{"event_type":1,"t":{t},"sign":"{SIGN}"}}"#);
            assert_eq!(check(&body), Err("signature-malformed"), "{t}");
        }
        for sign in
            ["\"\"", "12", "null", "\"zz6025d933be0dac8829ed47217446e1\"", "\"db6025d933be0dac8829ed47217446e\""]
        {
            let body = format!(r#"{{"event_type":1,"t":1234567890,"sign":{sign}}}"#);
            assert_eq!(check(&body), Err("signature-malformed"), "{sign}");
        }
        for repeated in [
            format!(r#"{{"event_type":1,"t":1234567890,"t":1234567890,"sign":"{SIGN}"}}"#),
            format!(r#"{{"event_type":1,"t":1234567890,"sign":"{SIGN}","si\u0067n":"{SIGN}"}}"#),
            r#"{"event_type":1,"t":"x"}"#.to_owned(),
        ] {
            assert_eq!(check(&repeated), Err("signature-malformed"), "{repeated}");
        }
    }

    #[test]
    fn what_must_be_signed_and_is_not_is_missing() {
        for body in [
            r#"{"event_type":1}"#.to_owned(),
            r#"{"event_type":1,"t":1234567890}"#.to_owned(),
            format!(r#"{{"event_type":1,"sign":"{SIGN}"}}"#),
        ] {
            assert_eq!(check(&body), Err("signature-missing"), "{body}");
        }
        let lax = Settings { required: false, ..settings() };
        assert_eq!(check_with(&lax, 0, r#"{"event_type":1}"#), Ok(None));
        assert_eq!(check_with(&lax, 0, r#"{"event_type":1,"t":5}"#), Err("signature-missing"));
    }

    #[test]
    fn unsigned_kinds_and_services_without_key_check_nothing() {
        assert_eq!(check(r#"{"event_type":314,"t":"x","t":1,"sign":5}"#), Ok(None));
        assert_eq!(check(r#"{"event_type":328}"#), Ok(None));
        assert_eq!(check_with(&Settings::default(), 0, r#"{"event_type":1,"t":"x"}"#), Ok(None));
    }

    #[test]
    fn the_window_is_closed_on_both_sides() {
        let body = format!(r#"{{"event_type":1,"t":1234567890,"sign":"{SIGN}"}}"#);
        let at = |now| check_with(&settings(), now, &body).map(|_| ());
        assert_eq!(at(1_234_567_890 + 600), Ok(()));
        assert_eq!(at(1_234_567_890 + 601), Err("signature-expired"));
        assert_eq!(at(1_234_567_890 - 1200), Ok(()));
        assert_eq!(at(1_234_567_890 - 1201), Err("signature-future"));
        let wrong = body.replace("db60", "db61");
        assert_eq!(
            check_with(&settings(), 0, &wrong),
            Err("signature-mismatch"),
            "the key is checked before the clock"
        );
    }

    #[test]
    fn keys_belong_to_domains_and_may_be_several() {
        let settings = Settings {
            keys: vec![key("old", "zzz", &["a.com"]), key("new", KEY, &["a.com"]), key("other", KEY, &["b.com"])],
            ..Settings::default()
        };
        let check = |names: &str| {
            check_with(&settings, 1_234_567_890, &format!(r#"{{{names},"t":1234567890,"sign":"{SIGN}"}}"#))
        };
        assert_eq!(check(r#""event_type":1,"app":" A.com ""#), Ok(Some("new".to_owned())));
        assert_eq!(check(r#""event_type":343,"domain":"b.com""#), Ok(Some("other".to_owned())));
        assert_eq!(check(r#""event_type":1,"app":"c.com""#), Err("signature-mismatch"));
        assert_eq!(check(r#""event_type":338"#), Ok(Some("new".to_owned())), "no domain: every key");
    }

    #[test]
    fn a_refusal_repeats_little_of_what_a_stranger_sent() {
        let body = format!(r#"{{"event_type":1,"app":"\n{}","t":1234567890,"sign":"{SIGN}"}}"#, "x".repeat(1000));
        let incoming = Incoming::read(body.as_bytes()).unwrap();
        let settings = Settings { keys: vec![key("k", "other", &[])], ..Settings::default() };
        let now = Timestamp::from_secs(1_234_567_890);
        let detail = verify(&incoming, &LegacyHeaders::default(), &settings, now).unwrap_err().to_string();
        assert!(detail.len() < 350 && !detail.contains('\n'), "{detail}");
    }

    #[test]
    fn key_and_t_are_not_told_apart_by_their_border() {
        // `abc` with 1700000600 and `abc1` with 700000600 hash alike; the clock refuses the second.
        let sign = sign(&Secret::new("abc"), "1700000600");
        let settings = Settings { keys: vec![key("abc1", "abc1", &[])], ..Settings::default() };
        let body = format!(r#"{{"event_type":1,"t":700000600,"sign":"{sign}"}}"#);
        assert_eq!(check_with(&settings, 1_700_000_000, &body), Err("signature-expired"));
    }

    #[test]
    fn old_image_audits_are_believed_only_where_that_is_switched_on() {
        let body = r#"{"streamId":"s","screenshotTime":1534087026}"#;
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"key").unwrap();
        mac.update(body.as_bytes());
        let auth = BASE64.encode(mac.finalize().into_bytes());
        let headers = |id: &str, auth: &str| LegacyHeaders { secret_id: Some(id.into()), auth: Some(auth.into()) };
        let legacy = LegacyPorn { secret_id: "id".into(), secret_key: Secret::new("key") };
        let on = Settings { legacy_porn: Some(legacy), ..settings() };

        assert_eq!(check_headers(&on, 0, body, &headers("id", &auth)), Ok(Some("legacy-porn".into())));
        assert_eq!(check_headers(&on, 0, body, &headers("other", &auth)), Err("signature-mismatch"));
        assert_eq!(check_headers(&on, 0, body, &headers("id", "AAAA")), Err("signature-mismatch"));
        assert_eq!(check_headers(&on, 0, body, &headers("id", "?")), Err("signature-malformed"));
        assert_eq!(check_headers(&on, 0, body, &LegacyHeaders::default()), Err("signature-missing"));
        assert_eq!(check_headers(&settings(), 0, body, &headers("id", &auth)), Err("no-event-type"));
    }

    proptest! {
        #[test]
        fn only_the_right_key_and_time_pass(key_text in "[0-9a-zA-Z]{1,32}", t in 1_i64..4_000_000_000, flip in 0_usize..32) {
            let settings = Settings { keys: vec![key("k", &key_text, &[])], ..Settings::default() };
            let sign = sign(&Secret::new(key_text), &t.to_string());
            let body = |sign: &str| format!(r#"{{"event_type":0,"t":{t},"sign":"{sign}"}}"#);
            prop_assert!(check_with(&settings, t, &body(&sign)).is_ok());
            let mut forged = sign.into_bytes();
            forged[flip] = if forged[flip] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).unwrap();
            prop_assert_eq!(check_with(&settings, t, &body(&forged)), Err("signature-mismatch"));
        }
    }
}
