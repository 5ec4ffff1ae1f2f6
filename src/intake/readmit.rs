//! A second look at what was refused, with today's configuration.

use std::sync::Arc;

use super::{Callback, Intake, Receipt, Ruling, Terms};
use crate::event::{Reason, Verification};
use crate::store::{QuarantineFilter, Quarantined, StoreError};

/// What came of a second look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readmitted {
    /// Callbacks that are events now, or copies of events.
    pub readmitted: u64,
    /// Callbacks that stay where they are.
    pub refused: u64,
}

/// Refused callbacks read at once.
const PAGE: usize = 100;

impl Intake {
    /// Looks again at one refused callback; none if there is none of that id. `force` overlooks token and signature.
    /// The signature's time is judged as of receipt.
    pub async fn readmit(&self, id: i64, force: bool) -> Result<Option<Readmitted>, StoreError> {
        let Some((item, body)) = self.store.refused(id).await? else {
            return Ok(None);
        };
        let readmitted = self.look_again(item, body, force).await?;
        Ok(Some(Readmitted { readmitted: u64::from(readmitted), refused: u64::from(!readmitted) }))
    }

    /// Looks again at all refused callbacks, or at those refused for one reason.
    pub async fn readmit_all(&self, reason: Option<Reason>, force: bool) -> Result<Readmitted, StoreError> {
        let mut sum = Readmitted::default();
        let mut cursor = None;
        loop {
            let page = self.store.quarantine(QuarantineFilter { reason }, PAGE, cursor.as_deref()).await?;
            for item in page.items {
                let one = self.readmit(item.id, force).await?.unwrap_or_default();
                sum.readmitted += one.readmitted;
                sum.refused += one.refused;
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(sum);
            }
        }
    }

    async fn look_again(&self, item: Quarantined, body: bytes::Bytes, force: bool) -> Result<bool, StoreError> {
        // What passed the token once is not asked for it again: the query was not kept.
        let barred = item.reason == Reason::Token && self.rules.load().signature.url_token.is_some();
        if item.truncated || (barred && !force) {
            return Ok(false);
        }
        let callback = Callback {
            received_at: item.received_at,
            path: item.path,
            route: None,
            token: None,
            headers: item.headers,
            body,
            excess: None,
        };
        match self.rule_on(&callback, Terms { token: false, force }) {
            Ruling::Refused(_) => Ok(false),
            Ruling::Event(mut admitted) => {
                admitted.new.readmitted = Some(item.id);
                if barred {
                    Arc::make_mut(&mut admitted.new.event).verification = Verification::Forced;
                }
                let receipt = self.keep_event(*admitted).await?;
                tracing::info!(quarantine_id = item.id, ?receipt, force, "callback readmitted");
                Ok(matches!(receipt, Receipt::Stored(_) | Receipt::Duplicate))
            }
        }
    }
}
