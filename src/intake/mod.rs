//! From bytes to the store, without HTTP: what is checked, in which order, and what becomes of it. The same code serves
//! callbacks, `readmit` and `import`. `intake` decides on no answer and knows no status.

mod import;
mod importing;
mod readmit;
mod replay;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use uuid::ContextV7;

pub use self::import::{ImportError, Imported, LINE_MAX, Lines, spill_line};
pub use self::importing::Importing;
pub use self::readmit::Readmitted;
pub use self::replay::ReplayError;
use crate::clock::{Clock, Timestamp};
use crate::event::{Event, EventId, Identity, Incoming, Kind, Reason, Refusal, Verification, payload};
use crate::handler::{Candidate, Filter, Order, Policy, Verdict};
use crate::signature::{self, LegacyHeaders};
use crate::store::{Appended, NewEvent, NewRefused, Owed, Store, StoreError};
use crate::telemetry::traces::{Place, Role, Span, Traces};
use crate::telemetry::{Metrics, Repeats};

/// A callback as it came in.
#[derive(Clone, Debug)]
pub struct Callback {
    /// When its last byte had arrived.
    pub received_at: Timestamp,
    /// The path it was posted to, without query.
    pub path: String,
    /// The kind its route is named for; none on the route for all.
    pub route: Option<Kind>,
    /// What the query carried as `token`, decoded.
    pub token: Option<String>,
    /// The headers that sign image audits of before August 2020.
    pub headers: LegacyHeaders,
    /// The body; of one that is too large the beginning.
    pub body: Bytes,
    /// Set when the body was larger than the limit.
    pub excess: Option<Excess>,
}

/// A body larger than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The limit, in bytes.
    pub limit: usize,
    /// Bytes that were read before reading ended.
    pub read: u64,
}

/// What a callback turned out to be; nothing is stored yet.
#[derive(Debug)]
pub enum Ruling {
    /// An event to be stored.
    Event(Box<Admitted>),
    /// To be kept in quarantine.
    Refused(Box<NewRefused>),
}

/// An event that passed every check.
#[derive(Debug)]
pub struct Admitted {
    new: NewEvent,
    key: Option<String>,
    misrouted: bool,
}

/// What became of a callback; all of it is on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// A new event.
    Stored(EventId),
    /// A copy of one we have.
    Duplicate,
    /// Kept in quarantine.
    Quarantined(Reason),
}

/// The way in.
pub struct Intake {
    store: Store,
    rules: ArcSwap<Rules>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    traces: Traces,
    refusals: Repeats<Reason>,
    filter_errors: Repeats<String>,
    ids: Mutex<ContextV7>,
    desk: replay::Desk,
}

/// What may change while callbacks come in. One callback is looked at by one of them from beginning to end.
struct Rules {
    signature: signature::Settings,
    routes: Vec<Route>,
}

/// A handler that may get an event.
#[derive(Clone)]
struct Route {
    owed: Owed,
    name: String,
    filter: Filter,
}

/// How strictly a callback is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terms {
    /// Whether the URL must carry the token.
    token: bool,
    /// Whether a signature that fails is overlooked.
    force: bool,
}

impl Intake {
    /// A way into `store` for events that go to handlers with these policies.
    pub fn new(
        store: Store,
        signature: signature::Settings,
        policies: &[Policy],
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        let rules = ArcSwap::from_pointee(Rules::new(&store, signature, policies));
        let (traces, ids) = (Traces::default(), Mutex::new(ContextV7::new()));
        let (refusals, filter_errors) = (Repeats::default(), Repeats::default());
        Self { store, rules, clock, metrics, traces, refusals, filter_errors, ids, desk: replay::Desk::default() }
    }

    /// The same, with what it does traced.
    #[must_use]
    pub fn traced(mut self, traces: Traces) -> Self {
        self.traces = traces;
        self
    }

    /// Where spans of callbacks go.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Judges by other keys, and for handlers with other policies, from the next callback on.
    pub fn reconfigure(&self, signature: signature::Settings, policies: &[Policy]) {
        self.rules.store(Arc::new(Rules::new(&self.store, signature, policies)));
    }

    /// The store it leads to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What its clock says.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Looks at a callback: pure but for the id it gives, and for filters that fail, which are counted.
    pub fn rule(&self, callback: &Callback) -> Ruling {
        self.rule_on(callback, Terms { token: true, force: false })
    }

