//! The way to the server: what a URL says, and what every connection is told before it is used.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::open::OpenError;

/// Where the store is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    options: PgConnectOptions,
    /// The schema that holds the tables, and the channel on which replicas call one another.
    pub(super) schema: String,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Migrating, which may take long.
    Opening,
    /// The one that writes.
    Writing,
    /// Reading, and cataloguing.
    Reading,
}

/// The schema where the URL names none.
const SCHEMA: &str = "livehook";
/// How long a statement of the writer may take, the wait for its turn included, in milliseconds.
const WRITE_MS_MAX: u32 = 10_000;
/// How long a statement of a reader may take, in milliseconds.
const READ_MS_MAX: u32 = 60_000;
/// How long the server keeps a transaction, and so its locks, of a replica it has not heard of, in milliseconds.
const IDLE_MS_MAX: u32 = 5_000;

impl Place {
    /// Understands a URL. The error says nothing of its value: it may hold a password.
    pub(super) fn of(url: &str) -> Result<Self, String> {
        let mut parsed = url::Url::parse(url).map_err(|error| format!("is no URL: {error}"))?;
        if parsed.cannot_be_a_base() {
            return Err("names no server: write postgres://user@host/database".to_owned());
        }
        let (mut schema, mut rest) = (SCHEMA.to_owned(), Vec::new());
        for (key, value) in parsed.query_pairs() {
            match (&*key, &*value) {
                ("schema", name) => schema = judged_schema(name)?,
                (key, value) if KEYS.contains(&key) => rest.push((key.to_owned(), value.to_owned())),
                (key, _) => {
                    return Err(format!("has the unknown parameter `{key}`; known are {}, schema", KEYS.join(", ")));
                }
            }
        }
        parsed.set_query(None);
        if !rest.is_empty() {
            parsed.query_pairs_mut().extend_pairs(rest);
        }
        let options = PgConnectOptions::from_str(parsed.as_str()).map_err(|error| without_prefix(&error))?;
        let options = options.application_name("livehook").disable_statement_logging();
        Ok(Self { options, schema })
    }

    /// Connects for a use, if that takes no longer than `patience`.
    pub(super) async fn connect(&self, of: Use, patience: Duration) -> sqlx::Result<PgConnection> {
        let connecting = async {
            let mut db = PgConnection::connect_with(&self.options(of)).await?;
            if of == Use::Writing {
                refuse_standby(&mut db).await?;
            }
            Ok(db)
        };
        match tokio::time::timeout(patience, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(timed_out("the server did not answer in time")),
        }
    }

    /// What connections for a use are made with.
    pub(super) fn options(&self, of: Use) -> PgConnectOptions {
        let common = [
            ("search_path", format!("\"{}\"", self.schema)),
            // What was committed is on the server's disk, whatever its default.
            ("synchronous_commit", "on".to_owned()),
            ("client_encoding", "UTF8".to_owned()),
            ("idle_in_transaction_session_timeout", IDLE_MS_MAX.to_string()),
            // A replica whose machine is gone must not keep its turn: the server finds out.
            ("tcp_keepalives_idle", "5".to_owned()),
            ("tcp_keepalives_interval", "3".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
            ("jit", "off".to_owned()),
        ];
        let options = self.options.clone().options(common);
        match of {
            Use::Opening => options.options([("statement_timeout", "0")]),
            Use::Writing => options.options([
                ("statement_timeout", WRITE_MS_MAX.to_string().as_str()),
                ("lock_timeout", WRITE_MS_MAX.to_string().as_str()),
                // Whatever the statistics say of tables that grow from nothing: each statement has its index.
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
            ]),
            Use::Reading => options.options([("statement_timeout", READ_MS_MAX.to_string().as_str())]),
        }
    }

    /// Refuses what would not keep the promise, before anything is written.
    pub(super) async fn inspect(&self, db: &mut PgConnection) -> Result<(), OpenError> {
        let ask = "SELECT current_setting('server_encoding'), current_setting('server_version_num')::int, \
                   current_setting('transaction_read_only') = 'on', current_setting('fsync') = 'on', \
                   current_setting('full_page_writes') = 'on'";
        let (encoding, version, read_only, fsync, full_pages): (String, i32, bool, bool, bool) =
            sqlx::query_as(ask).fetch_one(db).await?;
        if encoding != "UTF8" {
            return Err(OpenError::Unfit(format!("its database is encoded in {encoding}, and must be in UTF8")));
        }
        if version < VERSION_MIN {
            let major = VERSION_MIN / 10_000;
            return Err(OpenError::Unfit(format!("its server is older than PostgreSQL {major}")));
        }
        if read_only {
            return Err(OpenError::Unfit(format!("its server {TAKES_NO_WRITES}")));
        }
        if !fsync || !full_pages {
            tracing::warn!(
                fsync,
                full_pages,
                "the server may lose what it has confirmed: set fsync and full_page_writes"
            );
        }
        Ok(())
    }
}

/// The parameters of a URL, by the names libpq gives them.
const KEYS: [&str; 10] =
    ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "hostaddr", "port", "dbname", "user", "password"];
