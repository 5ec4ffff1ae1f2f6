//! What was sent, and what was promised by an answer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::letter::{Digest, Sort};

/// A callback that was sent, once or several times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callback {
    pub(crate) sort: Sort,
    pub(crate) posted: u32,
    /// How often it was answered 200.
    pub(crate) answered: u32,
    /// Whether one of the answers was for a line on standard error.
    pub(crate) spilled: bool,
    pub(crate) readmission: Readmission,
}

/// How far a person is with having a refused callback readmitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readmission {
    None,
    /// It was asked for, and whether it was done is not known.
    Asked,
    /// It was answered.
    Done,
}

/// All callbacks there were, by their numbers.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Entries>);

#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) callbacks: Vec<Callback>,
    by_body: HashMap<Digest, u64>,
    /// Answered since somebody looked.
    fresh: Vec<u64>,
    /// Sent, and the connection broke before an answer.
    unanswered: Vec<u64>,
    /// Other answers than CSS is to get.
    pub(crate) odd: Vec<String>,
    /// Answers that ask CSS to try again.
    pub(crate) put_off: u64,
}

impl Ledger {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap()
    }
}

impl Entries {
    /// The number of a callback that is new.
    pub(crate) fn begin(&mut self, sort: Sort) -> u64 {
        let new = Callback { sort, posted: 0, answered: 0, spilled: false, readmission: Readmission::None };
        self.callbacks.push(new);
        self.callbacks.len() as u64 - 1
    }

    /// Notes a body before it is sent: it may be stored without an answer.
    pub(crate) fn post(&mut self, number: u64, body: Digest) {
        self.of(number).posted += 1;
        self.by_body.insert(body, number);
    }

    /// Notes what came of it: the status and body of an answer, or none.
    pub(crate) fn outcome(&mut self, number: u64, answer: Option<(u16, &str)>) {
        match answer {
            Some((200, r#"{"code":0}"#)) => {
                self.of(number).answered += 1;
                self.fresh.push(number);
            }
            Some((503, _)) => {
                self.put_off += 1;
                self.unanswered.push(number);
            }
            Some((status, body)) => self.odd.push(format!("{number} was answered {status} {body:?}")),
            None => self.unanswered.push(number),
        }
    }

    pub(crate) fn of(&mut self, number: u64) -> &mut Callback {
        &mut self.callbacks[usize::try_from(number).unwrap()]
    }

    /// The callback that has this body.
    pub(crate) fn with_body(&self, body: &Digest) -> Option<u64> {
        self.by_body.get(body).copied()
    }

    /// What was answered since this was asked last.
    pub(crate) fn take_fresh(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.fresh)
    }

    /// What CSS would send again: events only, since a refused callback is kept as often as it comes.
    pub(crate) fn take_unanswered(&mut self) -> Vec<u64> {
        let mut unanswered = std::mem::take(&mut self.unanswered);
        unanswered.retain(|number| self.of(*number).sort == Sort::Event);
        unanswered
    }

    pub(crate) fn count(&self, of: impl Fn(&Callback) -> bool) -> u64 {
        self.callbacks.iter().filter(|callback| of(callback)).count() as u64
    }
}
