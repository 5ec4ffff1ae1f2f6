//! Callbacks and events that come back in as lines of text: spills from standard error, and exported events.

use std::collections::{HashMap, VecDeque};
use std::future::ready;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::importing::queued;
use super::{Callback, Excess, Intake, Ruling, Terms};
use crate::clock::Timestamp;
use crate::event::{Event, EventId, Identity, Incoming, Reason, Verification, payload};
use crate::signature::LegacyHeaders;
use crate::store::{Appended, NewEvent, StoreError};

/// What became of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// A new event.
    Event,
    /// We had it.
    Duplicate,
    /// Kept in quarantine.
    Refused,
    /// Some other line of a log.
    Nothing,
}

/// A line that cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It says nothing we understand.
    #[error("{0}")]
    Line(String),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What becomes of a line that has its place in the store's queue.
pub(super) type Importation<'a> = BoxFuture<'a, Result<Imported, ImportError>>;

/// A callback that went to standard error because the store could not confirm it in time.
#[derive(Debug, Deserialize)]
struct Spill {
    received_at: String,
    path: String,
    refusal: Option<String>,
    body_base64: String,
    #[serde(default)]
    bytes: Option<u64>,
    #[serde(default)]
    headers: LegacyHeaders,
}

/// A line of an export: a CloudEvent and the body it was made from.
#[derive(Debug, Deserialize)]
struct Exported {
    id: EventId,
    receivedat: String,
    verification: String,
    rawbody_base64: String,
}

/// How far the clock of another machine may be ahead of ours.
const AHEAD_MAX: Duration = Duration::from_hours(24);

/// Bytes of one line: Base64 of the largest body that can be configured, with room to spare.
pub const LINE_MAX: usize = 64 << 20;
/// Streams whose lines are joined at the same time; containers have two.
const STREAMS_MAX: usize = 4;

/// The line of a spill, without line break.
pub fn spill_line(callback: &Callback, refusal: Option<Reason>) -> String {
    let mut line = serde_json::json!({
        "spill": 1,
        "received_at": callback.received_at.rfc3339(),
        "path": callback.path,
        "refusal": refusal.map(Reason::slug),
        "body_base64": BASE64.encode(&callback.body),
    });
    if let Some(excess) = callback.excess {
        line["bytes"] = excess.read.into();
    }
    if !callback.headers.is_empty() {
        line["headers"] = serde_json::to_value(&callback.headers).unwrap_or_default();
    }
    line.to_string()
}

impl Intake {
    /// Takes a spill or an exported event back in. A spill is checked as of its receipt, but not for the URL token,
    /// which is not in it; an exported event is taken as it is, with its id, and owed to nobody: it was delivered where
    /// it comes from, and can be replayed.
    pub async fn import(&self, line: &str) -> Result<Imported, ImportError> {
        self.begin_import(line).await.await
    }

