//! `/streams`: who is live, and what became of each push.

use std::collections::HashSet;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::openapi;
use super::query::{Asked, Named, limit, named};
use super::{Admin, Problem};
use crate::clock::Timestamp;
use crate::event::payload::Recording;
use crate::event::{Event, Payload};
use crate::store::{StreamFilter, StreamPush, StreamRow, StreamStory, StreamsRebuild};
use crate::streams::{Entry, Span, StreamName};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    #[param(schema_with = stream_state)]
    state: Option<String>,
    #[param(schema_with = openapi::text)]
    domain: Option<String>,
    #[param(schema_with = openapi::text)]
    app: Option<String>,
    #[param(schema_with = openapi::limit)]
    limit: Option<usize>,
    /// `next` of the page before.
    #[param(schema_with = openapi::text)]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamList)]
pub(super) struct List {
    streams: Vec<Row>,
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Stream)]
pub(super) struct Row {
    domain: Option<String>,
    app: Option<String>,
    stream: String,
    #[schema(schema_with = stream_state)]
    state: &'static str,
    #[serde(flatten)]
    push: PushFacts,
    pushes: u64,
    last_event_at: String,
    recordings: u64,
    screencapture_url: Option<String>,
}

/// What is said of a push.
#[derive(Serialize, ToSchema)]
#[schema(as = StreamPushFacts)]
struct PushFacts {
    sequence: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    duration_ms: Option<i64>,
    end: Option<End>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamEnd)]
struct End {
    errcode: Option<i64>,
    class: &'static str,
    meaning: &'static str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamDetail)]
pub(super) struct Detail {
    #[serde(flatten)]
    row: Row,
    timeline: Vec<PushDetail>,
    /// Of no push that is told of.
    other_recordings: Vec<Recorded>,
    problems: Vec<Fault>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamPush)]
struct PushDetail {
    #[serde(flatten)]
    push: PushFacts,
    #[schema(schema_with = stream_state)]
    state: &'static str,
    recordings: Vec<Recorded>,
    screencapture_url: Option<String>,
    screencapture_at: Option<String>,
    problems: Vec<Fault>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamRecording)]
struct Recorded {
    event_id: String,
    url: Option<String>,
    file_id: Option<String>,
    format: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    duration_ms: Option<i64>,
    bytes: Option<i64>,
    /// Whether a fault of its recording was reported.
    abnormal: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamFault)]
struct Fault {
    #[schema(schema_with = openapi::kind)]
    kind: &'static str,
    event_id: String,
    at: String,
    detail: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = StreamsRebuild)]
pub(super) struct Rebuild {
    #[schema(schema_with = rebuild_state)]
    state: &'static str,
    done: u64,
    total: u64,
}

/// Characters of what is said about a fault.
const DETAIL_CHARS_MAX: usize = 500;

/// Lists streams by name.
#[utoipa::path(
    get,
    path = "/streams",
    tag = "streams",
    operation_id = "listStreams",
    params(ListQuery),
    responses((status = OK, description = "A page", body = List)),
)]
pub(super) async fn list(State(admin): State<Admin>, Asked(query): Asked<ListQuery>) -> Result<Json<List>, Problem> {
    let live = |slug: &str| match slug {
        "live" => Some(true),
        "ended" => Some(false),
        _ => None,
    };
    let live = named(query.state.as_deref(), live, "state; a stream is live or ended")?;
    let filter = StreamFilter { live, domain: query.domain, app: query.app };
    let page = admin.store().streams(filter, limit(query.limit)?, query.cursor.as_deref()).await?;
    Ok(Json(List { streams: page.items.into_iter().map(Row::from).collect(), next: page.next }))
}

/// Shows a stream with its pushes and what became of them.
///
/// A dash stands for a domain or app that is not known, and one of dashes alone is written with one more. Any part that is
/// `.` or `..`, or one of these and dashes behind it, is written with one dash more, too.
#[utoipa::path(
    get,
    path = "/streams/{domain}/{app}/{stream}",
    tag = "streams",
    operation_id = "showStream",
    params(
        ("domain" = String, Path, description = "Push domain"),
        ("app" = String, Path, description = "App"),
        ("stream" = String, Path, description = "Stream"),
    ),
    responses((status = OK, description = "The stream", body = Detail)),
)]
pub(super) async fn show(
    State(admin): State<Admin>,
    Named((domain, app, stream)): Named<(String, String, String)>,
) -> Result<Json<Detail>, Problem> {
    let name = StreamName { domain: part(&domain), app: part(&app), stream: stream_part(&stream) };
    let story = admin.store().stream(name).await?;
    let story =
        story.ok_or_else(|| Problem::not_found(format!("no push of a stream `{domain}/{app}/{stream}` is known")))?;
    Ok(Json(Detail::from(story)))
}

/// Begins to make all streams anew from the events that are stored; goes on with it where it has been begun.
#[utoipa::path(
    post,
    path = "/streams/rebuild",
    tag = "streams",
    operation_id = "rebuildStreams",
    request_body = openapi::Empty,
    responses((status = OK, description = "It has begun", body = Rebuild)),
)]
pub(super) async fn rebuild(State(admin): State<Admin>) -> Result<Json<Rebuild>, Problem> {
    admin.store().begin_streams_rebuild().await?;
    tracing::info!("streams are made anew");
    rebuild_progress(State(admin)).await
}

