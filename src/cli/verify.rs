//! `livehook verify`

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::exit::Failed;
use super::key::KeyFlags;
use super::{moment, output};
use crate::clock::Timestamp;
use crate::event::{Incoming, Lookup, Refusal};
use crate::secret::Secret;
use crate::signature::{self, Key, LegacyHeaders, Settings};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("needed").args(["key", "key_file"]).required(true))]
pub(super) struct Verify {
    #[command(flatten)]
    key: KeyFlags,
    /// Callback body as it was received; - for standard input
    file: PathBuf,
    /// Judge as of this moment instead of now: RFC 3339, or a span such as 2h for that long ago
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    at: Option<Timestamp>,
    /// Accept for this long past `t`
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = moment::parse_span)]
    grace: Duration,
    /// Accept a `t` that lies this far ahead
    #[arg(long, value_name = "SPAN", default_value = "20m", value_parser = moment::parse_span)]
    future_limit: Duration,
}

impl Verify {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let key = self.key.demand()?;
        let body = read(&self.file)?;
        let settings = Settings {
            keys: vec![Key { name: "the key given".to_owned(), key: key.clone(), domains: Vec::new() }],
            expiry_grace: self.grace,
            future_limit: self.future_limit,
            ..Settings::default()
        };
        let explained = explain(&body, &key, &settings, self.at.unwrap_or_else(moment::now));
        for (what, finding) in &explained.findings {
            output::line(&format!("{what:<8} {}", output::plain(finding)))?;
        }
        if explained.good { Ok(()) } else { Err(Failed.into()) }
    }
}

/// The bytes of a file, or of standard input for `-`.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file.as_os_str() != "-" {
        return std::fs::read(file).with_context(|| format!("reading {}", file.display()));
    }
    let mut all = Vec::new();
    std::io::stdin().lock().read_to_end(&mut all).context("reading standard input")?;
    Ok(all)
}

