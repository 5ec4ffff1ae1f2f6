//! Calls of the other replicas: for whom there may be something, and that something was decided. Calls may get lost; the
//! writer looks around once a second.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;

use super::super::model::HandlerId;
use super::super::queue::Queue;
use super::Shared;
use super::connect::said;
use super::jobs::Job;

/// Pause between attempts to listen.
const BACKOFF: Duration = Duration::from_secs(1);

/// Listens for ever.
pub(super) async fn listen(pool: PgPool, channel: String, shared: Arc<Shared>, queue: Arc<Queue<Job>>) {
    loop {
        if let Err(error) = listen_once(&pool, &channel, &shared, &queue).await {
            tracing::debug!(error = said(&error), "the other replicas cannot be heard; trying again");
        }
        tokio::time::sleep(BACKOFF).await;
    }
}

/// Listens until the connection is lost.
async fn listen_once(pool: &PgPool, channel: &str, shared: &Shared, queue: &Queue<Job>) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    // Whatever was called before is not heard.
    hear("", shared, queue);
    while let Some(call) = listener.try_recv().await? {
        if let Some((replica, whom)) = call.payload().split_once(':')
            && replica.parse() != Ok(shared.replica.load(Ordering::Relaxed))
        {
            hear(whom, shared, queue);
        }
    }
    Ok(())
}

/// Nobody named means everybody; 0 means that something was decided.
fn hear(whom: &str, shared: &Shared, queue: &Queue<Job>) {
    if whom.is_empty() {
        queue.nudge();
        return shared.bells.ring_all();
    }
    for id in whom.split(',').filter_map(|id| id.parse().ok()) {
        if id == 0 {
            queue.nudge();
        } else {
            shared.bells.ring(HandlerId(id));
        }
    }
}
