//! Storing events: all of a batch in a handful of statements, however many there are.

use std::collections::{HashMap, HashSet};

use sqlx::Row as _;

use super::super::lane::lane;
use super::super::model::{Appended, HandlerId, NewEvent};
use super::super::names::{Of, digest};
use super::deliveries::{BLOCKED, READY};
use super::jobs::Append;
use super::tx::Tx;
use super::{quarantine, text};
use crate::clock::Timestamp;
use crate::event::EventId;

type Result<T> = sqlx::Result<T>;

/// What is known of the identity of a new event.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The place and name of the event that has it.
    event: Option<(i64, EventId)>,
    /// Whether one had it that was pruned.
    forgotten: bool,
    /// Another event of the same time and natural key and of other content.
    namesake: Option<EventId>,
}

/// An event that is to be stored, at the place of its number in the batch.
struct Fresh<'a> {
    new: &'a NewEvent,
    namesake: Option<EventId>,
}

/// Stores events with their deliveries, or counts them as copies of what is known.
///
/// A batch whose commit had no answer runs again: an event that is found under its own name was stored by the first run,
/// deliveries and all.
pub(super) async fn append_all(tx: &mut Tx, batch: &mut [&mut Append]) -> Result<()> {
    let readmitted: Vec<i64> = batch.iter().filter_map(|one| one.new.readmitted).collect();
    if !readmitted.is_empty() {
        quarantine::remove(tx, &readmitted).await?;
    }
    let known = look_up(tx, batch).await?;
    let mut copies: HashMap<i64, i64> = HashMap::new();
    // What this batch stores, by identity and by what namesakes share.
    let mut stored: HashMap<[u8; 32], usize> = HashMap::new();
    let mut named: HashMap<[u8; 32], EventId> = HashMap::new();
    let mut fresh: Vec<Fresh<'_>> = Vec::new();
    let mut copies_of_fresh: HashMap<usize, i64> = HashMap::new();
    for (one, known) in batch.iter_mut().zip(known) {
        let Append { new, uncertain, done, .. } = &mut **one;
        let identity = *new.identity.bytes();
        let name = new.identity.namesakes().map(|(first, _)| first);
        *done = Some(match (known, stored.get(&identity)) {
            (Known { event: Some((_, id)), namesake, .. }, _) if *uncertain && id == new.event.id => {
                Appended::Stored { id, drifted: namesake.is_some() || !new.drift.is_empty() }
            }
            (Known { event: Some((seq, id)), .. }, _) => {
                *copies.entry(seq).or_default() += 1;
                Appended::Duplicate(Some(id))
            }
            (Known { forgotten: true, .. }, _) => Appended::Duplicate(None),
            (_, Some(first)) => {
                *copies_of_fresh.entry(*first).or_default() += 1;
                Appended::Duplicate(fresh.get(*first).map(|first| first.new.event.id))
            }
            (Known { namesake, .. }, None) => {
                let namesake = namesake.or_else(|| name.and_then(|name| named.get(&name).copied()));
                stored.insert(identity, fresh.len());
                name.map(|name| named.entry(name).or_insert(new.event.id));
                fresh.push(Fresh { new, namesake });
                Appended::Stored { id: new.event.id, drifted: namesake.is_some() || !new.drift.is_empty() }
            }
        });
    }
    if !fresh.is_empty() {
        insert(tx, &fresh, &copies_of_fresh).await?;
    }
    let of_fresh = |(at, count): (&usize, &i64)| Some((fresh.get(*at)?.new.event.facts.kind.slug(), *count));
    let copies_of_fresh: Vec<_> = copies_of_fresh.iter().filter_map(of_fresh).collect();
    count_copies(tx, &copies, &copies_of_fresh).await
}

/// Looks up all identities at once.
async fn look_up(tx: &mut Tx, batch: &[&mut Append]) -> Result<Vec<Known>> {
    let identities: Vec<&[u8]> = batch.iter().map(|one| &one.new.identity.bytes()[..]).collect();
    let ranges: Vec<_> = batch.iter().map(|one| one.new.identity.namesakes()).collect();
    let firsts: Vec<Option<&[u8]>> = ranges.iter().map(|range| range.as_ref().map(|(first, _)| &first[..])).collect();
    let lasts: Vec<Option<&[u8]>> = ranges.iter().map(|range| range.as_ref().map(|(_, last)| &last[..])).collect();
    let rows = sqlx::query(LOOK_UP).bind(&identities).bind(&firsts).bind(&lasts).fetch_all(&mut tx.db).await?;
    let mut known = vec![Known::default(); batch.len()];
    for row in rows {
        let place = usize::try_from(row.try_get::<i64, _>(0)? - 1).unwrap_or(usize::MAX);
        let id = |at: usize| Ok::<_, sqlx::Error>(row.try_get::<Option<[u8; 16]>, _>(at)?.map(EventId::from_bytes));
        if let Some(own) = known.get_mut(place) {
            let seq: Option<i64> = row.try_get(1)?;
            *own = Known { event: seq.zip(id(2)?), forgotten: row.try_get(3)?, namesake: id(4)? };
        }
    }
    Ok(known)
}

