//! `livehook send`: plays CSS.

mod edit;
mod letter;
mod post;
mod report;
mod template;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use reqwest::Client;
use tokio::time::Instant;
use url::Url;

use self::edit::Edit;
use self::letter::{Letter, Writer};
use self::post::Address;
use self::report::Report;
use super::key::KeyFlags;
use super::output::FormatFlag;
use super::{http, output, verify};
use crate::event::Kind;
use crate::secret::Secret;

#[derive(Debug, clap::Args)]
pub(super) struct Send {
    /// The kind of event, such as stream-push; all for one of each; unknown for one that nobody knows
    #[arg(value_parser = parse_kinds)]
    kind: Kinds,
    /// Callback address of the service, or with a path the full URL to post to
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = http::parse_callback_url)]
    to: Url,
    #[command(flatten)]
    key: KeyFlags,
    /// Sets a member of the body: the value is JSON or else text, a dotted path leads into objects and lists
    #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = edit::parse)]
    edits: Vec<Edit>,
    /// How many events of each kind
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Requests per second, begun on time even while earlier ones wait for their answers
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Sends each event a second time, as CSS does when it got no answer: with another `t` and `sign`
    #[arg(long)]
    duplicate: bool,
    /// Signs with a wrong key, so that the event is refused
    #[arg(long)]
    forge: bool,
    /// Sends the bytes of this file exactly as they are; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["edits", "key", "key_file", "forge"])]
    body: Option<PathBuf>,
    /// What the callback URL carries as ?token=…
    #[arg(long, value_name = "TOKEN", value_parser = http::parse_secret)]
    token: Option<Secret>,
    #[command(flatten)]
    format: FormatFlag,
}

/// The kinds of one round.
#[derive(Clone, Debug)]
struct Kinds(Vec<Kind>);

/// Requests in hand at the same time: with a rate, so many that slow answers do not hold up the pace.
const IN_HAND: usize = 16;
const IN_HAND_PACED: usize = 512;

impl Send {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let address = Address::new(self.to.clone(), self.token.clone());
        let writer = Writer {
            edits: self.edits.clone(),
            key: self.signing_key()?,
            seed: fastrand::u64(..),
            body: self.body.as_deref().map(verify::read).transpose()?.map(Into::into),
        };
        let client = http::client(&self.to, Some(post::TIMEOUT))?;
        let copies = if self.duplicate { 2 } else { 1 };
        let total = self.count.saturating_mul(self.kind.0.len() as u64 * copies);
        let mut report = Report::new(self.format.format, total);
        http::block_on(self.post_all(&client, &address, &writer, &mut report))?;
        report.end(&address)
    }

    /// A wrong key when forging.
    fn signing_key(&self) -> anyhow::Result<Option<Secret>> {
        let given = self.key.get()?;
        if !self.forge {
            return Ok(given);
        }
        if self.kind.0.iter().any(|kind| letter::is_unsigned(*kind)) {
            output::note("relay and monitor are never signed, so they cannot be forged; they are sent as they are");
        }
        Ok(Some(Secret::new(format!("forged-{:016x}", fastrand::u64(..)))))
    }

    /// Posts every event, the copy of each after the answer to the first.
    async fn post_all(
        &self,
        client: &Client,
        address: &Address,
        writer: &Writer,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        let rounds = (0..self.count).flat_map(|round| self.kind.0.iter().map(move |kind| (round, *kind)));
        let exchanges = stream::iter(rounds.enumerate()).map(|(number, (round, kind))| async move {
            if let Some(pause) = self.pause_before(number) {
                tokio::time::sleep_until(begun + pause).await;
            }
            self.exchange(client, address, writer, &writer.letter(round, kind, address)).await
        });
        let mut exchanges = std::pin::pin!(exchanges.buffer_unordered(self.in_hand()));
        while let Some(answers) = exchanges.next().await {
            answers.iter().try_for_each(|answer| report.add(answer))?;
        }
        Ok(())
    }

    async fn exchange(
        &self,
        client: &Client,
        address: &Address,
        writer: &Writer,
        letter: &Letter,
    ) -> Vec<post::Answer> {
        let mut answers = Vec::new();
        for copy in [false, true].into_iter().take(if self.duplicate { 2 } else { 1 }) {
            answers.push(post::post(client, address, letter.kind, writer.sealed(letter, copy), copy).await);
        }
        answers
    }

    fn pause_before(&self, number: usize) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "nobody sends 2^53 events")]
        self.rate.and_then(|rate| Duration::try_from_secs_f64(number as f64 / rate).ok())
    }

    /// A single round goes in order.
    fn in_hand(&self) -> usize {
        match (self.rate, self.count) {
            (Some(_), _) => IN_HAND_PACED,
            (None, 1) => 1,
            (None, _) => IN_HAND,
        }
    }
}

fn parse_kinds(text: &str) -> Result<Kinds, String> {
    if text == "all" {
        return Ok(Kinds(Kind::all().filter(|kind| *kind != Kind::Unknown).collect()));
    }
    text.parse().map(|kind| Kinds(vec![kind])).map_err(|error: crate::event::NoSuchKind| format!("{error}, and `all`"))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "a rate is a number of requests per second above 0".to_owned())
}
