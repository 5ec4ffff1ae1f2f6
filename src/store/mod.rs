//! Events, deliveries and quarantine on stable storage.

mod settings;
pub use self::settings::{QuarantineSettings, Settings};
