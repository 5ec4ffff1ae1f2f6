//! The command line: arguments and exit codes; one file per command, a folder where a command has several.
//!
//! Commands that ask a running service know its admin API and nothing else of it.

mod api;
mod check;
mod completions;
mod deliveries;
mod events;
mod exit;
mod handlers;
mod healthcheck;
mod http;
mod import;
mod key;
mod list;
mod man;
mod moment;
mod offline;
mod output;
mod quarantine;
mod replay;
mod send;
mod serve;
mod sign;
mod streams;
mod table;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Receives the event callbacks of Tencent Cloud Streaming Services (CSS) and never loses one
///
/// Without a command it runs the service.
#[derive(Debug, Parser)]
#[command(name = "livehook", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
#[command(after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Serve,
}

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 wrong usage, 78 faulty configuration";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service (the default)
    Serve(serve::Serve),
    /// Say all faults of a configuration, or print what it amounts to, secrets masked
    Check(check::Check),
    /// Play CSS: post events, signed as CSS signs them
    Send(Box<send::Send>),
    /// Compute the `sign` of a callback
    Sign(sign::Sign),
    /// Check the signature of a callback body, and explain the verdict
    Verify(verify::Verify),
    /// Look at the events that are stored
    #[command(subcommand)]
    Events(events::Events),
    /// Look at and decide about what is owed to handlers
    #[command(subcommand)]
    Deliveries(deliveries::Deliveries),
    /// Look at handlers, and pause and resume them
    #[command(subcommand)]
    Handlers(handlers::Handlers),
    /// Deliver events once more
    Replay(Box<replay::Replay>),
    /// Look at callbacks that were refused, and give them a second chance
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    /// Look at streams: who is live, and what became of each push
    #[command(subcommand)]
    Streams(streams::Streams),
    /// Read spilled callbacks or exported events back in
    Import(import::Import),
    /// Ask whether the service is ready
    Healthcheck(healthcheck::Healthcheck),
    /// Print completions for a shell
    Completions(completions::Completions),
    /// Write the manual pages
    Man(man::Man),
}

/// Where the configuration comes from.
#[derive(Debug, Default, clap::Args)]
struct ConfigFlag {
    /// Configuration file (TOML); otherwise the one that `LIVEHOOK_CONFIG` names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return exit::usage(&error),
    };
    exit::of(match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Serve(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Send(command) => command.run(),
        Command::Sign(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Events(command) => command.run(),
        Command::Deliveries(command) => command.run(),
        Command::Handlers(command) => command.run(),
        Command::Replay(command) => command.run(),
        Command::Quarantine(command) => command.run(),
        Command::Streams(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Healthcheck(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_sound() {
        super::Arguments::command().debug_assert();
    }
}
