//! `/replay`: events delivered once more.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::query::{Told, moment, named};
use super::{Admin, Problem};
use crate::clock::Timestamp;
use crate::event::EventId;
use crate::store::{EventFilter, Replay, ReplayId, ReplayState, Wanted, Wish};

/// Ids one call may name.
const IDS_MAX: usize = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Request {
    kind: Option<String>,
    domain: Option<String>,
    app: Option<String>,
    stream: Option<String>,
    since: Option<String>,
    until: Option<String>,
    /// Instead of what is above.
    ids: Option<Vec<String>>,
    handlers: Option<Vec<String>>,
    dry_run: bool,
    /// Events in a second.
    rate: Option<u32>,
    /// Answers when it has begun, not when it has ended.
    background: bool,
}

#[derive(Serialize)]
pub(super) struct Outcome {
    matched: u64,
    queued: u64,
}

#[derive(Serialize)]
pub(super) struct List {
    replays: Vec<Row>,
}

#[derive(Serialize)]
pub(super) struct Row {
    id: String,
    state: &'static str,
    matched: u64,
    /// Events it has come past.
    replayed: u64,
    queued: u64,
    started_at: String,
    ended_at: Option<String>,
    /// Why it failed.
    detail: Option<String>,
}

pub(super) async fn replay(State(admin): State<Admin>, Told(request): Told<Request>) -> Result<Response, Problem> {
    let (dry_run, background) = (request.dry_run, request.background);
    let wish = request.wish()?;
    let intake = &admin.0.intake;
    if dry_run {
        let matched = intake.count_replay(&wish).await?;
        return Ok(Json(Outcome { matched, queued: 0 }).into_response());
    }
    let begun = intake.replay(wish).await?;
    if background {
        return Ok((StatusCode::ACCEPTED, Json(Row::from(begun))).into_response());
    }
    // Should the caller hang up, the replay goes on.
    let ended = intake.replay_ended(begun.id).await?.unwrap_or(begun);
    match ended.state {
        ReplayState::Failed => Err(Problem::broken(ended.detail.unwrap_or_default())),
        _ => Ok(Json(Outcome { matched: ended.matched, queued: ended.queued }).into_response()),
    }
}

pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<List>, Problem> {
    let replays = admin.store().replays().await?;
    Ok(Json(List { replays: replays.into_iter().map(Row::from).collect() }))
}

pub(super) async fn show(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<Row>, Problem> {
    let found = admin.store().find_replay(number(&id)?).await?;
    Ok(Json(found.ok_or_else(|| missing(&id))?.into()))
}

pub(super) async fn cancel(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<Row>, Problem> {
    let replay = admin.0.intake.cancel_replay(number(&id)?).await?.ok_or_else(|| missing(&id))?;
    match replay.state {
        ReplayState::Cancelled => Ok(Json(replay.into())),
        state => Err(Problem::conflict(format!("the replay has ended already; it is {}", state.slug()))),
    }
}

impl Request {
    fn wish(self) -> Result<Wish, Problem> {
        if self.rate == Some(0) {
            return Err(Problem::bad_request("`rate` is a number of events in a second, from 1"));
        }
        Ok(Wish { handlers: some_of("handlers", self.handlers.clone())?, rate: self.rate, events: self.events()? })
    }

    fn events(self) -> Result<Wanted, Problem> {
        let filter = EventFilter {
            kind: named(self.kind.as_deref(), |slug| slug.parse().ok(), "kind")?,
            domain: self.domain,
            app: self.app,
            stream: self.stream,
            verification: None,
            since: moment("since", self.since.as_deref())?,
            until: moment("until", self.until.as_deref())?,
        };
        let Some(ids) = some_of("ids", self.ids)? else {
            return Ok(Wanted::Matching(filter));
        };
        if filter != EventFilter::default() {
            return Err(Problem::bad_request("`ids` names the events; leave out what else would choose them"));
        }
        if ids.len() > IDS_MAX {
            return Err(Problem::bad_request(format!("`ids` names more than {IDS_MAX} events")));
        }
        let id = |text: String| text.parse::<EventId>().map_err(|_| format!("`ids`: `{text}` is no id of an event"));
        Ok(Wanted::These(ids.into_iter().map(id).collect::<Result<_, _>>().map_err(Problem::bad_request)?))
    }
}

/// A list that chooses; one without entries would choose nothing.
fn some_of(name: &str, list: Option<Vec<String>>) -> Result<Option<Vec<String>>, Problem> {
    match list {
        Some(list) if list.is_empty() => {
            Err(Problem::bad_request(format!("`{name}` is empty; leave it out to mean all")))
        }
        list => Ok(list),
    }
}

fn number(id: &str) -> Result<ReplayId, Problem> {
    id.parse().map(ReplayId).map_err(|_| missing(id))
}

fn missing(id: &str) -> Problem {
    Problem::not_found(format!("there is no replay `{id}`"))
}

impl From<Replay> for Row {
    fn from(replay: Replay) -> Self {
        Self {
            id: replay.id.0.to_string(),
            state: replay.state.slug(),
            matched: replay.matched,
            replayed: replay.replayed,
            queued: replay.queued,
            started_at: replay.started_at.rfc3339(),
            ended_at: replay.ended_at.map(Timestamp::rfc3339),
            detail: replay.detail,
        }
    }
}
