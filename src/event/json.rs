//! A reader over JSON text that `serde_json` has found valid. It keeps what serde's data model would lose: the digits of
//! a number, repeated members and their order, lone surrogates. It allocates nothing, and nesting costs it no stack.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

/// A JSON value: a slice of valid JSON text without blanks around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a>(&'a str);

/// What a value is, told from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number, of any size and precision.
    Number,
    /// A string.
    Text,
    /// An array.
    List,
    /// An object.
    Object,
}

impl Shape {
    /// The word used in drift notes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Text => "text",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

/// Checks that `text` is one JSON value and returns it. Any depth of nesting is taken; nothing is decoded.
pub fn parse(text: &str) -> Result<Value<'_>, serde_json::Error> {
    serde_json::from_str::<serde::de::IgnoredAny>(text)?;
    Ok(Value(text.trim_matches(is_blank)))
}

impl<'a> Value<'a> {
    /// `{}`
    pub const fn empty_object() -> Self {
        Self("{}")
    }

    /// The text of the value as it was sent.
    pub fn raw(self) -> &'a str {
        self.0
    }

    /// What kind of value it is.
    pub fn shape(self) -> Shape {
        match self.0.as_bytes().first() {
            Some(b'{') => Shape::Object,
            Some(b'[') => Shape::List,
            Some(b'"') => Shape::Text,
            Some(b't' | b'f') => Shape::Bool,
            Some(b'n') | None => Shape::Null,
            Some(_) => Shape::Number,
        }
    }

    /// The members of an object in their order, repeated ones too; nothing for other shapes.
    pub fn members(self) -> Members<'a> {
        Members(Cursor::inside(self, Shape::Object))
    }

    /// The elements of a list; nothing for other shapes.
    pub fn elements(self) -> Elements<'a> {
        Elements(Cursor::inside(self, Shape::List))
    }

    /// The last member called `name`, as most readers choose among repeated ones.
    pub fn member(self, name: &str) -> Option<Value<'a>> {
        self.members().filter(|(key, _)| key.text() == name).map(|(_, value)| value).last()
    }

    /// A string with its escapes decoded, lone surrogates as U+FFFD; another shape as its raw text.
    pub fn text(self) -> Cow<'a, str> {
        match self.bytes() {
            Cow::Borrowed(_) if self.shape() == Shape::Text => Cow::Borrowed(&self.0[1..self.0.len() - 1]),
            Cow::Borrowed(_) => Cow::Borrowed(self.0),
            Cow::Owned(bytes) => Cow::Owned(
                String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
            ),
        }
    }

    /// Like [`text`](Self::text), but a lone surrogate keeps its identity as the three bytes of its code point.
    pub fn bytes(self) -> Cow<'a, [u8]> {
        if self.shape() != Shape::Text {
            return Cow::Borrowed(self.0.as_bytes());
        }
        let inner = &self.0.as_bytes()[1..self.0.len() - 1];
        if memchr(b'\\', inner).is_some() { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) }
    }

    /// Appends the value without the blanks between its tokens, so that it fits on one line.
    pub fn compact_into(self, out: &mut String) {
        if !self.0.bytes().any(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')) {
            out.push_str(self.0);
            return;
        }
        let bytes = self.0.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let end = match bytes[at] {
                b'"' => end_of_string(bytes, at),
                b if is_blank(b as char) => {
                    at += 1;
                    continue;
                }
                _ => {
                    at + bytes[at..].iter().position(|&b| b == b'"' || is_blank(b as char)).unwrap_or(bytes.len() - at)
                }
            };
            out.push_str(&self.0[at..end]);
            at = end;
        }
    }
}

/// Iterator over the members of an object.
#[derive(Clone, Debug)]
pub struct Members<'a>(Cursor<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.next_value()?, self.0.next_value()?))
    }
}

/// Iterator over the elements of a list.
#[derive(Clone, Debug)]
pub struct Elements<'a>(Cursor<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_value()
    }
}

/// A place in valid JSON text. Blanks, commas and colons only separate values there, so they are passed over alike.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the first value inside a container of the given shape; at the end when `value` is something else.
    fn inside(value: Value<'a>, shape: Shape) -> Self {
        let text = value.0;
        Self { text, at: if value.shape() == shape { 1 } else { text.len() } }
    }

    fn next_value(&mut self) -> Option<Value<'a>> {
        let bytes = self.text.as_bytes();
        while let Some(b',' | b':' | b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        let start = self.at;
        self.at = match bytes.get(start)? {
            b']' | b'}' => return None,
            b'"' => end_of_string(bytes, start),
            b'{' | b'[' => end_of_container(bytes, start),
            _ => end_of_word(bytes, start),
        };
        Some(Value(&self.text[start..self.at]))
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// The place behind the closing quote of the string that opens at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found + 1;
        if bytes[at - 1] == b'"' {
            return at;
        }
        // Whatever is escaped ends nothing.
        at += 1;
    }
    bytes.len()
}

