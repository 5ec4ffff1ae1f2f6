//! The streams that deliveries wait in.

use sha2::{Digest as _, Sha256};

use crate::event::Facts;

/// The lane of a stream; events that name none wait for none.
pub(super) fn lane(facts: &Facts) -> Option<i64> {
    let stream = facts.stream.as_deref()?;
    let mut hash = Sha256::new();
    for name in [facts.domain.as_deref().unwrap_or_default(), facts.app.as_deref().unwrap_or_default(), stream] {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
    }
    let digest = hash.finalize();
    Some(i64::from_le_bytes(digest[..8].try_into().unwrap_or_default()))
}
