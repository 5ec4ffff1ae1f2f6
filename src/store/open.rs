//! Why a store cannot be opened.

use std::path::PathBuf;

/// A store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the store {0} is in use by another process; stop that one first, or give this one a store of its own")]
    InUse(PathBuf),
    /// Its directory or file cannot be made or read.
    #[error("the store {path} cannot be opened: {error}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A later version of livehook has written it.
    #[error("the store has format {found}, and this version knows formats up to {known}; use the newer version")]
    TooNew {
        /// What it has.
        found: usize,
        /// What we know.
        known: usize,
    },
    /// It is a database of something else.
    #[error("the file {0} is a database, but not a livehook store")]
    Foreign(PathBuf),
    /// It is no database, or one that is broken.
    #[error("the store {path} cannot be opened: {error}")]
    Unusable {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
    /// The schema holds tables of something else.
    #[error("the schema holds tables, but not a livehook store; name another one: postgres://…?schema=NAME")]
    ForeignSchema,
    /// The server or its database cannot keep what a store promises.
    #[error("the store cannot be opened: {0}")]
    Unfit(String),
    /// The server cannot be reached, or refuses.
    #[error("the store cannot be opened: {0}")]
    Postgres(String),
    /// SQLite refuses.
    #[error("the store cannot be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The URL has another scheme.
    #[error("`{0}` is no store this version knows; it is written `sqlite:PATH` or `postgres://…`")]
    Url(String),
}
