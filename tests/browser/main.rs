//! The dashboard in a real browser, against a real server: Chromium, driven through its driver. Where there is none,
//! the tests say so and are skipped; with `CI=true` they fail.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]
#![expect(clippy::print_stderr, reason = "a test that is skipped or fails says why")]

#[path = "../it/app.rs"]
#[expect(dead_code, reason = "what other tests need of it")]
mod app;
#[path = "../it/http.rs"]
#[expect(dead_code, reason = "what other tests need of it")]
mod http;
#[path = "../it/place.rs"]
#[expect(dead_code, unused_macros, unused_imports, reason = "what other tests need of it")]
mod place;
#[path = "../it/recorder.rs"]
#[expect(dead_code, reason = "what other tests need of it")]
mod recorder;

mod driver;
mod events;
mod frame;
mod hostile;
mod lists;
mod overview;
mod page;
mod pages;
mod repair;
mod replay;
mod streams;
