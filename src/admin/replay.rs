//! `/replay`: events delivered once more.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::openapi;
use super::query::{IDS_MAX, Named, Told, moment, named, some_of};
use super::{Admin, Problem};
use crate::clock::Timestamp;
use crate::event::{EventId, Verification};
use crate::store::{EventFilter, Replay, ReplayId, ReplayState, Wanted, Wish};

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ReplayRequest)]
pub(super) struct Request {
    #[schema(schema_with = openapi::kind)]
    kind: Option<String>,
    domain: Option<String>,
    app: Option<String>,
    stream: Option<String>,
    /// Received at or after.
    #[schema(schema_with = openapi::moment)]
    since: Option<String>,
    /// Received before.
    #[schema(schema_with = openapi::moment)]
    until: Option<String>,
    #[schema(schema_with = openapi::verification)]
    verification: Option<String>,
    /// Instead of what is above.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<String>>,
    /// To these; otherwise to all of the configuration.
    #[schema(min_items = 1)]
    handlers: Option<Vec<String>>,
    /// Counts, and queues nothing.
    dry_run: bool,
    /// Events in a second.
    #[schema(minimum = 1)]
    rate: Option<u32>,
    /// Answers when its events are counted and it has begun, not when it has ended.
    background: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Replayed)]
pub(super) struct Outcome {
    matched: u64,
    queued: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ReplayList)]
pub(super) struct List {
    replays: Vec<Row>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Replay)]
pub(super) struct Row {
    id: String,
    #[schema(schema_with = openapi::replay_state)]
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

/// Delivers events once more, queued behind what is pending.
///
/// Which events match is looked up first, in any case; with millions that takes a while.
#[utoipa::path(
    post,
    path = "/replay",
    tag = "replay",
    operation_id = "replay",
    request_body = Request,
    responses(
        (status = OK, description = "It has ended, or was a dry run", body = Outcome),
        (status = ACCEPTED, description = "It has begun, with `background`", body = Row),
    ),
)]
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

/// Lists the replays that run and the last that ended, newest first.
#[utoipa::path(
    get,
    path = "/replay",
    tag = "replay",
    operation_id = "listReplays",
    responses((status = OK, description = "All of them", body = List)),
)]
pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<List>, Problem> {
    let replays = admin.store().replays().await?;
    Ok(Json(List { replays: replays.into_iter().map(Row::from).collect() }))
}

/// Tells how far a replay has come.
#[utoipa::path(
    get,
    path = "/replay/{id}",
    tag = "replay",
    operation_id = "showReplay",
    params(("id" = String, Path, description = "The replay's number")),
    responses((status = OK, description = "The replay", body = Row)),
)]
pub(super) async fn show(State(admin): State<Admin>, Named(id): Named<String>) -> Result<Json<Row>, Problem> {
    let found = admin.store().find_replay(number(&id)?).await?;
    Ok(Json(found.ok_or_else(|| missing(&id))?.into()))
}

/// Ends a replay; what it has queued stays queued.
#[utoipa::path(
    post,
    path = "/replay/{id}/cancel",
    tag = "replay",
    operation_id = "cancelReplay",
    request_body = openapi::Empty,
    params(("id" = String, Path, description = "The replay's number")),
    responses((status = OK, description = "The replay", body = Row)),
)]
pub(super) async fn cancel(State(admin): State<Admin>, Named(id): Named<String>) -> Result<Json<Row>, Problem> {
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
            verification: named(self.verification.as_deref(), Verification::from_slug, "verification")?,
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
