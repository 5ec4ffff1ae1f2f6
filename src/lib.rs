//! livehook takes the event callbacks of Tencent Cloud Streaming Services (CSS) and never loses one.

pub mod admin;
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
pub mod telemetry;
