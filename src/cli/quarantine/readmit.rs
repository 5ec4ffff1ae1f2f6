//! `livehook quarantine readmit`

use std::pin::pin;

use futures_util::FutureExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::api::{AdminFlags, Api, PAGE_MAX, cell};
use crate::cli::exit::Failed;
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};
use crate::event::Reason;

#[derive(Debug, clap::Args)]
#[command(after_help = "Ctrl-C ends it between two calls; what is left stays in the quarantine.")]
#[command(group = clap::ArgGroup::new("which").args(["id", "reason", "all"]).required(true))]
pub(in crate::cli) struct Readmit {
    /// Id of one refused callback
    id: Option<String>,
    /// All that were refused for this reason
    #[arg(long)]
    reason: Option<Reason>,
    /// All there are
    #[arg(long)]
    all: bool,
    /// Admit in spite of token and signature; without it the exit code is 1 when any is refused again
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

#[derive(Default, Deserialize, Serialize)]
struct Outcome {
    readmitted: u64,
    refused: u64,
}

/// Callbacks of one call: few enough that it soon is seen how far it is.
const STEP: usize = 100;

impl Readmit {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        let (outcome, left) = http::block_on(self.ask(&api))?;
        match self.format.format {
            Format::Json => output::json(&json!(outcome).to_string())?,
            Format::Text => output::line(&outcome.said())?,
        }
        if left > 0 {
            output::note(&format!("interrupted; {left} were not looked at and stay in the quarantine"));
        }
        if outcome.refused > 0 {
            output::note(&format!("what was refused stays in the quarantine; {}", self.advice()));
        }
        if left == 0 && outcome.refused == 0 { Ok(()) } else { Err(Failed.into()) }
    }

    /// What can still be done about what was refused once more.
    fn advice(&self) -> String {
        const NEVER: &str = "a body that is too large, empty, no JSON or without `event_type` can never be admitted";
        let may_be_forced = !self.force && self.reason.is_none_or(is_about_the_sender);
        if may_be_forced {
            format!("--force admits in spite of token and signature, but {NEVER}")
        } else {
            NEVER.into()
        }
    }

    /// Returns what came of it, and how many were not looked at.
    async fn ask(&self, api: &Api) -> anyhow::Result<(Outcome, usize)> {
        match &self.id {
            Some(id) => Ok((api.post(&["quarantine", id, "readmit"], &json!({ "force": self.force })).await?, 0)),
            None => self.ask_for(api, self.ids(api).await?).await,
        }
    }

    /// Those that are there now, the oldest first.
    async fn ids(&self, api: &Api) -> anyhow::Result<Vec<String>> {
        let query: Vec<_> = self.reason.map(|reason| ("reason", reason.slug().to_owned())).into_iter().collect();
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let page = api.page("items", &["quarantine"], &query, PAGE_MAX, cursor.as_deref()).await?;
            ids.extend(page.rows.iter().map(|item| cell(item, "id")));
            cursor = page.next;
            if cursor.is_none() {
                ids.reverse();
                return Ok(ids);
            }
        }
    }

    /// Some at a time, so that it is seen how far it is. Ctrl-C ends it.
    async fn ask_for(&self, api: &Api, ids: Vec<String>) -> anyhow::Result<(Outcome, usize)> {
        let bar = ProgressBar::with_draw_target(Some(ids.len() as u64), ProgressDrawTarget::stderr());
        let bar = bar.with_finish(ProgressFinish::AndClear);
        let mut interrupted = pin!(tokio::signal::ctrl_c());
        let (mut sum, mut left) = (Outcome::default(), ids.len());
        for step in ids.chunks(STEP) {
            // What is asked is waited for, so that it is known what came of it.
            if interrupted.as_mut().now_or_never().is_some() {
                return Ok((sum, left));
            }
            let asked = json!({ "ids": step, "force": self.force });
            let one = api.post::<Outcome>(&["quarantine", "readmit"], &asked).await;
            let one = one.inspect_err(|_| output::note(&format!("until then: {}", sum.said())))?;
            sum.readmitted += one.readmitted;
            sum.refused += one.refused;
            left -= step.len();
            bar.inc(step.len() as u64);
        }
        Ok((sum, 0))
    }
}

/// Whether it says who sent, not what: only that can be overlooked.
const fn is_about_the_sender(reason: Reason) -> bool {
    match reason {
        Reason::TooLarge | Reason::Empty | Reason::MalformedJson | Reason::NoEventType => false,
        Reason::Token
        | Reason::SignatureMalformed
        | Reason::SignatureMissing
        | Reason::SignatureMismatch
        | Reason::SignatureExpired
        | Reason::SignatureFuture => true,
    }
}

impl Outcome {
    fn said(&self) -> String {
        format!("{} readmitted, {} refused", self.readmitted, self.refused)
    }
}
