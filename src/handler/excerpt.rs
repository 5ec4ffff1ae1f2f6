//! What somebody else said, cut down so that it may stand in a reason shown to operators.

/// At most `chars_max` characters of `text` on one line, with each of the `hidden` texts replaced by `…`. Hidden texts
/// of less than four bytes are left in: they would be found everywhere and give nothing away.
pub(super) fn excerpt(text: &[u8], hidden: &[String], chars_max: usize) -> String {
    let mut text = String::from_utf8_lossy(text).into_owned();
    for secret in hidden.iter().filter(|secret| secret.len() >= 4) {
        text = text.replace(secret.as_str(), "…");
    }
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_plain_and_without_secrets() {
        let hidden = ["hunter22".to_owned(), "a".to_owned()];
        assert_eq!(excerpt(b"no \x1b[31m\r\n  hunter22, \xFFa", &hidden, 100), "no [31m …, \u{FFFD}a");
        assert_eq!(excerpt("é".repeat(9).as_bytes(), &[], 3), "ééé…");
        assert_eq!(excerpt(b"", &[], 3), "");
    }
}
