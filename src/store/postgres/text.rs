//! Text in the database. PostgreSQL's holds every character but NUL, which names from strangers may hold too.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

/// Stands before `0` for NUL, and before itself for itself. It is a private character, so that text without any trick
/// in it looks in the database as it is.
const ESCAPE: char = '\u{10ffff}';
const NUL: char = '\0';

/// Bytes of a name that may stand in an index, whose entries are bounded: names come from strangers.
const KEY_BYTES_MAX: usize = 250;

/// Text as it is written.
pub(super) fn to_sql(text: &str) -> Cow<'_, str> {
    if !text.contains([NUL, ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut written = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            NUL => written.extend([ESCAPE, '0']),
            ESCAPE => written.extend([ESCAPE, ESCAPE]),
            plain => written.push(plain),
        }
    }
    Cow::Owned(written)
}

/// The text that was [written](to_sql).
pub(super) fn from_sql(written: String) -> String {
    if !written.contains(ESCAPE) {
        return written;
    }
    let mut text = String::with_capacity(written.len());
    let mut chars = written.chars();
    while let Some(char) = chars.next() {
        match char {
            ESCAPE => text.push(chars.next().filter(|next| *next == ESCAPE).unwrap_or(NUL)),
            plain => text.push(plain),
        }
    }
    text
}

/// Written text, short enough for an index and as different as the texts are: one that is too long is cut and gets a
/// digest.
pub(super) fn key(text: &str) -> Cow<'_, str> {
    let written = to_sql(text);
    if written.len() <= KEY_BYTES_MAX {
        return written;
    }
    let digest = hex::encode(Sha256::digest(text));
    // Behind an escape stands in written text `0` or another one, never this.
    let mark = format!("{ESCAPE}#{digest}");
    let head = KEY_BYTES_MAX - mark.len();
    let cut = (0..=head).rev().find(|at| written.is_char_boundary(*at)).unwrap_or(0);
    let cut = &written[..cut];
    let escapes = cut.chars().rev().take_while(|char| *char == ESCAPE).count();
    // Half of what is written for one character would make another of the mark.
    let cut = if escapes % 2 == 1 { cut.strip_suffix(ESCAPE).unwrap_or(cut) } else { cut };
    Cow::Owned(format!("{cut}{mark}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_holds_no_nul_and_is_read_as_it_was(text in "[a直\u{10ffff}\0 0]{0,12}") {
            let written = to_sql(&text).into_owned();
            prop_assert!(!written.contains(NUL));
            prop_assert_eq!(from_sql(written), text);
        }
    }

    #[test]
    fn keys_are_short_and_differ_as_their_texts_do() {
        let long = |end: &str| format!("{}{end}", "直".repeat(100_000));
        assert_eq!(key("room"), "room");
        for text in [long("a"), long("b")] {
            assert!(key(&text).len() <= KEY_BYTES_MAX, "{}", key(&text).len());
        }
        assert_ne!(key(&long("a")), key(&long("b")));
    }

    #[test]
    fn no_text_is_written_as_the_key_of_a_longer_one() {
        for number in 0..200 {
            for odd in ["\0", "\u{10ffff}", "\0\u{10ffff}"] {
                let long = format!("{}{}", "x".repeat(number), odd.repeat(200));
                let own = key(&long).into_owned();
                assert!(own.len() <= KEY_BYTES_MAX);
                assert_ne!(key(&from_sql(own.clone())), own, "{number}");
            }
        }
    }
}
