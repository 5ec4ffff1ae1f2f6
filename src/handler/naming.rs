//! Names in other systems, such as subjects, routing keys and topics, made of what an event says about itself.
//!
//! Names in events come from strangers: anybody who may push a stream chooses its name. What a stranger chooses fills one
//! place of a name and nothing beside it. Letters, digits, `-` and `_` stay, whatever the script; every other character,
//! and so every one that separates, matches or leads out of a name in some system, becomes `_`. What is empty or absent
//! becomes `_` too, and what is too long is cut. Two streams may so come to share a name, which costs no order: each of
//! them stays in its order.

use std::fmt;

use crate::event::Event;

/// Text with places for what an event says: `{kind}`, `{domain}`, `{app}` and `{stream}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Kind,
    Domain,
    App,
    Stream,
}

/// The places there are.
const PLACES: [(&str, Place); 4] =
    [("kind", Place::Kind), ("domain", Place::Domain), ("app", Place::App), ("stream", Place::Stream)];

/// Bytes of one value that stand in a name: longer than any name people choose, and four of them are short enough for
/// every system.
const VALUE_BYTES_MAX: usize = 128;

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    /// Nothing stands there.
    #[error("is empty")]
    Empty,
    /// A brace that does not belong to a place.
    #[error("has a brace that is not part of {{kind}}, {{domain}}, {{app}} or {{stream}}")]
    Brace,
    /// A place nobody knows.
    #[error("has {{{0}}}; there are {{kind}}, {{domain}}, {{app}} and {{stream}}")]
    Unknown(String),
}

impl Template {
    /// Reads a template as it is written in a configuration.
    pub fn parse(text: &str) -> Result<Self, TemplateFault> {
        if text.is_empty() {
            return Err(TemplateFault::Empty);
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or(TemplateFault::Brace)?;
            parts.push(Part::Text(before.to_owned()));
            let known = PLACES.iter().find(|(known, _)| *known == name);
            parts.push(Part::Place(known.ok_or_else(|| TemplateFault::Unknown(name.to_owned()))?.1));
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains(['{', '}']))) {
            return Err(TemplateFault::Brace);
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The name for an event.
    pub fn fill(&self, event: &Event) -> String {
        let mut name = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Place(place) => name.extend(harmless(place.value(event))),
            }
        }
        name
    }

    /// The name for an event that says nothing: for judging what surrounds the places.
    pub fn bare(&self) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Place(_) => "_".to_owned(),
        };
        self.parts.iter().map(part).collect()
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl Place {
    fn value(self, event: &Event) -> &str {
        let facts = &event.facts;
        let name = match self {
            Self::Kind => return facts.kind.slug(),
            Self::Domain => &facts.domain,
            Self::App => &facts.app,
            Self::Stream => &facts.stream,
        };
        name.as_deref().map_or("", str::trim)
    }
}

/// At most [`VALUE_BYTES_MAX`] bytes, at least one.
fn harmless(value: &str) -> impl Iterator<Item = char> {
    let value = if value.is_empty() { "_" } else { &value[..value.floor_char_boundary(VALUE_BYTES_MAX)] };
    value.chars().map(|c| if c.is_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::handler::cloudevent::tests::event;

    fn of(domain: &str, app: &str, stream: &str) -> Event {
        let body = serde_json::json!({ "event_type": 1, "app": domain, "appname": app, "stream_id": stream });
        event(&body.to_string())
    }

    #[test]
    fn places_are_filled_and_the_rest_stays() {
        let template = Template::parse("css.{kind}.{domain}.{app}.{stream}.v1").unwrap();
        let name = template.fill(&of("push.example.com", "live", " room-7 "));
        assert_eq!(name, "css.stream-push.push_example_com.live.room-7.v1");
        assert_eq!(template.fill(&event(r#"{"event_type":999}"#)), "css.unknown._._._.v1");
        assert_eq!(template.bare(), "css._._._._.v1");
        assert_eq!(Template::parse("all").unwrap().fill(&of("a", "b", "c")), "all");
    }

    #[test]
    fn hostile_names_fill_one_place_and_nothing_beside_it() {
        let template = Template::parse("css.{stream}.end").unwrap();
        for (stream, filled) in [
            (">", "_"),
            ("*", "_"),
            ("a.b.>", "a_b__"),
            ("$JS.API", "_JS_API"),
            ("a b\r\nPUB x 0\r\n", "a_b__PUB_x_0"),
            ("#", "_"),
            ("{kind}", "_kind_"),
            ("\u{0}\u{7f}\u{2028}\u{200b}", "____"),
            ("a';DROP TABLE x;--", "a__DROP_TABLE_x_--"),
            ("直播 7", "直播_7"),
            ("", "_"),
            ("   ", "_"),
        ] {
            assert_eq!(template.fill(&of("d", "a", stream)), format!("css.{filled}.end"), "{stream:?}");
        }
        let long = template.fill(&of("d", "a", &"直".repeat(60)));
        assert_eq!(long, format!("css.{}.end", "直".repeat(VALUE_BYTES_MAX / 3)));
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_reason() {
        for (text, fault) in [
            ("", TemplateFault::Empty),
            ("a{", TemplateFault::Brace),
            ("a}b", TemplateFault::Brace),
            ("{kind", TemplateFault::Brace),
            ("}{kind}", TemplateFault::Brace),
            ("{Kind}", TemplateFault::Unknown("Kind".to_owned())),
            ("{}", TemplateFault::Unknown(String::new())),
            ("{id}", TemplateFault::Unknown("id".to_owned())),
        ] {
            assert_eq!(Template::parse(text), Err(fault), "{text}");
        }
        let said = Template::parse("{id}").unwrap_err().to_string();
        assert_eq!(said, "has {id}; there are {kind}, {domain}, {app} and {stream}");
    }

    proptest! {
        #[test]
        fn a_name_has_as_many_tokens_as_its_template(domain: String, app: String, stream: String) {
            let template = Template::parse("a.{domain}.{app}.{stream}").unwrap();
            let name = template.fill(&of(&domain, &app, &stream));
            prop_assert_eq!(name.split('.').count(), 4);
            prop_assert!(name.split('.').all(|token| !token.is_empty()));
            let separates = |c: char| c.is_whitespace() || c.is_control() || "*>#$/\\'\"`;{}".contains(c);
            prop_assert!(!name.contains(separates));
        }
    }
}
