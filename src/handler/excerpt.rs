//! What somebody else said, cut down so that it may stand in a reason shown to operators.

use std::cmp::Reverse;
use std::error::Error;

use crate::event::Event;

/// `configured` and what is secret in the body of an event, which the other side has seen and may repeat: as written in
/// JSON, as meant, and each value where it is a query, decoded and not.
pub(super) fn hidden<'a>(configured: impl IntoIterator<Item = &'a str>, event: &Event) -> Vec<String> {
    let mut hidden: Vec<_> = configured.into_iter().map(str::to_owned).collect();
    for (_, value) in event.json().members().filter(|(name, _)| matches!(&*name.text(), "stream_param" | "sign")) {
        let text = value.text();
        let query = url::form_urlencoded::parse(text.as_bytes());
        hidden.extend(query.take(PARTS_MAX).map(|(_, value)| value.into_owned()));
        let written = text.split('&').take(PARTS_MAX).filter_map(|part| part.split_once('='));
        hidden.extend(written.map(|(_, value)| value.to_owned()));
        hidden.extend([value.raw().trim_matches('"').to_owned(), text.into_owned()]);
    }
    hidden
}

/// Parts of one query that are searched for: a body of separators must not cost a search for each.
const PARTS_MAX: usize = 32;

/// At most `chars_max` characters of `text` on one line, with each of the `hidden` texts replaced by `…`. Hidden texts
/// of less than four bytes are left in: they would be found everywhere and give nothing away.
pub(super) fn excerpt(text: &[u8], hidden: &[String], chars_max: usize) -> String {
    let mut text = String::from_utf8_lossy(text).into_owned();
    // The longest first, so that a part does not spoil the search for the whole.
    let mut hidden: Vec<_> = hidden.iter().filter(|secret| secret.len() >= 4).collect();
    hidden.sort_by_key(|secret| Reverse(secret.len()));
    for secret in hidden {
        text = text.replace(secret.as_str(), "…");
    }
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// An error and what is behind it, each said once, without the `hidden` texts.
pub(super) fn causes(error: &dyn Error, hidden: &[String]) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    excerpt(text.as_bytes(), hidden, CAUSES_CHARS)
}

/// How much of an error stands in a reason.
const CAUSES_CHARS: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::cloudevent::tests::event;

    #[test]
    fn what_is_secret_in_an_event_is_hidden_however_it_is_repeated() {
        let event = event(r#"{"event_type":1,"sign":"feedbeef","stream_param":"a=1\u0026txSecret=hunter%3222"}"#);
        let hidden = hidden(["configured"], &event);
        for said in [
            &b"no feedbeef"[..],
            br"no a=1\u0026txSecret=hunter%3222",
            b"no a=1&txSecret=hunter%3222",
            b"no hunter222",
            b"no hunter%3222",
            b"no configured",
        ] {
            assert_eq!(excerpt(said, &hidden, 100), "no …");
        }
    }

    #[test]
    fn excerpts_are_short_plain_and_without_secrets() {
        let hidden = ["hunter22".to_owned(), "a".to_owned()];
        assert_eq!(excerpt(b"no \x1b[31m\r\n  hunter22, \xFFa", &hidden, 100), "no [31m …, \u{FFFD}a");
        assert_eq!(excerpt("é".repeat(9).as_bytes(), &[], 3), "ééé…");
        assert_eq!(excerpt(b"", &[], 3), "");
    }

    #[test]
    fn a_secret_that_begins_another_does_not_spoil_it() {
        let hidden = ["livehook".to_owned(), "livehook-2024".to_owned()];
        assert_eq!(excerpt(b"livehook and livehook-2024", &hidden, 100), "\u{2026} and \u{2026}");
    }
}
