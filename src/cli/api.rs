//! The admin API, seen from a command.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Client, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::http;
use crate::secret::Secret;

/// Where the admin API is, and how to be let in.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AdminFlags {
    /// Admin address of the running service
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090", value_parser = http::parse_url)]
    admin: Url,
    /// Admin token; others may see it in the list of processes, so prefer --token-file
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file", value_parser = http::parse_secret)]
    token: Option<Secret>,
    /// File that holds the admin token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The admin API of a running service.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    base: Url,
    token: Option<Secret>,
}

/// A page as the API has it: the rows under their own name, and where the next page begins.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) rows: Vec<Value>,
    pub(super) next: Option<String>,
}

/// What stands for itself in a part of a path. Everything else is written as percent signs, line breaks too, which a URL
/// would lose.
const PART_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Rows the API gives at once.
pub(super) const PAGE_MAX: usize = 1000;

impl AdminFlags {
    /// Makes ready to ask; opens no connection yet.
    pub(super) fn api(&self) -> anyhow::Result<Api> {
        let token = http::secret(self.token.clone(), self.token_file.as_ref())?;
        Ok(Api { client: http::client(&self.admin, None)?, base: self.admin.clone(), token })
    }
}

impl Api {
    /// The bytes that `GET` of the path answers.
    pub(super) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Bytes> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.answer(self.client.request(Method::GET, url)).await
    }

    /// As [`get`](Self::get); none for what is not there, or not any more.
    pub(super) async fn find(&self, path: &[&str]) -> anyhow::Result<Option<Bytes>> {
        let (status, body) = self.exchange(self.client.request(Method::GET, self.url(path)?)).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(body)),
            status => Err(self.problem(status, &body)),
        }
    }

    /// The answer to a `POST` of JSON.
    pub(super) async fn post<T: for<'a> Deserialize<'a>>(&self, path: &[&str], body: &Value) -> anyhow::Result<T> {
        let body = body.to_string();
        read(&self.post_body(path, "application/json", body.into()).await?)
    }

    /// The answer to a `POST` of anything.
    pub(super) async fn post_body(&self, path: &[&str], content_type: &str, body: Body) -> anyhow::Result<Bytes> {
        let request = self.client.request(Method::POST, self.url(path)?);
        self.answer(request.header(CONTENT_TYPE, content_type).body(body)).await
    }

    /// One page of the rows called `name`.
    pub(super) async fn page(
        &self,
        name: &str,
        path: &[&str],
        query: &[(&str, String)],
        limit: usize,
        cursor: Option<&str>,
    ) -> anyhow::Result<Page> {
        let mut query = query.to_vec();
        query.push(("limit", limit.clamp(1, PAGE_MAX).to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
        let mut answer: Value = read(&self.get(path, &query).await?)?;
        let Value::Array(rows) = answer[name].take() else { bail!("the answer of {} holds no `{name}`", self.shown()) };
        Ok(Page { rows, next: answer["next"].as_str().map(str::to_owned) })
    }

    /// The first `limit` rows, over as many pages as they take.
    pub(super) async fn rows(
        &self,
        name: &str,
        path: &[&str],
        query: &[(&str, String)],
        limit: usize,
    ) -> anyhow::Result<Page> {
        let mut all = self.page(name, path, query, limit, None).await?;
        while let Some(cursor) = all.next.clone().filter(|_| all.rows.len() < limit) {
            let page = self.page(name, path, query, limit - all.rows.len(), Some(&cursor)).await?;
            all.rows.extend(page.rows);
            all.next = page.next;
        }
        all.rows.truncate(limit);
        Ok(all)
    }

    /// A part that means a step up or nothing would have us ask for something else.
    fn url(&self, path: &[&str]) -> anyhow::Result<Url> {
        let mut url = self.base.clone();
        url.set_query(None);
        let mut text = format!("{}/api/v1", url.path().trim_end_matches('/'));
        for part in path {
            if matches!(*part, "" | "." | "..") {
                bail!("there is nothing of the name \"{part}\"");
            }
            text.push('/');
            text.extend(utf8_percent_encode(part, PART_ENCODED));
        }
        url.set_path(&text);
        Ok(url)
    }

    fn shown(&self) -> String {
        http::shown(&self.base)
    }

    async fn answer(&self, request: RequestBuilder) -> anyhow::Result<Bytes> {
        let (status, body) = self.exchange(request).await?;
        if status.is_success() { Ok(body) } else { Err(self.problem(status, &body)) }
    }

    async fn exchange(&self, request: RequestBuilder) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.unreachable(error))?;
        Ok((status, body))
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        anyhow::anyhow!(
            "no answer from the admin API at {}: {}; is the service running? Start it with `livehook serve`, \
             or say where it is with --admin",
            self.shown(),
            http::reason(error)
        )
    }

    fn problem(&self, status: StatusCode, body: &[u8]) -> anyhow::Error {
        if status == StatusCode::UNAUTHORIZED {
            let what = match self.token {
                Some(_) => "does not take this token; give the one of its configuration (`admin.token`)",
                None => "wants a token; give --token or --token-file",
            };
            return anyhow::anyhow!("the admin API at {} {what}", self.shown());
        }
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        match document["detail"].as_str() {
            Some(detail) => anyhow::anyhow!("{}", super::output::plain(detail)),
            None => anyhow::anyhow!(
                "{} answered {status}, which the admin API never does; is this its address? Say where it is with --admin",
                self.shown()
            ),
        }
    }
}

/// Reads what the API answered.
pub(super) fn read<T: for<'a> Deserialize<'a>>(answer: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(answer).context("the answer of the admin API is not what this version knows")
}

/// A member of a row as a cell; what is unset is a dash.
pub(super) fn cell(row: &Value, member: &str) -> String {
    match &row[member] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A moment without its milliseconds: a column is narrow.
pub(super) fn second(moment: &str) -> String {
    moment.split_once('.').map_or(moment.to_owned(), |(whole, _)| format!("{whole}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(base: &str) -> Api {
        let base: Url = base.parse().unwrap();
        Api { client: http::client(&base, None).unwrap(), base, token: None }
    }

    #[test]
    fn a_name_is_asked_for_exactly_as_it_is() {
        for (part, written) in [
            ("room-7", "room-7"),
            ("a\tb\r\nc", "a%09b%0D%0Ac"),
            ("a/b?c#d%41", "a%2Fb%3Fc%23d%2541"),
            (" \u{2003}x ", "%20%E2%80%83x%20"),
            ("...", "..."),
        ] {
            let url = api("http://h:1").url(&["streams", part]).unwrap();
            assert_eq!(url.path(), format!("/api/v1/streams/{written}"));
        }
        assert_eq!(api("http://h:1/under/?x").url(&["events"]).unwrap().as_str(), "http://h:1/under/api/v1/events");
    }

    /// `deliveries drop . .` would be a decision on all of them.
    #[test]
    fn a_name_that_is_no_part_of_a_path_is_refused() {
        for part in ["", ".", ".."] {
            assert!(api("http://h:1").url(&["deliveries", part, part, "drop"]).is_err(), "{part}");
        }
    }
}
