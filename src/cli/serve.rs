//! `livehook serve`

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::ConfigFlag;
use crate::Server;
use crate::config::{self, Loaded, Sources};
use crate::telemetry::{self, Supervisor};

#[derive(Debug, Default, clap::Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFlag,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let sources = Sources::from_process(self.config.config);
        let Loaded { config, .. } = config::load(&sources)?;
        let _log = telemetry::log::init(&config.log, None).context("starting the log")?;
        raise_file_limit();
        let supervisor = Supervisor::new(sources.notify_socket());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting threads")?;
        let outcome = runtime.block_on(async {
            let stop = stop_signal().context("listening for signals")?;
            let server = Server::builder().config(config).build().await?;
            // From here on the ports take connections, which are served in a moment.
            supervisor.ready();
            let stop = async {
                stop.await;
                supervisor.stopping();
            };
            server.run(stop).await?;
            Ok(())
        });
        // A thread that hangs in the disk must not hold up the end.
        runtime.shutdown_background();
        outcome
    }
}

/// Completes with the first SIGTERM or SIGINT. The second ends the process at once.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                // Its default would end us in the middle of everything.
                _ = hangup.recv() => tracing::warn!("SIGHUP: this version does not reload; restart it to change the configuration"),
            }
        }
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

/// Connections are files: as many as the machine lets us have.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}
