//! `livehook serve`

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ConfigFlag;
use crate::config::{self, Fault, Faults, Files, Loaded, Sources};
use crate::telemetry::{self, Supervisor};
use crate::{Reloader, Server};

#[derive(Debug, Default, clap::Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFlag,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let sources = Sources::from_process(self.config.config);
        let (loaded, files) = config::load_noting(&sources);
        let Loaded { config, file_is_blank, .. } = loaded?;
        let log = telemetry::log::init(&config.log).context("starting the log")?;
        raise_file_limit();
        let supervisor = Supervisor::new(sources.notify_socket());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting threads")?;
        let outcome = runtime.block_on(async {
            let stop = stop_signal().context("listening for signals")?;
            let hangup = signal(SignalKind::hangup()).context("listening for signals")?;
            let server = Server::builder().config(config).build().await?;
            // From here on the ports take connections, which are served in a moment.
            supervisor.ready();
            let stop = async {
                stop.await;
                supervisor.stopping();
            };
            let (reloader, log, supervisor) = (server.reloader(), &log, &supervisor);
            let reloads = Reloads { reloader, sources, files, file_is_blank, log, supervisor };
            tokio::select! {
                ended = server.run(stop) => Ok(ended?),
                never = reloads.keep_reloading(hangup) => match never {},
            }
        });
        // A thread that hangs in the disk must not hold up the end.
        runtime.shutdown_background();
        outcome
    }
}

/// Completes with the first SIGTERM or SIGINT. The second ends the process at once.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        let again = std::thread::Builder::new().name("second-signal".to_owned());
        let handle = tokio::runtime::Handle::current();
        let _ = again.spawn(move || {
            handle.block_on(async move {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            });
            std::process::exit(1);
        });
    })
}

/// Reads the configuration again on SIGHUP, and when one of its files is another one.
struct Reloads<'a> {
    reloader: Reloader,
    sources: Sources,
    /// As they were when the configuration was last read.
    files: Files,
    /// Of the configuration in use.
    file_is_blank: bool,
    log: &'a telemetry::log::Guard,
    supervisor: &'a Supervisor,
}

/// How often the files are looked at. Looking works on every kind of volume, where notices of the system miss what
/// another machine does, and a few questions to the file system cost nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Reloads<'_> {
    async fn keep_reloading(mut self, mut hangup: Signal) -> Infallible {
        loop {
            tokio::select! {
                _ = hangup.recv() => tracing::info!("SIGHUP: reading the configuration again"),
                () = changed(&self.files) => tracing::info!("the configuration has changed: reading it again"),
            }
            self.supervisor.reloading();
            self.reload().await;
            self.supervisor.ready();
        }
    }

    async fn reload(&mut self) {
        let sources = self.sources.clone();
        let read = tokio::task::spawn_blocking(move || config::load_noting(&sources)).await;
        let Ok((loaded, files)) = read else {
            tracing::error!("reading the configuration panicked; the one before it stays");
            return;
        };
        self.files = files;
        let loaded = loaded.and_then(|loaded| self.not_emptied(loaded));
        let blank = loaded.as_ref().is_ok_and(|loaded| loaded.file_is_blank);
        let config = loaded.map(|loaded| loaded.config);
        let level = config.as_ref().map(|config| config.log.level.clone()).unwrap_or_default();
        // What became of it is told by whom it was given to.
        if self.reloader.reload(config).await.is_err() {
            return;
        }
        self.file_is_blank = blank;
        if self.log.set_level(&level).is_err() {
            tracing::error!(level, "the level of the log stays as it is");
        }
    }

    /// A full disk, or a hand that slipped, leaves an empty file: it must not take keys, token and handlers away.
    fn not_emptied(&self, loaded: Loaded) -> Result<Loaded, Faults> {
        let Some(path) = self.sources.file.as_ref().filter(|_| loaded.file_is_blank && !self.file_is_blank) else {
            return Ok(loaded);
        };
        let what = "sets no key any more; restart the service if nothing but the defaults is wanted".to_owned();
        Err(Fault { key: path.display().to_string(), place: None, what }.into())
    }
}

/// Completes when files have changed and then stay as they are from one look to the next: who writes a file may be in the
/// middle of it.
async fn changed(files: &Files) {
    let mut before = files.clone();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let known = files.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || known.looked_at_again()).await else { continue };
        if now != *files && now == before {
            return;
        }
        before = now;
    }
}

/// Connections are files: as many as the machine lets us have.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}
