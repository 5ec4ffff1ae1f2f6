//! Secrets: text, or a table that says where the text is. They are never converted: what looks like a number stays
//! as it was written.

use std::collections::BTreeMap;

use super::reader::{Book, Misfit};
use super::tree::{Node, Origin, What};
use crate::secret::Secret;

/// The members of which a table has exactly one.
const FORMS: [&str; 3] = ["value", "file", "env"];

/// Reads the secret at `path`. A fault is reported and leaves an empty secret, which never leaves [`super::load`].
pub(super) fn read(book: &mut Book, path: &str, node: Node) -> Secret {
    let revealed = reveal(book, path, node);
    Secret::new(book.accept(path, revealed).unwrap_or_default())
}

/// Makes the three forms known under `path`.
pub(super) fn announce(book: &mut Book, path: &str) {
    for form in FORMS {
        book.know_form(&format!("{path}.{form}"));
    }
}

/// Whether nobody sees this character: white space, a control, a byte order mark and others that only tell how text is to
/// be set. Nobody means them to be part of a key.
pub(super) fn is_unseen(c: char) -> bool {
    let marks = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
    marks || c.is_whitespace() || c.is_control()
}

fn reveal(book: &mut Book, path: &str, node: Node) -> Result<String, Misfit> {
    let node = table_in_text(node);
    match node.what {
        What::Table(members) => from_table(book, path, members),
        What::Text(text) => filled(text),
        _ => Err(unquoted(&node)),
    }
}

fn unquoted(node: &Node) -> Misfit {
    Misfit::from(format!("is {}; a secret is text: put it in quotes", node.noun()))
}

/// A variable may hold `{"file":"/x"}`. Whatever else begins with a brace is the secret itself.
fn table_in_text(node: Node) -> Node {
    let braced = matches!((&node.what, &node.origin), (What::Text(text), Origin::Text(_)) if text.starts_with('{'));
    let (true, What::Text(text)) = (braced, &node.what) else { return node };
    let copy = Node { what: What::Text(text.clone()), origin: node.origin.clone() };
    copy.unfolded().unwrap_or(node)
}

fn from_table(book: &mut Book, path: &str, mut members: BTreeMap<String, Node>) -> Result<String, Misfit> {
    // A variable `…__FILE` replaces what the file says about the secret, in whatever form it says it.
    if members.values().any(|node| matches!(node.origin, Origin::Text(_))) {
        members.retain(|_, node| matches!(node.origin, Origin::Text(_)));
    }
    let odd: Vec<_> = members.extract_if(.., |name, _| !FORMS.contains(&name.as_str())).collect();
    let misspelt = !odd.is_empty();
    for (name, node) in odd {
        book.unknown(&format!("{path}.{name}"), &node.origin);
    }
    let mut members = members.into_iter();
    match (members.next(), members.next()) {
        (Some((form, node)), None) => from_form(book, &form, node),
        (None, None) if misspelt => Ok(String::new()),
        _ => Err("must have exactly one of `value`, `file` and `env`".to_owned().into()),
    }
}

fn from_form(book: &mut Book, form: &str, node: Node) -> Result<String, Misfit> {
    let What::Text(text) = node.what else { return Err(unquoted(&node).below(form)) };
    match form {
        "file" => from_file(book, &text),
        "env" => from_variable(book, &text),
        _ => filled(text),
    }
    .map_err(|misfit| misfit.below(form))
}

fn from_file(book: &mut Book, path: &str) -> Result<String, Misfit> {
    book.files.note(path.as_ref());
    let mut text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {path:?}: {e}"))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err(format!("{path:?} is empty").into()) } else { Ok(text) }
}

fn from_variable(book: &Book, name: &str) -> Result<String, Misfit> {
    match book.variable(name) {
        None => Err(format!("the variable {name:?} is not set, or not UTF-8").into()),
        Some("") => Err(format!("the variable {name:?} is empty").into()),
        Some(value) => Ok(value.to_owned()),
    }
}

fn filled(text: String) -> Result<String, Misfit> {
    if text.is_empty() { Err("is empty".to_owned().into()) } else { Ok(text) }
}
