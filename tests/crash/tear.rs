//! What a power cut leaves, done to copies of the files. A commit that was confirmed lies within the part of the log that
//! was synced; behind it, and in whatever a checkpoint was just writing, anything may stand.
//!
//! Each event is posted alone, and where the log ends is noted once it was answered: its commit lies before that.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::disk::{Disk, Index};
use crate::journal::{self, Journal};
use crate::letter::{Digest, Letters, Sort, digest};
use crate::log::Log;
use crate::program::{FILE_HANDLER, Place, Program};
use crate::{eventually, rounds, seed};

/// Events there are, and the number of the first: one of them is large.
const EVENTS: usize = 40;
const FIRST: usize = 120;

/// A place whose program was killed, and what was answered there.
struct Killed {
    place: Place,
    log: Log,
    /// Of each event, in the order of storing.
    answered: Vec<Answered>,
}

struct Answered {
    body: Digest,
    /// Where the log ended when it was answered.
    end: usize,
}

impl Killed {
    /// After all events are answered, none of which has been moved from the log to the database.
    async fn with_all_in_the_log() -> Self {
        let place = Place::with(FILE_HANDLER);
        let program = Program::start(&place).await;
        let reader = Disk::open(&place).hold();
        let answered = post(&program, &place, 0..EVENTS).await;
        program.kill();
        drop(reader);
        Self::of(place, answered)
    }

    fn of(place: Place, answered: Vec<Answered>) -> Self {
        let log = read_log(&place).unwrap();
        Self { place, log, answered }
    }

    /// A copy with another log.
    fn copy_with(&self, log: &[u8]) -> Place {
        let copy = self.place.copy();
        fs::write(copy.log(), log).unwrap();
        copy
    }

    /// Events whose commits lie before this place of the log.
    fn synced(&self, end: usize) -> usize {
        self.answered.iter().filter(|answered| answered.end <= end).count()
    }
}

fn read_log(place: &Place) -> Option<Log> {
    Log::read(fs::read(place.log()).ok()?)
}

async fn post(program: &Program, place: &Place, numbers: std::ops::Range<usize>) -> Vec<Answered> {
    let letters = Letters::load();
    let mut answered = Vec::new();
    for number in numbers {
        let body = letters.body((FIRST + number) as u64, Sort::Event, 0);
        assert_eq!(program.post(&body).await, Some(200));
        let end = read_log(place).map_or(0, |log| log.end());
        answered.push(Answered { body: digest(body.as_bytes()), end });
    }
    answered
}

/// Starts the program over what is left, looks at what it serves, and has it take and deliver another event. Returns how
/// many of the events there are: the first so many, each as it was sent.
async fn left(place: &Place, answered: &[Answered]) -> usize {
    let program = Program::start(place).await;
    let rows = program.get("/api/v1/events?limit=1000").await["events"].as_array().unwrap().clone();
    for (row, answered) in rows.iter().rev().zip(answered) {
        let id = row["id"].as_str().unwrap();
        let body = program.try_get(&format!("/api/v1/events/{id}/body")).await.unwrap().body;
        assert_eq!(digest(&body), answered.body, "the first {} are there, and {row} is not one of them", rows.len());
    }
    assert!(rows.len() <= answered.len(), "{} events", rows.len());
    assert_eq!(program.post(Letters::load().body(1, Sort::Event, 0)).await, Some(200));
    program.drained(&["file"]).await;
    let ended = program.stop().await;
    let said = String::from_utf8_lossy(&ended.said);
    assert!(ended.status.success() && !said.contains("panicked"), "{}: {said}", ended.status);
    assert_eq!(Disk::open(place).damage(), None);
    rows.len()
}

/// What stands in a log from some place on.
#[derive(Clone, Copy, Debug)]
enum Torn {
    Nothing,
    Zeros,
    Noise,
    /// One bit of what belongs there is another.
    Bit,
    /// Frames that belong elsewhere in the log, the last one broken off.
    Frames,
    /// Frames of this log by their looks, which end a transaction, and are none.
    Lookalikes,
}

