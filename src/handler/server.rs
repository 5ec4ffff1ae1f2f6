//! Where a server is reached, and what must not be said about it.

use std::fmt;

use url::Url;

/// The URL of a server, which may hold a user and a password. Prints as scheme, host and port only.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(Url);

impl ServerUrl {
    /// Holds `url`.
    pub fn new(url: Url) -> Self {
        Self(url)
    }

    /// The whole URL, secrets included.
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// Texts that no reason may repeat: user, password and query, as written and as meant.
    pub fn secrets(&self) -> Vec<String> {
        let written = [Some(self.0.username()), self.0.password(), self.0.query()].into_iter().flatten();
        let meant = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let mut secrets: Vec<_> = written.flat_map(|text| [text.to_owned(), meant(text)]).collect();
        secrets.retain(|text| !text.is_empty());
        secrets.dedup();
        secrets
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_shown_without_what_is_secret_in_its_url() {
        let server = ServerUrl::new(Url::parse("nats://user:p%40ss@broker.example:4222/x?token=hunter22").unwrap());
        assert_eq!(format!("{server} {server:?}"), "nats://broker.example:4222 nats://broker.example:4222");
        assert_eq!(server.secrets(), ["user", "p%40ss", "p@ss", "token=hunter22"]);
        assert_eq!(ServerUrl::new(Url::parse("redis://[::1]").unwrap()).to_string(), "redis://[::1]");
    }
}
