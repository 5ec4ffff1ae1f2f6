//! Keeps the order of the modules: each names only modules further along in the list that `src/lib.rs` draws.
//!
//! Read are the paths that begin with `crate` or lead out of their module by `super`, in `use` lines and elsewhere.
//! Comments, text and what is compiled for tests only are not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may name whom: a module names those of later rows. Those of one row never name each other.
const RANKS: [&[&str]; 11] = [
    &["main"],
    &["cli"],
    &["app"],
    &["config"],
    &["receive", "admin", "dispatch"],
    &["intake"],
    &["store"],
    &["handler", "signature", "streams"],
    &["event"],
    &["telemetry"],
    &["clock", "secret"],
];

#[test]
fn every_module_names_only_modules_further_along() {
    let faults = faults_of(&sources());
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_module_has_a_place_in_the_list() {
    let files = sources();
    let homeless: BTreeSet<_> = files.iter().filter_map(Source::room).filter(|room| rank(room).is_none()).collect();
    assert!(homeless.is_empty(), "{homeless:?} are missing in RANKS");
    let rooms: BTreeSet<_> = files.iter().filter_map(Source::room).collect();
    assert!(rooms.len() > 10, "the files are not found: {rooms:?}");
}

#[test]
fn a_path_that_leads_back_is_found_in_every_form() {
    for (line, text) in [
        (1, "use crate::admin::Admin;"),
        (1, "use crate::{clock, admin};"),
        (2, "use crate::{\n    admin::{Admin, Settings as S},\n    clock::Clock };"),
        (1, "pub use crate::{event::{self, Kind}, admin::*};"),
        (3, "fn f() {\n\n    crate::admin::go()\n}"),
        (1, "fn f(x: &crate::admin::Admin) -> Vec<crate::clock::Clock> {}"),
        (1, "macro_rules! m { () => { $crate::admin::go() } }"),
        (1, "use super::super::admin::Admin;"),
        (1, "use super::{line, super::admin};"),
        (1, "use self::super::super::admin;"),
        (1, "use crate :: /* a comment */ admin;"),
        (2, "const A: char = '\\''; const B: &str = \"\\\"\"; fn c<'a>(x: &'a str) {}\nuse crate::admin;"),
        (3, "const A: &str = r#\"\"\n\"#;\nuse crate::admin;"),
        (2, "#[cfg(test)]\nmod tests { use crate::admin; } use crate::r#admin;"),
        (3, "#[cfg(test)]\nuse crate::admin;\nuse crate::admin;"),
        (1, "#[cfg(not(test))] use crate::admin;"),
    ] {
        let faults = faults_of(&[Source::new("src/store/queue.rs", text)]);
        assert_eq!(faults, [format!("src/store/queue.rs:{line}: store names admin, which comes before it")], "{text}");
    }
}

#[test]
fn neighbours_and_strangers_are_found() {
    for (path, text, fault) in [
        ("src/receive/mod.rs", "use crate::dispatch;", "receive names dispatch, its neighbour"),
        ("src/handler/log.rs", "use crate::signature;", "handler names signature, its neighbour"),
        ("src/secret.rs", "use super::clock;", "secret names clock, its neighbour"),
        ("src/event/mod.rs", "use super::store;", "event names store, which comes before it"),
        ("src/intake.rs", "use crate::Server;", "intake names app, which comes before it"),
        ("src/intake.rs", "use crate::{Config as C};", "intake names config, which comes before it"),
        ("src/intake.rs", "use crate::util;", "intake names util, which has no place in the list"),
    ] {
        let root = Source::new("src/lib.rs", "pub use self::app::{Server, Builder}; pub use crate::config::Config;");
        let faults = faults_of(&[root, Source::new(path, text)]);
        assert_eq!(faults, [format!("{path}:1: {fault}")], "{text}");
    }
}

#[test]
fn what_leads_onward_or_stays_inside_is_no_fault() {
    for text in [
        "use crate::{event::Kind, clock::{Clock, Timestamp}, telemetry};",
        "use super::model::HandlerId; use self::admin::x; use super::admin;",
        "pub(crate) fn f() {} pub(in crate::store) fn g() {} pub(super) fn h() {}",
        "// use crate::admin;\n/* crate::admin /* nested */ crate::admin */ /// [`crate::admin`]",
        "const A: &str = \"crate::admin\"; const B: &[u8] = br##\"\"# crate::admin\"##; const C: char = '\"';",
        "#[cfg(test)]\nmod tests { use crate::admin; fn f() { crate::cli::main(); } }",
        "#[cfg(test)]\n#[allow(unused)]\nuse crate::admin;",
        "#[cfg(test)] fn f() -> [u8; 1] { crate::admin::x() }",
        "use other::crate_::admin; fn f() { x::admin(); }",
    ] {
        assert_eq!(faults_of(&[Source::new("src/store/queue.rs", text)]), [""; 0], "{text}");
    }
}

#[test]
fn files_that_only_tests_have_may_name_everybody() {
    let module = Source::new("src/store/mod.rs", "#[cfg(test)]\nmod tests;\nmod queue;");
    let tests = ["src/store/tests.rs", "src/store/tests/more.rs", "src/store/tests/mod.rs"];
    let tests = tests.map(|path| Source::new(path, "use crate::admin;"));
    let queue = Source::new("src/store/queue.rs", "use crate::admin;");
    let faults = faults_of(&[&[module], &tests[..], &[queue]].concat());
    assert_eq!(faults, ["src/store/queue.rs:1: store names admin, which comes before it"]);
}

/// A source file of the library or the program.
#[derive(Clone)]
struct Source {
    path: String,
    /// The modules it lies in, from the root.
    module: Vec<String>,
    tokens: Vec<Token>,
}

/// What matters of Rust's tokens.
#[derive(Clone)]
struct Token {
    what: What,
    line: usize,
}

#[derive(Clone, PartialEq)]
enum What {
    Word(String),
    Sign(char),
    Literal,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut module: Vec<_> = inner.split('/').map(str::to_owned).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
            module.pop();
        }
        Self { path: path.to_owned(), module, tokens: tokens(text) }
    }

    /// The top-level module it belongs to; none for the root itself.
    fn room(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    fn lies_in(&self, module: &[String]) -> bool {
        self.module.starts_with(module)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    find(&root.join("src"), &mut files);
    files.sort();
    let read = |file: &PathBuf| {
        let path = file.strip_prefix(root).expect("it was found below the root").display().to_string();
        Source::new(&path, &fs::read_to_string(file).expect("sources can be read"))
    };
    files.iter().map(read).collect()
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder of the sources can be read") {
        let path = entry.expect("its entries, too").path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn rank(room: &str) -> Option<usize> {
    RANKS.iter().position(|row| row.contains(&room))
}

/// All that is wrong, each with its file and line.
fn faults_of(sources: &[Source]) -> Vec<String> {
    let parts: Vec<_> = sources.iter().map(|source| without_tests(&source.tokens)).collect();
    let tested = |(source, (_, tests)): (&Source, &(_, Vec<String>))| {
        let module = |name: &String| [&source.module[..], std::slice::from_ref(name)].concat();
        tests.iter().map(module).collect::<Vec<_>>()
    };
    let only_in_tests: Vec<Vec<String>> = sources.iter().zip(&parts).flat_map(tested).collect();
    let top = sources.iter().zip(&parts).find(|(source, _)| source.module.is_empty());
    let exports = top.map(|(_, (tokens, _))| exports(tokens)).unwrap_or_default();
    let mut faults = Vec::new();
    for (source, (tokens, _)) in sources.iter().zip(&parts) {
        let Some(room) = source.room() else { continue };
        if only_in_tests.iter().any(|module| source.lies_in(module)) {
            continue;
        }
        for (path, line) in paths(tokens) {
            let Some(name) = named_at_the_root(&path, source.module.len()) else { continue };
            let other = exports.get(name).map_or(name, String::as_str);
            faults
                .extend(fault(room, other).map(|what| format!("{}:{line}: {room} names {other}, {what}", source.path)));
        }
    }
    // Two names out of one module, in one pair of braces, are one fault.
    faults.dedup();
    faults
}

fn fault(room: &str, other: &str) -> Option<&'static str> {
    if room == other {
        return None;
    }
    let Some(place) = rank(other) else { return Some("which has no place in the list") };
    match rank(room)?.cmp(&place) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal => Some("its neighbour"),
        std::cmp::Ordering::Greater => Some("which comes before it"),
    }
}

