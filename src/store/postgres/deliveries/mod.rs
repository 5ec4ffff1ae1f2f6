//! Deliveries in the database: what is owed to whom, in which order, and what came of it.
//!
//! A *lane* is the stream an ordered delivery waits in. Of the pending deliveries of a lane the first is `READY` and the
//! others are `BLOCKED`; whatever ends the first makes the next one `READY`. So what may be claimed is a range of one
//! index, however many streams are behind, and one that fails holds back its own lane only. What is in hand has a row in
//! `claims`, of which a lane has one at most: whichever replica holds it, nothing else of the lane is handed out.
//!
//! All of this changes under [`Lock::Write`](super::locks::Lock::Write) only, so nothing here meets another change half
//! way.

mod again;
mod claims;
mod judge;
mod lanes;
mod list;
mod settle;

pub(super) use self::again::owe_again;
pub(super) use self::claims::{Lease, Taken, any_dead, beat, claim, leave, lose_the_dead, reconcile, release};
pub(super) use self::judge::{judge, judge_all};
pub(super) use self::list::{list, of_event, undone};
pub(super) use self::settle::settle_all;

pub(super) const READY: i16 = 0;
pub(super) const DONE: i16 = 1;
pub(super) const DEAD: i16 = 2;
pub(super) const DROPPED: i16 = 3;
pub(super) const BLOCKED: i16 = 4;

/// Whether a delivery in this state is pending.
pub(super) const fn is_pending(state: i16) -> bool {
    matches!(state, READY | BLOCKED)
}

/// Longer errors are cut: they are for people.
const ERROR_CHARS_MAX: usize = 1000;

pub(super) fn cut(error: &str) -> &str {
    error.char_indices().nth(ERROR_CHARS_MAX).map_or(error, |(end, _)| &error[..end])
}
