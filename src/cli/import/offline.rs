//! Straight into the store, while the service is stopped.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{Fault, Outcome};
use crate::cli::offline;
use crate::clock::{Clock, SystemClock};
use crate::intake::{ImportError, Imported, Importing, Intake, Lines};
use crate::store::StoreError;
use crate::telemetry::{KnownLabels, Metrics};

/// Reads the file into the store of a configuration, with its keys and handlers.
pub(super) async fn import(config: &Path, file: &Path) -> anyhow::Result<Outcome> {
    let mut lines = BufReader::new(super::open(file).await?);
    let intake = open(config)?;
    let outcome = import_all(&intake, &mut lines).await;
    offline::close(intake.store()).await;
    outcome
}

fn open(config: &Path) -> anyhow::Result<Intake> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let online = "import through the running service with --admin instead of --config";
    let (config, store) = offline::open(config, Arc::clone(&clock), online)?;
    let policies: Vec<_> = config.handlers.iter().map(|handler| handler.policy.clone()).collect();
    let metrics = Metrics::new(KnownLabels::default());
    Ok(Intake::new(store, config.signature.clone(), &policies, clock, metrics))
}

async fn import_all(intake: &Intake, reader: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> anyhow::Result<Outcome> {
    let (mut outcome, mut lines, mut importing) = (Outcome::default(), Lines::default(), Importing::new(intake));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await.context("reading the file")? > 0 {
        lines.push(&String::from_utf8_lossy(&line));
        line.clear();
        take_all(&mut lines, &mut importing, &mut outcome).await?;
    }
    lines.end();
    take_all(&mut lines, &mut importing, &mut outcome).await?;
    while let Some((line, became)) = importing.next().await {
        note(line, became, &mut outcome)?;
    }
    Ok(outcome)
}

async fn take_all(lines: &mut Lines, importing: &mut Importing<'_>, outcome: &mut Outcome) -> anyhow::Result<()> {
    while let Some((line, text)) = lines.pop() {
        while let Some((line, became)) = importing.make_room(text.len()).await {
            note(line, became, outcome)?;
        }
        importing.take(line, &text).await;
    }
    Ok(())
}

fn note(line: u64, became: Result<Imported, ImportError>, outcome: &mut Outcome) -> anyhow::Result<()> {
    match became {
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
    Ok(())
}