/// What a path names in the root, seen from a module that lies so deep; none if it does not lead there.
fn named_at_the_root(path: &[String], depth: usize) -> Option<&str> {
    let steps: Vec<_> = path.iter().map(String::as_str).skip_while(|step| *step == "self").collect();
    let ups = steps.iter().take_while(|step| **step == "super").count();
    let rest = match steps.first()? {
        first if *first == "crate" => &steps[1..],
        _ if ups < depth => return None,
        _ => &steps[ups..],
    };
    rest.first().copied().filter(|name| !matches!(*name, "self" | "*"))
}

/// What the root gives out under a name of its own, with the module it comes from.
fn exports(tokens: &[Token]) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    for (path, _) in paths(tokens) {
        let mut steps = path.into_iter().skip_while(|step| step == "self" || step == "crate");
        if let (Some(module), Some(name)) = (steps.next(), steps.last()) {
            exports.insert(name, module);
        }
    }
    exports
}

/// Every path that begins with `crate`, `self` or `super`, those in braces each for itself, with its line.
fn paths(tokens: &[Token]) -> Vec<(Vec<String>, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = word(tokens, at).is_some_and(|word| matches!(word, "crate" | "self" | "super"));
        if begins && !(at > 1 && is_separator(tokens, at - 2)) {
            at = tree(tokens, at, &[], &mut found).max(at + 1);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads the tree of paths that begins here, and returns where it ends.
fn tree(tokens: &[Token], mut at: usize, before: &[String], found: &mut Vec<(Vec<String>, usize)>) -> usize {
    let mut path = before.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    loop {
        match tokens.get(at).map(|token| &token.what) {
            Some(What::Word(word)) => path.push(word.clone()),
            Some(What::Sign('*')) => path.push("*".to_owned()),
            Some(What::Sign('{')) => return branches(tokens, at + 1, &path, found),
            _ => break,
        }
        at += 1;
        if !is_separator(tokens, at) {
            break;
        }
        at += 2;
    }
    found.push((path, line));
    at
}

fn branches(tokens: &[Token], mut at: usize, before: &[String], found: &mut Vec<(Vec<String>, usize)>) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.what {
            What::Sign('}') => return at + 1,
            What::Sign(',') => at += 1,
            _ => {
                at = tree(tokens, at, before, found).max(at + 1);
                // What it is to be called here.
                if word(tokens, at) == Some("as") {
                    at += 2;
                }
            }
        }
    }
    at
}