/// What was found, check by check, and whether the callback is believed.
#[derive(Debug)]
struct Explained {
    findings: Vec<(&'static str, String)>,
    good: bool,
}

fn explain(body: &[u8], key: &Secret, settings: &Settings, now: Timestamp) -> Explained {
    let mut findings = Vec::new();
    let outcome = Incoming::read(body).and_then(|incoming| {
        findings.push(("body", whose(&incoming)));
        if !settings.unsigned_kinds.contains(&incoming.kind()) && !incoming.is_signed_by_headers() {
            findings.extend(signature_findings(&incoming, key));
            findings.extend(window(&incoming, settings, now));
        }
        signature::verify(&incoming, &LegacyHeaders::default(), settings, now)
    });
    let good = outcome.is_ok();
    findings.push((
        "verdict",
        match outcome {
            Ok(verified) if verified.key().is_some() => "good: the callback is accepted as verified".to_owned(),
            Ok(_) => "not checked: CSS never signs events of this kind".to_owned(),
            Err(refusal) => format!("refused as {}: {}", refusal.reason(), said(&refusal)),
        },
    ));
    Explained { findings, good }
}

fn whose(incoming: &Incoming<'_>) -> String {
    let facts = incoming.facts();
    let place: Vec<_> = [facts.domain, facts.app, facts.stream].into_iter().flatten().collect();
    let of = if place.is_empty() { String::new() } else { format!(" of {}", place.join("/")) };
    let number = facts.event_type.map_or("without a known number".to_owned(), |n| format!("event_type {n}"));
    format!("{}{of} ({number})", facts.kind)
}

fn signature_findings(incoming: &Incoming<'_>, key: &Secret) -> Vec<(&'static str, String)> {
    let (t, sign) = (once(incoming, "t"), once(incoming, "sign"));
    let mut findings = vec![
        (
            "t",
            match &t {
                Ok(t) if signature::is_strict_t(t) => format!("{t}, strict decimal digits"),
                Ok(t) => format!("`{t}` is not strict decimal digits"),
                Err(what) => (*what).to_owned(),
            },
        ),
        (
            "sign",
            match &sign {
                Ok(sign) if is_sign(sign) => "32 hexadecimal digits".to_owned(),
                Ok(sign) => format!("`{sign}` is not 32 hexadecimal digits"),
                Err(what) => (*what).to_owned(),
            },
        ),
    ];
    if let Some(t) = t.ok().filter(|t| signature::is_strict_t(t)) {
        let right = signature::sign(key, &t);
        findings.push((
            "digest",
            match sign {
                Ok(sign) if sign.eq_ignore_ascii_case(&right) => {
                    format!("MD5(key + t) = {right}, and `sign` is the same")
                }
                Ok(sign) => format!("MD5(key + t) = {right}, but `sign` is {sign}: another key, or another `t`"),
                Err(_) => format!("MD5(key + t) = {right}"),
            },
        ));
    }
    findings
}

/// The member's text, if it is there once.
fn once(incoming: &Incoming<'_>, name: &str) -> Result<String, &'static str> {
    match incoming.lookup(name) {
        Lookup::Absent => Err("missing; CSS leaves it out when the callback template has no key"),
        Lookup::Once(value) => Ok(value.text().into_owned()),
        Lookup::Repeated => Err("repeated"),
    }
}

fn is_sign(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn window(incoming: &Incoming<'_>, settings: &Settings, now: Timestamp) -> Option<(&'static str, String)> {
    let secs = once(incoming, "t").ok().filter(|t| signature::is_strict_t(t))?.parse().ok()?;
    let t = Timestamp::from_secs(secs);
    let relation = if now > t {
        format!("expired {} ago; the grace is {}", moment::words(now.since(t)), moment::words(settings.expiry_grace))
    } else {
        let limit = moment::words(settings.future_limit);
        format!("valid for another {}; it may lie {limit} ahead", moment::words(t.since(now)))
    };
    Some(("window", format!("`t` is {}: {relation}", t.rfc3339_secs())))
}

/// The refusal, with spans in words.
fn said(refusal: &Refusal) -> String {
    match refusal {
        Refusal::SignatureExpired { past, grace } => {
            format!("`t` expired {} ago, and the grace is {}", moment::words(*past), moment::words(*grace))
        }
        Refusal::SignatureFuture { ahead, limit } => {
            format!("`t` lies {} ahead, and the limit is {}", moment::words(*ahead), moment::words(*limit))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(body: &str, now_secs: i64) -> (bool, String) {
        let key = Secret::new("abc123");
        let keys = vec![Key { name: "main".to_owned(), key: key.clone(), domains: Vec::new() }];
        let settings = Settings { keys, ..Settings::default() };
        let explained = explain(body.as_bytes(), &key, &settings, Timestamp::from_secs(now_secs));
        let lines: Vec<_> = explained.findings.iter().map(|(what, finding)| format!("{what}: {finding}")).collect();
        (explained.good, lines.join("\n"))
    }

    #[test]
    fn each_check_is_explained() {
        let body = r#"{"event_type":1,"app":"a.com","stream_id":"s","t":1234567890,"sign":"DB6025d933be0dac8829ed47217446e1"}"#;
        let (good, said) = explained(body, 1_234_567_800);
        assert!(good && said.contains("stream-push of a.com/s") && said.contains("valid for another 1m 30s"), "{said}");
        let (good, said) = explained(body, 1_234_567_890 + 3 * 3600);
        assert!(!good && said.contains("expired 3h ago") && said.contains("signature-expired"), "{said}");
        let (good, said) = explained(&body.replace("DB", "00"), 1_234_567_800);
        assert!(!good && said.contains("but `sign` is") && said.contains("signature-mismatch"), "{said}");
    }

    #[test]
    fn what_is_missing_or_malformed_is_said() {
        for (body, expected) in [
            (r#"{"event_type":1}"#, "refused as signature-missing"),
            (r#"{"event_type":1,"t":"x","sign":"1"}"#, "`x` is not strict decimal digits"),
            (r#"{"event_type":1,"t":1,"t":2}"#, "t: repeated"),
            ("[]", "refused as malformed-json"),
            ("", "refused as empty"),
        ] {
            let (good, said) = explained(body, 0);
            assert!(!good && said.contains(expected), "{body}: {said}");
        }
        let (good, said) = explained(r#"{"event_type":314}"#, 0);
        assert!(good && said.contains("not checked"), "{said}");
    }
}