/// Tells how far the streams are made anew.
#[utoipa::path(
    get,
    path = "/streams/rebuild",
    tag = "streams",
    operation_id = "streamsRebuild",
    responses((status = OK, description = "How far", body = Rebuild)),
)]
pub(super) async fn rebuild_progress(State(admin): State<Admin>) -> Result<Json<Rebuild>, Problem> {
    let progress = admin.store().streams_rebuild().await?;
    let state = if progress.is_some() { "running" } else { "idle" };
    let StreamsRebuild { done, total } = progress.unwrap_or_default();
    Ok(Json(Rebuild { state, done, total }))
}

/// A part of a name out of a path. A path cannot hold parts that are empty, `.` or `..`: these are written with a dash
/// behind them, and what is one of them and dashes by itself with one dash more.
fn part(text: &str) -> String {
    let text = text.trim();
    let written = matches!(text.trim_end_matches('-'), "" | "." | "..");
    text.strip_suffix('-').filter(|_| written).unwrap_or(text).to_owned()
}

/// The last part: a stream has a name, so that dashes alone are one.
fn stream_part(text: &str) -> String {
    if text.trim().bytes().all(|byte| byte == b'-') { text.trim().to_owned() } else { part(text) }
}

impl From<StreamRow> for Row {
    fn from(row: StreamRow) -> Self {
        let present = |part: String| Some(part).filter(|part| !part.is_empty());
        Self {
            domain: present(row.name.domain),
            app: present(row.name.app),
            stream: row.name.stream,
            state: state(row.live),
            push: PushFacts::of(row.current.as_ref()),
            pushes: row.pushes,
            last_event_at: row.last_event_at.rfc3339(),
            recordings: row.recordings,
            screencapture_url: row.screencapture.and_then(|picture| picture.url),
        }
    }
}

impl PushFacts {
    fn of(span: Option<&Span>) -> Self {
        Self {
            sequence: span.and_then(|span| span.name.sequence().map(str::to_owned)),
            started_at: span.and_then(|span| span.began).map(Timestamp::rfc3339),
            ended_at: span.and_then(Span::ended).map(Timestamp::rfc3339),
            duration_ms: span.and_then(Span::lasted),
            end: span.and_then(|span| {
                let cause = span.cause()?;
                Some(End { errcode: span.end?.errcode, class: cause.class.slug(), meaning: cause.meaning })
            }),
        }
    }
}

impl From<StreamStory> for Detail {
    fn from(story: StreamStory) -> Self {
        let abnormal = abnormal_sessions(&story);
        let files = |events: &[Event]| events.iter().filter_map(|event| Recorded::of(event, &abnormal)).collect();
        let live = story.row.live;
        let push = |(place, push): (usize, &StreamPush)| PushDetail {
            push: PushFacts::of(Some(&push.span)),
            state: state(live && place == 0),
            recordings: files(&push.recordings),
            screencapture_url: push.screencapture.as_ref().and_then(|picture| picture.url.clone()),
            screencapture_at: push.screencapture.as_ref().map(|picture| picture.at.rfc3339()),
            problems: push.problems.iter().map(Fault::of).collect(),
        };
        Self {
            timeline: story.timeline.iter().enumerate().map(push).collect(),
            other_recordings: files(&story.recordings),
            problems: story.problems.iter().map(Fault::of).collect(),
            row: Row::from(story.row),
        }
    }
}

/// The recordings of which a fault was reported.
fn abnormal_sessions(story: &StreamStory) -> HashSet<String> {
    let of_pushes = story.timeline.iter().flat_map(|push| &push.problems);
    of_pushes
        .chain(&story.problems)
        .filter_map(|event| match event.payload() {
            Payload::RecordingException(exception) => exception.session_id,
            _ => None,
        })
        .collect()
}

impl Recorded {
    fn of(event: &Event, abnormal: &HashSet<String>) -> Option<Self> {
        let Payload::Recording(file) = event.payload() else { return None };
        let Some(Entry::Recording { from, until }) = Entry::of(event) else { return None };
        let is_abnormal = sessions(&file).any(|session| abnormal.contains(session));
        Some(Self {
            event_id: event.id.to_string(),
            started_at: Some(from.rfc3339()),
            ended_at: Some(until.rfc3339()),
            duration_ms: file.duration.and_then(|secs| secs.checked_mul(1000)),
            bytes: file.file_size,
            abnormal: is_abnormal,
            url: file.video_url,
            file_id: file.file_id,
            format: file.file_format,
        })
    }
}

/// What the recording of a file is called in the reports of its faults.
fn sessions(file: &Recording) -> impl Iterator<Item = &String> {
    let extras = file.callback_ext.as_ref().and_then(|extras| extras.value.as_ref());
    extras.and_then(|extras| extras.session_id.as_ref()).into_iter().chain(&file.task_id)
}

