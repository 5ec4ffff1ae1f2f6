//! The pages at `/`: plain files in the program, that ask the JSON API for all they show. They hold no data themselves, so
//! whoever may not call the API sees a login.

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest as _, Sha256};

use super::Admin;

/// What the pages may do. Payloads are text of strangers: should one ever become markup, it runs nothing, loads nothing
/// and sends nothing away.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// A file of the dashboard: where it is served, what it is, what it says.
type File = (&'static str, &'static str, &'static str);

const FILES: [File; 22] = [
    ("/", HTML, include_str!("index.html")),
    ("/dashboard/style.css", STYLE, include_str!("style.css")),
    ("/dashboard/icon.svg", PICTURE, include_str!("icon.svg")),
    ("/dashboard/api.js", SCRIPT, include_str!("api.js")),
    ("/dashboard/dom.js", SCRIPT, include_str!("dom.js")),
    ("/dashboard/en.js", SCRIPT, include_str!("en.js")),
    ("/dashboard/format.js", SCRIPT, include_str!("format.js")),
    ("/dashboard/json.js", SCRIPT, include_str!("json.js")),
    ("/dashboard/language.js", SCRIPT, include_str!("language.js")),
    ("/dashboard/list.js", SCRIPT, include_str!("list.js")),
    ("/dashboard/main.js", SCRIPT, include_str!("main.js")),
    ("/dashboard/pieces.js", SCRIPT, include_str!("pieces.js")),
    ("/dashboard/plot.js", SCRIPT, include_str!("plot.js")),
    ("/dashboard/zh.js", SCRIPT, include_str!("zh.js")),
    ("/dashboard/pages/dead.js", SCRIPT, include_str!("pages/dead.js")),
    ("/dashboard/pages/event.js", SCRIPT, include_str!("pages/event.js")),
    ("/dashboard/pages/events.js", SCRIPT, include_str!("pages/events.js")),
    ("/dashboard/pages/handlers.js", SCRIPT, include_str!("pages/handlers.js")),
    ("/dashboard/pages/overview.js", SCRIPT, include_str!("pages/overview.js")),
    ("/dashboard/pages/quarantine.js", SCRIPT, include_str!("pages/quarantine.js")),
    ("/dashboard/pages/stream.js", SCRIPT, include_str!("pages/stream.js")),
    ("/dashboard/pages/streams.js", SCRIPT, include_str!("pages/streams.js")),
];

pub(super) fn routes() -> Router<Admin> {
    FILES.into_iter().fold(Router::new(), |router, file| {
        router.route(file.0, get(move |headers: HeaderMap| async move { serve(file, &headers) }))
    })
}

/// A browser asks every time whether its copy still is the one, so that an upgrade never mixes two versions.
fn serve((_, kind, text): File, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(text)[..12]));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == tag.as_bytes());
    let fixed = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (header::ETAG, HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes")),
    ];
    if known { (StatusCode::NOT_MODIFIED, fixed).into_response() } else { (fixed, text).into_response() }
}

#[cfg(test)]
mod tests;
