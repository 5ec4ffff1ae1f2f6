//! How far a run is, and what it comes to.

use std::time::Instant;

use super::{HANDLERS, Moment, PROGRESS_EVERY, Storm};
use crate::audit::Audit;
use crate::disk::Disk;
use crate::journal::Journal;
use crate::ledger::Readmission;
use crate::letter::{Sort, digest};
use crate::program::Program;
use crate::report::{Fault, Table};
use crate::{kills, tell};

impl Storm {
    /// One line now and then.
    pub(super) fn progress(&mut self) {
        if self.told.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.told = Instant::now();
        let (killed, wanted) = (self.killed(), kills());
        let (sent, answered) = {
            let entries = self.ledger.lock();
            (entries.callbacks.len(), entries.count(|callback| callback.answered > 0))
        };
        let left =
            self.begun.elapsed() * u32::try_from(wanted - killed).unwrap() / u32::try_from(killed.max(1)).unwrap();
        tell(&format!(
            "kill {killed} of {wanted}: {sent} callbacks, {answered} answered, {} stored, {} delivered; first answer \
             after {}; {:.0} s to go",
            self.audit.rows.len(),
            self.sink.received().by_id.len(),
            self.tally.starts,
            left.as_secs_f64()
        ));
    }

    /// Delivers what is left, stops, and looks at everything once more.
    pub(super) async fn end(mut self) {
        self.configure("");
        let program = Program::start(&self.place).await;
        program.drained(&HANDLERS).await;
        self.look_from_outside(&program).await;
        let ended = program.stop().await;
        if !ended.status.success() {
            self.faults.note(Fault::End, || format!("the last stop ended with {}", ended.status));
        }
        let mut all = Audit::default();
        let disk = Disk::open(&self.place);
        all.read(&disk, &self.ledger, &mut self.faults);
        all.check_all(&self.ledger, &mut self.faults);
        if let Some(damage) = disk.damage() {
            self.faults.note(Fault::Damage, || damage);
        }
        let journal = Journal::read(&self.place);
        {
            let received = self.sink.received();
            all.check_delivered(&received, &self.decisions.lock(), &mut self.faults);
            all.check_invented(&received, &mut self.faults);
            all.check_journal(&journal, &received, &mut self.faults);
        }
        for odd in &self.ledger.lock().odd {
            self.faults.note(Fault::Answer, || odd.clone());
        }
        tell(&self.table(&all, &journal).to_string());
        self.faults.assert_none();
    }

    /// What the admin interface has to say.
    async fn look_from_outside(&mut self, program: &Program) {
        for state in ["pending", "dead"] {
            let found = program.get(&format!("/api/v1/deliveries?state={state}&limit=1")).await;
            if !found["deliveries"].as_array().unwrap().is_empty() {
                self.faults.note(Fault::Missing, || format!("there are {state} deliveries: {found}"));
            }
        }
        let (asked, done) = {
            let decisions = self.decisions.lock();
            (decisions.asked.clone(), decisions.done.clone())
        };
        for id in asked {
            let event = program.get(&format!("/api/v1/events/{id}")).await;
            let hook = event["deliveries"].as_array().unwrap().iter().find(|delivery| delivery["handler"] == "hook");
            let dropped = hook.is_some_and(|delivery| delivery["state"] == "dropped");
            let arrived = self.sink.received().by_id.contains_key(&id);
            if done.contains(&id) && !dropped {
                self.faults.note(Fault::Undone, || format!("the delivery of event {id} was dropped: {event}"));
            }
            if !dropped && !arrived {
                self.faults.note(Fault::Missing, || format!("event {id} did not arrive and is not dropped"));
            }
        }
        for _ in 0..100.min(self.audit.rows.len()) {
            let row = &self.audit.rows[self.dice.usize(..self.audit.rows.len())];
            let body = program.try_get(&format!("/api/v1/events/{}/body", row.id)).await.unwrap().body;
            if digest(&body) != row.body {
                self.faults.note(Fault::Altered, || format!("event {} is told otherwise than stored", row.id));
            }
        }
    }

    fn table(&self, all: &Audit, journal: &Journal) -> Table {
        let mut table = Table::default();
        let kills: Vec<_> = [Moment::Load, Moment::Start, Moment::Stop, Moment::Stall, Moment::Rest]
            .map(|moment| format!("{moment:?} {}", self.tally.kills.get(&moment).unwrap_or(&0)).to_lowercase())
            .into();
        table.row("kills", format!("{} ({})", self.killed(), kills.join(", ")));
        table.row("kills during a checkpoint", self.tally.checkpoints);
        table.row("stops that were not killed", self.tally.stops);
        table.row("imports killed", self.tally.imports_killed);
        let mut entries = self.ledger.lock();
        table.row("callbacks sent", entries.callbacks.iter().map(|c| u64::from(c.posted)).sum::<u64>());
        table.row("answered 200", entries.callbacks.iter().map(|c| u64::from(c.answered)).sum::<u64>());
        table.row("answered 503", entries.put_off);
        table.row("events acknowledged", entries.count(|c| c.sort == Sort::Event && c.answered > 0));
        table.row("refused callbacks acknowledged", entries.count(|c| c.sort != Sort::Event && c.answered > 0));
        table.row("events stored", all.rows.len());
        let unanswered = all.rows.iter().filter(|row| entries.of(row.number).answered == 0).count();
        table.row("  of these without an answer", unanswered);
        table.row("callbacks in quarantine", all.refused());
        table.row("spilled", self.tally.spilled);
        let (decisions, received) = (self.decisions.lock(), self.sink.received());
        table.row("readmitted", entries.count(|c| c.readmission == Readmission::Done));
        table.row("deliveries dropped, retried", format!("{}, {}", decisions.done.len(), decisions.retried));
        let repeats = |times: u32| u64::from(times - 1);
        table.row("delivered over HTTP", received.by_id.len());
        table.row("  and repeated", received.by_id.values().map(|receipt| repeats(receipt.times)).sum::<u64>());
        table.row("delivered to the file", format!("{} in {} files", journal.by_id.len(), journal.files));
        table.row("  and repeated", journal.by_id.values().map(|line| repeats(line.times)).sum::<u64>());
        table.row("first answer after a kill", &self.tally.starts);
        table.row("took", format!("{:.0} s", self.begun.elapsed().as_secs_f64()));
        table.row("seed", self.seed);
        table.faults(&self.faults);
        table
    }
}
