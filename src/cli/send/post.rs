//! The post, and its answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use url::Url;

use crate::cli::http;
use crate::event::Kind;
use crate::secret::Secret;

/// CSS waits so long for an answer (page 38080).
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// Where callbacks go.
#[derive(Debug)]
pub(super) struct Address {
    to: Url,
    token: Option<Secret>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) kind: Kind,
    pub(super) copy: bool,
    /// Status and body, or why there is neither.
    pub(super) outcome: Result<(u16, String), String>,
    pub(super) took: Duration,
}

impl Address {
    pub(super) fn new(to: Url, token: Option<Secret>) -> Self {
        Self { to, token }
    }

    /// What was given, without what is secret in it.
    pub(super) fn shown(&self) -> String {
        http::shown(&self.to)
    }

    /// A URL with a path is complete; otherwise the route of the kind is put to it.
    fn url(&self, kind: Kind) -> Url {
        let mut url = self.to.clone();
        if url.path() == "/" {
            url.set_path(&match kind {
                Kind::Unknown => "/callbacks".to_owned(),
                kind => format!("/callbacks/{kind}"),
            });
        }
        if let Some(token) = &self.token {
            url.query_pairs_mut().append_pair("token", token.expose());
        }
        url
    }
}

impl Answer {
    /// Whether it is the one CSS asks for.
    pub(super) fn is_good(&self) -> bool {
        let is_code_0 = |body: &str| serde_json::from_str(body).is_ok_and(|body: serde_json::Value| body["code"] == 0);
        matches!(&self.outcome, Ok((200, body)) if is_code_0(body))
    }
}

pub(super) async fn post(client: &Client, address: &Address, kind: Kind, body: Bytes, copy: bool) -> Answer {
    let begun = Instant::now();
    let outcome = exchange(client, address.url(kind), body).await.map_err(http::reason);
    Answer { kind, copy, outcome, took: begun.elapsed() }
}

async fn exchange(client: &Client, url: Url, body: Bytes) -> reqwest::Result<(u16, String)> {
    let answer = client.post(url).header(CONTENT_TYPE, "application/json").body(body).send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_gets_the_route_and_a_full_one_stays() {
        for (to, token, expected) in [
            ("http://h:1", None, "http://h:1/callbacks/stream-push"),
            ("http://h:1/", Some("a b"), "http://h:1/callbacks/stream-push?token=a+b"),
            ("http://h:1/?x=y", Some("t"), "http://h:1/callbacks/stream-push?x=y&token=t"),
            ("http://h:1/hook?x=y", None, "http://h:1/hook?x=y"),
        ] {
            let address = Address::new(to.parse().unwrap(), token.map(Secret::new));
            assert_eq!(address.url(Kind::StreamPush).as_str(), expected);
        }
        let address = Address::new("http://h".parse().unwrap(), None);
        assert_eq!(address.url(Kind::Unknown).path(), "/callbacks");
    }
}
