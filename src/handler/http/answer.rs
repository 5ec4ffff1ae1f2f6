//! What an answer means.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use crate::clock::Timestamp;
use crate::handler::HandlerError;
use crate::handler::excerpt::excerpt;

/// Judges an answer and reads its body, within bounds, so that the connection can be used again. What becomes of the
/// body has no influence on the judgement. A reason does not repeat what is `hidden`.
pub(super) async fn judge(
    answer: Response,
    hidden: impl FnOnce() -> Vec<String>,
    now: Timestamp,
) -> Result<(), HandlerError> {
    let status = answer.status();
    let retry_after = retry_after(answer.headers(), now);
    let body = tokio::time::timeout(BODY_WAIT, read(answer));
    if status.is_success() {
        // Only for the sake of the connection.
        let _ = body.await;
        return Ok(());
    }
    let said = excerpt(&body.await.unwrap_or_default(), &hidden(), EXCERPT_CHARS);
    let reason = if said.is_empty() { format!("answered {status}") } else { format!("answered {status}: {said}") };
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Err(HandlerError::Transient { reason, retry_after })
        }
        _ if status.is_server_error() => Err(HandlerError::Transient { reason, retry_after }),
        _ => Err(HandlerError::Permanent { reason }),
    }
}

/// An error and what is behind it, each said once.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    excerpt(text.as_bytes(), &[], CAUSES_CHARS)
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
/// How much of an error stands in a reason.
const CAUSES_CHARS: usize = 300;

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
