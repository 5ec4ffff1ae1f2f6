//! Values that must never be printed.

use std::fmt;

use subtle::ConstantTimeEq;

/// A key, token or header value. Prints as `…`; read it with [`expose`](Self::expose), which is easy to search for.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Hides `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The hidden value, exactly as it was given.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is the hidden value, in a time that does not depend on where they differ.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_an_ellipsis_and_keeps_its_value() {
        let secret = Secret::new("0012345");
        assert_eq!(format!("{secret} {secret:?}"), "… …");
        assert_eq!(secret.expose(), "0012345");
        assert!(secret.matches(b"0012345"));
        assert!(!secret.matches(b"12345"));
    }
}