impl Fault {
    fn of(event: &Event) -> Self {
        let detail = detail(&event.payload());
        Self {
            kind: event.facts.kind.slug(),
            event_id: event.id.to_string(),
            at: moment(event).rfc3339(),
            detail: detail.chars().take(DETAIL_CHARS_MAX).collect(),
        }
    }
}

/// What happened, in the words of the documentation where it has any, else in those of the callback.
fn detail(payload: &Payload) -> String {
    match payload {
        Payload::PushError(error) => {
            let fault = |fault: &crate::event::payload::PushFault| {
                let words = fault.meaning().map(|[english, _]| english.to_owned());
                times(words.or_else(|| fault.type_desc_en.clone()), fault.count)
            };
            joined("; ", error.abnormal_event.iter().map(fault))
        }
        Payload::RecordingException(exception) => {
            let fault = exception.exception.as_ref().map(|fault| {
                let words = fault.meaning().map(|[english, _]| english.to_owned());
                times(words.or_else(|| fault.desc.clone()), fault.occurs)
            });
            joined(": ", [exception.exception_level.clone().unwrap_or_default(), fault.unwrap_or_default()])
        }
        Payload::RecordingStatus(status) => match status.record_event.as_deref() {
            Some("record_start_failed") => "the recording could not be started".to_owned(),
            _ => "the recording failed".to_owned(),
        },
        Payload::ImageAudit(audit) => {
            let worst = [&audit.suggestion, &audit.label, &audit.sub_label].map(Clone::clone);
            finding(worst, audit.scores.first().copied())
        }
        Payload::AudioAudit(audit) => {
            let worst = [&audit.suggestion, &audit.label, &audit.sub_label].map(Clone::clone);
            finding(worst, audit.score)
        }
        _ => String::new(),
    }
}

fn times(words: Option<String>, count: Option<i64>) -> String {
    let words = words.filter(|words| !words.trim().is_empty()).unwrap_or_else(|| "a fault without a name".to_owned());
    match count {
        None | Some(1) => words,
        Some(count) => format!("{words} ({count} times)"),
    }
}

fn finding([suggestion, label, sub_label]: [Option<String>; 3], score: Option<f64>) -> String {
    let text = Option::unwrap_or_default;
    let score = score.map(|score| format!("score {score}"));
    joined(", ", [joined(": ", [text(suggestion), text(label)]), text(sub_label), text(score)])
}

/// The parts that are not empty.
fn joined(separator: &str, parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(separator)
}

fn moment(event: &Event) -> Timestamp {
    event.facts.occurred_at.unwrap_or(event.received_at)
}

fn state(live: bool) -> &'static str {
    if live { "live" } else { "ended" }
}

fn stream_state() -> utoipa::openapi::Schema {
    openapi::one_of(["live", "ended"])
}

fn rebuild_state() -> utoipa::openapi::Schema {
    openapi::one_of(["running", "idle"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_stands_for_no_name_and_dashes_are_written_with_one_more() {
        for (written, meant) in [("-", ""), ("--", "-"), ("---", "--"), ("-a", "-a"), ("live", "live"), ("a-", "a-")] {
            assert_eq!(part(written), meant, "{written}");
        }
        assert_eq!(stream_part("--"), "--", "a stream has a name");
    }

    #[test]
    fn dots_that_would_mean_another_place_are_written_with_a_dash() {
        for (written, meant) in
            [(".-", "."), ("..-", ".."), (".--", ".-"), ("...", "..."), ("...-", "...-"), (".a-", ".a-")]
        {
            assert_eq!((part(written), stream_part(written)), (meant.to_owned(), meant.to_owned()), "{written}");
        }
    }

    #[test]
    fn what_happened_is_said_in_words() {
        let detail = |body: &str| {
            let incoming = crate::event::Incoming::read(body.as_bytes()).unwrap();
            let event = Event {
                id: crate::event::EventId::nil(),
                facts: incoming.facts(),
                received_at: Timestamp::default(),
                verification: crate::event::Verification::Verified,
                body: body.to_owned().into(),
            };
            super::detail(&event.payload())
        };
        for (body, expected) in [
            (
                r#"{"event_type":321,"abnormal_event":[{"type":6,"count":3},{"type":99,"type_desc_en":"odd","count":1},{}]}"#,
                "video frames come too far apart (3 times); odd; a fault without a name",
            ),
            (
                r#"{"event_type":341,"exception_level":"error","exception":{"type":-16,"occurs":1,"desc":"x"}}"#,
                "error: the stream could not be pulled",
            ),
            (r#"{"event_type":341,"exception":{"type":-1,"occurs":2,"desc":"x"}}"#, "x (2 times)"),
            (r#"{"event_type":332,"record_event":"record_start_failed"}"#, "the recording could not be started"),
            (
                r#"{"event_type":317,"suggestion":"Block","label":"Porn","subLabel":"","score":[99]}"#,
                "Block: Porn, score 99",
            ),
            (r#"{"event_type":315,"suggestion":"Review","label":"Ad","sub_label":"Sale"}"#, "Review: Ad, Sale"),
        ] {
            assert_eq!(detail(body), expected, "{body}");
        }
    }
}
