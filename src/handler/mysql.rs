//! Inserts each event as a row into a table of MySQL or MariaDB, and is done when that is committed. A row that is there
//! already, by whatever key the table has, is left as it is.
//!
//! Sessions are strict: a value that does not fit its column is refused rather than cut, and ends the delivery. A missing
//! table or column, refused credentials and what else the database says is tried again.
//!
//! What a commit is worth is the server's setting: `innodb_flush_log_at_trx_commit = 1`, the default, syncs it.

use futures_util::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::http::trust;
pub use super::sql::Settings;
use super::sql::{self, Database, Field, Inserter};
use super::{BuildError, Handler, HandlerError, excerpt};
use crate::event::Event;

/// The `mysql` handler.
pub struct Mysql(Inserter<Server>);

impl Mysql {
    /// Prepares the client, which opens no connection yet.
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        trust::provide();
        let options = MySqlConnectOptions::from_url(settings.server.expose())
            .map_err(|error| BuildError(format!("url: {}", excerpt::causes(&error, &settings.server.secrets()))))?;
        let (table, columns) = (sql::table(settings, '`'), sql::columns(settings, '`'));
        let places = vec!["?"; settings.columns.len()].join(", ");
        let id = settings.columns.iter().find(|(field, _)| *field == Field::Id).map(|(_, name)| sql::quoted(name, '`'));
        let id = id.ok_or_else(|| BuildError("columns: nothing takes the id".to_owned()))?;
        // Unlike IGNORE, this passes over nothing but keys that are there.
        let statement =
            format!("INSERT INTO {table} ({columns}) VALUES ({places}) ON DUPLICATE KEY UPDATE {id} = {table}.{id}");
        let options = options.disable_statement_logging();
        let fields = settings.columns.iter().map(|(field, _)| *field).collect();
        let server = Server { options, statement, fields };
        Ok(Self(Inserter::new(server, settings)))
    }
}

impl Handler for Mysql {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        self.0.deliver(event)
    }
}

struct Server {
    options: MySqlConnectOptions,
    statement: String,
    fields: Vec<Field>,
}

impl Database for Server {
    type Connection = MySqlConnection;
    /// The values, in the order of the columns.
    type Row = Vec<Option<String>>;

    fn dial(&self) -> BoxFuture<'_, Result<MySqlConnection, sqlx::Error>> {
        Box::pin(async {
            let mut connection = MySqlConnection::connect_with(&self.options).await?;
            connection.execute(STRICT).await?;
            Ok(connection)
        })
    }

    fn row(&self, event: &Event) -> Vec<Option<String>> {
        // The library has the session's time zone be UTC.
        let time = |rfc3339: &str| rfc3339.trim_end_matches('Z').replace('T', " ");
        self.fields.iter().map(|field| field.value(event, time)).collect()
    }

    fn insert<'a>(
        &'a self,
        connection: &'a mut MySqlConnection,
        row: &'a Vec<Option<String>>,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        // Names in the statement are the configuration's, and quoted; what strangers say are its parameters.
        let insertion = sqlx::query(self.statement.as_str());
        let insertion = row.iter().fold(insertion, sqlx::query::Query::bind);
        Box::pin(async { insertion.execute(connection).await.map(drop) })
    }

    fn is_final(&self, error: &dyn DatabaseError) -> bool {
        let number = error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
        number.is_some_and(|number| NEVER_FITS.contains(&number))
            || error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
    }
}

const STRICT: &str = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')";
/// More than `max_allowed_packet`, and what MySQL, other than MariaDB, gives no class of its own: a value that would be cut,
/// one that is wrong for the type or character set of its column, a broken CHECK.
const NEVER_FITS: [u16; 4] = [1153, 1265, 1366, 3819];