/// Each part is one step down an index, whatever is thought of the sizes of the tables.
const LOOK_UP: &str = "
SELECT w.n, e.seq, e.id, f.identity IS NOT NULL, x.id
FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) WITH ORDINALITY AS w (identity, first, last, n)
LEFT JOIN LATERAL (SELECT seq, id FROM events WHERE identity = w.identity LIMIT 1) e ON true
LEFT JOIN LATERAL (SELECT identity FROM forgotten WHERE identity = w.identity LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT id FROM events WHERE identity BETWEEN w.first AND w.last AND identity <> w.identity
                   ORDER BY identity LIMIT 1) x ON w.first IS NOT NULL";

async fn insert(tx: &mut Tx, fresh: &[Fresh<'_>], copies: &HashMap<usize, i64>) -> Result<()> {
    let count = i64::try_from(fresh.len()).unwrap_or(i64::MAX);
    let (first, version) = sqlx::query_as(NEXT_SEQS).bind(count).fetch_one(&mut tx.db).await?;
    insert_events(tx, fresh, first, version, copies).await?;
    insert_deliveries(tx, fresh, first).await?;
    let bytes: usize = fresh.iter().map(|one| one.new.event.body.len()).sum();
    tx.effects.events.0 += i64::try_from(fresh.len()).unwrap_or(i64::MAX);
    tx.effects.events.1 += i64::try_from(bytes).unwrap_or(i64::MAX);
    Ok(())
}

/// Takes places, as [`Tx::next_seqs`] does, and tells as of which version groups are to be known.
const NEXT_SEQS: &str = "
WITH taken AS (UPDATE meta SET value = value + $1 WHERE key = 'last_seq' RETURNING value - $1 + 1 AS first)
SELECT taken.first, version.value FROM taken, meta version WHERE version.key = 'groups_version'";

async fn insert_events(
    tx: &mut Tx,
    fresh: &[Fresh<'_>],
    first: i64,
    version: i64,
    copies: &HashMap<usize, i64>,
) -> Result<()> {
    let events: Vec<_> = fresh.iter().map(|one| &*one.new.event).collect();
    let placed: Vec<_> = (first..).zip(events.iter().copied()).collect();
    let groups = tx.groups.of(&mut tx.db, version, &placed).await?;
    let name = |stream: &str| digest(Of::Stream, stream);
    let facts = || events.iter().map(|event| &event.facts);
    let copies: Vec<i64> = (0..fresh.len()).map(|at| copies.get(&at).copied().unwrap_or(0)).collect();
    sqlx::query(INSERT_EVENTS)
        .bind(first)
        .bind(events.iter().map(|event| *event.id.as_bytes()).collect::<Vec<[u8; 16]>>())
        .bind(fresh.iter().map(|one| &one.new.identity.bytes()[..]).collect::<Vec<_>>())
        .bind(facts().map(|facts| facts.kind.slug()).collect::<Vec<_>>())
        .bind(facts().map(|facts| facts.event_type).collect::<Vec<_>>())
        .bind(facts().map(|facts| facts.domain.as_deref().map(text::to_sql)).collect::<Vec<_>>())
        .bind(facts().map(|facts| facts.app.as_deref().map(text::to_sql)).collect::<Vec<_>>())
        .bind(facts().map(|facts| facts.stream.as_deref().map(text::to_sql)).collect::<Vec<_>>())
        .bind(facts().map(|facts| facts.sequence.as_deref().map(text::to_sql)).collect::<Vec<_>>())
        .bind(facts().map(|facts| facts.occurred_at.map(Timestamp::millis)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.received_at.millis()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.verification.slug()).collect::<Vec<_>>())
        .bind(copies)
        .bind(fresh.iter().map(drift).collect::<Vec<_>>())
        .bind(groups)
        .bind(facts().map(|facts| facts.stream.as_deref().map(name)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| &event.body[..]).collect::<Vec<_>>())
        .execute(&mut tx.db)
        .await?;
    Ok(())
}

const INSERT_EVENTS: &str = "
INSERT INTO events (seq, id, identity, kind, event_type, domain, app, stream, sequence, occurred_at, received_at,
                    verification, duplicates, drift, grp, name, body)
SELECT $1 + w.n - 1, w.id, w.identity, w.kind, w.event_type, w.domain, w.app, w.stream, w.sequence, w.occurred_at,
       w.received_at, w.verification, w.duplicates, w.drift, w.grp, w.name, w.body
FROM unnest($2::bytea[], $3::bytea[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::bigint[], $11::bigint[], $12::text[], $13::bigint[], $14::text[], $15::bigint[], $16::bigint[],
            $17::bytea[])
     WITH ORDINALITY AS w (id, identity, kind, event_type, domain, app, stream, sequence, occurred_at, received_at,
                           verification, duplicates, drift, grp, name, body, n)";

fn drift(one: &Fresh<'_>) -> Option<String> {
    let note = one.namesake.map(|id| format!("named like event {id} and different in content"));
    let notes: Vec<&str> = one.new.drift.iter().map(String::as_str).chain(note.as_deref()).collect();
    (!notes.is_empty()).then(|| text::to_sql(&notes.join("\n")).into_owned())
}

/// The first of a lane in the batch is ready unless something of the lane is pending; the others wait behind it.
async fn insert_deliveries(tx: &mut Tx, fresh: &[Fresh<'_>], first: i64) -> Result<()> {
    let (mut events, mut handlers, mut lanes, mut behind) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for (seq, one) in (first..).zip(fresh) {
        let own = lane(&one.new.event.facts);
        for owed in &one.new.owed {
            let lane = own.filter(|_| owed.ordered);
            events.push(seq);
            handlers.push(owed.handler.0);
            lanes.push(lane);
            behind.push(lane.is_some_and(|lane| !seen.insert((owed.handler, lane))));
            tx.pending(owed.handler, 1);
        }
    }
    if events.is_empty() {
        return Ok(());
    }
    let ready: Vec<i64> = sqlx::query_scalar(INSERT_DELIVERIES)
        .bind(events)
        .bind(handlers)
        .bind(lanes)
        .bind(behind)
        .bind(tx.now.millis())
        .bind(READY)
        .bind(BLOCKED)
        .fetch_all(&mut tx.db)
        .await?;
    for handler in ready {
        tx.wake(HandlerId(handler));
    }
    Ok(())
}

/// Returns for whom something is ready.
const INSERT_DELIVERIES: &str = "
WITH made AS (
    INSERT INTO deliveries (event, handler, state, lane, rank, due, updated_at)
    SELECT w.event, w.handler,
           CASE WHEN w.behind OR w.lane IS NOT NULL AND EXISTS (
                    SELECT FROM deliveries d WHERE d.handler = w.handler AND d.lane = w.lane AND d.lane IS NOT NULL
                        AND d.state IN (0, 4))
                THEN $7::smallint ELSE $6::smallint END,
           w.lane, w.event, $5, $5
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::boolean[]) AS w (event, handler, lane, behind)
    RETURNING handler, state
)
SELECT DISTINCT handler FROM made WHERE state = $6";

/// Counts copies of events that were stored before, and notes these and those of events stored just now.
async fn count_copies(tx: &mut Tx, copies: &HashMap<i64, i64>, of_fresh: &[(&str, i64)]) -> Result<()> {
    if copies.is_empty() && of_fresh.is_empty() {
        return Ok(());
    }
    let (seqs, counts): (Vec<i64>, Vec<i64>) = copies.iter().map(|(seq, count)| (*seq, *count)).unzip();
    let (kinds, more): (Vec<&str>, Vec<i64>) = of_fresh.iter().copied().unzip();
    sqlx::query(COUNT_COPIES).bind(seqs).bind(counts).bind(kinds).bind(more).execute(&mut tx.db).await?;
    Ok(())
}

/// What is counted of kinds follows when what is noted here is catalogued.
const COUNT_COPIES: &str = "
WITH counted AS (
    UPDATE events e SET duplicates = duplicates + w.count
    FROM unnest($1::bigint[], $2::bigint[]) AS w (seq, count) WHERE e.seq = w.seq
    RETURNING e.kind, w.count
)
INSERT INTO copies (kind, n) SELECT kind, sum(count)::bigint FROM (
    SELECT kind, count FROM counted UNION ALL SELECT kind, count FROM unnest($3::text[], $4::bigint[]) AS w (kind, count)
) c GROUP BY kind";
