//! What becomes of the place between two lives of the program: more damage, an import of what was spilled, and a look at
//! what is stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::{LIFE_MAX, Storm};
use crate::a_moment;
use crate::disk::{Disk, scribble};
use crate::journal;
use crate::letter::digest;
use crate::program::{Ended, import};
use crate::report::Fault;

impl Storm {
    /// What else a power cut does, behind what was synced.
    pub(super) fn damage(&mut self) {
        if self.dice.u8(..3) == 0 {
            let mut bytes = vec![0; self.dice.usize(1..20_000)];
            if self.dice.bool() {
                self.dice.fill(&mut bytes);
            }
            scribble(&self.place.log(), &bytes);
        }
        if self.dice.u8(..3) == 0 {
            let line = b"{\"specversion\":\"1.0\",\"id\":\"0198c7";
            scribble(&self.place.path(journal::NAME), &line[..self.dice.usize(1..line.len())]);
        }
        if self.dice.u8(..3) == 0 {
            let _ = std::fs::remove_file(self.place.index());
        }
    }

    /// Brings spills back, as a person would, and looks at what is stored.
    pub(super) async fn recover(&mut self, ended: &Ended) {
        let said = String::from_utf8_lossy(&ended.said);
        if said.contains("panicked") {
            self.faults.note(Fault::End, || said.lines().find(|line| line.contains("panicked")).unwrap().to_owned());
        }
        if said.contains("{\"spill\":1") {
            self.note_spills(&said);
            self.import(&ended.said).await;
        }
        let disk = Disk::open(&self.place);
        self.audit.read(&disk, &self.ledger, &mut self.faults);
        self.audit.check_fresh(&self.ledger, &mut self.faults);
    }

    fn note_spills(&mut self, said: &str) {
        let mut entries = self.ledger.lock();
        for line in said.split_inclusive('\n').filter(|line| line.starts_with("{\"spill\":1") && line.ends_with('\n')) {
            let spill: Value = serde_json::from_str(line).unwrap();
            let body = BASE64.decode(spill["body_base64"].as_str().unwrap()).unwrap();
            match entries.with_body(&digest(&body)) {
                Some(number) => entries.of(number).spilled = true,
                None => self.faults.note(Fault::Altered, || format!("nobody sent what was spilled: {line}")),
            }
            self.tally.spilled += 1;
        }
    }

    /// Imports what the program said, in spite of a few kills.
    async fn import(&mut self, said: &[u8]) {
        let file = self.place.path("said.log");
        std::fs::write(&file, said).unwrap();
        while self.dice.bool() {
            let mut killed = import(&self.place, &file).spawn().unwrap();
            a_moment(&mut self.dice, LIFE_MAX / 8).await;
            killed.kill().unwrap();
            killed.wait().unwrap();
            self.tally.imports_killed += 1;
        }
        let output = import(&self.place, &file).output().unwrap();
        // The last line may be torn, and is named then.
        let torn = !said.ends_with(b"\n");
        if output.status.code() != Some(i32::from(torn)) {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            self.faults.note(Fault::End, || format!("an import ended with {}: {text}", output.status));
        }
    }
}