/// The oldest server that is supported by its makers, as it counts versions.
const VERSION_MIN: i32 = 140_000;

const TAKES_NO_WRITES: &str = "takes no writes: it is a standby, or read-only";

/// A standby may not show yet what it has received: whether a commit is lost can be asked of it when it is promoted, and no
/// sooner.
async fn refuse_standby(db: &mut PgConnection) -> sqlx::Result<()> {
    let read_only = sqlx::query_scalar("SELECT current_setting('transaction_read_only') = 'on'").fetch_one(db).await?;
    if read_only {
        return Err(sqlx::Error::Io(std::io::Error::other(format!("the server at its address {TAKES_NO_WRITES}"))));
    }
    Ok(())
}

/// The connection or an answer took too long.
pub(super) fn timed_out(what: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}

/// What is wrong with a URL, if anything.
pub(in crate::store) fn fault_of_url(url: &str) -> Option<String> {
    Place::of(url).err()
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Postgres(said(&error))
    }
}

/// What is said of an error: the server's own words where it has any.
pub(super) fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(inner) => format!("PostgreSQL: {}", inner.message()),
        sqlx::Error::Io(inner) => format!("PostgreSQL cannot be reached: {inner}"),
        sqlx::Error::Tls(inner) => format!("PostgreSQL cannot be reached over TLS: {inner}"),
        other => format!("PostgreSQL: {other}"),
    }
}

/// Plain names need no quotes wherever they stand, and fit a channel.
fn judged_schema(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let fits =
        (1..=48).contains(&name.len()) && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit());
    if !fits || name.starts_with("pg_") {
        return Err("names a `schema` that is none: write at most 48 of a-z, 0-9 and _, no digit first".to_owned());
    }
    Ok(name.to_owned())
}

fn without_prefix(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(inner) => format!("cannot be understood: {inner}"),
        _ => "cannot be understood".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};

    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Else the end of a batch is held back until the server has confirmed its beginning, which it does after 40 ms.
    #[tokio::test]
    async fn the_end_of_a_batch_is_sent_at_once() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let place = Place::of(&format!("postgres://u@{address}/d")).unwrap();
        let looking = async {
            let (mut accepted, _) = server.accept().await.unwrap();
            accepted.read_u8().await.unwrap();
            sockets_to(address)
        };
        let sockets = tokio::select! {
            connected = place.connect(Use::Writing, Duration::from_mins(1)) => panic!("{connected:?} without a server"),
            sockets = looking => sockets,
        };
        match sockets {
            Ok(sockets) => assert!(matches!(&sockets[..], [socket] if socket.nodelay().unwrap()), "{sockets:?}"),
            Err(error) => eprintln!("skipped: this system shows no process its own sockets: {error}"),
        }
    }

    /// The sockets of this process that are connected to an address.
    fn sockets_to(address: SocketAddr) -> rustix::io::Result<Vec<TcpStream>> {
        let own = pidfd_open(getpid(), PidfdFlags::empty())?;
        let mut sockets = Vec::new();
        for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
            let number = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
            match pidfd_getfd(&own, number, PidfdGetfdFlags::empty()) {
                Ok(copy) => sockets.push(TcpStream::from(copy)),
                // It was closed meanwhile.
                Err(rustix::io::Errno::BADF) => {}
                Err(error) => return Err(error),
            }
        }
        sockets.retain(|socket| socket.peer_addr().is_ok_and(|peer| peer == address));
        Ok(sockets)
    }

    #[test]
    fn a_url_names_its_schema_or_has_ours() {
        for (url, schema) in [
            ("postgres://u@h/d", "livehook"),
            ("postgresql://u:p@h:5433/d?schema=hooks_2&sslmode=verify-full", "hooks_2"),
        ] {
            assert_eq!(Place::of(url).map(|place| place.schema), Ok(schema.to_owned()), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for (url, says) in [
            ("postgres://u:geheim@h:port/d", "is no URL"),
            ("postgres:geheim", "names no server"),
            ("postgres://u:geheim@h/d?sslmode=perhaps", "cannot be understood"),
            ("postgres://u:geheim@h/d?shcema=x", "unknown parameter `shcema`"),
            ("postgres://u:geheim@h/d?schema=Robert'); DROP", "names a `schema` that is none"),
            ("postgres://u:geheim@h/d?schema=pg_mine", "names a `schema` that is none"),
        ] {
            let fault = Place::of(url).map(drop).unwrap_err();
            assert!(fault.contains(says) && !fault.contains("geheim"), "{url}: {fault}");
        }
    }
}
