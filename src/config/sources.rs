//! Where a configuration comes from: a file, the environment, the command line.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::fault::{Fault, Faults, Unknown, nearest};
use super::tree::{LEVELS, Layers, PREFIX, TomlFile, variable};

/// The one variable of ours that is no key: the path of the file.
const FILE_VARIABLE: &str = "LIVEHOOK_CONFIG";
/// The socket of the service manager that started us, see `sd_notify(3)`.
const SUPERVISOR_VARIABLE: &str = "NOTIFY_SOCKET";
/// Wins over `log.level`, as everywhere.
pub(super) const LEVEL_VARIABLE: &str = "RUST_LOG";

/// What a configuration is made from; later ones win.
#[derive(Clone, Default)]
pub struct Sources {
    /// A file in TOML; none: the defaults.
    pub file: Option<PathBuf>,
    /// The environment, whole: names and values. [`from_process`](Self::from_process) has put `LIVEHOOK_CONFIG` into
    /// `file` already; here it counts for nothing.
    pub environment: Vec<(String, String)>,
    /// From the command line: key path and value, as text.
    pub overrides: Vec<(String, String)>,
    /// Variables of the environment that were left out because their values are not UTF-8.
    pub illegible: Vec<String>,
}

/// Values may be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Sources {
    /// From the environment of this process. The file is the one on the command line, or else the one that
    /// `LIVEHOOK_CONFIG` names. Nothing else in livehook reads the environment.
    pub fn from_process(config_flag: Option<PathBuf>) -> Self {
        Self::from_environment(config_flag, std::env::vars_os())
    }

    fn from_environment(flag: Option<PathBuf>, variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut sources = Self { file: flag, ..Self::default() };
        for (name, value) in variables {
            if name == FILE_VARIABLE && !value.is_empty() {
                sources.file.get_or_insert_with(|| PathBuf::from(&value));
            }
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => sources.environment.push((name, value)),
                (Ok(name), Err(_)) => sources.illegible.push(name),
                (Err(_), _) => {}
            }
        }
        sources
    }

    /// Where a service manager wants to hear how we are.
    pub fn notify_socket(&self) -> Option<&str> {
        let named = self.environment.iter().find(|(name, _)| name == SUPERVISOR_VARIABLE);
        named.map(|(_, value)| value.as_str())
    }

    /// For `{ env = … }`.
    pub(super) fn variables(&self) -> HashMap<String, String> {
        self.environment.iter().cloned().collect()
    }

    /// Reads the file and sorts the variables by what is known. Faults and unknown keys are added to the lists; a file
    /// that cannot be read at all ends it.
    pub(super) fn layers(&self, known: &BTreeSet<String>, reports: &mut Reports) -> Result<Layers, Faults> {
        let variables = self.known_variables(known, &mut reports.faults);
        let file = match self.toml() {
            Ok((file, unknown)) => {
                reports.unknown.extend(unknown);
                file
            }
            Err(fault) => return Err(fault.after(std::mem::take(&mut reports.faults))),
        };
        Ok(Layers { file, variables, overrides: self.overrides(known, &mut reports.unknown) })
    }

    fn toml(&self) -> Result<(TomlFile, Vec<Unknown>), Faults> {
        let Some(path) = &self.file else { return Ok(Default::default()) };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Faults::from(Fault { key: name.clone(), place: None, what: format!("cannot be read: {e}") })
        })?;
        TomlFile::read(&name, &text)
    }

    fn overrides(&self, known: &BTreeSet<String>, unknown: &mut Vec<Unknown>) -> Vec<(String, String, &'static str)> {
        const PLACE: &str = "command line";
        let level = self.environment.iter().find(|(name, value)| name == LEVEL_VARIABLE && !value.is_empty());
        let mut overrides = Vec::new();
        for (key, value) in &self.overrides {
            if known.contains(key) && !key.contains("[]") {
                overrides.push((key.clone(), value.clone(), PLACE));
            } else {
                unknown.push(Unknown { key: key.clone(), place: Some(PLACE.to_owned()) });
            }
        }
        overrides.extend(level.map(|(_, value)| ("log.level".to_owned(), value.clone(), LEVEL_VARIABLE)));
        overrides
    }

    /// Variables that name a known key. Those without a level are not ours: Kubernetes sets `LIVEHOOK_PORT` and the
    /// like for a service of our name.
    fn known_variables(&self, known: &BTreeSet<String>, faults: &mut Vec<Fault>) -> HashMap<String, String> {
        let names: HashMap<String, &String> = known.iter().map(|key| (variable(key), key)).collect();
        let mut ours: Vec<_> = self.environment.iter().filter(|(name, _)| is_ours(name)).collect();
        ours.sort();
        let (mine, strange): (Vec<_>, Vec<_>) = ours.into_iter().partition(|(name, _)| names.contains_key(name));
        faults.extend(strange.into_iter().map(|(name, _)| unknown_variable(name, known)));
        faults.extend(self.illegible.iter().filter(|name| is_ours(name)).map(|name| fault_of(name, "is not UTF-8")));
        for pair in mine.windows(2) {
            if pair[1].0.starts_with(&format!("{}{LEVELS}", pair[0].0)) {
                faults.push(fault_of(&pair[1].0, &format!("cannot be set together with {}", pair[0].0)));
            }
        }
        mine.into_iter().cloned().collect()
    }
}

