//! The servers that are measured: children of this process, on the server's core, killed when they are dropped.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Subcommand;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::event::KEY;
use crate::machine::{self, Cores};
use crate::{bare, report, slow};

/// A server may take this long to say where it listens.
const START_MAX: Duration = Duration::from_mins(1);
/// An answer of the admin listener may take this long.
const ANSWER_MAX: Duration = Duration::from_mins(1);

/// What else this program does, mostly as a child of itself.
#[derive(Clone, Subcommand)]
pub(crate) enum Role {
    /// Show a report in both READMEs, and its picture in a file
    Publish { json: PathBuf, svg: PathBuf },
    /// The bare route.
    #[command(hide = true)]
    Bare,
    /// livehook on a disk whose syncs take so many milliseconds more.
    #[command(hide = true)]
    Slow { config: PathBuf, dir: PathBuf, millis: u64 },
}

/// The livehook that is measured.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// The one that was built together with this program.
    Ours,
    /// Another one.
    Other(PathBuf),
    /// Ours as a library, on a disk whose syncs take so many milliseconds more.
    Slow(u64),
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) callbacks: SocketAddr,
    admin: Option<SocketAddr>,
}

/// What delivers, in the configuration of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Handler<'a> {
    /// One that matches nothing.
    Idle,
    /// The built-in one that appends to a file.
    File,
    /// Posts to this address.
    Http(SocketAddr),
    /// Posts the events of every hundredth stream where they are refused for good.
    Refused(SocketAddr),
    /// One of which the configuration says this.
    Told(&'a str),
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) now: u32,
    pub(crate) peak: u32,
}

impl Role {
    pub(crate) fn play(&self) -> io::Result<()> {
        match self {
            Self::Publish { json, svg } => report::publish(json, svg),
            Self::Bare => bare::serve(),
            Self::Slow { config, dir, millis } => slow::serve(config, dir, Duration::from_millis(*millis)),
        }
    }
}

impl Server {
    /// The bare route: this program in another role.
    pub(crate) fn bare(cores: &Cores) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bare").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = cores.on_server(|| command.spawn())?;
        let said = first_line(child.stdout.take(), |line| line.trim().parse().ok());
        Self::started(child, said.map(|callbacks| (callbacks, None)))
    }

    /// livehook with its store at `url` and all else it writes in `dir`.
    pub(crate) fn livehook(
        cores: &Cores,
        program: &Program,
        dir: &Path,
        handler: Handler<'_>,
        url: &str,
    ) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let config = dir.join("livehook.toml");
        fs::write(&config, configuration(dir, handler, url))?;
        let mut command = match program {
            Program::Ours => Command::new(env!("CARGO_BIN_EXE_livehook")),
            Program::Other(path) => Command::new(path),
            Program::Slow(_) => Command::new(std::env::current_exe()?),
        };
        match program {
            Program::Ours | Program::Other(_) => command.arg("serve").arg("--config").arg(config),
            Program::Slow(millis) => command.arg("slow").arg(config).arg(dir).arg(millis.to_string()),
        };
        // Whoever takes the role of a server ends with its standard input; livehook itself does not look at it.
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = cores.on_server(|| command.spawn())?;
        let said = first_line(child.stderr.take(), ready);
        Self::started(child, said.map(|(callbacks, admin)| (callbacks, Some(admin))))
    }

    fn started(mut child: Child, said: io::Result<(SocketAddr, Option<SocketAddr>)>) -> io::Result<Self> {
        match said {
            Ok((callbacks, admin)) => Ok(Self { child, callbacks, admin }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Its memory, from what the kernel tells.
    pub(crate) fn memory(&self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Memory { now: kib("VmRSS:").unwrap_or_default(), peak: kib("VmHWM:").unwrap_or_default() }
    }

    /// Seconds of processor time it has used, all threads together.
    pub(crate) fn busy(&self) -> f64 {
        machine::busy_of(&self.child.id().to_string())
    }

    /// Bytes of pages it has handed to the disk so far, as far as the kernel lets us see.
    pub(crate) fn written(&self) -> u64 {
        let io = fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap_or_default();
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    }

    /// The sum of all values of a metric whose line begins like this.
    pub(crate) async fn metric(&self, start: &str) -> io::Result<f64> {
        let (text, _) = self.get("/metrics").await?;
        let lines = text.lines().filter(|line| line.starts_with(start));
        Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    /// What its admin listener answers, and how long it took.
    pub(crate) async fn get(&self, path: &str) -> io::Result<(String, Duration)> {
        self.ask(&format!("GET {path}"), "").await
    }

    /// Has its admin listener do something.
    pub(crate) async fn post(&self, path: &str) -> io::Result<()> {
        let body = "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        self.ask(&format!("POST {path}"), body).await.map(drop)
    }

    async fn ask(&self, what: &str, body: &str) -> io::Result<(String, Duration)> {
        let admin = self.admin.ok_or(io::ErrorKind::Unsupported)?;
        let begun = Instant::now();
        let asked = async {
            let mut stream = TcpStream::connect(admin).await?;
            let end = if body.is_empty() { "\r\n" } else { body };
            let request = format!("{what} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n{end}");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        let answer = tokio::time::timeout(ANSWER_MAX, asked).await??;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok((body.to_owned(), begun.elapsed())),
            _ => Err(io::Error::other(format!("{what}: {}", answer.lines().next().unwrap_or_default()))),
        }
    }

    /// Ends it as a power cut would, as far as a process can tell.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(dir: &Path, handler: Handler<'_>, url: &str) -> String {
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let target = match handler {
        Handler::Idle => format!("type = \"file\"\npath = {}\nstreams = [\"none-*\"]", quoted(&dir.join("none.jsonl"))),
        Handler::File => format!("type = \"file\"\npath = {}", quoted(&dir.join("events.jsonl"))),
        Handler::Http(address) => format!("type = \"http\"\nurl = \"http://{address}/events\""),
        Handler::Refused(address) => {
            format!("type = \"http\"\nurl = \"http://{address}/refused\"\nstreams = [\"room-??00\"]")
        }
        Handler::Told(lines) => lines.to_owned(),
    };
    // What is refused on purpose would be told of line by line.
    let quiet =
        if matches!(handler, Handler::Refused(_)) { ",livehook::intake=off,livehook::dispatch=off" } else { "" };
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [log]\nlevel = \"warn,livehook::app=info,livehook::app::reload=warn{quiet}\"\nformat = \"json\"\n[signature]\nkey = \"{KEY}\"\n\
         [store]\nurl = {url:?}\n[[handlers]]\nname = \"sink\"\n{target}\n"
    )
}

/// Where it listens, from the line that says so.
fn ready(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| line.get(name)?.as_str()?.parse().ok();
    Some((address("callbacks")?, address("admin")?))
}

/// Waits for the first line that tells what is wanted. Later ones are read on a thread, so that the child never waits;
/// what is told of trouble is passed on.
fn first_line<T: Send + 'static>(
    pipe: Option<impl io::Read + Send + 'static>,
    read: impl Fn(&str) -> Option<T> + Send + 'static,
) -> io::Result<T> {
    let pipe = pipe.ok_or(io::ErrorKind::BrokenPipe)?;
    let (found, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            match read(&line) {
                Some(wanted) => drop(found.send(wanted)),
                None => crate::report::aside(&line),
            }
        }
    });
    told.recv_timeout(START_MAX).map_err(|_| io::Error::other("a server did not start"))
}
