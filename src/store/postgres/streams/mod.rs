//! Streams in the database: what their events come to, kept small enough that an event changes a few rows and a list
//! reads no events. What is kept, and why, is the same in every engine: see [`crate::store::streams`].
//!
//! The streams of a run of events are read together, changed in memory, and written together: a handful of statements,
//! however many streams there are. Of a stream those rows of pushes are read that its events name, and that of the push
//! that began last; where these turn out not to be enough, all of them.
//!
//! All of this changes under [`Lock::Catalogue`](super::locks::Lock::Catalogue) only.

mod keep;
mod list;
mod pushes;
mod rebuild;
mod story;

use sqlx::PgConnection;

use self::keep::Changed;
use self::pushes::{Incomplete, Loaded};
use crate::store::catalogue::Entry;
use crate::store::streams::keep::{Kept, Open};
use crate::store::streams::{Told, by_stream, pushes as keys};
use crate::streams;

pub(super) use self::list::list;
pub(super) use self::rebuild::{begin as begin_rebuild, is_under_way, progress, step as rebuild_step};
pub(super) use self::story::story;

type Result<T> = sqlx::Result<T>;

/// - `streams` belong to a generation: the one in use (`streams_generation`), or one that is being made (`streams_next`, 0
///   for none), into which what outlived its events was carried up to the stream `streams_carried` (-1: of all) and events
///   were added up to the place `streams_from`. `streams_live` counts those that are live in the one in use. A part of a
///   name that is not known is empty; `digest` stands for all three, which may be too long for an index, as may the names
///   of pushes: there `key` stands for `name`, which is null where they are the same. `state`: 0 no push known, 1 ended,
///   2 live. `current` names the push that began last, `pushes` and `loose` count rows of pushes and of interruptions that
///   name none, `alone` those of them that tell of a push of their own. `outlived_at` is the latest time of an event that
///   is gone.
/// - `pushes` are named `#` and sequence, `@` and time of a push without one, `!` and time of an interruption that names
///   none. The columns `old_…` are what events say that are gone; `outlived` where there were any.
/// - `stream_notes` refers to events by their place: recordings (`sort` 1), screencaptures (2), problems (3).
pub(super) const VERSION_1: &str = r#"
INSERT INTO meta VALUES ('streams_generation', 1), ('streams_next', 0), ('streams_live', 0), ('streams_carried', -1),
    ('streams_from', 0);
CREATE TABLE streams (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    generation bigint NOT NULL,
    digest bytea NOT NULL,
    domain text COLLATE "C" NOT NULL,
    app text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    state smallint NOT NULL DEFAULT 0,
    current text COLLATE "C",
    pushes bigint NOT NULL DEFAULT 0,
    loose bigint NOT NULL DEFAULT 0,
    alone bigint NOT NULL DEFAULT 0,
    recordings bigint NOT NULL DEFAULT 0,
    events bigint NOT NULL DEFAULT 0,
    last_event_at bigint NOT NULL DEFAULT 0,
    outlived_at bigint,
    UNIQUE (generation, digest)
) WITH (fillfactor = 70);
CREATE INDEX streams_by_state
    ON streams (generation, state, left(domain, 200), left(app, 200), left(stream, 200), digest);
CREATE TABLE pushes (
    stream bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    name text COLLATE "C",
    began bigint,
    ended bigint,
    errcode bigint,
    lasted bigint,
    outlived boolean NOT NULL,
    old_began bigint,
    old_ended bigint,
    old_errcode bigint,
    old_lasted bigint,
    events bigint NOT NULL,
    PRIMARY KEY (stream, key)
) WITH (fillfactor = 80);
CREATE INDEX pushes_outlived ON pushes (stream) WHERE outlived;
CREATE TABLE stream_notes (
    stream bigint NOT NULL,
    sort smallint NOT NULL,
    at bigint NOT NULL,
    event bigint NOT NULL,
    PRIMARY KEY (stream, sort, at, event)
);
"#;

/// Adds what events say.
pub(super) async fn add(db: &mut PgConnection, entries: &[Entry]) -> Result<()> {
    let generation = rebuild::generation(db).await?;
    let change = add_to(db, generation, entries).await?;
    note_live(db, change).await
}

/// Takes out events that are being pruned, and keeps what must outlive them.
pub(super) async fn remove(db: &mut PgConnection, entries: &[Entry]) -> Result<()> {
    let generation = rebuild::generation(db).await?;
    let change = change(db, generation, entries, Change::Remove).await?;
    note_live(db, change).await
}

/// Adds to a generation. Returns by how many more of its streams are live.
async fn add_to(db: &mut PgConnection, generation: i64, entries: &[Entry]) -> Result<i64> {
    change(db, generation, entries, Change::Add).await
}

/// What becomes of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Add,
    Remove,
}

async fn change(db: &mut PgConnection, generation: i64, entries: &[Entry], change: Change) -> Result<i64> {
    let told = by_stream(entries);
    if told.is_empty() {
        return Ok(0);
    }
    let names: Vec<_> = told.keys().copied().collect();
    let mut kept = keep::open(db, generation, &names).await?;
    let mut streams: Vec<(Kept, &Vec<&Told>)> =
        told.iter().filter_map(|(name, told)| Some((kept.remove(*name)?, told))).collect();
    let wanted = streams.iter().flat_map(|(kept, told)| keys_of(kept, told)).collect();
    let mut loaded = pushes::load(db, wanted, change == Change::Remove, streams.iter().map(|(kept, _)| kept)).await?;
    let mut sum = 0;
    let mut changed = Changed::default();
    while !streams.is_empty() {
        let mut again = Vec::new();
        for (kept, told) in streams {
            let rows = loaded.remove(&kept.id).unwrap_or_default();
            match fold(kept.clone(), rows, told, change) {
                Ok((open, more, is_needed)) => {
                    sum += more;
                    changed.take(open, is_needed);
                }
                Err(Incomplete) => again.push((kept, told)),
            }
        }
        // With all rows of a stream nothing is missing any more.
        loaded = pushes::load_whole(db, again.iter().map(|(kept, _)| kept.id).collect()).await?;
        streams = again;
    }
    changed.write(db).await?;
    Ok(sum)
}

/// Returns also by how many more streams are live, and whether this one is still needed.
fn fold(
    kept: Kept,
    rows: Loaded,
    told: &[&Told],
    change: Change,
) -> std::result::Result<(Open<Loaded>, i64, bool), Incomplete> {
    let mut open = Open::new(kept, rows)?;
    for one in told {
        match change {
            Change::Add => open.add(one)?,
            Change::Remove => open.remove(one)?,
        }
    }
    let (more, is_needed) = if change == Change::Remove { open.sweep()? } else { (open.close()?, true) };
    Ok((open, more, is_needed))
}

/// The keys of the rows that are looked at in any case.
fn keys_of(kept: &Kept, told: &[&Told]) -> Vec<(i64, String)> {
    let named = told.iter().filter_map(|one| match &one.entry {
        streams::Entry::Push(notice) => Some(keys::key_of(notice)),
        _ => None,
    });
    named.chain(kept.current.clone()).map(|key| (kept.id, key)).collect()
}

async fn note_live(db: &mut PgConnection, change: i64) -> Result<()> {
    if change != 0 {
        sqlx::query("UPDATE meta SET value = value + $1 WHERE key = 'streams_live'").bind(change).execute(db).await?;
    }
    Ok(())
}
