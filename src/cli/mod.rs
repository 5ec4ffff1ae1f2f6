//! The command line: arguments and exit codes; one file per command.

mod exit;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Receives the event callbacks of Tencent Cloud Streaming Services (CSS) and never loses one
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service (the default)
    Serve(serve::Serve),
}

/// Where the configuration comes from.
#[derive(Debug, Default, clap::Args)]
struct ConfigFlag {
    /// Configuration file (TOML); `LIVEHOOK_CONFIG` otherwise
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return exit::usage(&error),
    };
    exit::of(match arguments.command.unwrap_or_else(|| Command::Serve(serve::Serve::default())) {
        Command::Serve(command) => command.run(),
    })
}