    /// Has a line take its place in the store's queue, and returns what becomes of it. So lines are stored in the order in
    /// which this was done.
    pub(super) async fn begin_import(&self, line: &str) -> Importation<'_> {
        self.judge_line(line).await.unwrap_or_else(|error| Box::pin(ready(Err(error))))
    }

    async fn judge_line(&self, line: &str) -> Result<Importation<'_>, ImportError> {
        let nothing = || -> Importation<'_> { Box::pin(ready(Ok(Imported::Nothing))) };
        let value: serde_json::Value = match serde_json::from_str(line) {
            Ok(value) => value,
            Err(_) if is_of_a_text_log(line) => return Ok(nothing()),
            Err(error) => return Err(ImportError::Line(format!("it is no JSON: {error}"))),
        };
        let read = |error: serde_json::Error| ImportError::Line(error.to_string());
        if value.get("spill").is_some() {
            return self.import_spill(serde_json::from_value(value).map_err(read)?).await;
        }
        if value.get("specversion").is_some() {
            return self.import_event(serde_json::from_value(value).map_err(read)?).await;
        }
        if value.get("timestamp").is_some() && value.get("level").is_some() {
            return Ok(nothing());
        }
        Err(ImportError::Line("it is neither a spilled callback nor an exported event".to_owned()))
    }

    async fn import_spill(&self, spill: Spill) -> Result<Importation<'_>, ImportError> {
        let refusal = spill.refusal.as_deref().map(str::parse::<Reason>).transpose();
        let refusal = refusal.map_err(|error| ImportError::Line(error.to_string()))?;
        let body = decode(&spill.body_base64)?;
        let read = spill.bytes.unwrap_or(body.len() as u64);
        let callback = Callback {
            received_at: self.receipt(&spill.received_at)?,
            path: spill.path,
            route: None,
            token: None,
            headers: spill.headers,
            excess: (refusal == Some(Reason::TooLarge)).then_some(Excess { limit: body.len(), read }),
            body,
        };
        // One that was refused for its token carried none that was right, and is looked at as carrying none.
        match self.rule_on(&callback, Terms { token: refusal == Some(Reason::Token), force: false }) {
            Ruling::Refused(refused) => {
                let kept = queued(|| self.store.refuse_unless_known((*refused).clone())).await;
                Ok(Box::pin(async { Ok(if kept.await? { Imported::Refused } else { Imported::Duplicate }) }))
            }
            Ruling::Event(admitted) => {
                let appended = queued(|| self.store.append(admitted.new.clone())).await;
                Ok(Box::pin(async move {
                    let (event, appended) = (&admitted.new.event, appended.await?);
                    self.count(event.facts.kind.slug(), event.received_at, appended);
                    Ok(imported(appended))
                }))
            }
        }
    }

    async fn import_event(&self, exported: Exported) -> Result<Importation<'_>, ImportError> {
        let body = decode(&exported.rawbody_base64)?;
        let unknown = || ImportError::Line(format!("`{}` is no verification", exported.verification));
        let verification = Verification::from_slug(&exported.verification).ok_or_else(unknown)?;
        let incoming = Incoming::read(&body).map_err(|refusal| ImportError::Line(refusal.to_string()))?;
        let reading = payload::read(incoming.kind(), incoming.body());
        let facts = incoming.facts();
        let identity = Identity::of(incoming.body(), facts.occurred_at, reading.natural_key.as_deref());
        let received_at = self.receipt(&exported.receivedat)?;
        let event = Event { id: exported.id, facts, received_at, verification, body: body.clone() };
        let new = NewEvent { event: event.into(), identity, drift: reading.drift, owed: Vec::new(), readmitted: None };
        if self.store.event(exported.id).await?.is_some_and(|stored| stored.event.body != body) {
            return Err(ImportError::Line(format!("another event has the id {}", exported.id)));
        }
        let appended = queued(|| self.store.append(new.clone())).await;
        Ok(Box::pin(async { appended.await.map(imported).map_err(ImportError::Store) }))
    }

    /// A moment of receipt. One in a far future is none: it would hide for as long that nothing is received any more.
    fn receipt(&self, text: &str) -> Result<Timestamp, ImportError> {
        let received_at =
            Timestamp::parse_rfc3339(text).ok_or_else(|| ImportError::Line(format!("`{text}` is no time")))?;
        if received_at.since(self.clock.now()) > AHEAD_MAX {
            return Err(ImportError::Line(format!("`{text}` lies in the future: it cannot have been received then")));
        }
        Ok(received_at)
    }
}

fn imported(appended: Appended) -> Imported {
    match appended {
        Appended::Stored { .. } => Imported::Event,
        Appended::Duplicate(_) => Imported::Duplicate,
    }
}

fn decode(base64: &str) -> Result<Bytes, ImportError> {
    BASE64.decode(base64).map(Bytes::from).map_err(|error| ImportError::Line(format!("its body is no Base64: {error}")))
}