    /// Brings a ruling onto stable storage. Dropping the future takes nothing back.
    pub async fn keep(&self, ruling: Ruling) -> Result<Receipt, StoreError> {
        match ruling {
            Ruling::Event(admitted) => self.keep_event(*admitted).await,
            Ruling::Refused(refused) => {
                let reason = refused.reason;
                if self.refusals.is_told(reason) {
                    tracing::warn!(%reason, detail = refused.detail, path = refused.path, "callback refused");
                } else {
                    tracing::debug!(%reason, detail = refused.detail, path = refused.path, "callback refused");
                }
                self.store.refuse(*refused).await?;
                self.metrics.callbacks_quarantined_total.with_label_values(&[reason.slug()]).inc();
                Ok(Receipt::Quarantined(reason))
            }
        }
    }

    /// Logs in sum what was refused, and which filters failed, and had no line of its own. To be called every
    /// [`SUMMARY_EVERY`](crate::telemetry::SUMMARY_EVERY).
    pub fn sum_up(&self) {
        for (reason, callbacks) in self.refusals.untold() {
            tracing::warn!(%reason, callbacks, "more callbacks refused");
        }
        for (handler, events) in self.filter_errors.untold() {
            tracing::warn!(handler, events, "`when` came to no result for more events; they are delivered");
        }
    }

    fn rule_on(&self, callback: &Callback, terms: Terms) -> Ruling {
        match self.admit(callback, terms) {
            Ok(admitted) => Ruling::Event(Box::new(admitted)),
            Err(refusal) => Ruling::Refused(Box::new(refused(callback, &refusal))),
        }
    }

    fn admit(&self, callback: &Callback, terms: Terms) -> Result<Admitted, Refusal> {
        let rules = self.rules.load();
        if terms.token {
            rules.check_token(callback)?;
        }
        if let Some(excess) = callback.excess {
            return Err(Refusal::TooLarge { limit: excess.limit });
        }
        let incoming = Incoming::read(&callback.body)?;
        let (verification, key) = rules.check_signature(&incoming, callback, terms)?;
        let reading = payload::read(incoming.kind(), incoming.body());
        let facts = incoming.facts();
        let identity = Identity::of(incoming.body(), facts.occurred_at, reading.natural_key.as_deref());
        let misrouted = callback.route.is_some_and(|route| route != facts.kind);
        let event = Event {
            id: self.next_id(),
            facts,
            received_at: callback.received_at,
            verification,
            body: callback.body.clone(),
        };
        let owed = self.owed(&rules.routes, &event);
        let new = NewEvent { event: Arc::new(event), identity, drift: reading.drift, owed, readmitted: None };
        Ok(Admitted { new, key, misrouted })
    }

    /// The deliveries that an event makes.
    fn owed(&self, routes: &[Route], event: &Event) -> Vec<Owed> {
        let candidate = Candidate::new(event);
        let wanting = routes.iter().filter(|route| self.is_wanted(route, &candidate, event.id));
        wanting.map(|route| route.owed).collect()
    }

    fn is_wanted(&self, route: &Route, candidate: &Candidate<'_>, id: EventId) -> bool {
        let verdict = route.filter.judge(candidate);
        if let Verdict::Undecided(error) = &verdict {
            let handler = route.name.as_str();
            self.metrics.filter_errors_total.with_label_values(&[handler]).inc();
            if self.filter_errors.is_told(route.name.clone()) {
                tracing::warn!(handler, %id, %error, "`when` came to no result; the event is delivered");
            } else {
                tracing::debug!(handler, %id, %error, "`when` came to no result; the event is delivered");
            }
        }
        verdict.delivers()
    }

    fn next_id(&self) -> EventId {
        let now = self.clock.now().millis().max(0).unsigned_abs();
        let nanos = u32::try_from(now % 1000).unwrap_or(0) * 1_000_000;
        EventId::new_v7(uuid::Timestamp::from_unix(&self.ids, now / 1000, nanos))
    }

    async fn keep_event(&self, admitted: Admitted) -> Result<Receipt, StoreError> {
        let Admitted { new, key, misrouted } = admitted;
        let kind = new.event.facts.kind.slug();
        // What is readmitted was late for other reasons.
        let occurred_at = new.event.facts.occurred_at.filter(|_| new.readmitted.is_none());
        let received_at = new.event.received_at;
        if let Some(key) = &key {
            self.metrics.signature_key_matches_total.with_label_values(&[key]).inc();
        }
        if misrouted {
            self.metrics.callbacks_misrouted_total.with_label_values(&[kind]).inc();
        }
        let appended = self.append(new).await?;
        if let Some(occurred_at) = occurred_at {
            let lag = self.clock.now().since(occurred_at).as_secs_f64();
            self.metrics.event_lag_seconds.with_label_values(&[kind]).observe(lag);
        }
        self.count(kind, received_at, appended);
        Ok(match appended {
            Appended::Stored { id, .. } => Receipt::Stored(id),
            Appended::Duplicate(_) => Receipt::Duplicate,
        })
    }

