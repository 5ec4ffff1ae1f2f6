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

pub(in crate::store) use self::list::list;
pub(in crate::store) use self::rebuild::{begin as begin_rebuild, is_under_way, progress, read, step as rebuild_step};
pub(in crate::store) use self::story::story;
use super::memory::Tx;
use crate::store::catalogue::Entry;
use crate::store::streams::by_stream;

type Result<T> = rusqlite::Result<T>;

/// Adds what events say.
pub(super) fn add(tx: &mut Tx<'_>, entries: &[Entry]) -> Result<()> {
    let generation = rebuild::generation(tx.db)?;
    let change = add_to(tx, generation, entries)?;
    note_live(tx, change)
}

/// Takes out events that are being pruned, and keeps what must outlive them.
pub(super) fn remove(tx: &mut Tx<'_>, entries: &[Entry]) -> Result<()> {
    let generation = rebuild::generation(tx.db)?;
    let mut change = 0;
    for (name, told) in by_stream(entries) {
        let mut open = keep::open(tx.db, generation, name)?;
        let before = open.kept.state;
        told.into_iter().try_for_each(|one| open.remove(one))?;
        let (more, is_needed) = open.sweep()?;
        change += more;
        if is_needed { keep::save(tx.db, &open.kept, before)? } else { keep::forget(tx.db, open.kept.id)? }
    }
    note_live(tx, change)
}

/// Adds to a generation. Returns by how many more of its streams are live.
fn add_to(tx: &Tx<'_>, generation: i64, entries: &[Entry]) -> Result<i64> {
    let mut change = 0;
    for (name, told) in by_stream(entries) {
        let mut open = keep::open(tx.db, generation, name)?;
        let before = open.kept.state;
        told.into_iter().try_for_each(|one| open.add(one))?;
        change += open.close()?;
        keep::save(tx.db, &open.kept, before)?;
    }
    Ok(change)
}

fn note_live(tx: &mut Tx<'_>, change: i64) -> Result<()> {
    if change != 0 {
        tx.db.prepare_cached("UPDATE meta SET value = value + ?1 WHERE key = 'streams_live'")?.execute([change])?;
        tx.effects.counted.streams_live += change;
    }
    Ok(())
}
