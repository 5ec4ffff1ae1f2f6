//! The one place that knows the answer.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::body::ReadError;
use super::budget::Share;
use super::settings::Unstored;
use super::{Receiver, spill};
use crate::event::{EventId, Reason};
use crate::intake::{Callback, Receipt};
use crate::store::StoreError;

/// What CSS takes for success, with status 200 (page 38080).
const ACCEPTED: &str = r#"{"code":0}"#;
/// What goes with a status that makes CSS try again. Nobody reads it.
const NOT_ACCEPTED: &str = r#"{"code":1}"#;
/// The part of the deadline that is kept for a spill, at most.
const SPILL_RESERVE_MAX: Duration = Duration::from_millis(500);

/// Why a callback is not confirmed.
#[derive(Debug, thiserror::Error)]
enum Unconfirmed {
    #[error("no confirmation in time")]
    Late,
    #[error("looking at it failed")]
    Unjudged,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a callback turned out to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ruled {
    pub(super) refusal: Option<Reason>,
    /// Of an event, be it new or a copy.
    pub(super) id: Option<EventId>,
}

/// What became of a callback that is not confirmed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// The sender is asked to send it again.
    Refused,
    /// It is on standard error.
    Spilled,
    /// It is nowhere, and the sender is asked to send it again.
    NotEvenSpilled,
}

impl Receiver {
    /// Logs in sum what had no line of its own.
    pub(super) fn sum_up(&self) {
        self.0.intake.sum_up();
        for (failure, callbacks) in self.0.failures.untold() {
            match failure {
                Failure::Refused => tracing::error!(callbacks, "more callbacks refused so that they come again"),
                Failure::Spilled => tracing::warn!(callbacks, "more callbacks spilled"),
                Failure::NotEvenSpilled => {
                    tracing::error!(callbacks, "more callbacks neither stored nor spilled in time");
                }
            }
        }
    }

    /// Has a callback stored and answers, inside the deadline after its last byte.
    ///
    /// `share` counts the bytes of its body, until the answer and until it has been looked at; from then on the store's
    /// queue counts them.
    /// `ruled` learns what it turned out to be as soon as that is known.
    pub(super) async fn answer(
        &self,
        callback: Arc<Callback>,
        share: Share,
        last_byte: Instant,
        ruled: &Arc<OnceLock<Ruled>>,
    ) -> Response {
        let share = Arc::new(share);
        let ack = self.0.settings.load().ack;
        let reserve = SPILL_RESERVE_MAX.min(ack.deadline / 4);
        let patience = last_byte + ack.deadline.saturating_sub(reserve);
        let mut keeping = Box::pin(self.clone().keep(Arc::clone(&callback), Arc::clone(&share), Arc::clone(ruled)));
        let unconfirmed = match tokio::time::timeout_at(patience.into(), &mut keeping).await {
            Ok(Ok(_)) => return accepted(),
            Ok(Err(unconfirmed)) => unconfirmed,
            Err(_) => {
                // It may still be stored, and is counted then.
                self.0.late.spawn(keeping);
                Unconfirmed::Late
            }
        };
        match ack.unstored {
            Unstored::Refuse => {
                if self.0.failures.is_told(Failure::Refused) {
                    tracing::error!(%unconfirmed, "callback refused so that it comes again");
                }
                not_accepted(StatusCode::SERVICE_UNAVAILABLE)
            }
            Unstored::Accept => {
                if self.0.failures.is_told(Failure::Spilled) {
                    tracing::warn!(%unconfirmed, "callback spilled");
                }
                self.spill(&callback, ruled.get().and_then(|ruled| ruled.refusal), last_byte + ack.deadline).await
            }
        }
    }

    /// Brings a callback onto stable storage.
    async fn keep(
        self,
        callback: Arc<Callback>,
        share: Arc<Share>,
        ruled: Arc<OnceLock<Ruled>>,
    ) -> Result<Receipt, Unconfirmed> {
        let ruling = self.rule(&callback).await.ok_or(Unconfirmed::Unjudged)?;
        let _ = ruled.set(Ruled { refusal: ruling.refusal(), id: ruling.event_id() });
        // Waiting for the store may outlive the request, and needs nothing more of it.
        drop((callback, share));
        Ok(self.0.intake.keep(ruling).await?)
    }

    async fn spill(&self, callback: &Callback, refusal: Option<Reason>, deadline: Instant) -> Response {
        let written = spill::write(self.0.spills.as_ref(), callback, refusal);
        if let Ok(Ok(())) = tokio::time::timeout_at(deadline.into(), written).await {
            self.0.metrics.callbacks_spilled_total.inc();
            return accepted();
        }
        // Not even that: the one case in which CSS must try again.
        if self.0.failures.is_told(Failure::NotEvenSpilled) {
            tracing::error!("callback neither stored nor spilled in time");
        }
        not_accepted(StatusCode::SERVICE_UNAVAILABLE)
    }
}

fn accepted() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], ACCEPTED).into_response()
}

fn not_accepted(status: StatusCode) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], NOT_ACCEPTED).into_response()
}

/// The answer to a request that did not arrive within the limits.
pub(super) fn unread(error: ReadError) -> Response {
    and_close(not_accepted(match error {
        ReadError::Slow | ReadError::Cut => StatusCode::REQUEST_TIMEOUT,
        ReadError::Broken => StatusCode::BAD_REQUEST,
    }))
}

/// The connection ends with this answer.
pub(super) fn and_close(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
