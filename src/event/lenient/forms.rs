//! The forms a documented member is written in.

use std::marker::PhantomData;

use super::{Form, Reader, Step};
use crate::event::json::{self, Shape, Value};
use crate::event::whole_number;

/// JSON that CSS sends inside a string.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedded<T> {
    /// The string, as it stands there when the body has been parsed.
    pub text: String,
    /// What the string holds; none where that is not the JSON we expect.
    pub value: Option<T>,
}

/// A whole number of 64 bits.
pub(in crate::event) struct Int;

impl Form for Int {
    type Value = i64;

    fn read(value: Value<'_>, reader: &mut Reader) -> Option<i64> {
        let read = whole_number(value);
        if read.is_none() || value.shape() != Shape::Number {
            reader.differs(value, "a whole number");
        }
        read
    }
}

/// A whole number documented as text, or as text on one page and as a number on another.
pub(in crate::event) struct IntText;

impl Form for IntText {
    type Value = i64;

    fn read(value: Value<'_>, reader: &mut Reader) -> Option<i64> {
        let read = whole_number(value);
        if read.is_none() {
            reader.differs(value, "the digits of a whole number");
        }
        read
    }
}

/// A number, with or without fraction.
pub(in crate::event) struct Float;

impl Form for Float {
    type Value = f64;

    fn read(value: Value<'_>, reader: &mut Reader) -> Option<f64> {
        let is_numeric = matches!(value.shape(), Shape::Number | Shape::Text);
        let read = value.text().trim().parse().ok().filter(|float: &f64| is_numeric && float.is_finite());
        if read.is_none() || value.shape() != Shape::Number {
            reader.differs(value, "a number");
        }
        read
    }
}

/// `true` or `false`.
pub(in crate::event) struct Bool;

impl Form for Bool {
    type Value = bool;

    fn read(value: Value<'_>, reader: &mut Reader) -> Option<bool> {
        if value.shape() != Shape::Bool {
            reader.differs(value, "a boolean");
        }
        boolean(value)
    }
}

/// `true` or `false`, documented as text.
pub(in crate::event) struct BoolText;

impl Form for BoolText {
    type Value = bool;

    fn read(value: Value<'_>, reader: &mut Reader) -> Option<bool> {
        let read = boolean(value);
        if read.is_none() {
            reader.differs(value, "the word true or false");
        }
        read
    }
}

fn boolean(value: Value<'_>) -> Option<bool> {
    match value.shape() {
        Shape::Bool | Shape::Text => value.text().trim().to_ascii_lowercase().parse().ok(),
        _ => None,
    }
}

/// A string.
pub(in crate::event) struct Text;

impl Form for Text {
    type Value = String;

    fn read(value: Value<'_>, reader: &mut Reader) -> Option<String> {
        reader.check_text(value);
        text_or_digits(value)
    }
}

/// The name of something, as text or as a number of any size.
pub(in crate::event) struct Id;

impl Form for Id {
    type Value = String;

    fn read(value: Value<'_>, reader: &mut Reader) -> Option<String> {
        let read = text_or_digits(value);
        if read.is_none() {
            reader.differs(value, "text");
        }
        read
    }
}

fn text_or_digits(value: Value<'_>) -> Option<String> {
    matches!(value.shape(), Shape::Text | Shape::Number).then(|| value.text().into_owned())
}

/// Anything, kept as the JSON it was sent as: no source says what it is.
pub(in crate::event) struct Any;

impl Form for Any {
    type Value = String;

    fn read(value: Value<'_>, _: &mut Reader) -> Option<String> {
        Some(value.raw().to_owned())
    }
}

/// A list. Items that cannot be read are left out.
pub(in crate::event) struct List<F>(PhantomData<F>);

impl<F: Form> Form for List<F> {
    type Value = Vec<F::Value>;

    fn read(list: Value<'_>, reader: &mut Reader) -> Option<Self::Value> {
        if list.shape() != Shape::List {
            reader.differs(list, "a list");
            return None;
        }
        let mut items = Vec::new();
        for (index, item) in list.elements().enumerate() {
            if reader.items_left == 0 {
                reader.note(|path| format!("`{}` has more items than are read, {index} are", path.place()));
                break;
            }
            reader.items_left -= 1;
            reader.path.push(Step::Item(index));
            items.extend(F::read(item, reader));
            reader.path.pop();
        }
        Some(items)
    }
}

/// A list, or its only item without the brackets.
pub(in crate::event) struct OneOrMore<F>(PhantomData<F>);

impl<F: Form> Form for OneOrMore<F> {
    type Value = Vec<F::Value>;

    fn read(value: Value<'_>, reader: &mut Reader) -> Option<Self::Value> {
        match value.shape() {
            Shape::List | Shape::Null => List::<F>::read(value, reader),
            _ => F::read(value, reader).map(|only| vec![only]),
        }
    }
}

/// JSON inside a string, once or twice escaped.
pub(in crate::event) struct Json<F>(PhantomData<F>);

impl<F: Form> Form for Json<F> {
    type Value = Embedded<F::Value>;

    fn read(value: Value<'_>, reader: &mut Reader) -> Option<Self::Value> {
        match value.shape() {
            Shape::Text => {
                let text = value.text().into_owned();
                let value = read_embedded::<F>(&text, reader);
                Some(Embedded { text, value })
            }
            Shape::Object | Shape::List => {
                reader.differs(value, "text that holds JSON");
                Some(Embedded { text: value.raw().to_owned(), value: F::read(value, reader) })
            }
            Shape::Null | Shape::Bool | Shape::Number => {
                reader.differs(value, "text that holds JSON");
                None
            }
        }
    }
}

fn read_embedded<F: Form>(text: &str, reader: &mut Reader) -> Option<F::Value> {
    let Ok(value) = json::parse(text) else { return not_json(reader) };
    if value.shape() != Shape::Text {
        return F::read(value, reader);
    }
    match json::parse(&value.text()) {
        Ok(inner) => F::read(inner, reader),
        Err(_) => not_json(reader),
    }
}

fn not_json<T>(reader: &mut Reader) -> Option<T> {
    reader.note(|path| format!("the text of `{}` is not JSON", path.place()));
    None
}
