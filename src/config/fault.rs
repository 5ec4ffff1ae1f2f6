//! What is wrong with a configuration. Everything is collected and said at once.

use std::collections::BTreeSet;
use std::fmt;

use super::tree::TomlFile;

/// All faults of a configuration, one a line. Never holds the value of a secret.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.0.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `Ok` when there are none.
    pub(super) fn none_in(faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }

    /// These, after others that were found before.
    pub(super) fn after(self, mut before: Vec<Fault>) -> Self {
        before.extend(self.0);
        Self(before)
    }

    /// The faults, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The full path of the key, such as `handlers[1].retry.max_delay`; the file's path when the file itself is at fault.
    pub key: String,
    /// File and line, or the name of a variable; none when the key was given nowhere.
    pub place: Option<String>,
    /// What is wrong and, where it helps, what would be right.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(place) = &self.place {
            write!(f, " ({place})")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// A key nobody asked for. It becomes a fault once all keys are known.
pub(super) struct Unknown {
    pub(super) key: String,
    pub(super) place: Option<String>,
}

impl Unknown {
    /// The same, with its place in the file where it has none of its own: a table that may be filled by several sources
    /// has lost it.
    pub(super) fn placed_in(self, file: &TomlFile) -> Self {
        Self { place: self.place.or_else(|| file.place(&self.key)), ..self }
    }

    /// The fault, with the known key that looks most like the unknown one.
    pub(super) fn against(self, known: &BTreeSet<String>) -> Fault {
        let key = without_indices(&self.key);
        let what = match nearest(&key, known) {
            Some(same) if same == key && key.starts_with("handlers[]") => {
                "only handlers of another type have this key".to_owned()
            }
            Some(same) if same == key => "a name in quotes leads into no table; leave the quotes out".to_owned(),
            Some(key) => format!("there is no such key; the nearest is `{key}`"),
            None => "there is no such key".to_owned(),
        };
        Fault { key: self.key, place: self.place, what }
    }
}

/// The known key that looks most like `key`. The last part weighs double, and the very name in another table
/// more than a similar one in this: keys are misplaced more often than misspelt beyond recognition.
pub(super) fn nearest<'k>(key: &str, known: &'k BTreeSet<String>) -> Option<&'k str> {
    let (table, name) = split(key);
    let likeness = |candidate: &str| {
        let (its_table, its_name) = split(candidate);
        let weight = if name == its_name { 3.0 } else { 2.0 };
        weight * strsim::jaro_winkler(name, its_name) + strsim::jaro_winkler(table, its_table)
    };
    known.iter().map(String::as_str).max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// `handlers[3].url` → `handlers[].url`, the form in which keys are known.
pub(super) fn without_indices(path: &str) -> String {
    let mut inside = false;
    let kept = path.chars().filter(|c| {
        inside = (inside || *c == '[') && *c != ']';
        !inside || *c == '['
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> BTreeSet<String> {
        ["server", "server.listen", "server.header_timeout", "ack.deadline", "admin.listen", "handlers[].url"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn the_nearest_key_is_in_the_same_table_unless_another_has_the_very_name() {
        for (wrong, right) in [
            ("server.lisen", "server.listen"),
            ("admin.lsiten", "admin.listen"),
            ("servr", "server"),
            ("server.deadline", "ack.deadline"),
            ("handlers[].ur", "handlers[].url"),
        ] {
            assert_eq!(nearest(wrong, &known()), Some(right), "{wrong}");
        }
    }

    #[test]
    fn indices_are_left_out() {
        assert_eq!(without_indices("handlers[12].a[0].b"), "handlers[].a[].b");
        assert_eq!(without_indices("server.listen"), "server.listen");
    }

    #[test]
    fn faults_print_one_a_line() {
        let fault = |key: &str, place: Option<&str>| Fault {
            key: key.to_owned(),
            place: place.map(str::to_owned),
            what: "is wrong".to_owned(),
        };
        let faults = Faults(vec![fault("a.b", None), fault("c", Some("LIVEHOOK_C__D"))]);
        assert_eq!(faults.to_string(), "a.b: is wrong\nc (LIVEHOOK_C__D): is wrong");
    }
}
