//! Errors of the API as RFC 9457 problem documents. No other file here decides on a status.

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::intake::ReplayError;
use crate::store::StoreError;

/// Why a call was not answered: what the caller may know. What he may not goes to the log.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
}

/// A problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    /// What is wrong, for people.
    detail: &'a str,
}

impl Problem {
    /// The request says something we do not understand.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, detail: detail.into() }
    }

    /// No or a wrong token.
    pub(super) fn unauthorized() -> Self {
        let detail = "send the admin token as `Authorization: Bearer …`, or log in".to_owned();
        Self { status: StatusCode::UNAUTHORIZED, detail }
    }

    /// Too many wrong tokens came; none is looked at for a moment.
    pub(super) fn too_many_guesses() -> Self {
        let detail = "too many wrong tokens came; try again in a second".to_owned();
        Self { status: StatusCode::TOO_MANY_REQUESTS, detail }
    }

    /// The request comes from a web page of somebody else.
    pub(super) fn foreign(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, detail: detail.into() }
    }

    /// There is no such thing.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, detail: detail.into() }
    }

    /// There is such a thing, and it takes another method.
    pub(super) fn method_not_allowed(method: &Method) -> Self {
        let detail = format!("{method} is not what this takes; see the header `Allow`");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, detail }
    }

    /// The thing is in a state that does not allow it.
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, detail: detail.into() }
    }

    /// A write without the content type that keeps web pages out.
    pub(super) fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, detail: detail.into() }
    }

    /// What was begun could not be brought to its end, and the log says why.
    pub(super) fn broken(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, detail: detail.into() }
    }

    /// The body is larger than this call takes.
    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, detail: detail.into() }
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        let status = match error {
            ReplayError::Store(error) => return error.into(),
            ReplayError::Handler(_) => StatusCode::BAD_REQUEST,
            ReplayError::Event(_) => StatusCode::NOT_FOUND,
            ReplayError::TooMany => StatusCode::CONFLICT,
        };
        Self { status, detail: error.to_string() }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::Cursor => StatusCode::BAD_REQUEST,
            StoreError::Full | StoreError::Closed => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Refused(_) | StoreError::Unreadable(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::error!(%error, "a call of the admin API failed");
        }
        let detail = match error {
            StoreError::Refused(_) | StoreError::Unreadable(_) => "the store is in trouble; see the log".to_owned(),
            plain => plain.to_string(),
        };
        Self { status, detail }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let document = Document { r#type: "about:blank", title, status: self.status.as_u16(), detail: &self.detail };
        let body = serde_json::to_string(&document).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
