//! Straight into the store, while the service is stopped.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{Fault, Outcome};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Sources};
use crate::intake::{ImportError, Imported, Intake, Lines};
use crate::store::{OpenError, Store, StoreError};
use crate::telemetry::{KnownLabels, Metrics};

/// What waits in the store's queue is written within this time.
const CLOSE_PATIENCE: Duration = Duration::from_secs(20);

/// Reads the file into the store of a configuration, with its keys and handlers.
pub(super) async fn import(config: &Path, file: &Path) -> anyhow::Result<Outcome> {
    let config = config::load(&Sources::from_process(Some(config.to_owned())))?.config;
    let mut lines = BufReader::new(super::open(file).await?);
    let intake = open(&config)?;
    let outcome = import_all(&intake, &mut lines).await;
    intake.store().close(CLOSE_PATIENCE).await;
    outcome
}

fn open(config: &Config) -> anyhow::Result<Intake> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let policies: Vec<_> = config.handlers.iter().map(|handler| handler.policy.clone()).collect();
    let names: Vec<_> = policies.iter().map(|policy| policy.name.clone()).collect();
    let store = Store::open(config.store.clone(), &names, config.server.ack.deadline, Arc::clone(&clock));
    let store = store.map_err(|error| match error {
        OpenError::InUse(path) => anyhow::anyhow!(
            "the store {} is in use: import through the running service with --admin instead of --config, or stop it",
            path.display()
        ),
        other => other.into(),
    })?;
    let metrics = Metrics::new(KnownLabels::default());
    Ok(Intake::new(store, config.signature.clone(), &policies, clock, metrics))
}

async fn import_all(intake: &Intake, reader: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> anyhow::Result<Outcome> {
    let (mut outcome, mut lines) = (Outcome::default(), Lines::default());
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await.context("reading the file")? > 0 {
        lines.push(&String::from_utf8_lossy(&line));
        line.clear();
        take_all(intake, &mut lines, &mut outcome).await?;
    }
    lines.end();
    take_all(intake, &mut lines, &mut outcome).await?;
    Ok(outcome)
}

async fn take_all(intake: &Intake, lines: &mut Lines, outcome: &mut Outcome) -> anyhow::Result<()> {
    while let Some((line, text)) = lines.pop() {
        match intake.import(&text).await {
            Ok(Imported::Event) => outcome.imported += 1,
            Ok(Imported::Duplicate) => outcome.duplicates += 1,
            Ok(Imported::Refused) => outcome.refused += 1,
            Ok(Imported::Nothing) => {}
            // The line is at fault, as with an id that another event has.
            Err(error @ (ImportError::Line(_) | ImportError::Store(StoreError::Refused(_)))) => {
                outcome.faults.push(Fault { line, detail: error.to_string() });
            }
            Err(ImportError::Store(error)) => {
                return Err(error).context(format!("line {line}: the lines before it are imported"));
            }
        }
    }
    Ok(())
}
