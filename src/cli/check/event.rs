//! `livehook check --event`: which handlers would get an event.

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Deserializer, Value, json};

use crate::cli::exit::Failed;
use crate::cli::moment;
use crate::cli::output::{self, Format};
use crate::cli::table::Table;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::event::{Event, EventId, Incoming, Verification};
use crate::handler::{Candidate, Verdict};

/// A CloudEvent, as exported or as a handler got it.
#[derive(Deserialize)]
struct CloudEvent<'a> {
    #[expect(dead_code, reason = "what has it is a CloudEvent")]
    specversion: String,
    id: Option<EventId>,
    receivedat: Option<String>,
    verification: Option<String>,
    rawbody_base64: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Prints what becomes of each event of a text. Fails, once all is said, when an expression came to no result.
pub(super) fn judge(config: &Config, text: &[u8], format: Format) -> anyhow::Result<()> {
    let mut good = true;
    let mut count = 0_u64;
    for value in Deserializer::from_slice(text).into_iter::<&RawValue>() {
        count += 1;
        let event = value.context("it is no JSON").and_then(|value| read(config, value.get()));
        let event = event.with_context(|| format!("event {count}"))?;
        let rows = rows(config, &event);
        good &= rows.iter().all(|row| !matches!(row.verdict, Verdict::Undecided(_)));
        match format {
            Format::Json => output::json(&as_json(&event, &rows).to_string())?,
            Format::Text => print(&event, &rows, count > 1)?,
        }
    }
    if count == 0 {
        bail!("there is no event in it");
    }
    if good { Ok(()) } else { Err(Failed.into()) }
}

struct Row<'c> {
    handler: &'c str,
    verdict: Verdict,
}

fn rows<'c>(config: &'c Config, event: &Event) -> Vec<Row<'c>> {
    let candidate = Candidate::new(event);
    let policies = config.handlers.iter().map(|settings| &settings.policy);
    policies.map(|policy| Row { handler: &policy.name, verdict: policy.filter.judge(&candidate) }).collect()
}

fn read(config: &Config, text: &str) -> anyhow::Result<Event> {
    match serde_json::from_str::<CloudEvent<'_>>(text) {
        Ok(cloudevent) => unpacked(config, &cloudevent),
        Err(_) => event(config, Bytes::copy_from_slice(text.as_bytes()), None, None, None),
    }
}

fn unpacked(config: &Config, cloudevent: &CloudEvent<'_>) -> anyhow::Result<Event> {
    let body = match (&cloudevent.rawbody_base64, cloudevent.data) {
        (Some(encoded), _) => BASE64.decode(encoded).context("`rawbody_base64` is no Base64")?,
        (None, Some(data)) => data.get().as_bytes().to_vec(),
        (None, None) => bail!("the CloudEvent has no `data`"),
    };
    let time = |text: &String| Timestamp::parse_rfc3339(text).with_context(|| format!("`{text}` is no time"));
    let received_at = cloudevent.receivedat.as_ref().map(time).transpose()?;
    let known = |slug: &String| Verification::from_slug(slug).with_context(|| format!("`{slug}` is no verification"));
    let verification = cloudevent.verification.as_ref().map(known).transpose()?;
    event(config, body.into(), cloudevent.id, received_at, verification)
}

/// The event that a body makes. What it does not say is as it would be if it came in now, with a good signature.
fn event(
    config: &Config,
    body: Bytes,
    id: Option<EventId>,
    received_at: Option<Timestamp>,
    verification: Option<Verification>,
) -> anyhow::Result<Event> {
    let facts = match Incoming::read(&body) {
        Ok(incoming) => incoming.facts(),
        Err(refusal) => bail!("it would be refused as {}: {}", refusal.reason(), output::plain(&refusal.to_string())),
    };
    let signature = &config.signature;
    let is_checked = !signature.keys.is_empty() && !signature.unsigned_kinds.contains(&facts.kind);
    let usual = if is_checked { Verification::Verified } else { Verification::Unsigned };
    Ok(Event {
        id: id.unwrap_or_else(EventId::now_v7),
        facts,
        received_at: received_at.unwrap_or_else(moment::now),
        verification: verification.unwrap_or(usual),
        body,
    })
}

fn print(event: &Event, rows: &[Row<'_>], is_further: bool) -> anyhow::Result<()> {
    if is_further {
        output::line("")?;
    }
    let facts = &event.facts;
    let names = [&facts.domain, &facts.app, &facts.stream].into_iter().flatten();
    let place = names.map(|name| output::plain(name)).collect::<Vec<_>>().join("/");
    output::line(format!("{} {place}", facts.kind).trim_end())?;
    let mut table = Table::new(&["HANDLER", "GETS IT", "WHY"]);
    for Row { handler, verdict } in rows {
        table.row([*handler, if verdict.delivers() { "yes" } else { "no" }, &reason(verdict).unwrap_or_default()]);
    }
    table.print()
}

fn as_json(event: &Event, rows: &[Row<'_>]) -> Value {
    let facts = &event.facts;
    let handlers = rows.iter().map(|Row { handler, verdict }| {
        let filter = match verdict {
            Verdict::Wanted => None,
            Verdict::Unwanted(unwanted) => Some(unwanted.key()),
            Verdict::Undecided(_) => Some("when"),
        };
        let failed = matches!(verdict, Verdict::Undecided(_));
        json!({
            "handler": handler, "delivered": verdict.delivers(), "filter": filter, "failed": failed,
            "reason": reason(verdict),
        })
    });
    json!({
        "id": event.id.to_string(), "kind": facts.kind.slug(), "domain": facts.domain, "app": facts.app,
        "stream": facts.stream, "handlers": handlers.collect::<Vec<_>>(),
    })
}

/// Why a handler does not get the event, or gets it although its expression failed.
fn reason(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Wanted => None,
        Verdict::Unwanted(unwanted) => Some(format!("`{}` does not let it through", unwanted.key())),
        Verdict::Undecided(error) => {
            let detail = error.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            Some(format!("`when` came to no result: {error}{detail}"))
        }
    }
}
