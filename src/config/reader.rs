//! Walks the tree. Whoever reads a table asks a [`Section`] for its keys, with their defaults; the [`Book`] keeps the
//! faults, the keys that were asked for, and the values in effect.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::fault::{Fault, Unknown, without_indices};
use super::field::{Field, MASK, Size, quoted};
use super::files::Files;
use super::secret;
use super::tree::{Node, Origin, What};
use crate::secret::Secret;

/// What a walk leaves behind.
#[derive(Default)]
pub(super) struct Book {
    pub(super) faults: Vec<Fault>,
    pub(super) unknown: Vec<Unknown>,
    /// Keys that were asked for, without indices, tables included.
    pub(super) known: BTreeSet<String>,
    /// The members by which a secret may be given.
    pub(super) forms: BTreeSet<String>,
    /// Keys that were given, with indices.
    pub(super) places: BTreeMap<String, Origin>,
    /// The values in effect, as TOML.
    pub(super) effective: String,
    /// Files that were read, or will be by what is configured.
    pub(super) files: Files,
    environment: HashMap<String, String>,
}

impl Book {
    /// An empty book; `environment` is where `{ env = … }` looks.
    pub(super) fn new(environment: HashMap<String, String>) -> Self {
        Self { environment, ..Self::default() }
    }

    /// Reports a fault at a key.
    pub(super) fn fault(&mut self, path: &str, what: impl Into<String>) {
        let place = self.place(path);
        self.faults.push(Fault { key: path.to_owned(), place, what: what.into() });
    }

    /// Reports a key nobody knows.
    pub(super) fn unknown(&mut self, path: &str, origin: &Origin) {
        self.unknown.push(Unknown { key: path.to_owned(), place: origin.place() });
    }

    /// Whether a key was given by any source.
    pub(super) fn given(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// The value, or the fault's report and nothing.
    pub(super) fn accept<T>(&mut self, path: &str, value: Result<T, Misfit>) -> Option<T> {
        value.map_err(|misfit| self.fault(&format!("{path}{}", misfit.below), misfit.what)).ok()
    }

    pub(super) fn know_form(&mut self, path: &str) {
        self.forms.insert(without_indices(path));
    }

    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// Where the key, or else the innermost table around it, was given.
    fn place(&self, path: &str) -> Option<String> {
        let around = path.rmatch_indices(['.', '[']).map(|(end, _)| &path[..end]);
        std::iter::once(path).chain(around).find_map(|path| self.places.get(path)?.place())
    }
}

/// A value that does not fit its key.
pub(super) struct Misfit {
    /// The rest of the path, when an inner value is meant: `[2]`, `.file`.
    below: String,
    what: String,
}

impl Misfit {
    /// The same, one level further in.
    pub(super) fn below(self, name: &str) -> Self {
        Self { below: format!(".{name}{}", self.below), ..self }
    }

    /// The same, inside item `index` of a list.
    pub(super) fn inside(self, index: usize) -> Self {
        Self { below: format!("[{index}]{}", self.below), ..self }
    }
}

impl From<String> for Misfit {
    fn from(what: String) -> Self {
        Self { below: String::new(), what }
    }
}

/// One table. Keys that nobody has asked for when its reader is done are unknown.
pub(super) struct Section<'b> {
    pub(super) book: &'b mut Book,
    path: String,
    members: BTreeMap<String, Node>,
    /// Key and TOML literal; none for what is not set.
    shown: Vec<(String, Option<String>)>,
}

/// The top table, and the end of the walk.
impl<'b> Section<'b> {
    /// The whole tree.
    pub(super) fn top(book: &'b mut Book, members: BTreeMap<String, Node>) -> Self {
        Self { book, path: String::new(), members, shown: Vec::new() }
    }

    /// Reports what nobody has asked for.
    pub(super) fn finish(mut self) {
        for (key, node) in std::mem::take(&mut self.members) {
            self.book.unknown(&self.path_of(&key), &node.origin);
        }
    }

    /// Drops what nobody has asked for: it cannot be judged.
    pub(super) fn excuse_the_rest(&mut self) {
        self.members.clear();
    }

