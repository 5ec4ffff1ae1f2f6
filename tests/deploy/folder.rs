//! The folder, our program, and the programs of others.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A path in `deploy`.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

#[track_caller]
pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

/// The documents of a file in YAML.
#[track_caller]
pub(crate) fn yaml(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

/// A program of others; none where the test is to be skipped.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test asks where it runs, and says what it skips"
)]
pub(crate) fn program(name: &str, source: &str) -> Option<Command> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/usr/bin");
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&search).chain([fetched]).map(|dir| dir.join(name)).find(|path| path.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is not there; .ci/run fetches it");
        eprintln!("SKIPPED: {name} is not there; it comes with {source}, and .ci/run fetches it");
    }
    found.map(Command::new)
}

/// What a program says that must succeed.
#[track_caller]
pub(crate) fn good(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", said(&output));
    said(&output)
}

pub(crate) fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

/// Our own program, with nothing of this process's environment that could configure it.
pub(crate) fn livehook() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livehook"));
    command.env_clear();
    command
}

/// What `livehook check` makes of a configuration whose secrets are files in `secrets`. Their names are returned too.
#[track_caller]
pub(crate) fn check(config: &str, secrets: &str, variables: &[(&str, &str)]) -> (toml::Table, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> =
        config.split(secrets).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    for name in &names {
        std::fs::write(dir.path().join(name), "c2VjcmV0\n").unwrap();
    }
    let file = dir.path().join("livehook.toml");
    std::fs::write(&file, config.replace(secrets, &format!("{}/", dir.path().display()))).unwrap();
    let effective = good(livehook().arg("check").arg("--config").arg(&file).envs(variables.iter().copied()));
    (effective.parse().unwrap(), names)
}

/// The value of a variable that the image sets.
#[track_caller]
pub(crate) fn of_image(variable: &str) -> String {
    let dockerfile = std::fs::read_to_string(path("../Dockerfile")).unwrap();
    let value = dockerfile.split(&format!("{variable}=")).nth(1).unwrap();
    value.split_whitespace().next().unwrap().to_owned()
}

/// Fails when a text speaks of a command of ours that there is not. Commands stand between backticks, or alone on lines
/// of code; words in capitals stand for something to be filled in.
#[track_caller]
pub(crate) fn assert_commands_exist(name: &str, text: &str, at_least: usize) {
    let quoted = text.split('`').skip(1).step_by(2);
    let parts = quoted.chain(text.lines()).map(|part| part.trim_start().trim_start_matches("sudo "));
    let commands = parts.filter_map(|part| part.strip_prefix("livehook "));
    let mut count = 0;
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        let lower = |word: &&&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        let path = words.iter().take_while(|word| !word.starts_with('-')).filter(lower);
        let flags = words.iter().filter(|word| word.starts_with("--"));
        let asked = livehook().args(path).arg("--help").output().unwrap();
        assert!(asked.status.success(), "{name}: there is no `livehook {command}`");
        let help = said(&asked);
        for flag in flags {
            let mut known = help.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '='));
            assert!(known.any(|word| word == *flag), "{name}: `livehook {command}` knows no {flag}");
        }
        count += 1;
    }
    assert!(count >= at_least, "{name} shows {count} commands");
}
