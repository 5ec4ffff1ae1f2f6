//! `when`: an expression in the Common Expression Language (CEL) that decides whether a handler gets an event.
//!
//! It sees two variables: `event`, what the CloudEvent says about itself, and `data`, the body. What is wrong with an
//! expression and can be told without an event is told when it is compiled: its syntax, names that do not exist, kinds
//! that do not exist, a result that is no yes or no. The rest fails with an event, and whoever asks delivers then.
//!
//! The expression is the operator's and the body is a stranger's, so neither the size of a body nor its shape decides how
//! much is done: see `work` for the bound, `seen` for what is too large to be looked at.

mod check;
mod scope;
#[cfg(test)]
mod tests;
mod work;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::types::CelBool;
use cel::parser::PrattParser;
use cel::{Env, ExecutionError, IdedExpr, Value};

pub use self::scope::Scope;
use super::excerpt::excerpt;

/// The standard functions of CEL, with optional values (`data.?suggestion.orValue("")`).
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A compiled expression.
#[derive(Clone)]
pub struct When(Arc<Compiled>);

struct Compiled {
    source: String,
    /// With its loops made to ask for leave.
    expression: IdedExpr,
}

/// Why an expression is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", .place.map_or(String::new(), |(line, column)| format!("at {line}:{column}: ")))]
pub struct WhenFault {
    /// Line and column in the expression, from 1, in characters; none where it is about the whole.
    pub place: Option<(usize, usize)>,
    /// What is wrong and, where it helps, what would be right.
    pub what: String,
}

/// Why an expression came to no result for an event. Shown as text it holds nothing of the event and may be logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}{}", .name.as_ref().map_or(String::new(), |name| format!(": {name}")))]
pub struct WhenError {
    /// What kind of failure it is.
    pub why: Why,
    /// The member that is missing, where the expression itself names it.
    name: Option<String>,
    /// The same in the words of the interpreter, which may repeat what the event holds: for whoever has the event at hand.
    pub detail: Option<String>,
}

/// The ways in which an expression comes to no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The event lacks a member, or a list an element.
    Missing,
    /// An operator or function was given what it does not take.
    Unfit,
    /// The result is neither true nor false.
    NotBool,
    /// It would have taken more work than one event may cost.
    TooMuchWork,
    /// The body has more values, or is nested more deeply, than is looked at.
    TooLarge,
    /// The interpreter panicked.
    Panicked,
    /// Anything else, such as a division by zero.
    Other,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the event has no such member",
            Self::Unfit => "an operator or function does not take values of these types",
            Self::NotBool => "the result is neither true nor false",
            Self::TooMuchWork => "it would take too much work",
            Self::TooLarge => "the body has too many values or is nested too deeply",
            Self::Panicked => "the interpreter panicked",
            Self::Other => "it cannot be evaluated",
        })
    }
}

/// Bytes of an expression: more than a person reads, few enough that what it does without a loop is soon done.
const SOURCE_BYTES_MAX: usize = 4096;
/// Characters of a detail.
const DETAIL_CHARS: usize = 300;

impl When {
    /// Compiles an expression, or says everything that is wrong with it.
    pub fn compile(source: &str) -> Result<Self, Vec<WhenFault>> {
        let whole = |what: String| vec![WhenFault { place: None, what }];
        if source.len() > SOURCE_BYTES_MAX {
            return Err(whole(format!("has {} bytes, {SOURCE_BYTES_MAX} at most are taken", source.len())));
        }
        // Of the two parsers of the crate the one whose depth is bounded: the other runs out of stack on brackets.
        let parsed = catch_unwind(|| PrattParser::new().enable_optional_syntax(true).parse(source));
        let parsed = parsed.map_err(|_| whole("the parser gave up on it".to_owned()))?;
        let parsed = parsed.map_err(|errors| errors.errors.iter().map(WhenFault::of).collect::<Vec<_>>())?;
        let faults = check::faults(&parsed, source);
        if !faults.is_empty() {
            return Err(faults);
        }
        let expression = work::bounded(parsed);
        Ok(Self(Arc::new(Compiled { source: source.to_owned(), expression })))
    }

    /// The expression as written.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Whether it holds for an event.
    pub fn holds(&self, scope: &Scope<'_>) -> Result<bool, WhenError> {
        scope.refill();
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            Value::resolve_val(&self.0.expression, scope.context())
                .map(|value| value.downcast_ref::<CelBool>().map(|found| *found.inner()))
        }));
        match evaluated {
            Ok(Ok(Some(holds))) => Ok(holds),
            Ok(Ok(None)) => Err(Why::NotBool.into()),
            Ok(Err(_)) if scope.is_spent() => Err(Why::TooMuchWork.into()),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(Why::Panicked.into()),
        }
    }

    fn failure(&self, error: &ExecutionError) -> WhenError {
        let detail = Some(excerpt(error.to_string().as_bytes(), &[], DETAIL_CHARS));
        let (why, name) = match error {
            // What the expression does not name itself comes from the event.
            ExecutionError::NoSuchKey(name) => {
                (Why::Missing, Some(name.to_string()).filter(|name| self.0.source.contains(name.as_str())))
            }
            ExecutionError::IndexOutOfBounds(_) => (Why::Missing, None),
            ExecutionError::NoSuchOverload(_)
            | ExecutionError::UnexpectedType { .. }
            | ExecutionError::UnsupportedTargetType { .. }
            | ExecutionError::NotSupportedAsMethod { .. }
            | ExecutionError::UnsupportedKeyType(_)
            | ExecutionError::UnsupportedBinaryOperator(..)
            | ExecutionError::UnsupportedIndex(..)
            | ExecutionError::ValuesNotComparable(..)
            | ExecutionError::InvalidArgumentCount { .. }
            | ExecutionError::MissingArgumentOrTarget => (Why::Unfit, None),
            _ => (Why::Other, None),
        };
        WhenError { why, name, detail }
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("When").field(&self.0.source).finish()
    }
}

impl From<Why> for WhenError {
    fn from(why: Why) -> Self {
        Self { why, name: None, detail: None }
    }
}

impl WhenFault {
    fn of(error: &cel::ParseError) -> Self {
        let place = match error.pos {
            (line, column) if line > 0 && column > 0 => Some((line.unsigned_abs(), column.unsigned_abs())),
            _ => None,
        };
        Self { place, what: excerpt(error.msg.as_bytes(), &[], DETAIL_CHARS) }
    }
}
