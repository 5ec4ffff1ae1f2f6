//! livehook as a library, over a disk whose syncs take their time, as those of a disk in a network do.

use std::io;
use std::path::Path;
use std::time::Duration;

use faulty_disk::Disk;
use livehook::config::{self, Sources};
use livehook::{Server, telemetry};

use crate::bare::end_with_parent;

/// Serves until the process that started this one ends. Tells its addresses as `livehook serve` does.
pub(crate) fn serve(config: &Path, dir: &Path, sync: Duration) -> io::Result<()> {
    end_with_parent();
    faulty_disk::install();
    let disk = Disk::over(dir);
    disk.sync_takes(sync);
    let sources = Sources { file: Some(config.to_owned()), ..Sources::default() };
    let config = config::load(&sources).map_err(io::Error::other)?.config;
    let _log = telemetry::log::init(&config.log).map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::builder().config(config).build().await.map_err(io::Error::other)?;
        server.run(std::future::pending()).await.map_err(io::Error::other)
    })
}
