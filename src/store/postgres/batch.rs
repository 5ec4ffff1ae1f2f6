//! The jobs of a transaction: those of a kind together.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use super::append::append_all;
use super::connect::said;
use super::deliveries::settle_all;
use super::groups::Groups;
use super::jobs::{Job, Work};
use super::tx::Tx;

type Result<T> = sqlx::Result<T>;

/// How much care a transaction takes of single jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// None: one that fails takes all with it.
    Together,
    /// A savepoint each: one that fails fails alone.
    Each,
}

/// Does all jobs. Returns for each why it failed alone, if it did.
pub(super) async fn run(tx: &mut Tx, jobs: &mut [Job], care: Care) -> Result<Vec<Option<String>>> {
    match care {
        Care::Together => {
            run_together(tx, jobs).await?;
            Ok(vec![None; jobs.len()])
        }
        Care::Each => {
            let mut failures = Vec::with_capacity(jobs.len());
            for job in jobs {
                failures.push(run_alone(tx, job).await?);
            }
            Ok(failures)
        }
    }
}

async fn run_alone(tx: &mut Tx, job: &mut Job) -> Result<Option<String>> {
    sqlx::raw_sql("SAVEPOINT one").execute(&mut tx.db).await?;
    let before = tx.effects.clone();
    match run_together(tx, std::slice::from_mut(job)).await {
        Ok(()) => sqlx::raw_sql("RELEASE SAVEPOINT one").execute(&mut tx.db).await.map(|_| None),
        Err(error) if is_trouble(&error) => Err(error),
        Err(error) => {
            tx.effects = before;
            // It may know groups that go with the savepoint.
            tx.groups = Groups::default();
            sqlx::raw_sql("ROLLBACK TO SAVEPOINT one; RELEASE SAVEPOINT one").execute(&mut tx.db).await?;
            let error = said(&error);
            tracing::error!(error, "a write was refused by the store");
            Ok(Some(error))
        }
    }
}

/// What attempts came to first: what they held back may be claimed at the end.
async fn run_together(tx: &mut Tx, jobs: &mut [Job]) -> Result<()> {
    let (mut appends, mut settles, mut works) = (Vec::new(), Vec::new(), Vec::new());
    for job in jobs {
        match job {
            Job::Append(append) => appends.push(append),
            Job::Settle(settle) => settles.push(&*settle),
            Job::Work(work) => works.push(work),
        }
    }
    if !settles.is_empty() {
        settle_all(tx, &settles).await?;
    }
    for work in works {
        run_guarded(tx, work.as_mut()).await?;
    }
    if !appends.is_empty() {
        append_all(tx, &mut appends).await?;
    }
    Ok(())
}

/// A panic in one work is that one's failure.
async fn run_guarded(tx: &mut Tx, work: &mut dyn Work) -> Result<()> {
    AssertUnwindSafe(work.run(tx)).catch_unwind().await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

/// Whether the store as a whole is in trouble, rather than one job at fault: bad data (class 22), a constraint (23), or
/// something too large (54).
pub(super) fn is_trouble(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(inner) => {
            let code = inner.code();
            !["22", "23", "54"].iter().any(|class| code.as_deref().is_some_and(|code| code.starts_with(class)))
        }
        sqlx::Error::Encode(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::RowNotFound
        | sqlx::Error::WorkerCrashed => false,
        _ => true,
    }
}