/// Whether this is a line of our log as text: it begins with its time. With any trace of a spill or an export in it, it may
/// be one in a frame we do not know, and is not to be passed over.
fn is_of_a_text_log(line: &str) -> bool {
    stamped(line).is_some() && !TRACES.iter().any(|trace| line.contains(trace))
}

/// What stands behind the time a line begins with, if it does.
fn stamped(line: &str) -> Option<&str> {
    let (time, text) = line.split_once(' ')?;
    Timestamp::parse_rfc3339(time).map(|_| text)
}

/// Whether a line of ours begins here.
fn begins_ours(text: &str) -> bool {
    HEADS.iter().any(|head| text.starts_with(head))
}

/// How spills and exported events begin. In the middle of one, quotes behind a brace are escaped.
const HEADS: [&str; 2] = [r#"{"spill":"#, r#"{"specversion":"#];
/// What stands in every spill and every exported event.
const TRACES: [&str; 4] = ["\"spill", "spill\\\"", "body_base64", "specversion"];

/// Lines as we wrote them, made of lines as a container's log holds them: Docker's `{"log":…}` and the CRI's
/// `TIME STREAM P|F TEXT` are stripped, and what they split is joined; so is the time that `docker logs -t` and
/// `kubectl logs --timestamps` put before a line. Lines of other framing come through unchanged.
#[derive(Debug, Default)]
pub struct Lines {
    /// Parts of a line that is not complete, with the number of the first, by stream.
    partial: HashMap<String, (u64, String)>,
    number: u64,
    ready: VecDeque<(u64, String)>,
}

#[derive(Deserialize)]
struct DockerLine {
    log: String,
    stream: String,
}

/// The text in the frame of a container's log.
struct Framed {
    text: String,
    stream: String,
    ends_line: bool,
}

impl Lines {
    /// Takes the next line of the file, with or without its line break. Blanks at its end may be the end of a part.
    pub fn push(&mut self, line: &str) {
        self.number += 1;
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let Some(framed) = unframe(line) else {
            // Tools that show the log of a container put the time before each line when asked to.
            let text = stamped(line).filter(|text| begins_ours(text)).unwrap_or(line);
            self.complete(self.number, text.to_owned());
            return;
        };
        // What began before was cut off, as by the end of the process that wrote it.
        if begins_ours(&framed.text)
            && let Some((number, cut)) = self.partial.remove(&framed.stream)
        {
            self.complete(number, cut);
        }
        let (number, mut joined) = self.partial.remove(&framed.stream).unwrap_or((self.number, String::new()));
        joined.push_str(&framed.text);
        let bounded = joined.len() < LINE_MAX && self.partial.len() < STREAMS_MAX;
        if !framed.ends_line && bounded {
            self.partial.insert(framed.stream, (number, joined));
        } else if joined.trim_start().starts_with('{') {
            // Anything else in a container's log is some other line of the service.
            self.complete(number, joined);
        }
    }

    /// The file has ended: what was joined so far are lines.
    pub fn end(&mut self) {
        for (number, joined) in std::mem::take(&mut self.partial).into_values() {
            self.complete(number, joined);
        }
    }

    /// The next complete line, with the number of the line it began in.
    pub fn pop(&mut self) -> Option<(u64, String)> {
        self.ready.pop_front()
    }

    fn complete(&mut self, number: u64, line: String) {
        if !line.trim().is_empty() {
            self.ready.push_back((number, line));
        }
    }
}

fn unframe(line: &str) -> Option<Framed> {
    if let Ok(DockerLine { log, stream }) = serde_json::from_str(line) {
        return Some(Framed { text: log.trim_end_matches('\n').to_owned(), stream, ends_line: log.ends_with('\n') });
    }
    let mut parts = line.splitn(4, ' ');
    // A line as long as its parts ends with a part of nothing, and its last blank may have been cut off.
    let (time, stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next().unwrap_or_default());
    let is_cri = matches!(stream, "stderr" | "stdout") && matches!(tag, "P" | "F");
    if !is_cri || Timestamp::parse_rfc3339(time).is_none() {
        return None;
    }
    Some(Framed { text: text.to_owned(), stream: stream.to_owned(), ends_line: tag == "F" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(lines: &[&str]) -> Vec<(u64, String)> {
        let mut all = Lines::default();
        for line in lines {
            all.push(line);
        }
        all.end();
        std::iter::from_fn(|| all.pop()).collect()
    }

    #[test]
    fn lines_are_stripped_of_their_frames_and_joined() {
        let spill = [(1, r#"{"spill":1}"#.to_owned())];
        assert_eq!(joined(&[r#"{"spill":1}"#, ""]), spill);
        assert_eq!(
            joined(&[
                r#"{"log":"{\"spill\"","stream":"stderr","time":"2023-10-06T00:17:09.66Z"}"#,
                r#"{"log":":1}\n","stream":"stderr","time":"2023-10-06T00:17:09.66Z"}"#,
            ]),
            spill
        );
        assert_eq!(
            joined(&[
                r#"2023-10-06T00:17:09.669794202Z stderr P {"spill""#,
                r"2023-10-06T00:17:09.669794203Z stderr F :1}",
                r"2023-10-06T00:17:09.669794203Z stderr F some text of a log",
            ]),
            spill
        );
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_swallow_the_next_one() {
        let [time, whole] = ["2023-10-06T00:17:09.669794202Z stderr", r#"{"spill":2}"#];
        let cri = |tag, text: &str| format!("{time} {tag} {text}");
        let docker = |text: &str| serde_json::json!({"log": text, "stream": "stderr", "time": "x"}).to_string();
        let cut = r#"{"spill":1,"body_"#.to_owned();
        for (first, next) in [
            (cri("P", &cut), vec![cri("F", whole)]),
            (cri("P", &cut), vec![cri("P", &whole[..9]), cri("F", &whole[9..])]),
            (docker(&cut), vec![docker(&format!("{whole}\n"))]),
        ] {
            let lines: Vec<_> = std::iter::once(&first).chain(&next).map(String::as_str).collect();
            assert_eq!(joined(&lines), [(1, cut.clone()), (2, whole.to_owned())]);
        }
    }

    #[test]
    fn a_time_before_a_line_of_ours_is_stripped() {
        let text = "2023-10-06T00:17:09.66Z  INFO livehook::app: ready";
        assert_eq!(
            joined(&[r#"2023-10-06T00:17:09.669794202Z {"spill":1}"#, text]),
            [(1, r#"{"spill":1}"#.to_owned()), (2, text.to_owned())]
        );
    }

    #[test]
    fn a_line_of_a_text_log_is_told_from_a_broken_one() {
        assert!(is_of_a_text_log("2023-10-06T00:17:09.66Z  INFO livehook::app: ready"));
        for broken in [
            r#"{"spill":1,"received_at":"2023"#,
            r#"2023-10-06T00:17:09.66Z pod {"spill":1}"#,
            r#"2023-10-06T00:17:09.66Z {\"spill\":1"#,
            r#"2023-10-06T00:17:09.66Z th":"/","body_base64":"e30="}"#,
            "nonsense",
        ] {
            assert!(!is_of_a_text_log(broken), "{broken}");
        }
    }

    #[test]
    fn parts_keep_their_blanks_and_may_be_empty() {
        let whole = [(1, r#"{"spill":1,"path":"a b"}"#.to_owned()), (4, r#"{"spill":2}"#.to_owned())];
        for last in ["F ", "F", "F \r\n"] {
            let first = r#"2023-10-06T00:17:09.669794202Z stderr P {"spill":1,"path":"a "#.to_owned() + "\n";
            let second = "2023-10-06T00:17:09.669794202Z stderr P b\"}\n";
            let third = format!("2023-10-06T00:17:09.669794202Z stderr {last}");
            let fourth = r#"2023-10-06T00:17:09.669794202Z stderr F {"spill":2}"#;
            assert_eq!(joined(&[&first, second, &third, fourth]), whole, "{last:?}");
        }
    }
}
