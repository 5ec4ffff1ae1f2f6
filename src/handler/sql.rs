//! Rows in tables of databases: one per event, in a table of the user's choice. The event's id is inserted with it, so that
//! where the table has a key on it, a repetition changes nothing.
//!
//! A few connections are kept. Each serves one attempt at a time; one on which an attempt got no answer is closed, and the
//! attempt is made once more on a new one, which a repetition allows.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::server::ServerUrl;
use super::{Handler, HandlerError, cloudevent, excerpt};
use crate::event::Event;

/// Where rows are inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the database is. May hold a user and a password; the path is the name of the database.
    pub server: ServerUrl,
    /// The table, behind the names of what it lies in; never empty.
    pub table: Vec<String>,
    /// What is inserted into which column; [`Field::Id`] is among them.
    pub columns: Vec<(Field, String)>,
    /// How many connections there are at most; at least 1.
    pub connections: usize,
}

/// What of an event may stand in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented at its name")]
pub enum Field {
    Id,
    Kind,
    Domain,
    App,
    Stream,
    Sequence,
    Time,
    ReceivedAt,
    Verification,
    Event,
    Body,
}

impl Field {
    /// All of them, with their names in the configuration.
    pub const ALL: [(&str, Self); 11] = [
        // A UUID.
        ("id", Self::Id),
        ("kind", Self::Kind),
        ("domain", Self::Domain),
        ("app", Self::App),
        ("stream", Self::Stream),
        ("sequence", Self::Sequence),
        // The event's own time, else that of its receipt.
        ("time", Self::Time),
        ("received_at", Self::ReceivedAt),
        ("verification", Self::Verification),
        // The CloudEvents object.
        ("event", Self::Event),
        // The body as received.
        ("body", Self::Body),
    ];
    /// What the ready-made tables have, in columns of the same names.
    pub const DEFAULTS: [&str; 8] = ["id", "kind", "domain", "app", "stream", "time", "received_at", "event"];

    /// The value; none where the event says nothing. Times are as `time` writes them. Text of JSON has no escape that a
    /// database refuses, and names have no NUL.
    pub(super) fn value(self, event: &Event, time: impl Fn(&str) -> String) -> Option<String> {
        let facts = &event.facts;
        let name = |name: &Option<String>| name.as_ref().map(|name| name.replace('\0', "\u{FFFD}"));
        match self {
            Self::Id => Some(event.id.to_string()),
            Self::Kind => Some(facts.kind.slug().to_owned()),
            Self::Domain => name(&facts.domain),
            Self::App => name(&facts.app),
            Self::Stream => name(&facts.stream),
            Self::Sequence => name(&facts.sequence),
            Self::Time => Some(time(&facts.occurred_at.unwrap_or(event.received_at).rfc3339())),
            Self::ReceivedAt => Some(time(&event.received_at.rfc3339())),
            Self::Verification => Some(event.verification.slug().to_owned()),
            Self::Event => Some(storable(&cloudevent::json(event))),
            Self::Body => Some(String::from_utf8_lossy(&event.body).into_owned()),
        }
    }
}

