//! The promises of the service, held against a real server: its own ports, its own directory, a clock turned by hand.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod admin;
mod answers;
mod app;
mod callbacks;
mod dashboard;
mod dispatch;
mod duplicates;
mod filters;
mod handlers;
mod http;
mod import;
mod lifecycle;
mod limits;
mod metrics;
mod oddities;
mod openapi;
mod place;
mod quarantine;
mod recorder;
mod reload;
mod replay;
mod samples;
mod stats;
mod streams;
mod traces;
mod trouble;
mod wire;