const TORN: [Torn; 6] = [Torn::Nothing, Torn::Zeros, Torn::Noise, Torn::Bit, Torn::Frames, Torn::Lookalikes];

impl Torn {
    /// The log with this from `at` on.
    fn apply(self, log: &Log, at: usize, dice: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = log.bytes[..at].to_vec();
        let length = dice.usize(1..4 * log.frame_bytes());
        match self {
            Self::Nothing => {}
            Self::Zeros => bytes.resize(at + length, 0),
            Self::Noise => bytes.extend(std::iter::repeat_with(|| dice.u8(..)).take(length)),
            Self::Bit => {
                bytes.extend(&log.bytes[at..]);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.u8(..8);
                }
            }
            Self::Frames => {
                let start = log.frames().map(|(start, _)| start).nth(dice.usize(..10)).unwrap();
                bytes.extend(&log.bytes[start..][..length]);
            }
            Self::Lookalikes => {
                let mut frame: Vec<u8> = std::iter::repeat_with(|| dice.u8(..)).take(log.frame_bytes()).collect();
                frame[..8].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 9]);
                frame[8..16].copy_from_slice(log.salts());
                bytes.extend(frame.repeat(3));
            }
        }
        bytes
    }
}

#[tokio::test]
async fn a_power_cut_takes_nothing_that_was_synced_whatever_stands_behind_it() {
    let mut dice = fastrand::Rng::with_seed(seed("power cut"));
    let killed = Killed::with_all_in_the_log().await;
    let end = killed.answered.last().unwrap().end;
    for torn in TORN.into_iter().cycle().take(rounds(TORN.len())) {
        // What was written after the last answer is what settles its delivery, and may be cut anywhere.
        let at = dice.usize(end..=killed.log.end());
        let copy = killed.copy_with(&torn.apply(&killed.log, at, &mut dice));
        assert_eq!(left(&copy, &killed.answered).await, EVENTS, "{torn:?} at {at}");
    }
}

#[tokio::test]
async fn a_log_that_lost_what_was_synced_leaves_all_events_before_the_loss() {
    let mut dice = fastrand::Rng::with_seed(seed("torn log"));
    let killed = Killed::with_all_in_the_log().await;
    let starts: Vec<_> = killed.log.frames().map(|(start, _)| start).collect();
    for (number, torn) in TORN.into_iter().cycle().take(rounds(2 * TORN.len())).enumerate() {
        let at = if number % 3 == 0 { *dice.choice(&starts).unwrap() } else { dice.usize(..killed.log.end()) };
        let copy = killed.copy_with(&torn.apply(&killed.log, at, &mut dice));
        let (left, synced) = (left(&copy, &killed.answered).await, killed.synced(at));
        assert!((synced..=EVENTS).contains(&left), "{torn:?} at {at}: {left} events, {synced} were synced");
    }
}

#[tokio::test]
async fn a_power_cut_in_the_middle_of_a_checkpoint_takes_nothing() {
    let mut dice = fastrand::Rng::with_seed(seed("torn checkpoint"));
    let (before, killed) = half_moved().await;
    let after = fs::read(killed.place.database()).unwrap();
    assert_ne!(before, after, "the checkpoint has changed nothing");
    for number in 0..rounds(6) {
        let copy = killed.copy_with(&killed.log.bytes[..killed.log.end()]);
        // At first as if nothing of it had come to the disk, then any of its sectors.
        let sectors = after.chunks(SECTOR).enumerate().flat_map(|(at, new)| {
            let old = before.get(at * SECTOR..).map_or(&[][..], |rest| &rest[..rest.len().min(SECTOR)]);
            if number > 0 && dice.bool() || old.len() < new.len() { new } else { old }.to_vec()
        });
        fs::write(copy.database(), sectors.collect::<Vec<_>>()).unwrap();
        assert_eq!(left(&copy, &killed.answered).await, EVENTS);
    }
}

