//! Why a push was interrupted, by `errcode` (pages 31083 and 38081).

/// A class of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CauseClass {
    /// placeholder
    Unknown,
}

/// What an `errcode` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Its class.
    pub class: CauseClass,
    /// Its meaning in a few words.
    pub meaning: &'static str,
}
