//! Posts each event to a URL. Any 2xx is a success. 408, 429, 5xx and everything that keeps an answer from coming ask
//! for another attempt, `Retry-After` is honoured up to an hour; any other answer ends the delivery. No redirect is
//! followed, no proxy of the environment is used, and connections are used again.
//!
//! Further headers may be configured, but `content-type`, `webhook-…`, `ce-…` and, where there are traces, `traceparent`
//! are always ours. Reasons of failures hold the status and the beginning of the answer, never the URL, header values or
//! keys, nor what is secret in the event.

pub(crate) mod answer;
mod signing;
pub(crate) mod trust;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use reqwest::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use reqwest::{Client, redirect};

use self::answer::Answer;
use self::signing::Key;
use super::cloudevent::Content;
pub use super::cloudevent::Format;
use super::{BuildError, Handler, HandlerError, cloudevent, excerpt};
use crate::clock::Clock;
use crate::event::Event;
use crate::secret::Secret;
use crate::telemetry::traces::traceparent;

/// Where events are posted, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `http` or `https`.
    pub url: url::Url,
    /// The form of the body.
    pub format: Format,
    /// Key of the Standard Webhooks signature: `whsec_` and Base64, or plain text.
    pub secret: Option<Secret>,
    /// Further headers: name, value.
    pub headers: Vec<(String, Secret)>,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// The `http` handler.
pub struct Http {
    client: Client,
    url: url::Url,
    format: Format,
    key: Option<Key>,
    headers: HeaderMap,
    /// What an answer may repeat and a reason may not.
    hidden: Vec<String>,
    clock: Arc<dyn Clock>,
}

impl Http {
    /// Makes the client, which opens no connection yet. `clock` is for signatures, and for answers that name an hour.
    pub fn new(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Self, BuildError> {
        let client = client(&settings.url, settings.ca_file.as_deref())?;
        Ok(Self {
            client,
            url: settings.url.clone(),
            format: settings.format,
            key: settings.secret.as_ref().map(Key::read).transpose()?,
            headers: custom_headers(&settings.headers)?,
            hidden: hidden(settings),
            clock: Arc::clone(clock),
        })
    }

    async fn post(&self, event: &Event) -> Result<(), HandlerError> {
        let (body, headers) = self.request(event)?;
        let sent = self.client.post(self.url.clone()).headers(headers).body(body).send().await;
        let answer = sent
            .map_err(|e| HandlerError::transient(format!("no answer: {}", excerpt::causes(&e.without_url(), &[]))))?;
        let hidden = || excerpt::hidden(self.hidden.iter().map(String::as_str), event);
        Answer::read(answer, self.clock.now()).await.judge(hidden)
    }

    fn request(&self, event: &Event) -> Result<(Bytes, HeaderMap), HandlerError> {
        let mut headers = self.headers.clone();
        let Content { media_type, body, attributes } = cloudevent::content(event, self.format);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        insert_all(&mut headers, attributes.iter().map(|(name, value)| cloudevent::header(name, value)))?;
        let place = traceparent().map(|place| ("traceparent".to_owned(), place));
        insert_all(&mut headers, place)?;
        if let Some(key) = &self.key {
            insert_all(&mut headers, key.headers(&event.id.to_string(), self.clock.now(), &body))?;
        }
        Ok((body, headers))
    }
}

impl Handler for Http {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(self.post(event))
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("host", &self.url.host_str()).field("format", &self.format).finish_non_exhaustive()
    }
}

/// A client for one place. It follows no redirect, uses no proxy of the environment, and uses connections again.
pub(super) fn client(url: &url::Url, ca_file: Option<&Path>) -> Result<Client, BuildError> {
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(BuildError("the URL is neither http nor https".to_owned()));
    }
    trust::settle(Client::builder(), url, ca_file)?
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .user_agent(concat!("livehook/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build()
        .map_err(|e| BuildError(format!("cannot make an HTTP client: {}", excerpt::causes(&e.without_url(), &[]))))
}

fn insert_all(headers: &mut HeaderMap, more: impl IntoIterator<Item = (String, String)>) -> Result<(), HandlerError> {
    for (name, value) in more {
        let unfit = || HandlerError::permanent(format!("the value of header {name} cannot be sent"));
        let value = HeaderValue::try_from(value).map_err(|_| unfit())?;
        headers.insert(HeaderName::try_from(&name).map_err(|_| unfit())?, value);
    }
    Ok(())
}

fn custom_headers(configured: &[(String, Secret)]) -> Result<HeaderMap, BuildError> {
    let mut headers = HeaderMap::new();
    for (name, value) in configured {
        let fault = |what: &str| BuildError(format!("header `{name}`: {what}"));
        let parsed = HeaderName::try_from(name).map_err(|_| fault("this is no header name"))?;
        if [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&parsed) {
            return Err(fault("it belongs to the connection"));
        }
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| fault("its value cannot be sent"))?;
        value.set_sensitive(true);
        headers.append(parsed, value);
    }
    Ok(headers)
}

/// Header values and their words, for one may be a scheme and a token, and what is secret in a URL.
fn hidden(settings: &Settings) -> Vec<String> {
    let url = &settings.url;
    let headers = settings.headers.iter().map(|(_, value)| value.expose());
    let words = headers.clone().flat_map(str::split_whitespace);
    let of_url = [Some(url.username()), url.password(), url.query()].into_iter().flatten();
    let mut hidden: Vec<_> = headers.chain(words).chain(of_url).map(str::to_owned).collect();
    hidden.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
    hidden
}

/// A host that does not answer a handshake by now will not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than what servers commonly grant, so that a connection is rarely closed under a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
pub(super) mod tests;