/// What a disk writes at once.
const SECTOR: usize = 512;

/// A database before a checkpoint, and a place where it was made over the first half of the log.
async fn half_moved() -> (Vec<u8>, Killed) {
    loop {
        let place = Place::with(FILE_HANDLER);
        let program = Program::start(&place).await;
        let Some(salts) = read_log(&place).map(|log| log.salts().to_vec()) else {
            continue;
        };
        let before = fs::read(place.database()).unwrap();
        let index = Index::open(&place).unwrap();
        let first = Disk::open(&place).hold();
        let mut answered = post(&program, &place, 0..EVENTS / 2).await;
        // With nothing left to write, what is in the file is what a reader sees.
        program.drained(&["file"]).await;
        let frames = read_log(&place).unwrap().frames().count();
        // From now on a checkpoint may go as far as this one reads, and the log cannot begin anew.
        let second = Disk::open(&place).hold();
        drop(first);
        eventually("a checkpoint", async || (index.backfill().1 as usize >= frames).then_some(())).await;
        answered.extend(post(&program, &place, EVENTS / 2..EVENTS).await);
        program.kill();
        drop((second, index));
        let killed = Killed::of(place, answered);
        if killed.log.salts() == salts {
            return (before, killed);
        }
        // It began anew before anybody held it, and what it held before is in the database only.
    }
}

#[tokio::test]
async fn what_a_checkpoint_has_moved_needs_no_log() {
    let place = Place::with(FILE_HANDLER);
    let program = Program::start(&place).await;
    let answered = post(&program, &place, 0..EVENTS).await;
    program.drained(&["file"]).await;
    let index = Index::open(&place).unwrap();
    let moved = async || {
        let frames = read_log(&place).unwrap().frames().count();
        (index.backfill().1 as usize == frames).then_some(())
    };
    eventually("a checkpoint of everything", moved).await;
    program.kill();
    let killed = Killed::of(place, answered);
    for log in [None, Some(vec![]), Some(vec![0; 100_000]), Some(vec![0xA5; 100_000])] {
        let copy = killed.copy_with(log.as_deref().unwrap_or_default());
        if log.is_none() {
            fs::remove_file(copy.log()).unwrap();
        }
        assert_eq!(left(&copy, &killed.answered).await, EVENTS);
    }
}

#[tokio::test]
async fn of_a_damaged_store_it_says_so_and_serves_nothing_that_was_not_sent() {
    let mut dice = fastrand::Rng::with_seed(seed("damage"));
    let (_, killed) = half_moved().await;
    for number in 0..rounds(8) {
        let copy = killed.copy_with(&killed.log.bytes[..killed.log.end()]);
        if number % 2 == 0 {
            // What a checkpoint had moved is newer than what is left of the log.
            let log = Torn::Nothing.apply(&killed.log, dice.usize(..killed.log.end()), &mut dice);
            fs::write(copy.log(), log).unwrap();
        } else {
            spoil_pages(&copy, &mut dice);
        }
        bear(&copy, &killed.answered).await;
    }
}

/// Writes noise over a few pages of the database, their heads included, and takes away the log they may also stand in.
fn spoil_pages(place: &Place, dice: &mut fastrand::Rng) {
    const PAGE: usize = 4096;
    let mut database = fs::read(place.database()).unwrap();
    for _ in 0..dice.usize(1..4) {
        let start = dice.usize(..database.len() / PAGE) * PAGE;
        let length = dice.usize(100..PAGE);
        dice.fill(&mut database[start..start + length]);
    }
    fs::write(place.database(), database).unwrap();
    fs::write(place.log(), []).unwrap();
}

