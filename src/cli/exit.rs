//! Exit codes: 0 success, 1 failure, 2 usage, 78 configuration.

use std::process::ExitCode;

use super::output::{self, Closed};
use crate::config::Faults;

/// sysexits' `EX_CONFIG`.
const CONFIGURATION: u8 = 78;

/// A command that did its work and found that something is wrong; it has said so itself.
#[derive(Debug, thiserror::Error)]
#[error("")]
pub(super) struct Failed;

/// The exit code of a command. What went wrong is printed on standard error.
pub(super) fn of(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    if error.is::<Closed>() {
        return ExitCode::SUCCESS;
    }
    if let Some(faults) = error.downcast_ref::<Faults>() {
        output::note(&format!("the configuration has faults\n{faults}"));
        return ExitCode::from(CONFIGURATION);
    }
    if !error.is::<Failed>() {
        output::note(&format!("{error:#}"));
    }
    ExitCode::FAILURE
}

/// What clap has to say: help goes to standard output with 0, the rest to standard error with 2.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when the terminal is gone.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
