//! Turns that replicas take: advisory locks of the database, held until the end of a transaction.

use sqlx::PgConnection;

/// What only one replica does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// Changing events, deliveries, claims and handlers. Whoever holds it gives out places in the order of storing, so that
    /// this is the order of the commits, too.
    Write,
    /// Cataloguing, making streams anew, pruning. Taken before [`Write`](Self::Write) where both are needed.
    Catalogue,
    /// Bringing the schema to the newest format.
    Migrate,
}

impl Lock {
    const fn number(self) -> i32 {
        match self {
            Self::Write => 1,
            Self::Catalogue => 2,
            Self::Migrate => 3,
        }
    }
}

/// Waits for a turn, which ends with the transaction. Stores in other schemas of the database have turns of their own.
pub(super) async fn wait_for(db: &mut PgConnection, lock: Lock) -> sqlx::Result<()> {
    sqlx::query(WAIT).bind(lock.number()).execute(db).await?;
    Ok(())
}

/// Begins a transaction and waits for its turn to [`Write`](Lock::Write), in one message.
pub(super) const BEGIN_WRITE: &str =
    "BEGIN; SELECT pg_advisory_xact_lock(hashtext('livehook ' || current_setting('search_path')), 1)";

/// Ends a transaction for good, in one message. A commit that waits for a standby is given up by nobody but us: one that
/// the server gives up counts as made, though only this server has it.
pub(super) const COMMIT: &str = "SET LOCAL statement_timeout = 0; COMMIT";

/// The first half of the number keeps clear of the locks of other programs in the database, as far as may be.
const WAIT: &str = "SELECT pg_advisory_xact_lock(hashtext('livehook ' || current_setting('search_path')), $1)";