    /// A table of its own: `[key]`.
    pub(super) fn block<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let members = self.take(key).and_then(|node| self.members_of(key, node)).unwrap_or_default();
        let (value, shown) = self.inner(self.path_of(key), members, read);
        self.write_block(&format!("[{key}]"), shown);
        value
    }

    /// Tables of their own: `[[key]]`; where none is given, `fallback`.
    pub(super) fn blocks<T>(
        &mut self,
        key: &str,
        fallback: impl FnOnce() -> Vec<Node>,
        mut read: impl FnMut(&mut Section<'_>) -> T,
    ) -> Vec<T> {
        let given = self.list(key).filter(|items| !items.is_empty());
        let mut values = Vec::new();
        for (index, node) in given.unwrap_or_else(fallback).into_iter().enumerate() {
            let (value, shown) = self.item(key, index, node, &mut read);
            self.write_block(&format!("[[{key}]]"), shown);
            values.push(value);
        }
        values
    }

    fn write_block(&mut self, head: &str, shown: Vec<(String, Option<String>)>) {
        let line = |(key, value): (String, Option<String>)| match value {
            Some(value) => format!("{key} = {value}\n"),
            None => format!("# {key}: not set\n"),
        };
        let gap = if self.book.effective.is_empty() { "" } else { "\n" };
        self.book.effective.extend([gap, head, "\n"]);
        self.book.effective.extend(shown.into_iter().map(line));
    }
}

/// Plain values.
impl Section<'_> {
    /// The value of `key`.
    pub(super) fn read<T: Field>(&mut self, key: &str, default: T) -> T {
        let value = self.parsed(key).unwrap_or(default);
        self.show(key, Some(value.show()));
        value
    }

    /// The value of a key that may be left out.
    pub(super) fn optional<T: Field>(&mut self, key: &str) -> Option<T> {
        let value: Option<T> = self.parsed(key);
        self.show(key, value.as_ref().map(T::show));
        value
    }

    /// The value of a key that must be given.
    pub(super) fn required<T: Field>(&mut self, key: &str) -> Option<T> {
        let value = self.optional(key);
        if !self.given(key) {
            self.fault(key, "is required");
        }
        value
    }

    /// A size in bytes.
    pub(super) fn size<N: Number>(&mut self, key: &str, default: N) -> N {
        let Size(bytes) = self.read(key, Size(default.widen()));
        self.narrow(key, bytes, default)
    }

    /// A whole number that is not negative.
    pub(super) fn count<N: Number>(&mut self, key: &str, default: N) -> N {
        let number = self.read(key, default.widen());
        self.narrow(key, number, default)
    }

    fn narrow<N: Number>(&mut self, key: &str, number: u64, default: N) -> N {
        let fits = N::narrow(number);
        self.demand(key, fits.is_some(), || format!("{number} is too large"));
        fits.unwrap_or(default)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy + PartialEq>(&mut self, key: &str, default: T, words: &[(&str, T)]) -> T {
        let given = self.parsed::<String>(key);
        let value = given.and_then(|text| {
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            let all = words.iter().map(|(word, _)| quoted(word)).collect::<Vec<_>>().join(", ");
            self.demand(key, found.is_some(), || format!("{text:?} is none of {all}"));
            found
        });
        let value = value.unwrap_or(default);
        self.show(key, words.iter().find(|(_, known)| *known == value).map(|(word, _)| quoted(word)));
        value
    }

    fn parsed<T: Field>(&mut self, key: &str) -> Option<T> {
        let node = self.take(key)?;
        self.book.accept(&self.path_of(key), T::read(node))
    }
}

/// Secrets.
impl Section<'_> {
    /// A secret that may be left out.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        let path = self.path_of(key);
        secret::announce(self.book, &path);
        let value = self.take(key).map(|node| secret::read(self.book, &path, node));
        self.show(key, value.as_ref().map(|_| MASK.to_owned()));
        value
    }

    /// A secret that must be given.
    pub(super) fn required_secret(&mut self, key: &str) -> Secret {
        let value = self.secret(key);
        if value.is_none() {
            self.fault(key, "is required");
        }
        value.unwrap_or_default()
    }

    /// A table of secrets under names of the user's, in the order of the names.
    pub(super) fn secrets(&mut self, key: &str) -> Vec<(String, Secret)> {
        let members = self.take(key).and_then(|node| self.members_of(key, node)).unwrap_or_default();
        let path = self.path_of(key);
        let mut values = Vec::new();
        for (name, node) in members {
            let path = format!("{path}.{name}");
            self.book.places.insert(path.clone(), node.origin.clone());
            values.push((name, secret::read(self.book, &path, node)));
        }
        let pairs = values.iter().map(|(name, _)| (quoted(name), Some(MASK.to_owned()))).collect();
        self.show(key, Some(inline(pairs)));
        values
    }
}

