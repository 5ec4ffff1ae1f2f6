//! Streams in the database: what their events come to, kept small enough that an event changes a few rows and a list
//! reads no events.
//!
//! A row in `pushes` is a push of a stream, merged from the events that name it; an interruption that names none is a row
//! of its own. `streams` keeps of each stream which push began last, whether it is live, and sums. Files, pictures and
//! faults are references to their events in `stream_notes`.
//!
//! Pruned events leave behind what must outlive them. A push stays while any event of it is stored, or while it is the
//! one that began last; a stream stays while any event of it is stored, or while it is live. What such rows know of
//! events that are gone is kept beside what they know in all, so that streams can be made anew from the events that are
//! left: a second generation is filled beside the first and takes its place once it is complete. Nothing is pruned
//! meanwhile.

mod keep;
mod list;
mod pushes;
mod rebuild;
mod story;

use std::collections::BTreeMap;

use self::keep::Kept;
pub(in crate::store) use self::list::{list, parse_cursor};
pub(in crate::store) use self::rebuild::{begin as begin_rebuild, is_under_way, progress, read, step as rebuild_step};
pub(in crate::store) use self::story::story;
use super::catalogue;
use super::memory::Tx;
use crate::clock::Timestamp;
use crate::streams::{self, StreamName};

type Result<T> = rusqlite::Result<T>;

/// What an event says about its stream.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Its place in the order of storing.
    seq: i64,
    stream: StreamName,
    /// When it happened.
    at: Timestamp,
    entry: streams::Entry,
}

/// What events say about their streams; most say nothing.
pub(super) fn told(entries: &[catalogue::Entry]) -> Vec<Told> {
    let told = |entry: &catalogue::Entry| {
        let facts = &entry.event.facts;
        Some(Told {
            seq: entry.seq,
            stream: StreamName::of(facts)?,
            at: facts.occurred_at.unwrap_or(entry.event.received_at),
            entry: streams::Entry::of(&entry.event)?,
        })
    };
    entries.iter().filter_map(told).collect()
}

/// Adds what events say.
pub(super) fn add(tx: &mut Tx<'_>, told: &[Told]) -> Result<()> {
    let generation = rebuild::generation(tx.db)?;
    let change = add_to(tx, generation, told)?;
    note_live(tx, change)
}

/// Takes out events that are being pruned, and keeps what must outlive them.
pub(super) fn remove(tx: &mut Tx<'_>, told: &[Told]) -> Result<()> {
    let generation = rebuild::generation(tx.db)?;
    let mut change = 0;
    for (name, told) in by_stream(told) {
        let mut kept = Kept::open(tx.db, generation, name)?;
        for one in told {
            kept.remove(tx.db, one)?;
        }
        change += kept.sweep(tx.db)?;
    }
    note_live(tx, change)
}

/// Adds to a generation. Returns by how many more of its streams are live.
fn add_to(tx: &Tx<'_>, generation: i64, told: &[Told]) -> Result<i64> {
    let mut change = 0;
    for (name, told) in by_stream(told) {
        let mut kept = Kept::open(tx.db, generation, name)?;
        for one in told {
            kept.add(tx.db, one)?;
        }
        change += kept.close(tx.db)?;
    }
    Ok(change)
}

/// Each stream is looked up once, however many events of it there are.
fn by_stream(told: &[Told]) -> BTreeMap<&StreamName, Vec<&Told>> {
    let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for one in told {
        streams.entry(&one.stream).or_default().push(one);
    }
    streams
}

fn note_live(tx: &mut Tx<'_>, change: i64) -> Result<()> {
    if change != 0 {
        tx.db.prepare_cached("UPDATE meta SET value = value + ?1 WHERE key = 'streams_live'")?.execute([change])?;
        tx.effects.tally.streams_live += change;
    }
    Ok(())
}
