//! What `send` prints: a line per answer, and when there were several, a summary.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;

use super::post::{Address, Answer};
use crate::cli::exit::Failed;
use crate::cli::output::{self, Format};

/// All answers so far.
pub(super) struct Report {
    format: Format,
    bar: ProgressBar,
    times: Vec<Duration>,
    statuses: BTreeMap<String, u64>,
    bad: u64,
    /// The first thing that was wrong.
    wrong: Option<String>,
    unreached: bool,
}

/// A bar is worth it from so many requests on.
const BAR_FROM: u64 = 50;
/// Characters of an answer that are shown.
const ANSWER_MAX: usize = 200;

impl Report {
    pub(super) fn new(format: Format, total: u64) -> Self {
        let bar = match total {
            BAR_FROM.. => ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()),
            _ => ProgressBar::hidden(),
        };
        Self { format, bar, times: Vec::new(), statuses: BTreeMap::new(), bad: 0, wrong: None, unreached: false }
    }

    pub(super) fn add(&mut self, answer: &Answer) -> anyhow::Result<()> {
        self.times.push(answer.took);
        let status = answer.outcome.as_ref().map_or("no answer".to_owned(), |(status, _)| status.to_string());
        *self.statuses.entry(status).or_default() += 1;
        if !answer.is_good() {
            self.bad += 1;
            self.unreached |= answer.outcome.is_err();
            self.wrong.get_or_insert_with(|| described(answer));
        }
        self.bar.inc(1);
        let (format, bar) = (self.format, &self.bar);
        bar.suspend(|| match format {
            Format::Text => output::line(&text(answer)),
            Format::Json => output::json(&json(answer)),
        })
    }

    /// Says how it went; any answer but the one CSS asks for is a failure.
    pub(super) fn end(mut self, address: &Address) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        if self.times.len() > 1 {
            output::note(&self.summary());
        }
        let Some(wrong) = self.wrong else { return Ok(()) };
        let hint = if self.unreached {
            "; is the service running? Start it with `livehook serve`, or say where it is with --to"
        } else {
            ""
        };
        let (bad, all) = (self.bad, self.times.len());
        output::note(&format!("posting to {}: {bad} of {all} failed: {wrong}{hint}", address.shown()));
        Err(Failed.into())
    }

    fn summary(&mut self) -> String {
        self.times.sort_unstable();
        let statuses: Vec<_> = self.statuses.iter().map(|(status, count)| format!("{count} × {status}")).collect();
        let at = |percent: usize| millis(percentile(&self.times, percent));
        format!(
            "{} requests: {}; answered within p50 {} ms, p90 {} ms, p99 {} ms, max {} ms",
            self.times.len(),
            statuses.join(", "),
            at(50),
            at(90),
            at(99),
            at(100)
        )
    }
}

/// The smallest of the sorted times that so many percent do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn millis(span: Duration) -> String {
    format!("{:.1}", span.as_secs_f64() * 1000.0)
}

fn text(answer: &Answer) -> String {
    let (status, said) = match &answer.outcome {
        Ok((status, body)) => (status.to_string(), shortened(body)),
        Err(reason) => ("-".to_owned(), reason.clone()),
    };
    let copy = if answer.copy { " (copy)" } else { "" };
    let name = format!("{}{copy}", answer.kind);
    format!("{name:<28}  {status:<3}  {said}  {} ms", millis(answer.took))
}

fn json(answer: &Answer) -> String {
    let (status, body, error) = match &answer.outcome {
        Ok((status, body)) => (Some(*status), Some(body), None),
        Err(reason) => (None, None, Some(reason)),
    };
    let ms = (answer.took.as_secs_f64() * 1e6).round() / 1e3;
    json!({ "kind": answer.kind.slug(), "copy": answer.copy, "status": status, "answer": body, "error": error, "ms": ms })
        .to_string()
}

fn described(answer: &Answer) -> String {
    match &answer.outcome {
        Ok((status, body)) => {
            format!("{} was answered {status} {} instead of 200 {{\"code\":0}}", answer.kind, shortened(body))
        }
        Err(reason) => format!("{} was not answered: {reason}", answer.kind),
    }
}

fn shortened(body: &str) -> String {
    let body = body.trim();
    let short: String = body.chars().take(ANSWER_MAX).collect();
    let rest = if short.len() < body.len() { "…" } else { "" };
    format!("{}{rest}", output::plain(&short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        for (percent, expected) in [(50, 100), (90, 180), (99, 198), (100, 200)] {
            assert_eq!(percentile(&times, percent), Duration::from_millis(expected));
        }
        assert_eq!(percentile(&times[..1], 50), Duration::from_millis(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
