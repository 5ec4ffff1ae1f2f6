//! `/openapi.json`: the admin listener as a document, made of the code that answers.

use std::sync::OnceLock;

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::OpenApi as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder};

use super::problem;
use super::query::{LIMIT, LIMIT_MAX};
use crate::event::{Kind, Reason, Verification};
use crate::store::{DeliveryState, ReplayState};

/// What the document says of all calls.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "livehook admin API",
        description = "Events, deliveries, handlers, replays and refused callbacks of a running livehook.",
    ),
    security(("token" = [])),
    components(schemas(problem::Document<'_>)),
)]
struct Common;

/// The body of a call that is all said by its path: writes bring JSON, so that no web page can make them.
#[derive(utoipa::ToSchema)]
pub(super) struct Empty {}

/// What can go wrong with a call below `/api/v1`, whatever it is about.
const PROBLEMS: [(&str, &str); 7] = [
    ("400", "The request says something that is not understood"),
    ("401", "No or a wrong token"),
    ("403", "The call comes from a web page of somebody else"),
    ("404", "There is no such thing"),
    ("429", "Too many wrong tokens"),
    ("500", "The store is in trouble"),
    ("503", "The service is stopping"),
];
/// And what else with one that writes.
const PROBLEMS_OF_WRITES: [(&str, &str); 3] = [
    ("409", "The thing is in a state that does not allow it"),
    ("413", "The body is too large"),
    ("415", "The body is not said to be JSON"),
];

/// The document before it has any calls.
pub(super) fn common() -> OpenApi {
    let mut document = Common::openapi();
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().add_security_scheme("token", token);
    document
}

/// Adds to every call of the API what can go wrong with all of them.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    let api = document.paths.paths.iter_mut().filter(|(path, _)| path.starts_with("/api/"));
    for (_, item) in api {
        if let Some(operation) = &mut item.get {
            add(operation, &PROBLEMS);
        }
        for operation in item.post.iter_mut().chain(&mut item.delete) {
            add(operation, &PROBLEMS);
            add(operation, &PROBLEMS_OF_WRITES);
        }
    }
    document
}

/// The document itself.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "probes",
    operation_id = "openapi",
    security(()),
    responses((status = OK, description = "This document", content_type = "application/json", body = Object)),
)]
pub(super) async fn show() -> impl IntoResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    // What is made of our own types can always be written.
    let text = TEXT.get_or_init(|| super::document().to_json().unwrap_or_default());
    ([(header::CONTENT_TYPE, "application/json")], text.as_str())
}

fn add(operation: &mut Operation, problems: &[(&str, &str)]) {
    for (status, description) in problems {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(*description).content("application/problem+json", content);
        operation.responses.responses.entry((*status).to_owned()).or_insert_with(|| response.build().into());
    }
}

/// Any text.
pub(super) fn text() -> Schema {
    ObjectBuilder::new().schema_type(Type::String).build().into()
}

/// A moment in RFC 3339.
pub(super) fn moment() -> Schema {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build().into()
}

/// Rows of a page.
pub(super) fn limit() -> Schema {
    let limit = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(LIMIT_MAX));
    limit.default(Some(LIMIT.into())).build().into()
}

/// What an event tells of.
pub(super) fn kind() -> Schema {
    one_of(Kind::all().map(Kind::slug))
}

/// How far the sender of an event is known.
pub(super) fn verification() -> Schema {
    one_of(Verification::ALL.map(Verification::slug))
}

/// Where a delivery stands.
pub(super) fn delivery_state() -> Schema {
    one_of(DeliveryState::ALL.map(DeliveryState::slug))
}

/// Where a replay stands.
pub(super) fn replay_state() -> Schema {
    one_of(ReplayState::ALL.map(ReplayState::slug))
}

/// Whether anything is handed out to a handler.
pub(super) fn handler_state() -> Schema {
    one_of(["running", "paused"])
}

/// Why a callback was refused.
pub(super) fn reason() -> Schema {
    one_of(Reason::ALL.map(Reason::slug))
}

/// One of these names.
pub(super) fn one_of(names: impl IntoIterator<Item = &'static str>) -> Schema {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Admin, calls, document, door, routes};

    /// The paths a router has; it shows them in no other way.
    fn paths(router: &axum::Router<Admin>) -> BTreeSet<String> {
        let shown = format!("{router:?}");
        let (_, paths) = shown.split_once("paths: {").expect("the paths of a router");
        let quoted = paths.split('"').skip(1).step_by(2);
        quoted.take_while(|path| path.starts_with('/')).map(str::to_owned).collect()
    }

    #[test]
    fn every_route_is_in_the_document() {
        let mut there = paths(&routes(calls().merge(door()).into()));
        // Pages are for browsers, and a fallback is what is left of all paths.
        there.retain(|path| path != "/" && !path.starts_with("/dashboard/") && !path.starts_with("/{*"));
        let described: BTreeSet<_> = document().paths.paths.keys().cloned().collect();
        assert!(described.len() > 20, "{described:?}");
        assert_eq!(there, described);
    }
}
