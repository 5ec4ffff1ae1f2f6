//! Servers of other systems that are started for a while, killed and started again. They listen on loopback, keep what
//! they have in a temporary folder, and end with whoever started them. The benchmark has them too.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// The slowest takes seconds, many at the same time take longer.
const START_WAIT: Duration = Duration::from_mins(2);

/// A server of the test's own.
pub(crate) struct Server {
    program: &'static str,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// What it runs as; none: as the test does.
    user: Option<(u32, u32)>,
    /// What ends it at once.
    end: Signal,
    pub(crate) port: u16,
    pub(crate) directory: TempDir,
    child: Option<Child>,
}

impl Server {
    /// Starts `program` with what `arguments` makes of its folder and its port. None, said aloud, where there is no such
    /// program; with `CI` set that is a failure.
    pub(crate) async fn start(
        program: &'static str,
        package: &str,
        arguments: impl FnOnce(&str, u16) -> Vec<String>,
    ) -> Option<Self> {
        Self::start_with(program, package, |_, _| Vec::new(), arguments).await
    }

    /// The same, with variables of its environment.
    pub(crate) async fn start_with(
        program: &'static str,
        package: &str,
        environment: impl FnOnce(&str, u16) -> Vec<(&'static str, String)>,
        arguments: impl FnOnce(&str, u16) -> Vec<String>,
    ) -> Option<Self> {
        if !is_there(program, package) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let folder = directory.path().to_str().unwrap();
        let (environment, arguments) = (environment(folder, port), arguments(folder, port));
        let (user, end) = (None, Signal::KILL);
        let mut server = Self { program, arguments, environment, user, end, port, directory, child: None };
        server.restart().await;
        Some(server)
    }

    /// Starts NATS with JetStream.
    #[cfg(feature = "nats")]
    pub(crate) async fn start_nats(more: &[&str]) -> Option<Self> {
        Self::start("nats-server", "nats-server", |folder, port| {
            let port = port.to_string();
            let fixed = ["-a", "127.0.0.1", "-p", &port, "-js", "-sd", folder];
            fixed.iter().chain(more).map(|&argument| argument.to_owned()).collect()
        })
        .await
    }

    /// Starts Redis, which syncs before it answers.
    #[cfg(feature = "redis")]
    pub(crate) async fn start_redis(more: &[&str]) -> Option<Self> {
        Self::start("redis-server", "redis-server", |folder, port| {
            let port = port.to_string();
            let fixed = ["--bind", "127.0.0.1", "--port", &port, "--dir", folder, "--save", ""];
            let synced = ["--appendonly", "yes", "--appendfsync", "always"];
            fixed.iter().chain(&synced).chain(more).map(|&argument| argument.to_owned()).collect()
        })
        .await
    }

    /// Starts RabbitMQ with the lines of a configuration that `configure` makes of its folder.
    #[cfg(feature = "amqp")]
    pub(crate) async fn start_rabbitmq(configure: impl FnOnce(&str) -> Vec<String>) -> Option<Self> {
        // The program in the PATH of Debian is one that changes its user and writes to the system's folders.
        let program = "/usr/lib/rabbitmq/bin/rabbitmq-server";
        let environment = |folder: &str, port: u16| {
            vec![
                ("HOME", folder.to_owned()),
                // So that the script becomes the server.
                ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
                ("RABBITMQ_NODENAME", format!("livehook-test-{port}@localhost")),
                ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
                ("RABBITMQ_NODE_PORT", port.to_string()),
                ("RABBITMQ_DIST_PORT", free_port().to_string()),
                ("RABBITMQ_MNESIA_BASE", format!("{folder}/mnesia")),
                ("RABBITMQ_LOG_BASE", format!("{folder}/logs")),
                ("RABBITMQ_LOGS", "-".to_owned()),
                ("RABBITMQ_ENABLED_PLUGINS_FILE", format!("{folder}/plugins")),
                ("RABBITMQ_PID_FILE", format!("{folder}/pid")),
                ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
                ("RABBITMQ_CONFIG_FILE", format!("{folder}/rabbitmq.conf")),
            ]
        };
        Self::start_with(program, "rabbitmq-server", environment, |folder, _| {
            std::fs::write(format!("{folder}/rabbitmq.conf"), configure(folder).join("\n") + "\n").unwrap();
            Vec::new()
        })
        .await
    }

    /// Starts PostgreSQL, which refuses to run as root: as its own user then. Anybody may connect as `postgres`, and as
    /// `livehook` with the password `right-hunter22`.
    pub(crate) async fn start_postgres() -> Option<Self> {
        Self::start_postgres_with(|_| Vec::new()).await
    }

    /// The same with settings, which may need files in its folder.
    pub(crate) async fn start_postgres_with(settings: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        let programs = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let newest = programs.map(|version| version.path().join("bin")).max();
        let bin = newest.unwrap_or_else(|| "/usr/lib/postgresql/bin".into());
        let program: &'static str = bin.join("postgres").to_str().unwrap().to_owned().leak();
        if !is_there(program, "postgresql") {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().is_root().then(|| user_ids("postgres"));
        let settings = settings(directory.path());
        let data = directory.path().join("data");
        let mut init = Command::new(bin.join("initdb"));
        init.args(["-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C", "-D"]).arg(&data);
        if let Some((user, group)) = user {
            let files = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
            for path in files.chain([directory.path().to_owned()]) {
                std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
            }
            init.uid(user).gid(group);
        }
        let output = init.current_dir(directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let rules = "host all livehook 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
        let port = free_port();
        let (folder, port_text) = (directory.path().to_str().unwrap(), port.to_string());
        let arguments = ["-D", data.to_str().unwrap(), "-p", &port_text, "-h", "127.0.0.1", "-k", folder];
        let settings = settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]);
        let arguments = arguments.map(str::to_owned).into_iter().chain(settings).collect();
        // Its processes share memory, which a new one waits for in vain when the first alone is killed: this signal has it
        // kill all of them, and write nothing more.
        let end = Signal::QUIT;
        let mut server = Self { program, arguments, environment: Vec::new(), user, end, port, directory, child: None };
        server.restart().await;
        Some(server)
    }

    /// Starts MariaDB, to which anybody may connect as `root`.
    pub(crate) async fn start_mariadb() -> Option<Self> {
        Self::start_mariadb_with(|_| vec!["--skip-ssl".to_owned()]).await
    }

    /// The same with options, which may need files in its folder.
    pub(crate) async fn start_mariadb_with(options: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        if !is_there("mariadb-install-db", "mariadb-server") {
            return None;
        }
        let (program, package) = ("/usr/sbin/mariadbd", "mariadb-server");
        Self::start(program, package, |folder, port| {
            let user = if rustix::process::geteuid().is_root() { vec!["--user=root".to_owned()] } else { Vec::new() };
            let data = format!("--datadir={folder}/data");
            let mut init = Command::new("mariadb-install-db");
            init.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &data])
                .args(&user);
            let output = init.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            let fixed = ["--no-defaults", "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=8M", &data];
            let mut arguments: Vec<_> = fixed.map(str::to_owned).into();
            arguments.extend([format!("--port={port}"), format!("--socket={folder}/socket")]);
            arguments.extend([format!("--pid-file={folder}/pid")]);
            arguments.into_iter().chain(user).chain(options(Path::new(folder))).collect()
        })
        .await
    }

    /// Ends it as a loss of power would, in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_child(&child);
            rustix::process::kill_process(pid, self.end).unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again, at the same port and over the same folder, and waits until it listens.
    pub(crate) async fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let mut command = Command::new(self.program);
        command.args(&self.arguments).envs(self.environment.iter().cloned()).current_dir(self.directory.path());
        let output = (log.try_clone().unwrap(), log);
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        let mut child = command.stdin(Stdio::null()).stdout(output.0).stderr(output.1).spawn().unwrap();
        let until = Instant::now() + START_WAIT;
        while !listens(self.port).await {
            assert_eq!(child.try_wait().unwrap(), None, "{} ended: {}", self.program, self.log());
            assert!(Instant::now() < until, "{} does not listen: {}", self.program, self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.child = Some(child);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a program can be started.
#[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "a test that does not run must say so aloud")]
pub(crate) fn is_there(program: &str, package: &str) -> bool {
    let found = program.starts_with('/') && Path::new(program).is_file()
        || std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if !found {
        let what = format!("there is no {program}: apt-get install {package}");
        assert!(std::env::var_os("CI").is_none(), "{what}");
        eprintln!("SKIPPED: {what}");
    }
    found
}

/// The numbers of a user and its group.
pub(crate) fn user_ids(name: &str) -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let row = users.lines().find(|row| row.split(':').next() == Some(name)).unwrap();
    let numbers: Vec<u32> = row.split(':').skip(2).take(2).map(|number| number.parse().unwrap()).collect();
    (numbers[0], numbers[1])
}

/// The statement in README.md that makes the ready-made table of a database.
pub(crate) fn ready_made_table(heading: &str) -> &'static str {
    let readme = include_str!("../../../README.md");
    let section = readme.split_once(&format!("\n### `{heading}`\n")).unwrap().1;
    section.split_once("```sql\n").unwrap().1.split_once("```").unwrap().0
}

/// A port that nobody listens on, and that no other test of this process is given. It lies below those that the system
/// gives to connections: one of these might take it before our server does, or while that is away.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 10_000 + u16::try_from(std::process::id() % 1_000).unwrap() * 20;
    loop {
        let port = begin + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

async fn listens(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.is_ok()
}
