//! What events of one kind, domain, app and verification have in common: a group, whose number stands in their rows.
//! Any choice of these four is a few of the groups, and an index holds the events of each in the order of storing.
//!
//! There are few groups unless somebody makes up names. Where there are many, the events of names that are new share a
//! group for each kind and verification, and are found by their names in `others` instead.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::text;
use crate::event::{Event, Facts, Kind, Verification};
use crate::store::catalogue::Entry;
use crate::store::model::EventFilter;
use crate::store::names::{Of, digest};

type Result<T> = sqlx::Result<T>;

/// Groups beyond this are not made. All are looked at for every list.
const GROUPS_MAX: usize = if cfg!(test) { 9 } else { 4096 };
/// Stands for a name that is not there; names are never empty.
const NONE: &str = "";
/// Stands for all names that have no group; names are without blanks at their ends.
const OTHERS: &str = " ";

/// - `groups` are the events of a kind, domain, app and verification; `''` stands for none, `' '` for any that has no group
///   of its own: the events of these are in `others` under the digests of their domains and apps.
pub(super) const VERSION_1: &str = "
CREATE TABLE groups (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text COLLATE \"C\" NOT NULL,
    domain text COLLATE \"C\" NOT NULL,
    app text COLLATE \"C\" NOT NULL,
    verification text COLLATE \"C\" NOT NULL
);
CREATE TABLE others (
    name bigint NOT NULL,
    event bigint NOT NULL,
    PRIMARY KEY (name, event)
);
CREATE INDEX others_by_event ON others (event);
INSERT INTO meta VALUES ('groups_version', 0);
";

/// What the events of a group have in common: kind, domain, app, verification.
type Key = (String, String, String, String);

/// The groups, as they are known to whoever stores events. Groups are made, and forgotten when their last event goes, by
/// any process; the number `groups_version` in `meta` counts how often.
#[derive(Debug, Default)]
pub(in crate::store) struct Groups {
    known: BTreeMap<Key, i64>,
    /// As of which version; none: nothing is known.
    version: Option<i64>,
}

/// A group that a list is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Match {
    pub(super) id: i64,
    /// Whether it holds the events of several names.
    pub(super) is_others: bool,
}

impl Groups {
    /// The group of each of these events, which are to stand at these places; `version` is the present one. Whoever asks
    /// holds the lock under which events are stored, and knows nothing any more when his transaction fails.
    pub(in crate::store) async fn of(
        &mut self,
        db: &mut PgConnection,
        version: i64,
        events: &[(i64, &Event)],
    ) -> Result<Vec<i64>> {
        if self.version != Some(version) {
            self.read(db, version).await?;
        }
        let keys: Vec<Key> = events
            .iter()
            .map(|(_, Event { facts, verification, .. })| key(facts.kind.slug(), facts, *verification))
            .collect();
        let missing: BTreeSet<&Key> = keys.iter().filter(|key| !self.known.contains_key(*key)).collect();
        if !missing.is_empty() {
            self.make(db, missing).await?;
        }
        let mut named = BTreeSet::new();
        let mut groups = Vec::with_capacity(events.len());
        for ((seq, event), key) in events.iter().zip(keys) {
            let own = self.known.get(&key).copied();
            if own.is_none() {
                named.extend(names(&event.facts).map(|name| (name, *seq)));
            }
            groups.push(own.or_else(|| self.known.get(&others(&key)).copied()).unwrap_or_default());
        }
        note_others(db, &named).await?;
        Ok(groups)
    }

    async fn read(&mut self, db: &mut PgConnection, version: i64) -> Result<()> {
        let rows = sqlx::query("SELECT id, kind, domain, app, verification FROM groups").fetch_all(db).await?;
        self.known = rows.iter().map(known).collect::<Result<_>>()?;
        self.version = Some(version);
        Ok(())
    }

    /// Makes groups while there is room; where there is none, that of the others.
    async fn make(&mut self, db: &mut PgConnection, missing: BTreeSet<&Key>) -> Result<()> {
        let room = GROUPS_MAX.saturating_sub(self.known.len());
        let (own, rest): (Vec<_>, Vec<_>) = missing.into_iter().enumerate().partition(|(at, _)| *at < room);
        let mut new: BTreeSet<Key> = own.into_iter().map(|(_, key)| key.clone()).collect();
        new.extend(rest.into_iter().map(|(_, key)| others(key)).filter(|key| !self.known.contains_key(key)));
        let column = |of: fn(&Key) -> &String| new.iter().map(|key| of(key).as_str()).collect::<Vec<_>>();
        let rows = sqlx::query(
            "INSERT INTO groups (kind, domain, app, verification) \
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) \
             RETURNING id, kind, domain, app, verification",
        )
        .bind(column(|key| &key.0))
        .bind(column(|key| &key.1))
        .bind(column(|key| &key.2))
        .bind(column(|key| &key.3))
        .fetch_all(&mut *db)
        .await?;
        for row in &rows {
            self.known.extend([known(row)?]);
        }
        if !new.is_empty() {
            self.version = Some(next_version(db).await?);
        }
        Ok(())
    }
}