    fn count(&self, kind: &str, received_at: Timestamp, appended: Appended) {
        match appended {
            Appended::Stored { id, drifted } => {
                self.metrics.events_received_total.with_label_values(&[kind]).inc();
                self.metrics.events_drift_total.with_label_values(&[kind]).inc_by(u64::from(drifted));
                self.metrics.note_event(kind, received_at);
                tracing::debug!(%id, kind, "event stored");
            }
            Appended::Duplicate(id) => {
                self.metrics.events_duplicate_total.with_label_values(&[kind]).inc();
                tracing::debug!(id = id.map(tracing::field::display), kind, "copy of an event");
            }
        }
    }

    async fn append(&self, new: NewEvent) -> Result<Appended, StoreError> {
        let timer = self.metrics.store_append_duration_seconds.with_label_values::<&str>(&[]).start_timer();
        let traced =
            self.traces.takes(new.event.id.as_u128()).then(|| (new.event.id, new.readmitted.is_none(), Instant::now()));
        let appended = self.store.append(new).await;
        timer.observe_duration();
        if let Some((id, is_callback, begun)) = traced {
            self.trace_append(id, is_callback, begun, &appended);
        }
        appended
    }

    /// A copy is a trace of its own, linked to that of the event it is a copy of.
    fn trace_append(&self, id: EventId, is_callback: bool, begun: Instant, appended: &Result<Appended, StoreError>) {
        let (outcome, first) = match appended {
            Ok(Appended::Stored { .. }) => ("stored", None),
            Ok(Appended::Duplicate(first)) => ("copy", *first),
            Err(_) => ("failed", None),
        };
        self.traces.record(Span {
            place: Place::within(id.as_u128()),
            parent: is_callback.then(|| Place::of_request(id.as_u128()).span),
            link: first.map(|first| Place::of_request(first.as_u128())),
            name: "append",
            role: Role::Internal,
            begun,
            attributes: vec![("livehook.outcome", outcome.into())],
            failure: appended.as_ref().err().map(ToString::to_string),
        });
    }
}

impl Rules {
    fn new(store: &Store, signature: signature::Settings, policies: &[Policy]) -> Self {
        let route = |policy: &Policy| {
            let handler = store.handler(&policy.name)?;
            let owed = Owed { handler, ordered: policy.order == Order::Stream };
            Some(Route { owed, name: policy.name.clone(), filter: policy.filter.clone() })
        };
        Self { signature, routes: policies.iter().filter_map(route).collect() }
    }

    fn check_token(&self, callback: &Callback) -> Result<(), Refusal> {
        let Some(secret) = &self.signature.url_token else {
            return Ok(());
        };
        let given = callback.token.as_deref().unwrap_or_default();
        if secret.matches(given.as_bytes()) { Ok(()) } else { Err(Refusal::Token) }
    }

    fn check_signature(
        &self,
        incoming: &Incoming<'_>,
        callback: &Callback,
        terms: Terms,
    ) -> Result<(Verification, Option<String>), Refusal> {
        match signature::verify(incoming, &callback.headers, &self.signature, callback.received_at) {
            Ok(verified) => {
                let verification =
                    if verified.key().is_some() { Verification::Verified } else { Verification::Unsigned };
                Ok((verification, verified.key().map(str::to_owned)))
            }
            Err(_) if terms.force => Ok((Verification::Forced, None)),
            Err(refusal) => Err(refusal),
        }
    }
}

impl Ruling {
    /// The id it has if it is a new event.
    pub fn event_id(&self) -> Option<EventId> {
        match self {
            Self::Event(admitted) => Some(admitted.new.event.id),
            Self::Refused(_) => None,
        }
    }

    /// Why the callback is refused; none for an event.
    pub fn refusal(&self) -> Option<Reason> {
        match self {
            Self::Event(_) => None,
            Self::Refused(refused) => Some(refused.reason),
        }
    }
}

fn refused(callback: &Callback, refusal: &Refusal) -> NewRefused {
    NewRefused {
        received_at: callback.received_at,
        reason: refusal.reason(),
        detail: refusal.to_string(),
        path: callback.path.clone(),
        body: callback.body.clone(),
        bytes: callback.excess.map_or(callback.body.len() as u64, |excess| excess.read),
        headers: callback.headers.clone(),
    }
}
