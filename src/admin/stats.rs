//! `/stats`: how things stand, in one answer.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::openapi;
use super::query::{Asked, named};
use super::{Admin, Problem};
use crate::clock::Timestamp;
use crate::event::{Kind, Reason};
use crate::store::{HandlerRow, KindStats, Stats, Tally, Timeline};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatsQuery {
    /// How far the timeline reaches back; otherwise 24h.
    #[param(schema_with = span)]
    span: Option<String>,
}

/// How far the timeline reaches back.
#[derive(Clone, Copy)]
struct Span {
    slug: &'static str,
    step_seconds: i64,
    steps: usize,
}

const SPANS: [Span; 5] = [
    Span { slug: "1h", step_seconds: 60, steps: 60 },
    Span { slug: "6h", step_seconds: 300, steps: 72 },
    DAY,
    Span { slug: "7d", step_seconds: 3600, steps: 168 },
    Span { slug: "30d", step_seconds: 21_600, steps: 120 },
];
const DAY: Span = Span { slug: "24h", step_seconds: 900, steps: 96 };

#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct Overview {
    at: String,
    events: Events,
    timeline: Steps,
    store: StoreFacts,
    queue: QueueFacts,
    handlers: BTreeMap<String, HandlerFacts>,
    quarantine: QuarantineFacts,
    streams_live: u64,
}

#[derive(Serialize, ToSchema)]
struct Events {
    total: u64,
    by_kind: BTreeMap<&'static str, KindFacts>,
}

#[derive(Serialize, ToSchema)]
struct KindFacts {
    count: u64,
    duplicates: u64,
    /// The latest of both, also of an event that has been pruned.
    last_event_at: Option<String>,
    last_received_at: Option<String>,
}

/// Events by their receipt; the last step is the one that is under way.
#[derive(Serialize, ToSchema)]
struct Steps {
    from: String,
    step_seconds: i64,
    kinds: BTreeMap<&'static str, Vec<u64>>,
}

#[derive(Serialize, ToSchema)]
struct StoreFacts {
    ready: bool,
    trouble: Option<String>,
    bytes: u64,
    max_bytes: Option<u64>,
    retention_seconds: u64,
    oldest_received_at: Option<String>,
}

/// Callbacks that wait for the store.
#[derive(Serialize, ToSchema)]
struct QueueFacts {
    waiting: usize,
    waiting_bytes: usize,
    count_max: usize,
    bytes_max: usize,
}

#[derive(Serialize, ToSchema)]
struct HandlerFacts {
    pending: u64,
    dead: u64,
    oldest_pending_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct QuarantineFacts {
    total: u64,
    by_reason: BTreeMap<&'static str, u64>,
    bytes: u64,
}

/// Tells how things stand.
#[utoipa::path(
    get,
    path = "/stats",
    tag = "stats",
    operation_id = "stats",
    params(StatsQuery),
    responses((status = OK, description = "As of now", body = Overview)),
)]
pub(super) async fn show(
    State(admin): State<Admin>,
    Asked(query): Asked<StatsQuery>,
) -> Result<Json<Overview>, Problem> {
    let span = named(query.span.as_deref(), Span::of, "span; the spans are 1h, 6h, 24h, 7d and 30d")?.unwrap_or(DAY);
    let store = admin.store();
    let stats = store.stats(span.step_seconds, span.steps).await?;
    let handlers = store.handlers().await?;
    Ok(Json(Overview {
        at: stats.at.rfc3339(),
        store: StoreFacts::of(&admin, &stats),
        queue: QueueFacts::of(&admin),
        handlers: handlers.into_iter().map(|row| (row.name.clone(), HandlerFacts::from(row))).collect(),
        quarantine: QuarantineFacts::from(store.tally()),
        streams_live: store.tally().streams_live,
        events: Events::from(stats.kinds),
        timeline: Steps::from(stats.timeline),
    }))
}

fn span() -> utoipa::openapi::Schema {
    openapi::one_of(SPANS.map(|span| span.slug))
}

impl Span {
    fn of(slug: &str) -> Option<Self> {
        SPANS.into_iter().find(|span| span.slug == slug)
    }
}

impl StoreFacts {
    fn of(admin: &Admin, stats: &Stats) -> Self {
        let (store, settings) = (admin.store(), admin.store().settings());
        let trouble = store.trouble();
        Self {
            ready: trouble.is_none(),
            trouble,
            bytes: store.bytes(),
            max_bytes: settings.max_bytes,
            retention_seconds: settings.retention.as_secs(),
            oldest_received_at: stats.oldest_received_at.map(Timestamp::rfc3339),
        }
    }
}

impl QueueFacts {
    fn of(admin: &Admin) -> Self {
        let (waiting, settings) = (admin.store().waiting(), admin.store().settings());
        Self {
            waiting: waiting.count,
            waiting_bytes: waiting.bytes,
            count_max: settings.queue_count,
            bytes_max: settings.queue_bytes,
        }
    }
}

impl From<BTreeMap<Kind, KindStats>> for Events {
    fn from(kinds: BTreeMap<Kind, KindStats>) -> Self {
        let by_kind = kinds.iter().map(|(kind, stats)| (kind.slug(), KindFacts::from(*stats))).collect();
        Self { total: kinds.values().map(|stats| stats.count).sum(), by_kind }
    }
}

impl From<KindStats> for KindFacts {
    fn from(stats: KindStats) -> Self {
        Self {
            count: stats.count,
            duplicates: stats.duplicates,
            last_event_at: stats.last_event_at.map(Timestamp::rfc3339),
            last_received_at: stats.last_received_at.map(Timestamp::rfc3339),
        }
    }
}

impl From<Timeline> for Steps {
    fn from(timeline: Timeline) -> Self {
        let kinds = timeline.kinds.into_iter().map(|(kind, counts)| (kind.slug(), counts)).collect();
        Self { from: timeline.from.rfc3339(), step_seconds: timeline.step_seconds, kinds }
    }
}

impl From<HandlerRow> for HandlerFacts {
    fn from(row: HandlerRow) -> Self {
        Self { pending: row.pending, dead: row.dead, oldest_pending_at: row.oldest_pending_at.map(Timestamp::rfc3339) }
    }
}

impl From<Tally> for QuarantineFacts {
    fn from(tally: Tally) -> Self {
        let count = |reason: Reason| tally.refused.get(&reason).copied().unwrap_or(0);
        Self {
            total: tally.refused.values().sum(),
            by_reason: Reason::ALL.map(|reason| (reason.slug(), count(reason))).into(),
            bytes: tally.refused_bytes,
        }
    }
}