fn known(row: &PgRow) -> Result<(Key, i64)> {
    Ok(((row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?), row.try_get(0)?))
}

fn key(kind: &str, facts: &Facts, verification: Verification) -> Key {
    let name = |name: &Option<String>| text::to_sql(name.as_deref().unwrap_or(NONE)).into_owned();
    (kind.to_owned(), name(&facts.domain), name(&facts.app), verification.slug().to_owned())
}

fn others((kind, _, _, verification): &Key) -> Key {
    (kind.clone(), OTHERS.to_owned(), OTHERS.to_owned(), verification.clone())
}

/// The names by which an event is found that has no group of its own.
fn names(facts: &Facts) -> impl Iterator<Item = i64> {
    let names = [(Of::Domain, &facts.domain), (Of::App, &facts.app)];
    names.into_iter().filter_map(|(of, name)| Some(digest(of, name.as_deref()?)))
}

async fn note_others(db: &mut PgConnection, named: &BTreeSet<(i64, i64)>) -> Result<()> {
    if named.is_empty() {
        return Ok(());
    }
    let (digests, events): (Vec<i64>, Vec<i64>) = named.iter().copied().unzip();
    sqlx::query("INSERT INTO others (name, event) SELECT * FROM unnest($1::bigint[], $2::bigint[])")
        .bind(digests)
        .bind(events)
        .execute(db)
        .await?;
    Ok(())
}

async fn next_version(db: &mut PgConnection) -> Result<i64> {
    let next = "UPDATE meta SET value = value + 1 WHERE key = 'groups_version' RETURNING value";
    sqlx::query_scalar(next).fetch_one(db).await
}

/// Forgets of events that are gone what is known of their names, and groups that have no events left. Whoever asks holds
/// the lock under which events are stored.
pub(super) async fn sweep(db: &mut PgConnection, gone: &[Entry]) -> Result<()> {
    let seqs: Vec<i64> = gone.iter().map(|entry| entry.row.seq).collect();
    sqlx::query("DELETE FROM others WHERE event = ANY($1)").bind(seqs).execute(&mut *db).await?;
    let mut keys: BTreeSet<Key> =
        gone.iter().map(|Entry { kind, row, .. }| key(kind, &row.facts, row.verification)).collect();
    keys.extend(keys.iter().map(others).collect::<Vec<_>>());
    let column = |of: fn(&Key) -> &String| keys.iter().map(|key| of(key).as_str()).collect::<Vec<_>>();
    let forgotten = sqlx::query(
        "DELETE FROM groups g USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) \
         AS k(kind, domain, app, verification) WHERE (g.kind, g.domain, g.app, g.verification) = \
         (k.kind, k.domain, k.app, k.verification) AND NOT EXISTS (SELECT 1 FROM events e WHERE e.grp = g.id)",
    )
    .bind(column(|key| &key.0))
    .bind(column(|key| &key.1))
    .bind(column(|key| &key.2))
    .bind(column(|key| &key.3))
    .execute(&mut *db)
    .await?;
    if forgotten.rows_affected() > 0 {
        next_version(db).await?;
    }
    Ok(())
}

/// The groups whose events a filter may match.
pub(super) async fn matching(db: &mut PgConnection, filter: &EventFilter) -> Result<Vec<Match>> {
    let name = |name: &Option<String>| name.as_deref().map(|name| text::to_sql(name).into_owned());
    let rows = sqlx::query(
        "SELECT id, domain = ' ' FROM groups WHERE ($1::text IS NULL OR kind = $1) \
         AND ($2::text IS NULL OR verification = $2) AND ($3::text IS NULL OR domain IN ($3, ' ')) \
         AND ($4::text IS NULL OR app IN ($4, ' '))",
    )
    .bind(filter.kind.map(Kind::slug))
    .bind(filter.verification.map(Verification::slug))
    .bind(name(&filter.domain))
    .bind(name(&filter.app))
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok(Match { id: row.try_get(0)?, is_others: row.try_get(1)? })).collect()
}
