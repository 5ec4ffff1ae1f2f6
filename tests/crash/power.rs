//! A power cut at any moment of a program under load. A witness inside the program (`witness.c`) has written down each
//! write, each sync and each answer. Of that, a disk is made as the cut may have left it: what was synced, and anything of
//! what was written after. The witness is a library in C, which the build of SQLite needs a compiler for anyway.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::disk::Disk;
use crate::http::request;
use crate::journal::{self, Journal};
use crate::letter::{Digest, Letters, Sort, digest};
use crate::program::{FILE_HANDLER, Place, Program};
use crate::{rounds, seed};

const CONNECTIONS: usize = 8;
const CALLBACKS: usize = 30;
/// One in so many callbacks is refused.
const FORGED_EVERY: usize = 7;
/// One in so many disks is tried with the program, the others are only read.
const TRIED_EVERY: usize = 8;

#[tokio::test]
async fn a_power_cut_at_any_moment_takes_nothing_that_was_answered() {
    let Some(library) = witness() else {
        return;
    };
    let mut dice = fastrand::Rng::with_seed(seed("power"));
    let place = Place::with(FILE_HANDLER);
    let notes = place.path("notes");
    let program = Program::witnessed(&place, &library, &notes).await;
    let senders = (0..CONNECTIONS).map(|at| send(program.callbacks, at));
    let sent: HashMap<u16, Vec<Digest>> = futures_util::future::join_all(senders).await.into_iter().collect();
    program.drained(&["file"]).await;
    program.kill();

    let notes = Note::read_all(&std::fs::read(notes).unwrap());
    let answers: Vec<_> = (0..notes.len()).filter(|at| notes[*at].kind == b'A').collect();
    assert_eq!(answers.len(), CONNECTIONS * CALLBACKS, "the witness has seen every answer");
    let mut moments: Vec<usize> = (0..rounds(64)).map(|_| moment(&answers, notes.len(), &mut dice)).collect();
    moments.sort_unstable();
    let (mut disk, mut done) = (Files::default(), 0);
    let mut answered = Answered { sent: &sent, so_far: HashMap::new() };
    for (number, moment) in moments.into_iter().enumerate() {
        for note in &notes[done..moment] {
            disk.apply(note);
            answered.note(note);
        }
        done = moment;
        let left = Place::with(FILE_HANDLER);
        disk.leave(&left, &mut dice);
        let kept = kept(&left);
        let lost = answered.digests().filter(|body| !kept.contains(*body)).count();
        assert_eq!(lost, 0, "answered callbacks are lost in a power cut after note {moment}");
        if number % TRIED_EVERY == 0 {
            try_it(&left).await;
        }
    }
}

/// A moment after the first answer: half of the time right behind an answer, when what is promised is newest.
fn moment(answers: &[usize], notes: usize, dice: &mut fastrand::Rng) -> usize {
    if dice.bool() { dice.choice(answers).unwrap() + 1 } else { dice.usize(answers[0] + 1..=notes) }
}

/// Compiles the witness. None where a program cannot be looked into like this.
fn witness() -> Option<PathBuf> {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("witness.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/witness.c");
    let mut compile = Command::new("cc");
    compile.args(["-std=gnu11", "-shared", "-fPIC", "-O1", source, "-ldl", "-lpthread", "-o"]).arg(&library);
    let compiled = cfg!(all(target_os = "linux", target_env = "gnu")) && compile.status().is_ok_and(|s| s.success());
    assert!(compiled || !crate::is_ci(), "the witness cannot be compiled");
    if !compiled {
        crate::tell("SKIPPED: the witness of writes and syncs needs Linux with glibc, and a C compiler");
    }
    compiled.then_some(library)
}

/// Sends callbacks over one connection. Returns its port and their bodies, each of which was answered.
async fn send(address: std::net::SocketAddr, connection: usize) -> (u16, Vec<Digest>) {
    let letters = Letters::load();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut bodies = Vec::new();
    for number in 0..CALLBACKS {
        let sort = if number % FORGED_EVERY == 0 { Sort::Forged } else { Sort::Event };
        let body = letters.body((number * CONNECTIONS + connection) as u64, sort, 0);
        stream.write_all(&request("POST", "/callbacks", &[], body.as_bytes())).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(br#"{"code":0}"#) {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "it hung up");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
        bodies.push(digest(body.as_bytes()));
    }
    (stream.local_addr().unwrap().port(), bodies)
}

/// The bodies of all events and refused callbacks.
fn kept(place: &Place) -> HashSet<Digest> {
    let mut kept = HashSet::new();
    let disk = Disk::open(place);
    disk.events(0, |event| kept.extend([digest(&event.body)]));
    disk.refused(0, |_, body| kept.extend([digest(&body)]));
    assert_eq!(disk.damage(), None);
    kept
}

/// Whether the program goes on from here: it takes an event, and writes all of them.
async fn try_it(place: &Place) {
    let program = Program::start(place).await;
    assert_eq!(program.post(Letters::load().body(1_000_000, Sort::Event, 0)).await, Some(200));
    program.drained(&["file"]).await;
    assert!(program.stop().await.status.success());
    let journal = Journal::read(place);
    assert!(journal.torn.is_empty(), "{:?}", journal.torn);
    Disk::open(place)
        .events(0, |event| assert!(journal.by_id.contains_key(&event.id), "{} is not in the file", event.id));
}

/// Something the witness has seen; see `witness.c`.
struct Note {
    kind: u8,
    file: u8,
    port: u16,
    at: u64,
    data: Vec<u8>,
}

impl Note {
    fn read_all(mut bytes: &[u8]) -> Vec<Self> {
        let mut notes = Vec::new();
        while let Some((head, rest)) = bytes.split_at_checked(16) {
            let length = u32::from_ne_bytes(head[4..8].try_into().unwrap());
            // The last one may be torn by the kill.
            let Some((data, rest)) = rest.split_at_checked(usize::try_from(length).unwrap()) else {
                break;
            };
            notes.push(Self {
                kind: head[0],
                file: head[1],
                port: u16::from_ne_bytes(head[2..4].try_into().unwrap()),
                at: u64::from_ne_bytes(head[8..16].try_into().unwrap()),
                data: data.to_vec(),
            });
            bytes = rest;
        }
        notes
    }
}

/// Which callbacks were answered so far: on each connection they are answered one by one.
struct Answered<'a> {
    sent: &'a HashMap<u16, Vec<Digest>>,
    so_far: HashMap<u16, usize>,
}