/// What is found wrong before a tree is read.
#[derive(Default)]
pub(super) struct Reports {
    pub(super) faults: Vec<Fault>,
    pub(super) unknown: Vec<Unknown>,
}

fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) && name.contains(LEVELS)
}

/// The key a variable seems to mean.
fn key_of(name: &str) -> String {
    let levels = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase().replace(LEVELS, ".");
    levels.trim_matches(['_', '.']).to_owned()
}

fn fault_of(name: &str, what: &str) -> Fault {
    Fault { key: key_of(name), place: Some(name.to_owned()), what: what.to_owned() }
}

fn unknown_variable(name: &str, known: &BTreeSet<String>) -> Fault {
    let key = key_of(name);
    let lists: BTreeSet<String> = known.iter().filter(|known| !known.contains("[]")).cloned().collect();
    let what = match nearest(&key, &lists) {
        _ if key.starts_with("handlers.") => {
            "handlers are configured in the file; their secrets may be { env = \"NAME\" }".to_owned()
        }
        _ if key.starts_with("signature.keys.") => {
            format!("a list is given whole, as JSON, in {}", variable("signature.keys"))
        }
        Some(nearest) => format!("there is no such key; the nearest is `{nearest}`, set by {}", variable(nearest)),
        None => "there is no such key".to_owned(),
    };
    fault_of(name, &what)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn sources(flag: Option<&str>, variables: &[(&[u8], &[u8])]) -> Sources {
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Sources::from_environment(flag.map(PathBuf::from), variables.iter().map(|(n, v)| (text(n), text(v))))
    }

    #[test]
    fn the_flag_wins_over_the_variable() {
        let variable: (&[u8], &[u8]) = (b"LIVEHOOK_CONFIG", b"/variable");
        assert_eq!(sources(Some("/flag"), &[variable]).file, Some("/flag".into()));
        assert_eq!(sources(None, &[variable]).file, Some("/variable".into()));
        assert_eq!(sources(None, &[(b"LIVEHOOK_CONFIG", b"")]).file, None);
    }

    #[test]
    fn what_is_not_utf8_matters_only_in_our_variables() {
        let strange: [(&[u8], &[u8]); 3] = [(b"\xff", b"a"), (b"OTHER__X", b"\xff"), (b"LIVEHOOK_PORT", b"\xff")];
        super::super::load(&sources(None, &strange)).unwrap();
        let faults = super::super::load(&sources(None, &[(b"LIVEHOOK_LOG__LEVEL", b"\xff")])).unwrap_err().to_string();
        assert_eq!(faults, "log.level (LIVEHOOK_LOG__LEVEL): is not UTF-8");
    }
}
