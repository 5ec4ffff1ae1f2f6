//! So many messages in any minute, and a turn for each delivery that must wait.
//!
//! A delivery that comes too early is told when its turn is, and is admitted when it comes back then. So waiting costs a
//! delivery one attempt for each hour of it, which is as long as anybody is left alone, and not all it has. Turns are
//! forgotten with the process, and when a reload makes the handler anew.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::EventId;

const MINUTE: Duration = Duration::from_mins(1);
/// Deliveries with a turn; more are told to come back later and have none.
const TURNS_MAX: usize = 10_000;
/// When those are to come back.
const LATER: Duration = Duration::from_hours(1);
/// A turn that is not taken for so long is given up: the delivery was dropped.
const MISSED: Duration = Duration::from_hours(2);

#[derive(Debug)]
pub(super) struct Rate {
    per_minute: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When messages were admitted, the latest `per_minute` of them.
    sent: VecDeque<Timestamp>,
    /// When turns are or were, the latest `per_minute` of them, in order; one that had not to wait had its turn at once.
    turns: VecDeque<Timestamp>,
    /// Whose turn is when.
    waiting: HashMap<EventId, Timestamp>,
    /// Nothing before this: the service has said so.
    held_until: Option<Timestamp>,
}

impl Rate {
    /// At least one.
    pub(super) fn new(per_minute: usize) -> Self {
        Self { per_minute: per_minute.max(1), state: Mutex::default() }
    }

    /// Admits a message, or tells how long it has to wait.
    pub(super) fn admit(&self, id: EventId, now: Timestamp) -> Result<(), Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.waiting.get(&id) {
            Some(turn) if *turn > now => return Err(turn.since(now)),
            // Those whose turn it is may come late, and more of them at once than a minute allows.
            Some(_) if state.earliest(now, self.per_minute) <= now => {
                state.waiting.remove(&id);
                push(&mut state.sent, now, self.per_minute);
                return Ok(());
            }
            _ => {}
        }
        state.waiting.remove(&id);
        let turn = state.next_turn(now, self.per_minute);
        if turn <= now {
            push(&mut state.turns, now, self.per_minute);
            push(&mut state.sent, now, self.per_minute);
            return Ok(());
        }
        if state.waiting.len() >= TURNS_MAX {
            state.waiting.retain(|_, turn| turn.plus(MISSED) > now);
        }
        if state.waiting.len() >= TURNS_MAX {
            return Err(LATER);
        }
        push(&mut state.turns, turn, self.per_minute);
        state.waiting.insert(id, turn);
        Err(turn.since(now))
    }

    /// Admits nothing until then.
    pub(super) fn hold(&self, until: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.held_until = state.held_until.max(Some(until));
    }
}

impl State {
    /// When one more may be sent, as far as those go that were sent.
    fn earliest(&self, now: Timestamp, per_minute: usize) -> Timestamp {
        let full = (self.sent.len() >= per_minute).then(|| self.sent.front().map(|first| first.plus(MINUTE))).flatten();
        now.max(full.unwrap_or(now)).max(self.held_until.unwrap_or(now))
    }

    /// Behind all turns there are. A delivery that is late for its turn may lose it to this one, and gets another.
    fn next_turn(&self, now: Timestamp, per_minute: usize) -> Timestamp {
        let full =
            (self.turns.len() >= per_minute).then(|| self.turns.front().map(|first| first.plus(MINUTE))).flatten();
        let behind = self.turns.back().copied();
        self.earliest(now, per_minute).max(full.unwrap_or(now)).max(behind.unwrap_or(now))
    }
}

fn push(times: &mut VecDeque<Timestamp>, time: Timestamp, max: usize) {
    if times.len() >= max {
        times.pop_front();
    }
    times.push_back(time);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn id(number: u128) -> EventId {
        EventId::from_u128(number)
    }

    #[test]
    fn a_burst_is_admitted_and_what_exceeds_it_has_turns_a_minute_later() {
        let rate = Rate::new(3);
        let asked: Vec<_> = (0..8).map(|n| rate.admit(id(n), START).err().map(|wait| wait.as_secs())).collect();
        assert_eq!(asked, [None, None, None, Some(60), Some(60), Some(60), Some(120), Some(120)]);
        let at = |secs| START.plus(Duration::from_secs(secs));
        assert_eq!(rate.admit(id(3), at(20)), Err(Duration::from_secs(40)), "its turn stays");
        assert_eq!(rate.admit(id(3), at(60)), Ok(()));
        assert_eq!(rate.admit(id(8), at(60)), Err(Duration::from_mins(1)), "nobody takes the turn of another");
        assert_eq!((rate.admit(id(4), at(61)), rate.admit(id(5), at(61))), (Ok(()), Ok(())));
    }

    #[test]
    fn while_the_service_has_enough_nothing_is_admitted() {
        let rate = Rate::new(20);
        rate.hold(START.plus(Duration::from_mins(10)));
        assert_eq!(rate.admit(id(1), START), Err(Duration::from_mins(10)));
        assert_eq!(rate.admit(id(1), START.plus(Duration::from_mins(10))), Ok(()));
    }

    #[test]
    fn turns_are_bounded() {
        let rate = Rate::new(1_000);
        let waits: Vec<_> = (0..12_000).map(|n| rate.admit(id(n), START)).collect();
        assert_eq!(waits[1_000 + TURNS_MAX], Err(LATER));
        assert!(rate.state.lock().unwrap().waiting.len() <= TURNS_MAX);
    }

    proptest! {
        #[test]
        fn no_minute_has_more_than_it_may_and_everybody_gets_through(
            per_minute in 1_usize..6, arrivals in prop::collection::vec(0_u64..200, 1..60), late in prop::collection::vec(0_u64..30, 60),
        ) {
            let rate = Rate::new(per_minute);
            let mut due: Vec<(Timestamp, usize)> = arrivals.iter().enumerate()
                .map(|(n, secs)| (START.plus(Duration::from_secs(*secs)), n)).collect();
            let mut sent = Vec::new();
            let mut attempts = 0;
            while let Some(next) = due.iter().copied().min() {
                due.retain(|one| *one != next);
                attempts += 1;
                prop_assert!(attempts < 40 * arrivals.len(), "it goes on for ever");
                match rate.admit(id(next.1 as u128), next.0) {
                    Ok(()) => sent.push(next.0),
                    Err(wait) => {
                        prop_assert!(!wait.is_zero());
                        due.push((next.0.plus(wait + Duration::from_secs(late[next.1])), next.1));
                    }
                }
            }
            prop_assert_eq!(sent.len(), arrivals.len());
            for window in sent.windows(per_minute + 1) {
                prop_assert!(window[per_minute].since(window[0]) >= MINUTE, "{:?}", window);
            }
        }
    }
}
