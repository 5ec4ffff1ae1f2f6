//! Sources to one tree. The `config` crate lays them over each other; nothing here knows a key or converts a value.
//!
//! The file is read into that crate's values by [`TomlFile`] instead of its own reader, which turns a date without
//! quotes into a string, gives up without a place at a number that is too large, and forgets the lines.

use std::collections::BTreeMap;
use std::fmt;

use config::{Environment, Map, Source, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Faults, Unknown};

/// The prefix of our variables in the environment.
pub(super) const PREFIX: &str = "LIVEHOOK_";
/// What joins the levels of a key in the name of a variable.
pub(super) const LEVELS: &str = "__";

/// A value as it was given. Has no `Debug`: it may be a secret.
pub(super) struct Node {
    pub(super) what: What,
    pub(super) origin: Origin,
}

/// The shapes a value can have.
pub(super) enum What {
    Bool(bool),
    Integer(i64),
    Text(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
    /// None of ours: its name.
    Other(&'static str),
}

/// Where a value was given.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A table that several sources may have filled.
    Merged,
    /// File and line.
    File(String),
    /// The variable's name, or the command line: text that takes the type its key asks for.
    Text(String),
}

impl Origin {
    /// For a fault's place.
    pub(super) fn place(&self) -> Option<String> {
        match self {
            Self::Merged => None,
            Self::File(place) | Self::Text(place) => Some(place.clone()),
        }
    }
}

impl Node {
    /// What it is, for messages: never its value.
    pub(super) fn noun(&self) -> &'static str {
        match &self.what {
            What::Bool(_) => "true or false",
            What::Integer(_) => "a number",
            What::Text(_) => "text",
            What::List(_) => "a list",
            What::Table(_) => "a table",
            What::Other(noun) => noun,
        }
    }

    /// Text from the environment or the command line, read as JSON: the way lists and tables are given there.
    pub(super) fn unfolded(self) -> Result<Self, String> {
        match (&self.what, &self.origin) {
            (What::Text(text), Origin::Text(_)) => serde_json::from_str(text)
                .map(|json| from_json(json, &self.origin))
                .map_err(|e| format!("is not JSON, in which lists and tables are given here: {}", place_of(&e))),
            _ => Ok(self),
        }
    }
}

/// Only where: the parser's own words might show a piece of a secret.
fn place_of(e: &serde_json::Error) -> String {
    format!("see line {}, column {}", e.line(), e.column())
}

fn from_json(json: serde_json::Value, origin: &Origin) -> Node {
    use serde_json::Value as Json;
    let what = match json {
        Json::Null => What::Other("null"),
        Json::Bool(value) => What::Bool(value),
        Json::Number(number) => number.as_i64().map_or(What::Other("a number"), What::Integer),
        Json::String(text) => What::Text(text),
        Json::Array(items) => What::List(items.into_iter().map(|item| from_json(item, origin)).collect()),
        Json::Object(members) => {
            What::Table(members.into_iter().map(|(name, value)| (name, from_json(value, origin))).collect())
        }
    };
    Node { what, origin: origin.clone() }
}

/// What is laid over each other, lowest first.
pub(super) struct Layers {
    pub(super) file: TomlFile,
    /// Names with prefix; only names of known keys.
    pub(super) variables: Map<String, String>,
    /// Key path, value, and what to call the place.
    pub(super) overrides: Vec<(String, String, &'static str)>,
}

impl Layers {
    /// The tree's top table.
    pub(super) fn merged(self) -> Result<BTreeMap<String, Node>, config::ConfigError> {
        let environment = Environment::with_prefix(PREFIX.trim_end_matches('_'))
            .prefix_separator("_")
            .separator(LEVELS)
            .try_parsing(false)
            .source(Some(self.variables));
        let mut builder = config::Config::builder().add_source(self.file).add_source(environment);
        for (key, value, place) in self.overrides {
            builder = builder.set_override(key, Value::new(Some(&place.to_owned()), value))?;
        }
        let table = builder.build()?.collect()?;
        Ok(table.into_iter().map(|(name, value)| (name.clone(), from_value(value, &name))).collect())
    }
}

fn from_value(value: Value, path: &str) -> Node {
    let origin = origin_of(&value, path);
    let what = match value.kind {
        ValueKind::Boolean(value) => What::Bool(value),
        ValueKind::I64(number) => What::Integer(number),
        ValueKind::String(text) => What::Text(text),
        ValueKind::Array(items) => What::List(
            items.into_iter().enumerate().map(|(i, item)| from_value(item, &format!("{path}[{i}]"))).collect(),
        ),
        ValueKind::Table(members) => {
            let node = |(name, value): (String, Value)| (name.clone(), from_value(value, &format!("{path}.{name}")));
            What::Table(members.into_iter().map(node).collect())
        }
        ValueKind::Nil => What::Other("a date"),
        _ => What::Other("a number"),
    };
    Node { what, origin }
}

/// The `config` crate calls all variables "the environment"; the name follows from the key.
fn origin_of(value: &Value, path: &str) -> Origin {
    match value.origin() {
        None => Origin::Merged,
        Some("the environment") => Origin::Text(variable(path)),
        Some(place) if place.contains(LINE) => Origin::File(place.to_owned()),
        Some(place) => Origin::Text(place.to_owned()),
    }
}

/// The variable of a key.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace('.', LEVELS))
}

