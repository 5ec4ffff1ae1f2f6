//! The program as people and scripts meet it: arguments, output, exit codes.

#![expect(clippy::unwrap_used, reason = "a test that meets something else has failed")]

mod check;
mod import;
mod logs;
mod offline;
mod operate;
mod reload;
mod send;
mod service;
mod streams;
