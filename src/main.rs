//! The `livehook` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    livehook::cli::main()
}
