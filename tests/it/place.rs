//! Where the server of a test keeps its events: in a directory of its own, or in a schema of its own on a server for tests.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

/// The server that tests use unless the environment names another one: `LIVEHOOK_TEST_POSTGRES`.
const SERVER: &str = "postgres://postgres@127.0.0.1:5432/test";

thread_local! {
    static ON_POSTGRES: Cell<bool> = const { Cell::new(false) };
}

/// Makes of each of these tests one that keeps its events in PostgreSQL.
macro_rules! also_on_postgres {
    ($($name:ident),+ $(,)?) => {
        mod on_postgres {
            $(#[test] fn $name() { $crate::place::on_postgres(super::$name) })+
        }
    };
}
pub(crate) use also_on_postgres;

/// Runs a test whose servers keep their events in PostgreSQL. Where there is none that is said; where the tests count, it
/// is a failure.
#[expect(clippy::print_stderr, reason = "a test that is skipped says why")]
pub(crate) fn on_postgres(test: fn()) {
    if let Err(error) = apart(async || PgConnection::connect(&server()).await.map(drop)) {
        assert!(environment("CI").is_none(), "PostgreSQL cannot be reached: {error}");
        eprintln!(
            "skipped: PostgreSQL cannot be reached: {error}\nstart one, for example with `docker run -p 5432:5432 \
             -e POSTGRES_HOST_AUTH_METHOD=trust -e POSTGRES_DB=test postgres`, or name one in LIVEHOOK_TEST_POSTGRES"
        );
        return;
    }
    ON_POSTGRES.set(true);
    let _reset = Reset;
    test();
}

struct Reset;

impl Drop for Reset {
    fn drop(&mut self) {
        ON_POSTGRES.set(false);
    }
}

#[expect(clippy::disallowed_methods, reason = "tests are configured by their environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn server() -> String {
    environment("LIVEHOOK_TEST_POSTGRES").unwrap_or_else(|| SERVER.to_owned())
}

/// Waits on a thread of its own, since that of the test has a runtime.
fn apart<T: Send>(work: impl AsyncFnOnce() -> T + Send) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work());
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// A place for the files of a test, and perhaps for its tables.
pub(crate) struct Place {
    directory: TempDir,
    schema: Option<String>,
}

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let schema = ON_POSTGRES.get().then(|| {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            format!("it_{}_{count}_{:x}", std::process::id(), fastrand::u32(..))
        });
        Self { directory: tempfile::tempdir().unwrap(), schema }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The `store.url`.
    pub(crate) fn url(&self) -> String {
        match &self.schema {
            Some(schema) => {
                let server = server();
                let join = if server.contains('?') { '&' } else { '?' };
                format!("{server}{join}schema={schema}")
            }
            None => format!("sqlite:{}", self.path().join("livehook.db").display()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(schema) = &self.schema {
            let forget = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
            let _ = apart(async || PgConnection::connect(&server()).await?.execute(forget.as_str()).await.map(drop));
        }
    }
}
