//! What an expression sees of an event.
//!
//! `event` holds what the CloudEvent says about itself; what does not apply is absent, so that `has(event.stream)` tells.
//! `data` is the body without its members `t` and `sign`, of repeated members the last. Whole numbers of 64 bits are
//! `int`; larger ones are text, digit by digit, because a `double` would make different ones equal. Numbers with a
//! fraction or an exponent are `double`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use cel::Context;
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp};
use cel::common::value::Val;

use super::work::Work;
use super::{ENV, WhenError, Why};
use crate::clock::Timestamp;
use crate::event::{Event, Facts};
use crate::handler::cloudevent;
use crate::handler::seen::{self, Seen};

/// An event as expressions see it.
pub struct Scope<'e> {
    context: Context<'e, 'e>,
    work: Arc<Work>,
}

impl<'e> Scope<'e> {
    /// Reads the body, which no expression has to do again. Fails when it is too large.
    pub fn of(event: &'e Event) -> Result<Self, WhenError> {
        let data = value(seen::body(event).map_err(|seen::TooLarge| Why::TooLarge)?);
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.add_variable_as_val("event", Box::new(CelMap::from(attributes(event))));
        context.add_variable_as_val("data", data);
        let work = Arc::new(Work::new(event.body.len()));
        Work::install(&work, &mut context);
        Ok(Self { context, work })
    }

    pub(super) fn context(&self) -> &Context<'e, 'e> {
        &self.context
    }

    /// Grants the work of one evaluation.
    pub(super) fn refill(&self) {
        self.work.refill();
    }

    /// Whether leave was refused since.
    pub(super) fn is_spent(&self) -> bool {
        self.work.is_spent()
    }
}

type Members<'e> = HashMap<CelMapKey<'e>, Box<dyn Val + 'e>>;

fn attributes(event: &Event) -> Members<'static> {
    let Facts { kind, event_type, domain, app, stream, sequence, occurred_at } = &event.facts;
    let name = |text: &Option<String>| text.clone().map(text_of);
    let all = [
        ("id", Some(text_of(event.id.to_string()))),
        ("kind", Some(text_of(kind.slug().to_owned()))),
        ("event_type", event_type.map(|number| Box::new(CelInt::from(number)) as Box<dyn Val>)),
        ("domain", name(domain)),
        ("app", name(app)),
        ("stream", name(stream)),
        ("subject", name(stream)),
        ("sequence", name(sequence)),
        ("time", moment(occurred_at.unwrap_or(event.received_at))),
        ("receivedat", moment(event.received_at)),
        ("verification", Some(text_of(event.verification.slug().to_owned()))),
        ("type", Some(text_of(cloudevent::type_of(event)))),
        ("source", Some(text_of(cloudevent::source(event)))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((CelMapKey::from(name), value?))).collect()
}

fn text_of(text: String) -> Box<dyn Val> {
    Box::new(CelString::from(text))
}

fn moment(time: Timestamp) -> Option<Box<dyn Val>> {
    let time = chrono::DateTime::from_timestamp_millis(time.millis())?;
    Some(Box::new(CelTimestamp::from(time.fixed_offset())))
}

fn value(seen: Seen<'_>) -> Box<dyn Val + '_> {
    match seen {
        Seen::Null => Box::new(CelNull),
        Seen::Bool(is) => Box::new(CelBool::from(is)),
        Seen::Whole(number) => Box::new(CelInt::from(number)),
        Seen::Float(number) => Box::new(CelDouble::from(number)),
        Seen::Text(text) => Box::new(CelString::from(text)),
        Seen::List(elements) => Box::new(CelList::from(elements.into_iter().map(value).collect::<Vec<_>>())),
        Seen::Object(members) => {
            let name = |name| match name {
                Cow::Borrowed(name) => CelMapKey::from(name),
                Cow::Owned(name) => CelMapKey::from(name),
            };
            let members = members.into_iter().map(|(key, member)| (name(key), value(member)));
            Box::new(CelMap::from(members.collect::<Members<'_>>()))
        }
    }
}
