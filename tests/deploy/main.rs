//! Holds the folder `deploy` to the code and to the programs it is written for.
//!
//! What needs a program of others is skipped where that is absent, and fails there when `CI` is set; `.ci/run` fetches
//! them all.

#![expect(clippy::unwrap_used, reason = "a test that meets something else has failed")]

mod compose;
mod folder;
mod grafana;
mod kubernetes;
mod prometheus;
mod readme;
mod systemd;
