//! What is wrong with an expression before there is an event: names that lead nowhere, kinds that do not exist, a result
//! that is no yes or no. CEL itself would tell when it comes across them, which may be never.

use std::str::FromStr as _;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators};

use super::WhenFault;
use crate::event::{Kind, Verification};
use crate::handler::excerpt::excerpt;
use crate::handler::seen::EVENT_MEMBERS;

/// What an expression may name beside its own variables.
const VARIABLES: [&str; 2] = ["event", "data"];
/// The types, which are values in CEL.
const TYPES: [&str; 12] =
    ["bool", "bytes", "double", "duration", "dyn", "int", "list", "map", "null_type", "string", "timestamp", "uint"];
/// The functions of CEL's standard library and of its optional values.
pub(super) const FUNCTIONS: [&str; 32] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "hasValue",
    "int",
    "matches",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "or",
    "orValue",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
    "value",
];
/// How deep an expression may be nested: the interpreter goes as deep.
const LEVELS_MAX: usize = 64;

/// Everything that is wrong.
pub(super) fn faults(expression: &IdedExpr, source: &str) -> Vec<WhenFault> {
    let mut look = Look { source, own: Vec::new(), faults: Vec::new() };
    if !fits(expression, LEVELS_MAX) {
        return vec![WhenFault {
            place: None,
            what: format!("is nested more than {LEVELS_MAX} deep; chains such as a + b + c count as nested"),
        }];
    }
    look.at(expression);
    if look.faults.is_empty() && never_bool(expression) {
        let what = "its result is neither true nor false; compare it with something".to_owned();
        look.faults.push(WhenFault { place: None, what });
    }
    look.faults
}

/// Whether it is nested at most `levels` deep.
fn fits(expression: &IdedExpr, levels: usize) -> bool {
    levels > 0 && parts(expression).into_iter().all(|part| fits(part, levels - 1))
}

fn parts(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(looped) => {
            vec![&looped.iter_range, &looped.accu_init, &looped.loop_cond, &looped.loop_step, &looped.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Struct(structure) => structure.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Select(select) => vec![&*select.operand],
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn of_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// Whether whatever comes out is neither true nor false.
fn never_bool(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Literal(literal) => !matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) => true,
        Expr::Ident(name) => VARIABLES.contains(&name.as_str()),
        Expr::Select(select) => !select.test && is_event(&select.operand),
        Expr::Call(call) => matches!(
            call.func_name.as_str(),
            operators::ADD
                | operators::SUBSTRACT
                | operators::MULTIPLY
                | operators::DIVIDE
                | operators::MODULO
                | operators::NEGATE
                | "size"
                | "string"
                | "int"
                | "uint"
                | "double"
                | "duration"
                | "timestamp"
        ),
        Expr::Comprehension(_) | Expr::Struct(_) | Expr::Unspecified => false,
    }
}

fn is_event(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Ident(name) if name == "event")
}

/// A walk over an expression.
struct Look<'a> {
    source: &'a str,
    /// Variables of the loops around.
    own: Vec<&'a str>,
    faults: Vec<WhenFault>,
}

