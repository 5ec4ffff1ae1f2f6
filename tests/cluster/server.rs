//! A PostgreSQL server of the tests' own, in a temporary folder, on a free port.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process::{free_port, user_ids};

/// The password of the only user, `postgres`.
pub(crate) const PASSWORD: &str = "quite-secret";

/// A server. Killed when dropped.
pub(crate) struct Server {
    bin: PathBuf,
    folder: TempDir,
    pub(crate) port: u16,
    /// Further settings.
    settings: Vec<String>,
    /// Whom it runs as: it refuses to be root.
    user: Option<(u32, u32)>,
    child: Option<Child>,
}

/// How a server ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// It ends its connections, and writes everything down.
    Fast,
    /// It stops as by a crash, and recovers at the next start.
    Immediate,
    /// Without a warning, as when its machine is gone.
    Killed,
}

impl Server {
    /// Makes a server and waits until it answers. None, said aloud, where there is no PostgreSQL.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(|_| Vec::new()).await
    }

    /// With settings, which may need files in its folder.
    pub(crate) async fn start_with(settings: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        let mut server = Self::at(bin()?);
        server.settings = settings(server.folder.path());
        fs::write(server.folder.path().join("password"), PASSWORD).unwrap();
        for entry in fs::read_dir(server.folder.path()).unwrap() {
            server.own(&entry.unwrap().path());
        }
        let how = ["-D", "data", "-U", "postgres", "--auth=scram-sha-256", "-N", "-E", "UTF8", "--pwfile=password"];
        server.make("initdb", &how);
        server.begin().await;
        Some(server)
    }

    /// One that has nothing yet.
    fn at(bin: PathBuf) -> Self {
        let user = rustix::process::getuid().is_root().then(|| user_ids("postgres"));
        let folder = tempfile::Builder::new().prefix("livehook-pg-").tempdir().unwrap();
        let server = Self { bin, folder, port: free_port(), settings: Vec::new(), user, child: None };
        server.own(server.folder.path());
        server
    }

    /// Gives a file to whoever the server runs as.
    fn own(&self, path: &Path) {
        self.user.iter().for_each(|(uid, gid)| chown(path, Some(*uid), Some(*gid)).unwrap());
    }

    /// Makes its data with one of its programs.
    fn make(&self, program: &str, how: &[&str]) {
        let made = self.command(program).args(how).stdout(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "{program}: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Makes a standby of this server, without which nothing is confirmed any more.
    pub(crate) async fn standby(&self) -> Self {
        let mut standby = Self::at(self.bin.clone());
        let source = format!("host=127.0.0.1 port={} user=postgres password={PASSWORD}", self.port);
        standby.make("pg_basebackup", &["-D", "data", "-R", "-c", "fast", "-d", &source]);
        standby.begin().await;
        self.ask("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.ask("SELECT pg_reload_conf()");
        crate::eventually("the standby has all there is", async || {
            (self.ask("SELECT sync_state FROM pg_stat_replication") == "sync").then_some(())
        })
        .await;
        standby
    }

    /// Where a store on it is.
    pub(crate) fn url(&self) -> String {
        url_at(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    /// Ends it, and does not wait for whoever is connected.
    pub(crate) fn end(&mut self, how: End) {
        let mut child = self.child.take().expect("it runs");
        let signal = match how {
            End::Fast => Signal::INT,
            End::Immediate => Signal::QUIT,
            End::Killed => Signal::KILL,
        };
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn begin(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = self.command("postgres");
        command.args(["-D", "data", "-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", self.folder.path().display()));
        command.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        let mut child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        crate::eventually("PostgreSQL answers", async || {
            assert_eq!(child.try_wait().unwrap(), None, "it ended: {}", self.log());
            let asked =
                self.command("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]).status();
            asked.unwrap().success().then_some(())
        })
        .await;
        self.child = Some(child);
    }

    /// What one statement tells.
    pub(crate) fn ask(&self, sql: &str) -> String {
        let mut command = self.command("psql");
        command.env("PGPASSWORD", PASSWORD).args(["-h", "127.0.0.1", "-U", "postgres", "-qAt", "-c", sql]);
        let told = command.args(["-p", &self.port.to_string()]).output().unwrap();
        assert!(told.status.success(), "{sql}: {}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8_lossy(&told.stdout).trim().to_owned()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(self.folder.path()).env("LC_ALL", "C").stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.end(End::Immediate);
        }
    }
}

/// Where a store is on a server, or behind something that leads to one.
pub(crate) fn url_at(address: SocketAddr) -> String {
    format!("postgres://postgres:{PASSWORD}@{address}/postgres")
}

/// Where the server's programs are. Without them, said aloud, there is no test.
#[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "a test that does not run must say so aloud")]
fn bin() -> Option<PathBuf> {
    let named = std::env::var_os("LIVEHOOK_TEST_POSTGRES_BIN").map(PathBuf::from);
    let mut packaged: Vec<_> = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().collect();
    packaged.sort_by_key(fs::DirEntry::file_name);
    let packaged = packaged.into_iter().rev().map(|version| version.path().join("bin"));
    let usual = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let mut folders = named.into_iter().chain(packaged).chain(usual.into_iter().flatten());
    let found = folders.find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file());
    if found.is_none() {
        let what = "there is no PostgreSQL server: apt-get install postgresql, or name its programs' folder in \
                    LIVEHOOK_TEST_POSTGRES_BIN";
        assert!(std::env::var_os("CI").is_none(), "{what}");
        eprintln!("SKIPPED: {what}");
    }
    found
}