/// Tables inside a table.
impl Section<'_> {
    /// A table that may be left out.
    pub(super) fn table<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Option<T> {
        let node = self.take(key);
        let members = node.and_then(|node| self.members_of(key, node));
        let read = members.map(|members| self.inner(self.path_of(key), members, read));
        let (value, shown) = read.unzip();
        self.show(key, shown.map(inline));
        value
    }

    /// A table all of whose keys have defaults.
    pub(super) fn table_of_defaults<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let members = self.take(key).and_then(|node| self.members_of(key, node)).unwrap_or_default();
        let (value, shown) = self.inner(self.path_of(key), members, read);
        self.show(key, Some(inline(shown)));
        value
    }

    /// A list of tables, empty when left out.
    pub(super) fn tables<T>(&mut self, key: &str, mut read: impl FnMut(&mut Section<'_>) -> T) -> Vec<T> {
        let items = self.list(key).unwrap_or_default();
        let read = items.into_iter().enumerate().map(|(index, node)| self.item(key, index, node, &mut read));
        let (values, shown): (Vec<T>, Vec<_>) = read.collect::<Vec<_>>().into_iter().unzip();
        self.show(key, Some(format!("[{}]", shown.into_iter().map(inline).collect::<Vec<_>>().join(", "))));
        values
    }

    fn list(&mut self, key: &str) -> Option<Vec<Node>> {
        let unfolded = self.take(key)?.unfolded().map_err(Misfit::from);
        let items = unfolded.and_then(|node| match node.what {
            What::List(items) => Ok(items),
            _ => Err(Misfit::from(format!("is {}; a list of tables is wanted", node.noun()))),
        });
        self.book.accept(&self.path_of(key), items)
    }

    fn item<T>(
        &mut self,
        key: &str,
        index: usize,
        node: Node,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> (T, Vec<(String, Option<String>)>) {
        let key = format!("{key}[{index}]");
        let path = self.path_of(&key);
        self.book.places.insert(path.clone(), node.origin.clone());
        let members = self.members_of(&key, node).unwrap_or_default();
        self.inner(path, members, read)
    }

    fn members_of(&mut self, key: &str, node: Node) -> Option<BTreeMap<String, Node>> {
        let members = node.unfolded().map_err(Misfit::from).and_then(|node| match node.what {
            What::Table(members) => Ok(members),
            _ => Err(Misfit::from(format!("is {}; a table is wanted", node.noun()))),
        });
        self.book.accept(&self.path_of(key), members)
    }

    fn inner<T>(
        &mut self,
        path: String,
        members: BTreeMap<String, Node>,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> (T, Vec<(String, Option<String>)>) {
        let mut section = Section { book: self.book, path, members, shown: Vec::new() };
        let value = read(&mut section);
        let shown = std::mem::take(&mut section.shown);
        section.finish();
        (value, shown)
    }
}

/// What readers say about keys.
impl Section<'_> {
    /// Reports a fault at `key` unless `holds`.
    pub(super) fn demand<S: Into<String>>(&mut self, key: &str, holds: bool, what: impl FnOnce() -> S) {
        if !holds {
            self.fault(key, what());
        }
    }

    /// Reports a fault at `key`.
    pub(super) fn fault(&mut self, key: &str, what: impl Into<String>) {
        self.book.fault(&self.path_of(key), what);
    }

    /// Whether `key` was given by any source.
    pub(super) fn given(&self, key: &str) -> bool {
        self.book.given(&self.path_of(key))
    }

    /// Whether `key` was given by the variable of this name.
    pub(super) fn given_by(&self, key: &str, variable: &str) -> bool {
        matches!(self.book.places.get(&self.path_of(key)), Some(Origin::Text(name)) if name == variable)
    }

    /// The full path of `key`.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Replaces the value in effect that [`read`](Self::read) has noted for `key`.
    pub(super) fn settle<T: Field>(&mut self, key: &str, value: T) -> T {
        if let Some((_, shown)) = self.shown.iter_mut().find(|(shown, _)| shown == key) {
            *shown = Some(value.show());
        }
        value
    }

    fn show(&mut self, key: &str, value: Option<String>) {
        self.shown.push((key.to_owned(), value));
    }

    fn take(&mut self, key: &str) -> Option<Node> {
        let path = self.path_of(key);
        self.book.known.insert(without_indices(&path));
        let node = self.members.remove(key)?;
        self.book.places.insert(path, node.origin.clone());
        Some(node)
    }
}

/// `{ a = 1 }`, without what is not set.
fn inline(shown: Vec<(String, Option<String>)>) -> String {
    let set = shown.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}", value?)));
    let pairs = set.collect::<Vec<_>>().join(", ");
    if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {pairs} }}") }
}

/// The numbers settings are made of.
pub(super) trait Number: Copy {
    fn widen(self) -> u64;
    fn narrow(number: u64) -> Option<Self>;
}

impl Number for u64 {
    fn widen(self) -> u64 {
        self
    }

    fn narrow(number: u64) -> Option<Self> {
        Some(number)
    }
}

impl Number for u32 {
    fn widen(self) -> u64 {
        self.into()
    }

    fn narrow(number: u64) -> Option<Self> {
        number.try_into().ok()
    }
}

impl Number for usize {
    fn widen(self) -> u64 {
        u64::try_from(self).unwrap_or(u64::MAX)
    }

    fn narrow(number: u64) -> Option<Self> {
        number.try_into().ok()
    }
}