const LINE: &str = ", line ";

/// A configuration file in the values of the `config` crate, each with its line.
#[derive(Clone, Default)]
pub(super) struct TomlFile {
    table: Map<String, Value>,
}

impl TomlFile {
    /// Reads `text`; `name` is for messages. Top-level keys that could be taken for a path are reported as unknown.
    pub(super) fn read(name: &str, text: &str) -> Result<(Self, Vec<Unknown>), Faults> {
        let lines = Lines { name, text };
        let table = DeTable::parse(text).map_err(|e| lines.syntax_fault(&e))?.into_inner();
        let (odd, plain) = lines.table(table).into_iter().partition(|(key, _)| key.contains(['.', '[']));
        let odd: Map<String, Value> = odd;
        let unknown = |(key, value): (String, Value)| Unknown { key, place: value.origin().map(str::to_owned) };
        Ok((Self { table: plain }, odd.into_iter().map(unknown).collect()))
    }

    /// File and line of a key that leads through tables alone.
    pub(super) fn place(&self, path: &str) -> Option<String> {
        let mut names = path.split('.');
        let top = self.table.get(names.next()?)?;
        let found = names.try_fold(top, |value, name| match &value.kind {
            ValueKind::Table(members) => members.get(name),
            _ => None,
        });
        found?.origin().map(str::to_owned)
    }

    /// Whether it sets no key.
    pub(super) fn is_blank(&self) -> bool {
        self.table.is_empty()
    }
}

impl fmt::Debug for TomlFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TomlFile")
    }
}

impl Source for TomlFile {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.table.clone())
    }
}

struct Lines<'a> {
    name: &'a str,
    text: &'a str,
}

impl Lines<'_> {
    fn table(&self, table: DeTable<'_>) -> Map<String, Value> {
        let member = |(key, value): (toml::Spanned<_>, toml::Spanned<_>)| {
            let origin = self.line(key.span().start);
            (std::borrow::Cow::into_owned(key.into_inner()), self.value(value.into_inner(), &origin))
        };
        table.into_iter().map(member).collect()
    }

    fn value(&self, value: DeValue<'_>, origin: &String) -> Value {
        let kind = match value {
            DeValue::String(text) => ValueKind::String(text.into_owned()),
            DeValue::Boolean(value) => ValueKind::Boolean(value),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(ValueKind::Float(f64::INFINITY), ValueKind::I64),
            DeValue::Float(_) => ValueKind::Float(f64::NAN),
            DeValue::Datetime(_) => ValueKind::Nil,
            DeValue::Array(items) => ValueKind::Array(items.into_iter().map(|item| self.value_at(item)).collect()),
            DeValue::Table(table) => ValueKind::Table(self.table(table)),
        };
        Value::new(Some(origin), kind)
    }

    fn value_at(&self, item: toml::Spanned<DeValue<'_>>) -> Value {
        let origin = self.line(item.span().start);
        self.value(item.into_inner(), &origin)
    }

    fn line(&self, offset: usize) -> String {
        format!("{}{LINE}{}", self.name, self.position(offset).0)
    }

    /// Line and column, from 1, the column in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    /// Without the line itself, which the parser would show: it may hold a secret.
    fn syntax_fault(&self, e: &toml::de::Error) -> Faults {
        let (line, column) = self.position(e.span().map_or(0, |span| span.start));
        let place = Some(format!("line {line}, column {column}"));
        Fault { key: self.name.to_owned(), place, what: format!("is not TOML: {}", e.message()) }.into()
    }
}
