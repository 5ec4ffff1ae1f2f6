//! Holds what is stored against what was promised, and what arrived against what is stored.

use std::collections::HashMap;

use uuid::Uuid;

use crate::disk::{Disk, Stored};
use crate::journal::Journal;
use crate::ledger::{Callback, Entries, Ledger, Readmission};
use crate::letter::{Digest, Sort, content, digest};
use crate::person::Dropped;
use crate::report::{Fault, Faults};
use crate::sink::Received;

/// What was found in the store, as far as it was read.
#[derive(Default)]
pub(crate) struct Audit {
    /// In the order of storing.
    pub(crate) rows: Vec<Row>,
    row_of: HashMap<u64, usize>,
    /// How often a refused callback was found in quarantine.
    refused: HashMap<u64, u32>,
    last_seq: i64,
    last_refused: i64,
    /// Rows before this one have been found delivered.
    delivered: usize,
    /// By stream, the place of the last first receipt.
    places: HashMap<Digest, u64>,
}

/// An event that is stored.
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) number: u64,
    pub(crate) copies: u32,
    pub(crate) body: Digest,
    content: Digest,
}

impl Audit {
    /// Reads what has been stored since the last time.
    pub(crate) fn read(&mut self, disk: &Disk, ledger: &Ledger, faults: &mut Faults) {
        let entries = ledger.lock();
        disk.events(self.last_seq, |stored| self.event(&stored, &entries, faults));
        let mut last = self.last_refused;
        disk.refused(last, |id, body| {
            last = id;
            match entries.with_body(&digest(&body)) {
                Some(number) => *self.refused.entry(number).or_default() += 1,
                None => faults.note(Fault::Altered, || format!("refused callback {id} has a body nobody sent")),
            }
        });
        self.last_refused = last;
    }

    fn event(&mut self, stored: &Stored, entries: &Entries, faults: &mut Faults) {
        self.last_seq = stored.seq;
        let body = digest(&stored.body);
        let Some(number) = entries.with_body(&body) else {
            return faults.note(Fault::Altered, || format!("event {} has a body nobody sent", stored.id));
        };
        let content = content(serde_json::from_slice(&stored.body).unwrap_or_default());
        let row = Row { id: stored.id, number, copies: stored.copies, body, content };
        if self.row_of.insert(number, self.rows.len()).is_some() {
            faults.note(Fault::Twice, || format!("callback {number} is stored again as event {}", stored.id));
        }
        self.rows.push(row);
    }

    /// Whether what was answered since this was asked last is kept.
    pub(crate) fn check_fresh(&self, ledger: &Ledger, faults: &mut Faults) {
        let mut entries = ledger.lock();
        for number in entries.take_fresh() {
            let callback = *entries.of(number);
            self.check_kept(number, &callback, faults);
        }
    }

    /// Whether all that was ever answered is kept, and in one place. For an audit that has just read everything.
    pub(crate) fn check_all(&self, ledger: &Ledger, faults: &mut Faults) {
        for (number, callback) in (0..).zip(&ledger.lock().callbacks) {
            self.check_kept(number, callback, faults);
            let (refused, event) = (self.refused.get(&number).copied().unwrap_or(0), self.row_of.contains_key(&number));
            if refused + u32::from(event) > 1 {
                faults.note(Fault::Twice, || format!("callback {number} is kept {} times", refused + u32::from(event)));
            }
            if callback.readmission == Readmission::Done && !event {
                faults.note(Fault::Undone, || format!("callback {number} was readmitted and is no event"));
            }
            if event && callback.sort != Sort::Event && callback.readmission == Readmission::None {
                faults.note(Fault::Altered, || format!("callback {number} was to be refused and is an event"));
            }
        }
        for row in &self.rows {
            let callback = *ledger.lock().of(row.number);
            // A spilled copy is counted when it is imported, unless it was counted by then.
            if !callback.spilled && row.copies + 1 < callback.answered {
                let Callback { answered, .. } = callback;
                faults.note(Fault::Uncounted, || {
                    format!("event {} was answered {answered} times and has {} copies", row.id, row.copies)
                });
            }
        }
    }

    fn check_kept(&self, number: u64, callback: &Callback, faults: &mut Faults) {
        let is_event = self.row_of.contains_key(&number);
        let kept = match (callback.sort, callback.readmission) {
            (Sort::Event, _) => is_event,
            (_, Readmission::None) => self.refused.contains_key(&number),
            (_, Readmission::Asked | Readmission::Done) => is_event || self.refused.contains_key(&number),
        };
        if callback.answered > 0 && !kept {
            faults.note(Fault::Lost, || format!("callback {number}: {callback:?}"));
        }
    }

    /// Whether the sink has got what has been read since the last time, unaltered, and each stream in its order.
    pub(crate) fn check_delivered(&mut self, received: &Received, dropped: &Dropped, faults: &mut Faults) {
        for row in &self.rows[self.delivered..] {
            let Some(receipt) = received.by_id.get(&row.id) else {
                if !dropped.asked.contains(&row.id) {
                    faults.note(Fault::Missing, || format!("event {} did not reach the sink", row.id));
                }
                continue;
            };
            if receipt.body != row.body {
                faults.note(Fault::Altered, || format!("event {} reached the sink with another body", row.id));
            }
            // An attempt in hand when its delivery was dropped may come late.
            if let Some(stream) = receipt.stream.filter(|_| !dropped.asked.contains(&row.id)) {
                let last = self.places.insert(stream, receipt.place);
                if last.is_some_and(|last| last > receipt.place) {
                    faults.note(Fault::Order, || format!("event {} reached the sink after a later one", row.id));
                }
            }
        }
        self.delivered = self.rows.len();
    }

    /// Whether the sink has got nothing else.
    pub(crate) fn check_invented(&self, received: &Received, faults: &mut Faults) {
        let known: std::collections::HashSet<_> = self.rows.iter().map(|row| row.id).collect();
        for id in received.by_id.keys().filter(|id| !known.contains(id)) {
            faults.note(Fault::Invented, || format!("event {id} reached the sink and is not stored"));
        }
        for id in &received.torn {
            faults.note(Fault::Altered, || format!("event {id} reached the sink with different bodies"));
        }
    }

    /// Whether the file handler has written all events, whole and unaltered, each stream in its order, and nothing else.
    pub(crate) fn check_journal(&self, journal: &Journal, received: &Received, faults: &mut Faults) {
        for line in &journal.torn {
            faults.note(Fault::Torn, || line.clone());
        }
        let mut places = HashMap::<Digest, u64>::new();
        for row in &self.rows {
            let Some(line) = journal.by_id.get(&row.id) else {
                faults.note(Fault::Missing, || format!("event {} is not in the file", row.id));
                continue;
            };
            if line.content != row.content {
                faults.note(Fault::Altered, || format!("event {} is different in the file", row.id));
            }
            let stream = received.by_id.get(&row.id).and_then(|receipt| receipt.stream);
            let last = stream.and_then(|stream| places.insert(stream, line.place));
            if last.is_some_and(|last| last > line.place) {
                faults.note(Fault::Order, || format!("event {} is in the file after a later one", row.id));
            }
        }
        if journal.by_id.len() > self.rows.len() {
            let more = journal.by_id.len() - self.rows.len();
            faults.note(Fault::Invented, || format!("the file has {more} events that are not stored"));
        }
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.values().map(|times| u64::from(*times)).sum()
    }
}