/// The place behind the bracket that closes the one at `start`.
fn end_of_container(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    let mut depth = 0_usize;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = end_of_string(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

fn end_of_word(bytes: &[u8], start: usize) -> usize {
    let ends = |b: &u8| matches!(b, b',' | b':' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
    bytes[start..].iter().position(ends).map_or(bytes.len(), |n| start + n)
}

fn unescape(inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while at < inner.len() {
        if inner[at] != b'\\' {
            out.push(inner[at]);
            at += 1;
            continue;
        }
        at += 2;
        match inner[at - 1] {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => at += push_code_point(&inner[at..], &mut out),
            plain => out.push(plain),
        }
    }
    out
}

/// Decodes the four digits at the start of `rest`, with the escape behind them where the two are a surrogate pair.
/// Returns how many bytes that took.
fn push_code_point(rest: &[u8], out: &mut Vec<u8>) -> usize {
    let unit = hex4(rest);
    let follower = rest.get(4..10).filter(|next| next.starts_with(b"\\u")).map(|next| hex4(&next[2..]));
    if let (0xD800..0xDC00, Some(low @ 0xDC00..0xE000)) = (unit, follower) {
        let code = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
        push_utf8(code, out);
        return 10;
    }
    push_utf8(unit, out);
    4
}

fn hex4(digits: &[u8]) -> u32 {
    digits.iter().take(4).fold(0, |value, &d| value * 16 + (d as char).to_digit(16).unwrap_or(0))
}

/// UTF-8, generalised to surrogates so that two different lone ones stay different.
fn push_utf8(code: u32, out: &mut Vec<u8>) {
    if let Some(c) = char::from_u32(code) {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        let low_six = |shift: u32| 0x80 | u8::try_from(code >> shift & 0x3F).unwrap_or_default();
        out.extend_from_slice(&[0xED, low_six(6), low_six(0)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value<'_> {
        parse(text).unwrap()
    }

    #[test]
    fn members_come_in_order_with_repetitions_and_exact_numbers() {
        let members: Vec<_> = value(r#" { "a" : 1.50 , "b":[1, {"c":"]}"}], "a":"x\"y" , "d":{}} "#)
            .members()
            .map(|(key, value)| (key.text().into_owned(), value.raw().to_owned()))
            .collect();
        let pairs: Vec<_> = members.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", "1.50"), ("b", r#"[1, {"c":"]}"}]"#), ("a", r#""x\"y""#), ("d", "{}")]);
    }

    #[test]
    fn escapes_are_decoded_and_lone_surrogates_survive_as_bytes() {
        assert_eq!(value(r#""a\u00e9\ud83d\ude00\/\n\\""#).text(), "aé😀/\n\\");
        assert_eq!(value(r#""\ud800""#).text(), "\u{FFFD}\u{FFFD}\u{FFFD}");
        assert_ne!(value(r#""\ud800""#).bytes(), value(r#""\ud801""#).bytes());
        assert_eq!(value(r#""\ud800\u0041""#).bytes().last(), Some(&b'A'));
        assert_eq!(value(r#""plain""#).text(), "plain");
        assert_eq!(value("12").text(), "12");
    }

    #[test]
    fn the_last_of_repeated_members_is_read() {
        assert_eq!(value(r#"{"a":1,"a":2}"#).member("a").map(Value::raw), Some("2"));
        assert_eq!(value(r#"{"\u0061":1}"#).member("a").map(Value::raw), Some("1"));
        assert_eq!(value("[1]").member("a"), None);
    }

    #[test]
    fn compacting_touches_no_blank_inside_strings() {
        let mut out = String::new();
        value("{ \"a b\" : [ 1 ,\n 2 ], \"c\" : \" \\\" \" }").compact_into(&mut out);
        assert_eq!(out, r#"{"a b":[1,2],"c":" \" "}"#);
    }

    #[test]
    fn a_hundred_thousand_levels_are_walked_without_recursion() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(value(&deep).members().count(), 1);
        assert!(parse(&deep[..deep.len() - 2]).is_err());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "nul", "{", "{\"a\":01}", "\"\u{1}\"", "{} {}", "a=1&b=2", "NaN"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn decoding_agrees_with_serde_json(text: String) {
            let encoded = serde_json::to_string(&text).unwrap();
            proptest::prop_assert_eq!(value(&encoded).text(), text);
        }
    }
}
