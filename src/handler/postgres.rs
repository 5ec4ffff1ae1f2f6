//! Inserts each event as a row into a table of PostgreSQL, and is done when that is committed. A row that is there already,
//! by whatever key the table has, is left as it is.
//!
//! The row is sent as one JSON object and PostgreSQL converts its members, so a column may have any type that takes the
//! text of its value. A session whose `synchronous_commit` is off sets it on: a commit is on disk before it counts.
//!
//! A value that its column cannot take ends a delivery. A missing table or column, refused credentials and what else the
//! database says is tried again.

use futures_util::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::http::trust;
pub use super::sql::Settings;
use super::sql::{self, Database, Field, Inserter};
use super::{BuildError, Handler, HandlerError, excerpt};
use crate::event::Event;

/// The `postgres` handler.
pub struct Postgres(Inserter<Server>);

impl Postgres {
    /// Prepares the client, which opens no connection yet.
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        trust::provide();
        let options = PgConnectOptions::from_url(settings.server.expose())
            .map_err(|error| BuildError(format!("url: {}", excerpt::causes(&error, &settings.server.secrets()))))?;
        let (table, columns) = (sql::table(settings, '"'), sql::columns(settings, '"'));
        let statement = format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM json_populate_record(NULL::{table}, $1::text::json) \
             ON CONFLICT DO NOTHING"
        );
        let options = options.application_name("livehook").disable_statement_logging();
        let server = Server { options, statement, columns: settings.columns.clone() };
        Ok(Self(Inserter::new(server, settings)))
    }
}

impl Handler for Postgres {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        self.0.deliver(event)
    }
}

struct Server {
    options: PgConnectOptions,
    statement: String,
    columns: Vec<(Field, String)>,
}

impl Database for Server {
    type Connection = PgConnection;
    /// A JSON object of the columns.
    type Row = String;

    fn dial(&self) -> BoxFuture<'_, Result<PgConnection, sqlx::Error>> {
        Box::pin(async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            connection.execute(SYNCED).await?;
            Ok(connection)
        })
    }

    fn row(&self, event: &Event) -> String {
        let member = |(field, column): &(Field, String)| {
            let value = match (field, field.value(event, str::to_owned)) {
                (_, None) => "null".to_owned(),
                (Field::Event, Some(json)) => json,
                (_, Some(text)) => serde_json::Value::from(text).to_string(),
            };
            format!("{}:{value}", serde_json::Value::from(column.as_str()))
        };
        format!("{{{}}}", self.columns.iter().map(member).collect::<Vec<_>>().join(","))
    }

    fn insert<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        row: &'a String,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        // Names in the statement are the configuration's, and quoted; what strangers say is its parameter.
        let insertion = sqlx::query(self.statement.as_str()).bind(row);
        Box::pin(async { insertion.execute(connection).await.map(drop) })
    }

    fn is_final(&self, error: &dyn DatabaseError) -> bool {
        // Data that does not fit, constraints that are broken, and limits of the program such as a row too long for an index.
        error.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
    }
}

const SYNCED: &str =
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
