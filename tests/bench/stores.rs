//! Where the servers keep their events: each in a file of its own, or all on a PostgreSQL server, in databases that are
//! made for this run and removed at its end.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Executor as _};
use url::Url;

/// A server on this machine that trusts it.
const POSTGRES: &str = "postgres://postgres@127.0.0.1:5432/postgres";

/// What `--store` chooses.
#[derive(Debug)]
pub(crate) enum Stores {
    Sqlite,
    Postgres(Databases),
}

/// Databases of a PostgreSQL server.
#[derive(Debug)]
pub(crate) struct Databases {
    /// One that is there, with the right to make others.
    url: Url,
    made: Mutex<Vec<String>>,
}

impl Stores {
    /// `sqlite`, `postgres`, or the URL of a database on a PostgreSQL server.
    pub(crate) fn read(text: &str) -> io::Result<Self> {
        let url = match text {
            "sqlite" => return Ok(Self::Sqlite),
            "postgres" => POSTGRES,
            url => url,
        };
        let url: Url = url.parse().map_err(io::Error::other)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(io::Error::other("--store takes sqlite, postgres or a URL that begins with postgres://"));
        }
        Ok(Self::Postgres(Databases { url, made: Mutex::default() }))
    }

    /// The `store.url` of what is kept under a name.
    pub(crate) fn url(&self, dir: &Path, name: &str) -> String {
        match self {
            Self::Sqlite => format!("sqlite:{}", dir.join(name).join("livehook.db").display()),
            Self::Postgres(databases) => databases.url_of(name),
        }
    }

    /// Has nothing kept under a name.
    pub(crate) async fn clear(&self, dir: &Path, name: &str) -> io::Result<()> {
        let dir = dir.join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        match self {
            Self::Sqlite => Ok(()),
            Self::Postgres(databases) => databases.make(name).await,
        }
    }

    /// Removes what was made elsewhere.
    pub(crate) async fn remove(&self) -> io::Result<()> {
        match self {
            Self::Sqlite => Ok(()),
            Self::Postgres(databases) => databases.remove().await,
        }
    }
}

impl Databases {
    pub(crate) fn url_of(&self, name: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(&database(name));
        url.into()
    }

    /// What the server calls itself, and where it is.
    pub(crate) async fn version(&self) -> io::Result<String> {
        let mut db = connect(self.url.as_str()).await?;
        let version: (String,) =
            sqlx::query_as("SHOW server_version").fetch_one(&mut db).await.map_err(io::Error::other)?;
        Ok(format!("PostgreSQL {}, at {}", version.0, self.url.host_str().unwrap_or("a socket")))
    }

    /// Events that are stored under a name.
    pub(crate) async fn events(&self, name: &str) -> io::Result<u64> {
        let mut db = connect(&self.url_of(name)).await?;
        let count: (i64,) = sqlx::query_as("SELECT count(*) FROM livehook.events")
            .fetch_one(&mut db)
            .await
            .map_err(io::Error::other)?;
        Ok(count.0.unsigned_abs())
    }

    async fn make(&self, name: &str) -> io::Result<()> {
        let name = database(name);
        self.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        self.run(&format!("CREATE DATABASE {name}")).await?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !made.contains(&name) {
            made.push(name);
        }
        Ok(())
    }

    async fn remove(&self) -> io::Result<()> {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        for name in made {
            self.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        }
        Ok(())
    }

    async fn run(&self, sql: &str) -> io::Result<()> {
        let mut db = connect(self.url.as_str()).await?;
        // Names of ours: letters, digits and underscores.
        db.execute(sql).await.map_err(io::Error::other)?;
        Ok(())
    }
}

/// A connection whose commits are on stable storage when they return, as those of livehook.
pub(crate) async fn connect(url: &str) -> io::Result<PgConnection> {
    let options: PgConnectOptions = url.parse().map_err(io::Error::other)?;
    PgConnection::connect_with(&options.options([("synchronous_commit", "on")])).await.map_err(io::Error::other)
}

fn database(name: &str) -> String {
    format!("livehook_bench_{}_{}", std::process::id(), name.replace('-', "_"))
}
