//! The callback listener.

mod settings;
pub use self::settings::{Ack, Settings, Unstored};
