//! What an answer means.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use crate::clock::Timestamp;
use crate::handler::HandlerError;
use crate::handler::excerpt::excerpt;

/// An answer, with the beginning of its body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// How long the other side asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads the body, within bounds, so that the connection can be used again.
    pub(crate) async fn read(answer: Response, now: Timestamp) -> Self {
        let status = answer.status();
        let retry_after = retry_after(answer.headers(), now);
        let body = tokio::time::timeout(BODY_WAIT, read(answer)).await.unwrap_or_default();
        Self { status, retry_after, body }
    }

    /// What becomes of the delivery, by the status alone. A reason does not repeat what is `hidden`.
    pub(super) fn judge(self, hidden: impl FnOnce() -> Vec<String>) -> Result<(), HandlerError> {
        if self.status.is_success() {
            return Ok(());
        }
        let reason = self.reason(&hidden());
        if self.asks_again() {
            Err(HandlerError::Transient { reason, retry_after: self.retry_after })
        } else {
            Err(HandlerError::Permanent { reason })
        }
    }

    /// Whether its status says that another attempt may do better.
    pub(crate) fn asks_again(&self) -> bool {
        matches!(self.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            || self.status.is_server_error()
    }

    /// What was answered, in a line that does not repeat what is `hidden`.
    pub(crate) fn reason(&self, hidden: &[String]) -> String {
        let said = excerpt(&self.body, hidden, EXCERPT_CHARS);
        let status = self.status;
        if said.is_empty() { format!("answered {status}") } else { format!("answered {status}: {said}") }
    }

    /// Whether its body says so, in small letters.
    #[cfg(feature = "chat")]
    pub(crate) fn says(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.body).to_lowercase().contains(text)
    }
}

/// The beginning of the body. Reads on behind it, as far as that is cheaper than a new connection.
async fn read(mut answer: Response) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut left = DRAINED_BYTES;
    while let Ok(Some(chunk)) = answer.chunk().await {
        let room = EXCERPT_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        left = left.saturating_sub(chunk.len());
        if left == 0 {
            break;
        }
    }
    kept
}

/// `Retry-After` in seconds or as a date, up to an hour. A date is compared with the answer's own, because the other
/// side's clock may be wrong; with ours where it names none.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = text(RETRY_AFTER)?;
    let wait = if !asked.is_empty() && asked.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit mean long, too.
        asked.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let until = moment(httpdate::parse_http_date(asked).ok()?);
        let from = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok()).map_or(now, moment);
        until.since(from)
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

fn moment(time: SystemTime) -> Timestamp {
    Timestamp::from_millis(0).plus(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Longer waits are not granted.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
/// How long a body is waited for once its head is there.
const BODY_WAIT: Duration = Duration::from_secs(1);
/// How much of a body is looked at.
const EXCERPT_BYTES: usize = 4096;
/// How much of a body is read at all.
const DRAINED_BYTES: usize = 64 * 1024;
/// How much of a body stands in a reason.
const EXCERPT_CHARS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms_and_capped() {
        let now = Timestamp::parse_rfc3339("2015-10-21T07:28:00Z").unwrap();
        for (asked, date, seconds) in [
            ("120", None, Some(120)),
            (" 0 ", None, Some(0)),
            ("7200", None, Some(3600)),
            ("99999999999999999999999", None, Some(3600)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", None, Some(30)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some("Wed, 21 Oct 2015 07:28:20 GMT"), Some(10)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some("soon"), Some(30)),
            ("Wed, 21 Oct 2015 07:20:00 GMT", None, Some(0)),
            ("Wed, 21 Oct 2099 07:28:00 GMT", None, Some(3600)),
            ("-1", None, None),
            ("1.5", None, None),
            ("", None, None),
            ("tomorrow", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, asked.parse().unwrap());
            date.map(|date| headers.insert(DATE, date.parse().unwrap()));
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{asked} {date:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
