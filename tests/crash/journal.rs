//! What the `file` handler has written, the files it has set aside included.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use crate::letter::{Digest, content};
use crate::program::Place;

/// An event that was written.
pub(crate) struct Line {
    pub(crate) content: Digest,
    /// Its place among the first lines of all ids.
    pub(crate) place: u64,
    pub(crate) times: u32,
}

/// All lines.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) by_id: HashMap<Uuid, Line>,
    /// What is no event, or is another one under an id that is taken.
    pub(crate) torn: Vec<String>,
    pub(crate) files: usize,
}

pub(crate) const NAME: &str = "events.jsonl";

impl Journal {
    pub(crate) fn read(place: &Place) -> Self {
        let mut journal = Self::default();
        // The highest number is the oldest; the one without is written to.
        let number = |name: &str| name.strip_prefix(NAME)?.strip_prefix('.')?.parse::<u32>().ok();
        let names = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut set_aside: Vec<u32> = names.filter_map(|name| number(name.to_str()?)).collect();
        set_aside.sort_unstable_by(|a, b| b.cmp(a));
        for number in set_aside {
            journal.read_file(place, &format!("{NAME}.{number}"));
        }
        journal.read_file(place, NAME);
        journal
    }

    fn read_file(&mut self, place: &Place, name: &str) {
        let Ok(bytes) = std::fs::read(place.path(name)) else {
            return;
        };
        self.files += 1;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if self.note(line).is_none() {
                let shown: String = String::from_utf8_lossy(line).chars().take(100).collect();
                self.torn.push(format!("{name}: {shown}"));
            }
        }
    }

    fn note(&mut self, line: &[u8]) -> Option<()> {
        let event: Value = serde_json::from_slice(line.strip_suffix(b"\n")?).ok()?;
        let (id, content) = (event["id"].as_str()?.parse().ok()?, content(event.get("data")?.clone()));
        let place = self.by_id.len() as u64;
        let known = self.by_id.entry(id).or_insert(Line { content, place, times: 0 });
        known.times += 1;
        (known.content == content).then_some(())
    }
}