impl Answered<'_> {
    fn note(&mut self, note: &Note) {
        if note.kind == b'A' {
            *self.so_far.entry(note.port).or_default() += 1;
        }
    }

    fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.so_far.iter().flat_map(|(port, count)| &self.sent[port][..*count])
    }
}

/// The files of the program, as far as they were written.
#[derive(Default)]
struct Files {
    by_letter: HashMap<u8, Content>,
    notes: u64,
}

/// A file: what a power cut leaves of it for sure, and what was done to it since.
#[derive(Default)]
struct Content {
    synced: Vec<u8>,
    /// Each with its place among the notes.
    since: Vec<(u64, Change)>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, data: Vec<u8> },
    Cut { length: usize },
}

/// What a disk writes at once.
const SECTOR: usize = 512;

impl Files {
    fn apply(&mut self, note: &Note) {
        let content = self.by_letter.entry(note.file).or_default();
        let at = usize::try_from(note.at).unwrap();
        match note.kind {
            b'W' => content.since.push((self.notes, Change::Write { at, data: note.data.clone() })),
            b'T' => content.since.push((self.notes, Change::Cut { length: at })),
            b'S' => content.sync(note.at),
            _ => {}
        }
        self.notes += 1;
    }

    /// Makes the files as they may be after a power cut at this moment.
    fn leave(&self, place: &Place, dice: &mut fastrand::Rng) {
        // In one cut in four all that was written has come to the disk, and in another nothing but what was synced.
        let chance = *dice.choice(&[0, 50, 50, 100]).unwrap();
        for (letter, path) in [(b'd', place.database()), (b'w', place.log())] {
            if let Some(content) = self.by_letter.get(&letter) {
                std::fs::write(path, content.any_sectors(chance, dice)).unwrap();
            }
        }
        if let Some(lines) = self.by_letter.get(&b'j') {
            std::fs::write(place.path(journal::NAME), lines.first_sectors(dice)).unwrap();
        }
    }
}

impl Content {
    /// What was done before that note is there for good.
    fn sync(&mut self, before: u64) {
        let (synced, left): (Vec<_>, _) =
            std::mem::take(&mut self.since).into_iter().partition(|(note, _)| *note < before);
        self.since = left;
        for (_, change) in synced {
            change.apply(&mut self.synced);
        }
    }

    /// What is written comes to the disk sector by sector, in no order.
    fn any_sectors(&self, chance: u8, dice: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for sector in self.sectors_since() {
            if dice.u8(..100) < chance {
                sector.apply(&mut bytes);
            }
        }
        bytes
    }

    /// A file that only grows is as long as what has come to the disk of it, as the usual file systems have it, but for
    /// zeros at its end. On one that has it otherwise a line may be torn that is not the last, and is not cut off.
    fn first_sectors(&self, dice: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let sectors: Vec<_> = self.sectors_since().collect();
        for sector in &sectors[..dice.usize(..=sectors.len())] {
            sector.apply(&mut bytes);
        }
        let zeros = if dice.bool() { dice.usize(..2 * SECTOR) } else { 0 };
        bytes.extend(std::iter::repeat_n(0, zeros));
        bytes
    }

    fn sectors_since(&self) -> impl Iterator<Item = Change> {
        self.since.iter().flat_map(|(_, change)| change.sectors())
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { at, data } => {
                bytes.resize(bytes.len().max(at + data.len()), 0);
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
            Self::Cut { length } => bytes.resize(*length, 0),
        }
    }

    fn sectors(&self) -> Vec<Self> {
        match self {
            Self::Write { at, data } => {
                let parts = data.chunks(SECTOR).enumerate();
                parts.map(|(n, part)| Self::Write { at: at + n * SECTOR, data: part.to_vec() }).collect()
            }
            Self::Cut { .. } => vec![self.clone()],
        }
    }
}
