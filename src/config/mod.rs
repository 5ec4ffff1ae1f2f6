//! The configuration: a mirror of the TOML, walked whole and converted once.
//!
//! Each module owns its settings and their defaults; this one fills them in. Sources are laid over each other into one
//! tree (`tree`), a section per table asks the tree for its keys (`reader`), and what only shows when all is read is
//! judged last (`meaning`). All faults are said at once, each with its key, none with a secret. No file but the
//! configuration and those of secrets is opened here, and no port.

mod fault;
mod field;
mod files;
mod handlers;
mod meaning;
mod reader;
mod secret;
mod service;
mod signature;
mod sources;
#[cfg(test)]
mod tests;
mod traces;
mod tree;
pub(crate) mod units;

use std::collections::{BTreeMap, BTreeSet};

pub use self::fault::{Fault, Faults};
pub use self::files::Files;
use self::reader::{Book, Section};
use self::sources::Reports;
pub use self::sources::Sources;
use self::tree::{Node, Origin, What};
use crate::{admin, handler, receive, store, telemetry};

/// Everything that can be configured, read and found sound.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]` and `[ack]`.
    pub server: receive::Settings,
    /// `[admin]`
    pub admin: admin::Settings,
    /// `[log]`
    pub log: telemetry::Settings,
    /// `[signature]`
    pub signature: crate::signature::Settings,
    /// `[store]` and `[quarantine]`.
    pub store: store::Settings,
    /// Where traces go, by the variables of OpenTelemetry; none: nowhere. They are no part of the file.
    pub traces: Option<telemetry::traces::Settings>,
    /// `[[handlers]]`, never empty: without any in the configuration there is one that logs.
    pub handlers: Vec<handler::Settings>,
}

impl Default for Config {
    /// What holds when nothing is configured.
    fn default() -> Self {
        walk(&mut Book::default(), BTreeMap::new())
    }
}

/// A configuration and what it amounts to.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Every key with its value, as TOML; secrets are masked as `…`.
    pub effective: String,
    /// The file sets no key: what a full disk leaves of one, or nothing but comments. False without a file.
    pub file_is_blank: bool,
}

impl Config {
    /// Says what is wrong with the whole where no part of it is at fault: who could reach the listeners. A configuration
    /// that was [loaded](load) has nothing of this kind.
    pub fn judged(&self) -> Result<(), Faults> {
        let mut book = Book::default();
        meaning::judge(self, &mut book);
        Faults::none_in(book.faults)
    }
}

/// Reads a configuration, or says everything that is wrong with it.
pub fn load(sources: &Sources) -> Result<Loaded, Faults> {
    load_noting(sources).0
}

/// The same, and from which files; of a faulty one those that were reached.
pub fn load_noting(sources: &Sources) -> (Result<Loaded, Faults>, Files) {
    let mut files = Files::default();
    let loaded = load_into(sources, &mut files);
    (loaded, files)
}

fn load_into(sources: &Sources, files: &mut Files) -> Result<Loaded, Faults> {
    let known = known_keys();
    let mut reports = Reports::default();
    if let Some(path) = &sources.file {
        files.note(path);
    }
    let layers = sources.layers(&known, &mut reports)?;
    let file = layers.file.clone();
    let file_is_blank = sources.file.is_some() && layers.file.is_blank();
    let tree = layers.merged().map_err(|e| unlayered(&e))?;
    let mut book = Book::new(sources.variables());
    book.files = std::mem::take(files);
    let mut config = walk(&mut book, tree);
    config.traces = traces::traces(sources, &mut reports.faults);
    *files = std::mem::take(&mut book.files);
    let unknown = reports.unknown.into_iter().chain(book.unknown);
    let unknown = unknown.map(|unknown| unknown.placed_in(&file).against(&known));
    Faults::none_in(reports.faults.into_iter().chain(unknown).chain(book.faults).collect())?;
    Ok(Loaded { config, effective: book.effective, file_is_blank })
}

/// Cannot happen: all paths are of known keys and no source fails. If it does, it is said without a value.
fn unlayered(_: &config::ConfigError) -> Faults {
    Fault { key: "configuration".to_owned(), place: None, what: "cannot be put together".to_owned() }.into()
}

fn walk(book: &mut Book, tree: BTreeMap<String, Node>) -> Config {
    let mut top = Section::top(book, tree);
    let server = top.block("server", service::server);
    let admin = top.block("admin", service::admin);
    let log = top.block("log", service::log);
    let signature = top.block("signature", signature::signature);
    let store = top.block("store", service::store);
    let ack = top.block("ack", service::ack);
    let quarantine = top.block("quarantine", service::quarantine);
    let handlers = handlers::handlers(&mut top);
    top.finish();
    let server = receive::Settings { ack, ..server };
    let config = Config {
        server,
        admin,
        log,
        signature,
        store: store::Settings { quarantine, ..store },
        traces: None,
        handlers,
    };
    meaning::judge(&config, book);
    config
}

/// All keys there are, without indices, and the members by which secrets are given. They are found by walking a tree
/// that has one of each thing that may be left out.
fn known_keys() -> BTreeSet<String> {
    let mut book = Book::default();
    walk(&mut book, one_of_each());
    book.known.into_iter().chain(book.forms).collect()
}

fn one_of_each() -> BTreeMap<String, Node> {
    let node = |what| Node { what, origin: Origin::Merged };
    let table = |members: Vec<(&str, Node)>| {
        node(What::Table(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
    };
    let keys = node(What::List(vec![table(vec![])]));
    let signature = table(vec![("keys", keys), ("legacy_porn", table(vec![]))]);
    let handlers = node(What::List(handlers::type_names().map(handlers::unconfigured).collect()));
    BTreeMap::from([("signature".to_owned(), signature), ("handlers".to_owned(), handlers)])
}
