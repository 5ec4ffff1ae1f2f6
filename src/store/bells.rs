//! What rings when there is something for a handler; also for those that have left the configuration.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::model::HandlerId;

/// A bell for each handler.
#[derive(Debug, Default)]
pub(super) struct Bells(ArcSwap<HashMap<HandlerId, Arc<Notify>>>);

impl Bells {
    /// Sees to it that each of these handlers has a bell. One that returns finds the bell it had.
    pub(super) fn hang(&self, handlers: &[HandlerId]) {
        let mut bells = HashMap::clone(&self.0.load());
        for handler in handlers {
            bells.entry(*handler).or_default();
        }
        self.0.store(Arc::new(bells));
    }

    /// The bell of a handler.
    pub(super) fn of(&self, handler: HandlerId) -> Arc<Notify> {
        self.0.load().get(&handler).cloned().unwrap_or_default()
    }

    pub(super) fn ring(&self, handler: HandlerId) {
        if let Some(bell) = self.0.load().get(&handler) {
            bell.notify_one();
        }
    }

    pub(super) fn ring_all(&self) {
        self.0.load().values().for_each(|bell| bell.notify_one());
    }
}
