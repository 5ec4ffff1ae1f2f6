//! A store to be tested, in either engine.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection as _, Executor as _, PgConnection, Row as _, ValueRef as _};
use tokio::runtime::Runtime;

use super::*;

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    Sqlite,
    Postgres,
}

/// The server that tests use unless the environment names another one: `LIVEHOOK_TEST_POSTGRES`.
const SERVER: &str = "postgres://postgres@127.0.0.1:5432/test";

#[expect(clippy::disallowed_methods, reason = "tests are configured by their environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn server() -> String {
    environment("LIVEHOOK_TEST_POSTGRES").unwrap_or_else(|| SERVER.to_owned())
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

impl On {
    /// Says that a test cannot be done without a server. Where the tests count, that is a failure.
    pub(super) fn is_there(self) -> bool {
        if self == Self::Sqlite {
            return true;
        }
        let Err(error) = runtime().block_on(PgConnection::connect(&server())) else {
            return true;
        };
        assert!(environment("CI").is_none(), "PostgreSQL cannot be reached: {error}");
        eprintln!(
            "skipped: PostgreSQL cannot be reached: {error}\nstart one, for example with `docker run -p 5432:5432 \
             -e POSTGRES_HOST_AUTH_METHOD=trust -e POSTGRES_DB=test postgres`, or name one in LIVEHOOK_TEST_POSTGRES"
        );
        false
    }

    /// How many cases of a property are tried: few where each write waits for a server.
    pub(super) fn cases(self, many: u32) -> ProptestConfig {
        let cases = if self == Self::Sqlite { many } else { many.div_ceil(6) };
        ProptestConfig { cases, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() }
    }
}

/// Makes of each of these functions a test for each engine.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[test] fn $name() { super::$name(super::On::Sqlite) })+
        }
        mod on_postgres {
            $(#[test] fn $name() { if super::On::Postgres.is_there() { super::$name(super::On::Postgres) } })+
        }
    };
}
pub(super) use on_both;

/// Where the tables are.
pub(super) enum Place {
    Directory(tempfile::TempDir),
    Schema(String),
}

impl Place {
    fn new(on: On) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        match on {
            On::Sqlite => Self::Directory(tempfile::tempdir().unwrap()),
            On::Postgres => {
                let count = COUNT.fetch_add(1, Ordering::Relaxed);
                Self::Schema(format!("test_{}_{count}_{:x}", std::process::id(), fastrand::u32(..)))
            }
        }
    }

    /// Which engine keeps them.
    pub(super) fn engine(&self) -> On {
        if matches!(self, Self::Directory(_)) { On::Sqlite } else { On::Postgres }
    }

    fn url(&self) -> String {
        match self {
            Self::Directory(directory) => format!("sqlite:{}", directory.path().join("s.db").display()),
            Self::Schema(schema) => {
                let server = server();
                let join = if server.contains('?') { '&' } else { '?' };
                format!("{server}{join}schema={schema}")
            }
        }
    }

    pub(super) fn sqlite(&self) -> Option<rusqlite::Connection> {
        let Self::Directory(directory) = self else { return None };
        let db = rusqlite::Connection::open(directory.path().join("s.db")).unwrap();
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        Some(db)
    }

    pub(super) async fn postgres(&self) -> PgConnection {
        let Self::Schema(schema) = self else { panic!("SQLite is asked in its own way") };
        let mut db = PgConnection::connect(&server()).await.unwrap();
        db.execute(format!("SET search_path = {schema}").as_str()).await.unwrap();
        db
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Schema(schema) = self {
            let drop = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
            let _ = runtime().block_on(async { PgConnection::connect(&server()).await?.execute(drop.as_str()).await });
        }
    }
}

/// An open store with a clock that is turned by hand.
pub(super) struct Fixture {
    pub(super) store: Store,
    pub(super) clock: ManualClock,
    pub(super) handler: HandlerId,
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) place: Place,
}

impl Fixture {
    pub(super) fn new(on: On, change: impl FnOnce(&mut Settings)) -> Self {
        let place = Place::new(on);
        let mut settings = Settings { url: place.url(), ..Settings::default() };
        change(&mut settings);
        let clock = ManualClock::new(START);
        let handlers = HANDLERS.map(str::to_owned);
        let store = Store::open(settings, &handlers, Duration::from_secs(5), Arc::new(clock.clone())).unwrap();
        let handler = store.handler("rooms").unwrap();
        Self { store, clock, handler, runtime: runtime(), place }
    }