/// JSON in which escapes of what is no character, or of NUL, have become that of U+FFFD: types of databases for JSON refuse
/// them, and an event is rather kept so than not at all.
fn storable(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let unit = |at: usize| {
            let digits = rest.get(at..at + 6)?.strip_prefix("\\u")?;
            u32::from_str_radix(digits, 16).ok()
        };
        let taken = match (unit(at), unit(at + 6)) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => Some(12),
            (Some(0 | 0xD800..0xE000), _) => None,
            (Some(_), _) => Some(6),
            // The backslash and what it escapes, which is ASCII in JSON.
            (None, _) => Some(2),
        };
        if let Some(kept) = taken.and_then(|taken| rest.get(at..at + taken)) {
            out.push_str(kept);
            rest = &rest[at + kept.len()..];
        } else {
            out.push_str("\\ufffd");
            rest = rest.get(at + 6..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

/// A kind of database.
pub(super) trait Database: Send + Sync + 'static {
    /// A connection of its driver.
    type Connection: Send + 'static;
    /// What one insertion needs.
    type Row: Send + Sync;

    /// Makes a connection.
    fn dial(&self) -> BoxFuture<'_, Result<Self::Connection, sqlx::Error>>;

    /// What is to be inserted for an event.
    fn row(&self, event: &Event) -> Self::Row;

    /// Inserts a row, unless it is there.
    fn insert<'a>(
        &'a self,
        connection: &'a mut Self::Connection,
        row: &'a Self::Row,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>>;

    /// Whether the database has refused this row and always will.
    fn is_final(&self, error: &dyn sqlx::error::DatabaseError) -> bool;
}

/// The handler for a kind of database.
pub(super) struct Inserter<D: Database> {
    database: D,
    server: ServerUrl,
    hidden: Vec<String>,
    permits: Semaphore,
    idle: Mutex<Vec<D::Connection>>,
}

/// Why a row is not inserted.
enum Trouble {
    /// The connection is of no use any more, or there is none.
    Lost(HandlerError),
    /// The database has said no.
    Refused(HandlerError),
}

impl<D: Database> Inserter<D> {
    pub(super) fn new(database: D, settings: &Settings) -> Self {
        Self {
            database,
            server: settings.server.clone(),
            hidden: settings.server.secrets(),
            permits: Semaphore::new(settings.connections),
            idle: Mutex::default(),
        }
    }

    async fn insert(&self, event: &Event) -> Result<(), HandlerError> {
        let row = self.database.row(event);
        let _permit = self.permits.acquire().await.map_err(|_| HandlerError::transient("it is ending"))?;
        let idle = self.idle().pop();
        if let Some(connection) = idle {
            match self.insert_on(connection, &row).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Refused(error)) => return Err(error),
                // What befell this one has befallen the others.
                Err(Trouble::Lost(_)) => self.idle().clear(),
            }
        }
        let connection = self.dial().await?;
        self.insert_on(connection, &row).await.map_err(|(Trouble::Lost(error) | Trouble::Refused(error))| error)
    }

    async fn insert_on(&self, mut connection: D::Connection, row: &D::Row) -> Result<(), Trouble> {
        let inserted = self.database.insert(&mut connection, row).await;
        let Err(error) = inserted else {
            self.idle().push(connection);
            return Ok(());
        };
        let reason = excerpt::causes(&error, &self.hidden);
        match error.as_database_error() {
            Some(refused) if self.database.is_final(refused) => {
                self.idle().push(connection);
                Err(Trouble::Refused(HandlerError::permanent(reason)))
            }
            Some(refused) if !ends_the_connection(refused) => {
                self.idle().push(connection);
                Err(Trouble::Refused(HandlerError::transient(reason)))
            }
            _ => Err(Trouble::Lost(HandlerError::transient(reason))),
        }
    }

    async fn dial(&self) -> Result<D::Connection, HandlerError> {
        let server = &self.server;
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, self.database.dial()).await;
        let error = match dialled {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_) => return Err(HandlerError::transient(format!("cannot connect to {server}: timed out"))),
        };
        let said = excerpt::causes(&error, &self.hidden);
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        Err(HandlerError::transient(match code {
            Some(code) if code.starts_with(NOT_LET_IN) => format!("{server} refuses the credentials: {said}"),
            _ => format!("cannot connect to {server}: {said}"),
        }))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<D::Connection>> {
        // Nothing that can panic leaves it half changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Database> Handler for Inserter<D> {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(self.insert(event))
    }
}

/// By its SQLSTATE: the connection failed, the server is being stopped, or it has become one that only reads (25006), as
/// after a failover.
fn ends_the_connection(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_none_or(|code| {
        code == "25006" || code.starts_with("08") || code.starts_with("57") || code.starts_with(NOT_LET_IN)
    })
}

/// The SQLSTATE class of refused credentials.
const NOT_LET_IN: &str = "28";
/// A server that has not let us in by now will not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A name as `quote` has it around names, with each one inside doubled.
pub(super) fn quoted(name: &str, quote: char) -> String {
    let doubled = name.replace(quote, &format!("{quote}{quote}"));
    format!("{quote}{doubled}{quote}")
}

/// The table's whole name.
pub(super) fn table(settings: &Settings, quote: char) -> String {
    settings.table.iter().map(|name| quoted(name, quote)).collect::<Vec<_>>().join(".")
}

/// The columns, separated by commas.
pub(super) fn columns(settings: &Settings, quote: char) -> String {
    settings.columns.iter().map(|(_, name)| quoted(name, quote)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_made_storable_and_otherwise_left_alone() {
        for (json, stored) in [
            (r#"{"a":"b"}"#, r#"{"a":"b"}"#),
            (r#""\u0000""#, r#""\ufffd""#),
            (r#""\\u0000""#, r#""\\u0000""#),
            (r#""\\\u0000\n""#, r#""\\\ufffd\n""#),
            (r#""\ud83d\ude00 \uD83D\uDE00""#, r#""\ud83d\ude00 \uD83D\uDE00""#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ud83dx\ude00""#, r#""\ufffdx\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\u623f房\/\"""#, r#""\u623f房\/\"""#),
            (r#""\u12"#, r#""\u12"#),
            (r#""\"#, r#""\ufffd"#),
        ] {
            assert_eq!(storable(json), stored, "{json}");
        }
    }

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        assert_eq!(quoted("a\"; DROP TABLE x; --", '"'), "\"a\"\"; DROP TABLE x; --\"");
        assert_eq!(quoted("a`b", '`'), "`a``b`");
    }
}
