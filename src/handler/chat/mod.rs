//! Posts a message for each event to a group chat, through an incoming webhook of WeCom, DingTalk, Feishu (Lark) or
//! Slack. A success is the service's own word that it took the message; what the members of the chat see is not ours to
//! know. A message has no key by which these services would know it again: after a crash between the post and its record
//! it is posted twice.
//!
//! Whoever may push a stream chooses its name and more of what events hold. None of it mentions anybody, formats anything
//! or fills a message alone: see `template`.

mod rate;
mod service;
mod template;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use url::Url;

use self::rate::Rate;
pub use self::service::Service;
use self::service::{Letter, Verdict};
pub use self::template::{Template, TemplateFault};
use super::http::answer::Answer;
use super::{BuildError, Handler, HandlerError, excerpt, http};
use crate::clock::Clock;
use crate::event::Event;
use crate::secret::Secret;

/// To which chat messages go, and what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose webhook it is.
    pub service: Service,
    /// The webhook; whoever has it can post.
    pub url: Secret,
    /// Signs messages, where the webhook asks for it: DingTalk and Feishu only.
    pub secret: Option<Secret>,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What messages say.
    pub template: Template,
    /// Messages in any minute; at least 1.
    pub rate: usize,
}

/// The `chat` handler.
pub struct Chat {
    client: Client,
    settings: Settings,
    url: Url,
    rate: Rate,
    hidden: Vec<String>,
    clock: Arc<dyn Clock>,
}

impl Chat {
    /// Makes the client, which opens no connection yet. `clock` is for signatures and for the rate.
    pub fn new(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Self, BuildError> {
        let url = Url::parse(settings.url.expose()).map_err(|error| BuildError(format!("`url` is no URL: {error}")))?;
        Ok(Self {
            client: http::client(&url, settings.ca_file.as_deref())?,
            rate: Rate::new(settings.rate),
            hidden: hidden(&url, settings.secret.as_ref()),
            settings: settings.clone(),
            url,
            clock: Arc::clone(clock),
        })
    }

    async fn post(&self, event: &Event) -> Result<(), HandlerError> {
        let now = self.clock.now();
        self.rate.admit(event.id, now).map_err(|wait| self.waits(wait))?;
        let Settings { service, secret, template, .. } = &self.settings;
        let text = template.render(event, *service);
        let Letter { url, body } = service.letter(&self.url, secret.as_ref(), &text, now);
        let sent = self.client.post(url).header(CONTENT_TYPE, "application/json; charset=utf-8").body(body);
        let answer = sent.send().await.map_err(|error| {
            HandlerError::transient(format!("no answer: {}", excerpt::causes(&error.without_url(), &self.hidden)))
        })?;
        let answer = Answer::read(answer, self.clock.now()).await;
        match service.judge(&answer) {
            Verdict::Taken => Ok(()),
            Verdict::Limited(wait) => {
                let wait = answer.retry_after.unwrap_or(wait);
                self.rate.hold(self.clock.now().plus(wait));
                Err(HandlerError::Transient { reason: self.reason(&answer, event), retry_after: Some(wait) })
            }
            Verdict::Busy => {
                let retry_after = answer.retry_after;
                Err(HandlerError::Transient { reason: self.reason(&answer, event), retry_after })
            }
            Verdict::Refused => Err(HandlerError::permanent(self.reason(&answer, event))),
        }
    }

    fn waits(&self, wait: Duration) -> HandlerError {
        let reason = format!("waits for its turn: {} messages a minute", self.settings.rate);
        HandlerError::Transient { reason, retry_after: Some(wait) }
    }

    fn reason(&self, answer: &Answer, event: &Event) -> String {
        answer.reason(&excerpt::hidden(self.hidden.iter().map(String::as_str), event))
    }
}

impl Handler for Chat {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(self.post(event))
    }
}

impl fmt::Debug for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat").field("service", &self.settings.service).finish_non_exhaustive()
    }
}

/// What an answer may repeat and a reason may not: the key, which stands in the path or the query, and the secret.
fn hidden(url: &Url, secret: Option<&Secret>) -> Vec<String> {
    let keys = url.query_pairs().map(|(_, value)| value.into_owned());
    let segments = url.path_segments().into_iter().flatten().filter(|part| part.len() >= KEY_CHARS_MIN);
    let whole = [url.as_str(), url.path()].map(str::to_owned);
    let secret = secret.map(|secret| secret.expose().to_owned());
    whole.into_iter().chain(keys).chain(segments.map(str::to_owned)).chain(secret).collect()
}

/// Shorter parts of a path are words such as `send`.
const KEY_CHARS_MIN: usize = 8;
