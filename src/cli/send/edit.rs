//! `--set`: changes to a body.

use serde_json::{Map, Value};

/// A member and what it becomes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Edit {
    path: Vec<String>,
    value: Setting,
}

/// A value as it was given.
#[derive(Clone, Debug, PartialEq)]
enum Setting {
    /// JSON, kept as it is written: `1.0` and a number of thirty digits stay what they are.
    Json(String),
    Text(String),
}

/// Reads `a.b=value`.
pub(super) fn parse(text: &str) -> Result<Edit, String> {
    let (path, value) = text.split_once('=').ok_or("it is written FIELD=VALUE")?;
    if path.split('.').any(str::is_empty) {
        return Err("a part of the field's name is empty".to_owned());
    }
    let value = match serde_json::from_str::<serde::de::IgnoredAny>(value) {
        Ok(_) => Setting::Json(value.trim().to_owned()),
        Err(_) => Setting::Text(value.to_owned()),
    };
    Ok(Edit { path: path.split('.').map(str::to_owned).collect(), value })
}

/// Applies all edits; the body is written as JSON by [`written`], with the same edits.
pub(super) fn apply(edits: &[Edit], body: &mut Value) {
    for (number, edit) in edits.iter().enumerate() {
        let place = edit.path.iter().fold(&mut *body, |value, step| descend(value, step));
        *place = match &edit.value {
            Setting::Text(text) => Value::from(text.as_str()),
            Setting::Json(_) => Value::from(mark(number)),
        };
    }
}

/// The body as JSON.
pub(super) fn written(edits: &[Edit], body: &Value) -> String {
    let mut text = body.to_string();
    for (number, edit) in edits.iter().enumerate() {
        if let Setting::Json(json) = &edit.value {
            text = text.replace(&Value::from(mark(number)).to_string(), json);
        }
    }
    text
}

/// The member's text as it is going to be written, without quotes; none where it is no text and no number.
pub(super) fn text_of(edits: &[Edit], value: &Value) -> Option<String> {
    let json = written(edits, value);
    match serde_json::from_str(&json).ok()? {
        Value::String(text) => Some(text),
        Value::Number(_) => Some(json),
        _ => None,
    }
}

/// Stands in the body for JSON that is put in last.
fn mark(number: usize) -> String {
    format!("\u{0}set {number}\u{0}")
}

/// What a step of the path leads to. What is not there is made; what cannot be stepped into is replaced.
fn descend<'v>(value: &'v mut Value, step: &str) -> &'v mut Value {
    let length = value.as_array().map(Vec::len);
    let index = step.parse::<usize>().ok().filter(|index| length.is_some_and(|length| *index <= length));
    if let Some(index) = index {
        if let Some(elements) = value.as_array_mut().filter(|elements| elements.len() == index) {
            elements.push(Value::Null);
        }
        return &mut value[index];
    }
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    &mut value[step]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edits: &[&str], body: &str, expected: &str) {
        let edits: Vec<_> = edits.iter().map(|text| parse(text).unwrap()).collect();
        let mut value = serde_json::from_str(body).unwrap();
        apply(&edits, &mut value);
        assert_eq!(written(&edits, &value), expected);
    }

    #[test]
    fn members_are_set_wherever_they_are() {
        let body = r#"{"a":1,"b":{"c":[{"d":2}]}}"#;
        check(&["a=x"], body, r#"{"a":"x","b":{"c":[{"d":2}]}}"#);
        check(&["b.c.0.d=true", "b.c.1=[1,2]"], body, r#"{"a":1,"b":{"c":[{"d":true},[1,2]]}}"#);
        check(&["e.f=null", "a.g="], "{}", r#"{"e":{"f":null},"a":{"g":""}}"#);
        check(&["b.c.9=1"], body, r#"{"a":1,"b":{"c":{"9":1}}}"#);
        check(&["a=1", "a=b=c"], "{}", r#"{"a":"b=c"}"#);
    }

    #[test]
    fn json_is_written_as_it_was_given() {
        let numbers = r#"{"n":1.50,"big":123456789012345678901234567890,"t":"007","u":007x}"#;
        let expected = r#"{"n":1.50,"big":123456789012345678901234567890,"t":"007","u":"007x"}"#;
        check(&["n=1.50", "big=123456789012345678901234567890", "t=\"007\"", "u=007x"], "{}", expected);
        assert!(serde_json::from_str::<Value>(numbers).is_err());
    }

    #[test]
    fn what_is_no_edit_is_refused() {
        assert!(parse("a").is_err() && parse("=1").is_err() && parse("a..b=1").is_err());
    }
}
