//! What the service promises while its disk fails, held against a real server over a disk that does as it is told.
//!
//! A program of its own, since that disk lies under all of its databases.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../it/app.rs"]
#[expect(dead_code, reason = "made for more tests than these")]
mod app;
#[path = "../it/http.rs"]
#[expect(dead_code, reason = "made for more tests than these")]
mod http;
#[path = "../it/place.rs"]
#[expect(dead_code, unused_macros, unused_imports, reason = "made for more tests than these")]
mod place;
#[path = "../it/recorder.rs"]
#[expect(dead_code, reason = "made for more tests than these")]
mod recorder;

mod closing;
mod full;
mod parts;
mod plug;
mod program;
mod rig;
mod slow;
mod start;
mod syncs;