/// Whether it either says why it does not start, or serves what was sent and keeps what comes.
async fn bear(place: &Place, answered: &[Answered]) {
    // What cannot be stored is spilled soon.
    place.configure("ack.deadline = \"1s\"\n", FILE_HANDLER);
    let mut program = Program::spawn(place);
    if !program.is_ready().await {
        let ended = program.ended();
        let said = String::from_utf8_lossy(&ended.said);
        assert!(ended.status.code() == Some(1) && said.contains(" cannot be opened: "), "{said}");
        return;
    }
    let page = program.try_get("/api/v1/events?limit=1000").await.unwrap();
    let rows = if page.status == 200 { page.json()["events"].as_array().unwrap().clone() } else { vec![] };
    for row in rows {
        let id = row["id"].as_str().unwrap();
        let body = program.try_get(&format!("/api/v1/events/{id}/body")).await.unwrap();
        let was_sent = answered.iter().any(|answered| answered.body == digest(&body.body));
        assert!(body.status == 500 || was_sent, "{row}: {body:?}");
    }
    let body = Letters::load().body(1, Sort::Event, 0);
    assert_eq!(program.post(&body).await, Some(200));
    let ended = program.stop().await;
    let said = String::from_utf8_lossy(&ended.said);
    assert!(ended.status.success() && !said.contains("panicked"), "{}: {said}", ended.status);
    let spilled = said.contains(&BASE64.encode(&body));
    assert!(spilled || is_stored(place, body.as_bytes()), "answered, and neither stored nor spilled: {said}");
}

fn is_stored(place: &Place, body: &[u8]) -> bool {
    let db = rusqlite::Connection::open(place.database()).unwrap();
    // By its last row: others may not be readable.
    let last = db.query_row("SELECT body FROM events ORDER BY seq DESC LIMIT 1", [], |row| row.get::<_, Vec<u8>>(0));
    last.is_ok_and(|last| last == body)
}

#[tokio::test]
async fn a_power_cut_in_the_middle_of_a_line_leaves_every_event_in_the_file_in_whole_lines() {
    let mut dice = fastrand::Rng::with_seed(seed("torn line"));
    let killed = Killed::with_all_in_the_log().await;
    let lines = fs::read(killed.place.path(journal::NAME)).unwrap();
    for _ in 0..rounds(5) {
        let end = dice.usize(killed.answered[0].end..=killed.log.end());
        let log = &killed.log.bytes[..end];
        // A line was synced before it was recorded: up to the last of those the file is whole, and behind it torn.
        let whole = end_of_lines(&lines, &recorded(&killed, log).await);
        let copy = killed.copy_with(log);
        fs::write(copy.path(journal::NAME), &lines[..dice.usize(whole..=lines.len())]).unwrap();
        let stored = left(&copy, &killed.answered).await;
        let journal = Journal::read(&copy);
        assert!(journal.torn.is_empty(), "{:?}", journal.torn);
        assert!(journal.by_id.len() > stored, "{} lines of {stored} events and one more", journal.by_id.len());
    }
}

/// The events whose deliveries are recorded in this log as done.
async fn recorded(killed: &Killed, log: &[u8]) -> Vec<String> {
    let copy = killed.copy_with(log);
    // A handler of another name leaves those of this one alone.
    copy.configure("", &FILE_HANDLER.replace("name = \"file\"", "name = \"other\""));
    let program = Program::start(&copy).await;
    let done = program.get("/api/v1/deliveries?handler=file&state=done&limit=1000").await;
    let ids = done["deliveries"].as_array().unwrap().iter();
    ids.map(|delivery| delivery["event_id"].as_str().unwrap().to_owned()).collect()
}

/// Where the last of the lines of these events ends.
fn end_of_lines(lines: &[u8], ids: &[String]) -> usize {
    let mut end = 0;
    let mut whole = 0;
    for line in lines.split_inclusive(|b| *b == b'\n') {
        end += line.len();
        let text = String::from_utf8_lossy(line);
        if ids.iter().any(|id| text.contains(id)) {
            whole = end;
        }
    }
    whole
}
