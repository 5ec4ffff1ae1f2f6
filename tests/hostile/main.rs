//! Hostile callers against the real program: what they send, how much of it and how slowly, costs them their connection
//! and us a bounded amount of memory, and holds up no good caller. Each attack runs beside one who posts signed events
//! all the while, every one of which must be answered 200 and stored.
#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, reason = "the memory an attack took is worth reading")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod bodies;
mod flood;
mod framing;
mod good;
#[expect(dead_code, reason = "shared with the tests of promises, which need more of it")]
#[path = "../it/http.rs"]
mod http;
mod many;
mod program;
mod seeds;
mod slow;
