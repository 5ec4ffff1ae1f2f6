//! How much an evaluation may do.
//!
//! Without loops (`all`, `exists`, `exists_one`, `map`, `filter`) an expression looks at each part of a body as often as
//! its text says. A loop does it as often as the body has elements, a loop in a loop that many times again; so each loop
//! asks for leave when it begins, for all of its rounds. What a round may cost is told from its text: little, where it only
//! compares members with what the expression itself says; up to the whole body, where it calls functions or compares members with
//! each other. Leave that is refused fails the expression.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, ListExpr, LiteralValue, operators,
};
use cel::common::types::CelBool;
use cel::common::value::CowVal;
use cel::{Context, ExecutionError, FunctionContext};

/// The function that grants leave. No text can name it.
const ADMIT: &str = "@admit";
/// Work of one evaluation, in bytes looked at: tens of milliseconds.
const WORK_MAX: u64 = 16 << 20;
/// What a round costs at least, in the same unit.
const ROUND: u64 = 64;
/// What a round costs at least that calls functions: one may compile a pattern.
const DEAR_ROUND: u64 = 4096;

/// What is left of the work that one evaluation may do.
pub(super) struct Work {
    body_bytes: u64,
    /// [`SPENT`] once leave was refused.
    left: AtomicU64,
}

const SPENT: u64 = u64::MAX;

type Function = Box<
    dyn for<'c, 'v> Fn(&mut FunctionContext<'c, 'v>) -> Result<CowVal<'c, 'v>, ExecutionError> + Send + Sync + 'static,
>;

impl Work {
    /// For events of this size.
    pub(super) fn new(body_bytes: usize) -> Self {
        Self { body_bytes: u64::try_from(body_bytes).unwrap_or(u64::MAX), left: AtomicU64::new(WORK_MAX) }
    }

    /// Makes it the one that loops ask.
    pub(super) fn install(work: &Arc<Self>, context: &mut Context<'_, '_>) {
        let work = Arc::clone(work);
        let admit: Function = Box::new(move |call| work.admit(call));
        // Nothing else has the name.
        let _ = context.add_function(ADMIT, admit);
    }

    pub(super) fn refill(&self) {
        self.left.store(WORK_MAX, Ordering::Relaxed);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) == SPENT
    }

    /// `@admit(range, dear)`: the range, if its rounds are granted.
    fn admit<'c, 'v>(&self, call: &mut FunctionContext<'c, 'v>) -> Result<CowVal<'c, 'v>, ExecutionError> {
        let dear = call.args.pop().and_then(|dear| dear.downcast_ref::<CelBool>().map(|dear| *dear.inner()));
        let range = call.args.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
        let rounds = range.as_sizer().map_or(0, |sizer| sizer.size().inner().unsigned_abs());
        let round = if dear == Some(false) { ROUND } else { ROUND + self.body_bytes.max(DEAR_ROUND) };
        // Every element is copied for its round.
        let asked = rounds.saturating_mul(round).saturating_add(self.body_bytes);
        let left = self.left.load(Ordering::Relaxed);
        if left == SPENT || asked > left {
            self.left.store(SPENT, Ordering::Relaxed);
            return Err(ExecutionError::function_error(ADMIT, "too much work"));
        }
        self.left.store(left - asked, Ordering::Relaxed);
        Ok(range)
    }
}

/// The expression with every loop made to ask for leave.
pub(super) fn bounded(expression: IdedExpr) -> IdedExpr {
    let IdedExpr { id, expr } = expression;
    let expr = match expr {
        Expr::Call(call) => Expr::Call(CallExpr {
            func_name: call.func_name,
            target: call.target.map(|target| Box::new(bounded(*target))),
            args: call.args.into_iter().map(bounded).collect(),
        }),
        Expr::Comprehension(looped) => Expr::Comprehension(Box::new(admitted(*looped))),
        Expr::List(list) => Expr::List(ListExpr {
            elements: list.elements.into_iter().map(bounded).collect(),
            optional_indices: list.optional_indices,
        }),
        Expr::Map(mut map) => {
            map.entries = map.entries.into_iter().map(bounded_entry).collect();
            Expr::Map(map)
        }
        Expr::Struct(mut structure) => {
            structure.entries = structure.entries.into_iter().map(bounded_entry).collect();
            Expr::Struct(structure)
        }
        Expr::Select(mut select) => {
            select.operand = Box::new(bounded(*select.operand));
            Expr::Select(select)
        }
        plain @ (Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified) => plain,
    };
    IdedExpr { id, expr }
}

fn bounded_entry(entry: IdedEntryExpr) -> IdedEntryExpr {
    let expr = match entry.expr {
        EntryExpr::StructField(mut field) => {
            field.value = bounded(field.value);
            EntryExpr::StructField(field)
        }
        EntryExpr::MapEntry(mut entry) => {
            entry.key = bounded(entry.key);
            entry.value = bounded(entry.value);
            EntryExpr::MapEntry(entry)
        }
    };
    IdedEntryExpr { id: entry.id, expr }
}

fn admitted(looped: ComprehensionExpr) -> ComprehensionExpr {
    let dear = !(is_cheap(&looped.loop_cond) && is_cheap(&looped.loop_step));
    let id = looped.iter_range.id;
    let dear = IdedExpr { id, expr: Expr::Literal(LiteralValue::Boolean(CelBool::from(dear))) };
    let ask = CallExpr { func_name: ADMIT.to_owned(), target: None, args: vec![bounded(looped.iter_range), dear] };
    ComprehensionExpr {
        iter_range: IdedExpr { id, expr: Expr::Call(ask) },
        accu_init: bounded(looped.accu_init),
        loop_cond: bounded(looped.loop_cond),
        loop_step: bounded(looped.loop_step),
        result: bounded(looped.result),
        ..looped
    }
}

/// Whether it costs the same whatever the body holds. Loops inside ask for themselves.
fn is_cheap(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Ident(_) | Expr::Literal(_) => true,
        Expr::Select(select) => is_cheap(&select.operand),
        Expr::Comprehension(inner) => is_cheap(&inner.iter_range) && is_cheap(&inner.accu_init),
        Expr::Call(call) if call.target.is_some() => false,
        Expr::Call(call) if call.func_name == operators::IN => match call.args.as_slice() {
            [left, right] => is_cheap(left) && is_list_of_literals(right),
            _ => false,
        },
        Expr::Call(call) => call.args.iter().all(is_cheap) && is_cheap_call(call),
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => false,
    }
}

fn is_list_of_literals(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::List(list) => list.elements.iter().all(|element| matches!(element.expr, Expr::Literal(_))),
        _ => false,
    }
}

fn is_cheap_call(call: &CallExpr) -> bool {
    let literal = call.args.iter().any(|argument| matches!(argument.expr, Expr::Literal(_)));
    match call.func_name.as_str() {
        operators::LOGICAL_AND
        | operators::LOGICAL_OR
        | operators::LOGICAL_NOT
        | operators::CONDITIONAL
        | operators::NOT_STRICTLY_FALSE
        | operators::NEGATE => true,
        operators::EQUALS
        | operators::NOT_EQUALS
        | operators::LESS
        | operators::LESS_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS => literal,
        // Counting, as `exists_one` does. Texts and lists grow.
        operators::ADD => call.args.iter().any(|argument| {
            matches!(
                argument.expr,
                Expr::Literal(LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_))
            )
        }),
        _ => false,
    }
}