fn word(tokens: &[Token], at: usize) -> Option<&str> {
    match &tokens.get(at)?.what {
        What::Word(word) => Some(word),
        _ => None,
    }
}

fn is_sign(tokens: &[Token], at: usize, sign: char) -> bool {
    tokens.get(at).is_some_and(|token| token.what == What::Sign(sign))
}

fn is_separator(tokens: &[Token], at: usize) -> bool {
    is_sign(tokens, at, ':') && is_sign(tokens, at + 1, ':')
}

/// The tokens without items under `#[cfg(test)]`, and the names of modules among these that have files of their own.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let is_mark = |at: usize| MARK.iter().enumerate().all(|(step, mark)| spelled(tokens, at + step) == *mark);
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if !is_mark(at) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let end = end_of_item(tokens, at + MARK.len());
        if is_sign(tokens, end - 1, ';') && end > 2 && word(tokens, end - 3) == Some("mod") {
            modules.extend(word(tokens, end - 2).map(str::to_owned));
        }
        at = end;
    }
    (kept, modules)
}

/// Behind the first `;` or the first closed `{}` that lies in no other brackets; a `use` ends only with `;`.
fn end_of_item(tokens: &[Token], begin: usize) -> usize {
    let mut depth = 0_usize;
    let mut is_use = false;
    for (at, token) in tokens.iter().enumerate().skip(begin) {
        match &token.what {
            What::Word(word) if depth == 0 && word == "use" => is_use = true,
            What::Sign('{' | '(' | '[') => depth += 1,
            What::Sign(sign @ ('}' | ')' | ']')) => {
                depth = depth.saturating_sub(1);
                if depth == 0 && *sign == '}' && !is_use {
                    return at + 1;
                }
            }
            What::Sign(';') if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn spelled(tokens: &[Token], at: usize) -> String {
    match tokens.get(at).map(|token| &token.what) {
        Some(What::Word(word)) => word.clone(),
        Some(What::Sign(sign)) => sign.to_string(),
        Some(What::Literal) | None => String::new(),
    }
}

/// Words and signs, without comments and the insides of text.
fn tokens(text: &str) -> Vec<Token> {
    let mut rest = text;
    let (mut tokens, mut line) = (Vec::new(), 1);
    while let Some(first) = rest.chars().next() {
        let (length, what) = next(rest, first);
        tokens.extend(what.map(|what| Token { what, line }));
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// How long the token is that begins here, and what it is; nothing if it does not matter.
fn next(text: &str, first: char) -> (usize, Option<What>) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if let Some(length) = comment(text) {
        return (length, None);
    }
    if let Some(length) = literal(text) {
        return (length, Some(What::Literal));
    }
    if is_word(first) {
        let plain = text.strip_prefix("r#").unwrap_or(text);
        let length = plain.find(|c| !is_word(c)).unwrap_or(plain.len());
        return (text.len() - plain.len() + length, Some(What::Word(plain[..length].to_owned())));
    }
    (first.len_utf8(), (!first.is_whitespace()).then_some(What::Sign(first)))
}

fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        match text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

/// Text, bytes, characters and lifetimes.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let rest = text.strip_prefix(prefix);
        rest.is_some_and(|rest| {
            let inner = if prefix.ends_with('r') { rest.trim_start_matches('#') } else { rest };
            inner.starts_with('"') || rest.starts_with('\'') && matches!(*prefix, "b" | "")
        })
    })?;
    let rest = &text[prefix.len()..];
    let length = if prefix.ends_with('r') {
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        rest[hashes + 1..].find(&end).map_or(rest.len(), |at| hashes + 1 + at + end.len())
    } else if rest.starts_with('\'') {
        character(rest)
    } else {
        quoted(rest, '"')
    };
    Some(prefix.len() + length)
}

/// A character ends in a quotation mark, a lifetime does not.
fn character(text: &str) -> usize {
    let inner = &text[1..];
    let is_character = inner.starts_with('\\') || inner.chars().nth(1) == Some('\'');
    if is_character { quoted(text, '\'') } else { 1 }
}

fn quoted(text: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == mark => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}
