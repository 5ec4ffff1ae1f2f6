//! A transaction of the writer, and what it changes beside rows: counts, bells, what is in hand. All of that becomes true
//! by committing only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use sqlx::PgConnection;

use super::super::counted::Counted;
use super::super::model::HandlerId;
use super::super::settings::QuarantineSettings;
use super::groups::Groups;
use super::text;
use crate::clock::Timestamp;
use crate::event::Reason;

type Result<T> = sqlx::Result<T>;

/// A transaction under way. It holds [`Lock::Write`](super::locks::Lock::Write).
pub(super) struct Tx {
    pub(super) db: PgConnection,
    pub(super) now: Timestamp,
    pub(super) bounds: QuarantineSettings,
    /// The number of this replica.
    pub(super) replica: i64,
    pub(super) groups: Groups,
    pub(super) effects: Effects,
}

/// What a commit changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Effects {
    /// By how much more there is.
    pub(super) counted: Counted,
    /// Handlers that may have something to claim.
    pub(super) wake: BTreeSet<HandlerId>,
    /// All replicas are to look at who is paused and what was called off.
    pub(super) others_look: bool,
    /// This one is to look at what others did, before it says that it has.
    pub(super) look: bool,
    /// How the latest attempts went.
    pub(super) latest: BTreeMap<HandlerId, Latest>,
    /// Events that are stored more, and bytes of their bodies.
    pub(super) events: (i64, i64),
}

/// How the latest attempts of a handler went.
#[derive(Clone, Debug, Default)]
pub(super) struct Latest {
    pub(super) succeeded_at: Option<Timestamp>,
    pub(super) failed: Option<(Timestamp, String)>,
}

impl Tx {
    /// Takes places in the order of storing, for events or for the ranks of replays. Returns the first of them. Gaps do no
    /// harm.
    pub(super) async fn next_seqs(&mut self, count: usize) -> Result<i64> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let take = "UPDATE meta SET value = value + $1 WHERE key = 'last_seq' RETURNING value - $1 + 1";
        sqlx::query_scalar(take).bind(count).fetch_one(&mut self.db).await
    }

    pub(super) fn pending(&mut self, handler: HandlerId, change: i64) {
        *self.effects.counted.pending.entry(handler).or_default() += change;
    }

    pub(super) fn dead(&mut self, handler: HandlerId, change: i64) {
        *self.effects.counted.dead.entry(handler).or_default() += change;
    }

    pub(super) fn refused(&mut self, reason: Reason, count: i64, bytes: i64) {
        self.effects.counted.refuse(reason, count, bytes);
    }

    pub(super) fn wake(&mut self, handler: HandlerId) {
        self.effects.wake.insert(handler);
    }

    /// Has all replicas look at who is paused and what was called off.
    pub(super) fn refresh_others(&mut self) {
        self.effects.others_look = true;
    }

    /// Notes how an attempt went; `error` says why it failed.
    pub(super) fn attempted(&mut self, handler: HandlerId, error: Option<&str>) {
        let now = self.now;
        let latest = self.effects.latest.entry(handler).or_default();
        match error {
            None => latest.succeeded_at = Some(now),
            Some(error) => latest.failed = Some((now, error.to_owned())),
        }
    }

    /// Writes down the counts and the number of the transaction, and calls the other replicas, as the last thing before the
    /// commit.
    pub(super) async fn finish(&mut self, channel: &str, batch: Option<i64>) -> Result<()> {
        self.note_failures().await?;
        let mut sql = self.counts();
        if let Some(batch) = batch {
            let _ = write!(sql, "UPDATE replicas SET batch = {batch} WHERE id = {};", self.replica);
        }
        if let Some(call) = self.call(channel) {
            sql.push_str(&call);
        }
        if sql.is_empty() {
            return Ok(());
        }
        // Numbers and slugs of ours only.
        sqlx::raw_sql(&sql).execute(&mut self.db).await?;
        Ok(())
    }

    /// What is counted, as statements that go in one message.
    fn counts(&self) -> String {
        let mut sql = String::new();
        let Effects { counted, latest, events, .. } = &self.effects;
        let handlers: BTreeSet<_> =
            counted.pending.keys().chain(counted.dead.keys()).chain(latest.keys()).copied().collect();
        for handler in handlers {
            let of = |changes: &BTreeMap<HandlerId, i64>| changes.get(&handler).copied().unwrap_or(0);
            let (pending, dead) = (of(&counted.pending), of(&counted.dead));
            let succeeded = latest.get(&handler).and_then(|latest| latest.succeeded_at);
            let succeeded = succeeded.map_or_else(|| "succeeded_at".to_owned(), |at| at.millis().to_string());
            let _ = write!(
                sql,
                "UPDATE handlers SET pending = pending + {pending}, dead = dead + {dead}, succeeded_at = {succeeded} \
                 WHERE id = {};",
                handler.0
            );
        }
        for (reason, (count, bytes)) in &counted.refused {
            let _ = write!(
                sql,
                "INSERT INTO refusals (reason, count, bytes) VALUES ('{}', {count}, {bytes}) ON CONFLICT (reason) \
                 DO UPDATE SET count = refusals.count + excluded.count, bytes = refusals.bytes + excluded.bytes;",
                reason.slug()
            );
        }
        for (key, change) in
            [("streams_live", counted.streams_live), ("events_count", events.0), ("events_bytes", events.1)]
        {
            if change != 0 {
                let _ = write!(sql, "UPDATE meta SET value = value + {change} WHERE key = '{key}';");
            }
        }
        sql
    }

    /// Says for whom there may be something; `0` has everybody look at who is paused and what was called off.
    fn call(&self, channel: &str) -> Option<String> {
        let Effects { wake, others_look, .. } = &self.effects;
        let look = others_look.then_some(0);
        let whom: Vec<_> = look.into_iter().chain(wake.iter().map(|id| id.0)).map(|id| id.to_string()).collect();
        let shown = if whom.len() > CALLED_MAX { String::new() } else { whom.join(",") };
        (!whom.is_empty()).then(|| format!("NOTIFY \"{channel}\", '{}:{shown}';", self.replica))
    }

    /// Errors are a stranger's words, so they go as values.
    async fn note_failures(&mut self) -> Result<()> {
        for (handler, latest) in &self.effects.latest {
            if let Some((at, error)) = &latest.failed {
                sqlx::query("UPDATE handlers SET failed_at = $2, last_error = $3 WHERE id = $1")
                    .bind(handler.0)
                    .bind(at.millis())
                    .bind(text::to_sql(error))
                    .execute(&mut self.db)
                    .await?;
            }
        }
        Ok(())
    }
}

/// Handlers that are named in a call; with more of them everybody looks for himself.
const CALLED_MAX: usize = 500;
