//! What an operator's expression or template sees of an event. What it asks is his, what it is asked about a stranger's:
//! a body of more values, or nested more deeply, than is looked at is not seen at all.

use std::borrow::Cow;

use crate::event::Event;
use crate::event::json::{Shape, Value};

/// The members of `event`.
pub(super) const EVENT_MEMBERS: [&str; 13] = [
    "id",
    "kind",
    "event_type",
    "domain",
    "app",
    "stream",
    "sequence",
    "time",
    "receivedat",
    "verification",
    "type",
    "source",
    "subject",
];

/// Values of a body; real ones have a few hundred. A megabyte of brackets must not become a hundred of objects.
const VALUES_MAX: usize = 20_000;
/// Levels of a body.
const LEVELS_MAX: usize = 64;

/// A value of a body.
#[derive(Debug)]
pub(super) enum Seen<'e> {
    Null,
    Bool(bool),
    /// A whole number of 64 bits.
    Whole(i64),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// Text, or a number that neither of the others holds digit by digit.
    Text(Cow<'e, str>),
    List(Vec<Self>),
    /// In the order of the body. Of members of one name the last counts.
    Object(Vec<(Cow<'e, str>, Self)>),
}

/// A body is not looked at.
#[derive(Debug)]
pub(super) struct TooLarge;

/// The body of an event, an object, without `t` and `sign`.
pub(super) fn body(event: &Event) -> Result<Seen<'_>, TooLarge> {
    let members = event.json().members().filter(|(name, _)| !matches!(&*name.text(), "t" | "sign"));
    Look { values: 0 }.object(members, 1)
}

/// Counts what was looked at.
struct Look {
    values: usize,
}

impl Look {
    fn value<'e>(&mut self, value: Value<'e>, level: usize) -> Result<Seen<'e>, TooLarge> {
        self.values += 1;
        if self.values > VALUES_MAX || level > LEVELS_MAX {
            return Err(TooLarge);
        }
        Ok(match value.shape() {
            Shape::Null => Seen::Null,
            Shape::Bool => Seen::Bool(value.raw() == "true"),
            Shape::Number => number(value.raw()),
            Shape::Text => Seen::Text(value.text()),
            Shape::List => {
                let elements = value.elements().map(|element| self.value(element, level + 1));
                Seen::List(elements.collect::<Result<_, _>>()?)
            }
            Shape::Object => self.object(value.members(), level)?,
        })
    }

    fn object<'e>(
        &mut self,
        members: impl Iterator<Item = (Value<'e>, Value<'e>)>,
        level: usize,
    ) -> Result<Seen<'e>, TooLarge> {
        let members = members.map(|(name, value)| Ok((name.text(), self.value(value, level + 1)?)));
        Ok(Seen::Object(members.collect::<Result<_, _>>()?))
    }
}

fn number(raw: &str) -> Seen<'_> {
    if let Ok(whole) = raw.parse() {
        return Seen::Whole(whole);
    }
    let is_whole = !raw.contains(['.', 'e', 'E']);
    match raw.parse::<f64>() {
        Ok(float) if float.is_finite() && !is_whole => Seen::Float(float),
        _ => Seen::Text(raw.into()),
    }
}
