//! livehook takes the event callbacks of Tencent Cloud Streaming Services (CSS) and never loses one: an event is on disk
//! before CSS gets its 200, and is then delivered to each handler, in stream order, until it has arrived.
//!
//! # Two roads that meet in the store
//!
//! ```text
//!  POST /callbacks/…                                              receive
//!    1 take the body whole, under limits of size and time
//!    2 read it once: JSON, members, event_type                    intake, event::Incoming
//!    3 signature::verify → believed, or refused for a reason
//!    4 facts, payload, drift, identity                            event
//!    5 store.append(event, what is owed of it).await              one sync shared by all who wait
//!    6 200 {"code":0}                                             (refused: quarantine, same road, same 200)
//!  ════════════════════════════ store ════════════════════════════
//!    7 store.claim(handler)                                       dispatch, respecting stream order
//!    8 handler.deliver(&event).await                              under its timeout; a panic is a failure
//!    9 retry::decide(…) → Settlement                              pure
//!   10 store.settle(claim, settlement)                            batched with the appends
//! ```
//!
//! Neither road knows the other: `receive` and `dispatch` meet only in the store, which rings a bell after an append.
//! The clock is passed in; the environment is read once, in `config`.
//!
//! # Rooms
//!
//! A module names only modules further right, neighbours across `│` never name each other; a test keeps it true.
//!
//! ```text
//! main → cli → app → config → receive │ admin │ dispatch → intake → store → handler │ signature │ streams
//!      → event → clock, secret, telemetry
//! ```

pub mod admin;
mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod event;
pub mod handler;
pub mod intake;
pub mod receive;
pub mod secret;
pub mod signature;
pub mod store;
pub mod streams;
pub mod telemetry;

pub use self::app::{BuildError, Builder, ReloadError, Reloaded, Reloader, RunError, Server};
pub use self::config::Config;

/// Compiles the examples of both READMEs.
#[cfg(doctest)]
mod readme {
    #[doc = include_str!("../README.md")]
    struct English;
    #[doc = include_str!("../README.zh-CN.md")]
    struct Chinese;
}