    pub(super) fn event(&self, number: u64, lane: Option<u64>) -> NewEvent {
        let stream = lane.map_or_else(String::new, |lane| format!(r#","stream_id":"s{lane}""#));
        let body = format!(r#"{{"event_type":1,"n":{number}{stream}}}"#);
        let incoming = Incoming::read(body.as_bytes()).unwrap();
        let facts = incoming.facts();
        let identity = Identity::of(incoming.body(), facts.occurred_at, None);
        let event = Event {
            id: EventId::from_u128(u128::from(number) + 1),
            facts,
            received_at: self.clock.now(),
            verification: Verification::Unsigned,
            body: Bytes::from(body.clone()),
        };
        let owed = vec![Owed { handler: self.handler, ordered: true }];
        NewEvent { event: Arc::new(event), identity, drift: Vec::new(), owed, readmitted: None }
    }

    pub(super) fn append(&self, number: u64, lane: Option<u64>) -> Appended {
        self.runtime.block_on(self.store.append(self.event(number, lane))).unwrap()
    }

    pub(super) fn claim(&self, limit: usize) -> Vec<Claim> {
        self.runtime.block_on(self.store.claim(self.handler, limit)).claims
    }

    pub(super) fn pause(&self, paused: bool) {
        assert!(self.runtime.block_on(self.store.pause("rooms".to_owned(), paused)).unwrap());
    }

    pub(super) fn settle(&self, claim: Claim, settlement: Settlement) {
        self.runtime.block_on(self.store.settle(claim, settlement)).unwrap();
    }

    pub(super) fn refuse(&self, reason: Reason, bytes: usize) {
        let new = NewRefused {
            received_at: self.clock.now(),
            reason,
            detail: String::new(),
            path: "/callbacks".to_owned(),
            body: Bytes::from(vec![b'x'; bytes]),
            bytes: bytes as u64,
            headers: LegacyHeaders::default(),
        };
        self.runtime.block_on(self.store.refuse(new)).unwrap();
    }

    pub(super) fn event_count(&self) -> usize {
        self.runtime.block_on(self.store.events(EventFilter::default(), 10_000, None)).unwrap().items.len()
    }

    pub(super) fn prune(&self) -> u64 {
        self.runtime.block_on(self.store.prune()).unwrap()
    }

    /// Appends all of them at once, so that they share transactions. Returns how many were new.
    pub(super) fn append_all(&self, numbers: std::ops::Range<u64>) -> usize {
        let all = numbers.map(|number| self.store.append(self.event(number, None)));
        let appended = self.runtime.block_on(futures_util::future::join_all(all));
        appended.into_iter().filter(|one| matches!(one, Ok(Appended::Stored { .. }))).count()
    }

    /// Closes the store and opens it again.
    pub(super) fn reopen(self) -> Self {
        let Self { store, clock, handler, runtime, place } = self;
        runtime.block_on(store.close(Duration::from_secs(20)));
        let settings = store.0.terms.load().settings.clone();
        drop(store);
        let handlers = HANDLERS.map(str::to_owned);
        let store = Store::open(settings, &handlers, Duration::from_secs(5), Arc::new(clock.clone())).unwrap();
        Self { store, clock, handler, runtime, place }
    }

    /// Rows of a query as text, asked beside the store.
    pub(super) fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        match self.place.sqlite() {
            Some(db) => sqlite_rows(&db, sql),
            None => self.runtime.block_on(async { postgres_rows(&mut self.place.postgres().await, sql).await }),
        }
    }

    /// The one number a query asks for.
    pub(super) fn number(&self, sql: &str) -> i64 {
        self.rows(sql)[0][0].parse().unwrap()
    }

    /// Changes something beside the store.
    pub(super) fn change(&self, sql: &str) {
        match self.place.sqlite() {
            Some(db) => db.execute_batch(sql).unwrap(),
            None => self.runtime.block_on(async {
                sqlx::raw_sql(sql).execute(&mut self.place.postgres().await).await.map(drop).unwrap();
            }),
        }
    }

    /// Lets nothing be written until what is returned is dropped.
    pub(super) fn hold(&self) -> Stranger {
        if let Some(db) = self.place.sqlite() {
            db.execute_batch("BEGIN IMMEDIATE").unwrap();
            return Stranger { sqlite: Some(db), postgres: None };
        }
        let own = runtime();
        let db = own.block_on(async {
            let mut db = self.place.postgres().await;
            db.execute("BEGIN; LOCK TABLE meta IN ACCESS EXCLUSIVE MODE").await.unwrap();
            db
        });
        Stranger { sqlite: None, postgres: Some((db, own)) }
    }
}

/// Somebody who holds the tables until he is dropped.
pub(super) struct Stranger {
    sqlite: Option<rusqlite::Connection>,
    postgres: Option<(PgConnection, Runtime)>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.sqlite.take());
        if let Some((db, runtime)) = self.postgres.take() {
            drop(db);
            // He may be dropped inside of another runtime, where one cannot wait.
            runtime.shutdown_background();
        }
    }
}

fn sqlite_rows(db: &rusqlite::Connection, sql: &str) -> Vec<Vec<String>> {
    use rusqlite::types::ValueRef;
    let mut statement = db.prepare(sql).unwrap();
    let columns = statement.column_count();
    let text = |value: ValueRef<'_>| match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        ValueRef::Blob(bytes) => format!("\\x{}", hex::encode(bytes)),
    };
    let row = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get_ref(at).map(text)).collect();
    statement.query_map([], row).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

async fn postgres_rows(db: &mut PgConnection, sql: &str) -> Vec<Vec<String>> {
    let rows = sqlx::raw_sql(sql).fetch_all(db).await.unwrap();
    let text = |row: &sqlx::postgres::PgRow, at: usize| {
        let value = row.try_get_raw(at).unwrap();
        if value.is_null() { "NULL".to_owned() } else { value.as_str().unwrap().to_owned() }
    };
    rows.iter().map(|row| (0..row.len()).map(|at| text(row, at)).collect()).collect()
}
