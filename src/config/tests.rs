//! What users rely on: every source, every rule, every message.

#[cfg(feature = "chat")]
mod chat;
mod meaning;
mod outside;
mod sample;
mod secrets;
mod sources;

use std::path::PathBuf;

use super::*;

/// A directory with files, and what is loaded from it.
struct Bench {
    dir: tempfile::TempDir,
    sources: Sources,
}

impl Bench {
    fn new(toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = Self { dir, sources: Sources::default() };
        bench.sources.file = Some(bench.file("livehook.toml", toml));
        bench
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn with_flag(mut self, key: &str, value: &str) -> Self {
        self.sources.overrides.push((key.to_owned(), value.to_owned()));
        self
    }

    fn load(&self) -> Result<Loaded, Faults> {
        load(&self.sources)
    }

    fn config(&self) -> Config {
        self.load().map_err(|faults| panic!("{faults}")).unwrap().config
    }

    fn faults(&self) -> String {
        self.load().expect_err("no fault").to_string()
    }
}

/// Loads `toml` and expects one fault that contains all of `parts`.
fn check_fault(toml: &str, parts: &[&str]) {
    let faults = Bench::new(toml).faults();
    assert_eq!(faults.lines().count(), 1, "{toml}\n{faults}");
    for part in parts {
        assert!(faults.contains(part), "{toml}\n{faults}\nlacks {part:?}");
    }
}
