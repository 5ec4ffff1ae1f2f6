//! The HTTP client of commands, and what to say when nobody answers.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Client, redirect};
use url::Url;

use crate::handler::http::trust;
use crate::secret::Secret;

/// A host that does not answer a handshake by now will not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for `url` that follows no redirect and uses no proxy. An answer that takes longer than `timeout` is none.
pub(super) fn client(url: &Url, timeout: Option<Duration>) -> anyhow::Result<Client> {
    let client = trust::settle(Client::builder(), url, None).map_err(|error| anyhow::anyhow!(error.0))?;
    let client = client
        .redirect(redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("livehook/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeout.map_or(CONNECT_TIMEOUT, |timeout| timeout.min(CONNECT_TIMEOUT)));
    let client = timeout.into_iter().fold(client, reqwest::ClientBuilder::timeout);
    client.build().context("cannot make an HTTP client")
}

/// Why there was no answer: the deepest cause says it best. Never the URL, which may hold a token.
pub(super) fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    match error.source() {
        None => error.to_string(),
        Some(_) => deepest.to_string(),
    }
}

/// A URL as it may be shown: without user, password and query.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// Reads the admin address of the command line.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    parse_url_like(text, "http://127.0.0.1:9090")
}

/// Reads the address of callbacks of the command line.
pub(super) fn parse_callback_url(text: &str) -> Result<Url, String> {
    parse_url_like(text, "http://127.0.0.1:8080")
}

fn parse_url_like(text: &str, example: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; a URL looks like {example}"))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(format!("it is neither http nor https; a URL looks like {example}"))
    }
}

/// Reads a secret of the command line.
pub(super) fn parse_secret(text: &str) -> Result<Secret, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(Secret::new(text)) }
}

/// A secret out of a file, of which one final line break is dropped.
pub(super) fn secret_in(file: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    anyhow::ensure!(!text.is_empty(), "{} is empty", file.display());
    Ok(Secret::new(text))
}

/// The secret that was given, in whichever way.
pub(super) fn secret(value: Option<Secret>, file: Option<&PathBuf>) -> anyhow::Result<Option<Secret>> {
    value.map_or_else(|| file.map(|file| secret_in(file)).transpose(), |value| Ok(Some(value)))
}

/// Runs a command that talks to others, on this thread.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting up")?;
    let outcome = runtime.block_on(work);
    // A thread that hangs in reading must not hold up the end.
    runtime.shutdown_background();
    outcome
}
