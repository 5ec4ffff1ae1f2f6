//! The admin listener.

mod settings;
pub use self::settings::Settings;