impl<'a> Look<'a> {
    fn at(&mut self, expression: &'a IdedExpr) {
        match &expression.expr {
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) if is_event(&select.operand) => self.member(&select.field),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(looped) => {
                self.at(&looped.iter_range);
                self.at(&looped.accu_init);
                let before = self.own.len();
                self.own.extend([looped.iter_var.as_str(), looped.accu_var.as_str()]);
                self.own.extend(looped.iter_var2.as_deref());
                for part in [&looped.loop_cond, &looped.loop_step, &looped.result] {
                    self.at(part);
                }
                self.own.truncate(before);
            }
            Expr::Struct(structure) => {
                self.say(&structure.type_name, &format!("there is no type `{}` to make one of", structure.type_name));
            }
            _ => parts(expression).into_iter().for_each(|part| self.at(part)),
        }
    }

    fn variable(&mut self, name: &str) {
        let plain = name.trim_start_matches('.');
        if !VARIABLES.contains(&plain) && !self.own.contains(&name) && !TYPES.contains(&plain) {
            self.say(plain, &format!("there is no variable `{plain}`; there are `event` and `data`"));
        }
    }

    fn member(&mut self, name: &str) {
        if !EVENT_MEMBERS.contains(&name) {
            let nearest = nearest(name, &EVENT_MEMBERS);
            self.say(name, &format!("`event` has no member `{name}`; the nearest is `{nearest}`"));
        }
    }

    fn call(&mut self, call: &'a CallExpr) {
        let is_optional =
            call.target.as_ref().is_some_and(|t| matches!(&t.expr, Expr::Ident(name) if name == "optional"));
        let name = if is_optional { format!("optional.{}", call.func_name) } else { call.func_name.clone() };
        if name.starts_with(|c: char| c.is_alphabetic()) && !FUNCTIONS.contains(&name.as_str()) {
            let nearest = nearest(&name, &FUNCTIONS);
            self.say(&call.func_name, &format!("there is no function `{name}`; the nearest is `{nearest}`"));
        }
        self.comparison(call);
        let by_name = [operators::INDEX, operators::OPT_INDEX, operators::OPT_SELECT];
        if let [object, member] = call.args.as_slice()
            && by_name.contains(&call.func_name.as_str())
            && is_event(object)
            && let Some(member) = text(member)
        {
            return self.member(member);
        }
        let target = call.target.as_deref().filter(|_| !is_optional);
        target.into_iter().chain(&call.args).for_each(|part| self.at(part));
    }

    /// `event.kind == "…"`, the other way round, and `event.kind in ["…", …]`.
    fn comparison(&mut self, call: &CallExpr) {
        let [left, right] = call.args.as_slice() else { return };
        let (member, values) = match call.func_name.as_str() {
            operators::EQUALS | operators::NOT_EQUALS => match (member_of_event(left), member_of_event(right)) {
                (Some(member), _) => (member, vec![right]),
                (_, Some(member)) => (member, vec![left]),
                _ => return,
            },
            operators::IN => match (member_of_event(left), &right.expr) {
                (Some(member), Expr::List(list)) => (member, list.elements.iter().collect()),
                _ => return,
            },
            _ => return,
        };
        for value in values.into_iter().filter_map(text) {
            if let Some(what) = never(member, value) {
                self.say(value, &what);
            }
        }
    }

    /// Notes a fault about a word, with the first place where the expression has it. What it repeats of the expression
    /// stays on one line.
    fn say(&mut self, word: &str, what: &str) {
        let what = excerpt(what.as_bytes(), &[], usize::MAX);
        let fault = WhenFault { place: place_of(word, self.source), what };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

fn text(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn member_of_event(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Select(select) if !select.test && is_event(&select.operand) => Some(&select.field),
        _ => None,
    }
}

/// Why a member of `event` never has a value; none if it may.
fn never(member: &str, value: &str) -> Option<String> {
    match member {
        "kind" => match Kind::from_str(value) {
            Ok(kind) if kind.slug() == value => None,
            Ok(kind) => Some(format!("`event.kind` is never {value:?} but `{kind}`")),
            Err(error) => Some(error.to_string()),
        },
        "verification" if Verification::from_slug(value).is_none() => {
            let all = Verification::ALL.map(Verification::slug).join(", ");
            Some(format!("`event.verification` is never {value:?}; it is one of {all}"))
        }
        _ => None,
    }
}

/// Line and column, from 1, of the first place where `word` stands by itself.
fn place_of(word: &str, source: &str) -> Option<(usize, usize)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let (at, _) = source.match_indices(word).find(|(at, _)| {
        let before = source[..*at].chars().next_back();
        let after = source[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })?;
    let before = &source[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Some((line, column))
}

fn nearest<'n>(name: &str, known: &[&'n str]) -> &'n str {
    let likeness = |candidate: &&&str| (strsim::jaro_winkler(name, candidate) * 1e6).round();
    known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).copied().unwrap_or_default()
}
