//! Reads what callers pass in query and body, and says what is wrong with it.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use http_body_util::{BodyExt as _, Limited};
use serde::de::DeserializeOwned;

use super::Problem;
use crate::clock::Timestamp;
use crate::event::EventId;

/// Rows of a page unless the caller asks otherwise, and at most.
pub(super) const LIMIT: usize = 100;
pub(super) const LIMIT_MAX: usize = 1000;
/// Ids one call may name.
pub(super) const IDS_MAX: usize = 1000;
/// Bytes of a body that is no import.
const BODY_MAX: usize = 64 << 10;
/// The calendar ends before its last day does: every offset must have room.
const LAST_MOMENT: &str = "9999-12-30T22:00:00Z";
/// How long it may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The query, of which nothing may be unknown.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(asked)| Self(asked)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

/// What the path names.
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(named)| Self(named)).map_err(|error| Problem::bad_request(error.body_text()))
    }
}

/// A JSON body, of which nothing may be unknown. It must be there: whoever means all says so with `{}`, and nobody by a
/// variable of his script that happened to be empty.
pub(super) struct Told<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Told<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = read(request.into_body()).await?;
        if is_blank(&body) {
            return Err(Problem::bad_request("the body is empty; an object without members is `{}`"));
        }
        parse(&body).map(Self)
    }
}

/// The same for a call whose path says all there is to say: no body is an empty object.
pub(super) struct Added<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Added<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = read(request.into_body()).await?;
        if is_blank(&body) { Ok(Self(T::default())) } else { parse(&body).map(Self) }
    }
}

fn is_blank(body: &[u8]) -> bool {
    body.trim_ascii().is_empty()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // A list would do for an object by position.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::bad_request("the body is no JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(format!("the body: {error}")))
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    let too_large = |_| Problem::too_large(format!("the body is larger than {BODY_MAX} bytes, or it broke off"));
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_MAX).collect()).await;
    let collected = collected.map_err(|_| Problem::bad_request("the body did not come in time"))?;
    collected.map(http_body_util::Collected::to_bytes).map_err(too_large)
}

/// The number of rows of a page.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(Problem::bad_request(format!("`limit` is a number from 1 to {LIMIT_MAX}"))),
    }
}

/// A moment in RFC 3339; none where nothing was passed.
pub(super) fn moment(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    // A plus sign of an offset that nobody encoded arrives as a blank.
    let read = |text: &str| Timestamp::parse_rfc3339(&text.replace(' ', "+"));
    let wrong =
        || Problem::bad_request(format!("`{name}` is a time such as 2026-01-31T08:00:00Z; the last is {LAST_MOMENT}"));
    text.map(|text| read(text).ok_or_else(wrong)).transpose()
}

/// The id of an event out of a path.
pub(super) fn event_id(text: &str) -> Result<EventId, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("there is no event `{text}`")))
}

/// A name out of a fixed set; none where nothing was passed.
pub(super) fn named<T>(text: Option<&str>, read: impl Fn(&str) -> Option<T>, what: &str) -> Result<Option<T>, Problem> {
    let wrong = |text| Problem::bad_request(format!("`{text}` is no {what}"));
    text.map(|text| read(text).ok_or_else(|| wrong(text))).transpose()
}

/// A list that chooses; one without entries would choose nothing.
pub(super) fn some_of(name: &str, list: Option<Vec<String>>) -> Result<Option<Vec<String>>, Problem> {
    match list {
        Some(list) if list.is_empty() => {
            Err(Problem::bad_request(format!("`{name}` is empty; leave it out to mean all")))
        }
        list => Ok(list),
    }
}
