//! Prometheus metrics of one running server. Every label value that is known starts at zero.

use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
    core::Collector,
    proto::{LabelPair, Metric, MetricFamily},
};

use crate::clock::Timestamp;

/// Seconds from a tenth of a millisecond to the sender's patience.
const ANSWER_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];
/// Seconds of an attempt, up to the longest sensible timeout.
const ATTEMPT_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Seconds from an event to our answer: at once, after CSS's own delays, after its retries.
const LAG_BUCKETS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 3600.0];

/// The metrics of one running server. Fields are named like the metrics, without the prefix `livehook_`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the help texts below say what each one is")]
pub struct Metrics {
    registry: Registry,
    pub events_received_total: IntCounterVec,
    pub events_duplicate_total: IntCounterVec,
    pub events_drift_total: IntCounterVec,
    pub callbacks_quarantined_total: IntCounterVec,
    pub callbacks_spilled_total: IntCounter,
    pub callbacks_misrouted_total: IntCounterVec,
    pub signature_key_matches_total: IntCounterVec,
    pub filter_errors_total: IntCounterVec,
    pub admin_refused_total: IntCounterVec,
    pub http_requests_total: IntCounterVec,
    pub http_request_duration_seconds: HistogramVec,
    pub store_append_duration_seconds: HistogramVec,
    pub store_bytes: IntGauge,
    pub queue_depth: IntGaugeVec,
    pub queue_oldest_timestamp_seconds: GaugeVec,
    pub dead_letters: IntGaugeVec,
    pub streams_live: IntGauge,
    pub handler_attempts_total: IntCounterVec,
    pub handler_duration_seconds: HistogramVec,
    pub event_lag_seconds: HistogramVec,
    pub last_event_timestamp_seconds: GaugeVec,
    pub ready: IntGauge,
    pub start_timestamp_seconds: IntGauge,
    pub config_last_reload_successful: IntGauge,
    pub config_last_reload_success_timestamp_seconds: IntGauge,
    pub build_info: IntGaugeVec,
}

/// The label values known at the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct KnownLabels<'a> {
    /// Slugs of all kinds.
    pub kinds: &'a [&'a str],
    /// Slugs of all quarantine reasons.
    pub reasons: &'a [&'a str],
    /// Names of the callback keys.
    pub keys: &'a [&'a str],
    /// Names of the handlers.
    pub handlers: &'a [&'a str],
    /// Patterns of the routes of callbacks.
    pub routes: &'a [&'a str],
}

impl Metrics {
    /// A fresh set, with every known label value at zero.
    pub fn new(known: KnownLabels<'_>) -> Self {
        let registry = Registry::new();
        let new = Made { registry: &registry };
        let metrics = Self {
            events_received_total: new.counters("events_received_total", "Events stored, first copies only", &["kind"]),
            events_duplicate_total: new.counters("events_duplicate_total", "Copies of events we have", &["kind"]),
            events_drift_total: new.counters("events_drift_total", "Events unlike their documentation", &["kind"]),
            callbacks_quarantined_total: new.counters("callbacks_quarantined_total", "Callbacks refused", &["reason"]),
            callbacks_spilled_total: new.counter(
                "callbacks_spilled_total",
                "Callbacks written to standard error because the store could not confirm them in time",
            ),
            callbacks_misrouted_total: new.counters(
                "callbacks_misrouted_total",
                "Events that came in on the route of another kind",
                &["kind"],
            ),
            signature_key_matches_total: new.counters(
                "signature_key_matches_total",
                "Callbacks whose signature matched this key",
                &["key"],
            ),
            filter_errors_total: new.counters(
                "filter_errors_total",
                "Events delivered because `when` came to no result",
                &["handler"],
            ),
            admin_refused_total: new.counters(
                "admin_refused_total",
                "Calls of the admin API without the right token",
                &["reason"],
            ),
            http_requests_total: new.counters("http_requests_total", "Answers to requests", &["route", "code"]),
            http_request_duration_seconds: new.histograms(
                "http_request_duration_seconds",
                "From the head of a request to its answer",
                &["route"],
                ANSWER_BUCKETS,
            ),
            store_append_duration_seconds: new.histograms(
                "store_append_duration_seconds",
                "From handing a callback to the store to its confirmation",
                &[],
                ANSWER_BUCKETS,
            ),
            store_bytes: new.gauge("store_bytes", "Bytes of the store on disk"),
            queue_depth: new.gauges("queue_depth", "Deliveries pending", &["handler"]),
            queue_oldest_timestamp_seconds: new.moments(
                "queue_oldest_timestamp_seconds",
                "Receipt of the oldest pending delivery's event; 0: none",
                &["handler"],
            ),
            streams_live: new.gauge("streams_live", "Streams that are live"),
            dead_letters: new.gauges(
                "dead_letters",
                "Deliveries that nobody tries again without a person",
                &["handler"],
            ),
            handler_attempts_total: new.counters("handler_attempts_total", "Attempts", &["handler", "outcome"]),
            handler_duration_seconds: new.histograms(
                "handler_duration_seconds",
                "Length of an attempt",
                &["handler"],
                ATTEMPT_BUCKETS,
            ),
            event_lag_seconds: new.histograms(
                "event_lag_seconds",
                "From the event's own time to our answer",
                &["kind"],
                LAG_BUCKETS,
            ),
            last_event_timestamp_seconds: new.moments(
                "last_event_timestamp_seconds",
                "Receipt of the latest event; 0: none yet",
                &["kind"],
            ),
            ready: new.gauge("ready", "Whether the store can take an event: 1, or 0"),
            start_timestamp_seconds: new.gauge("start_timestamp_seconds", "Start of the process"),
            config_last_reload_successful: new.gauge(
                "config_last_reload_successful",
                "Whether the configuration that was last read is the present one",
            ),
            config_last_reload_success_timestamp_seconds: new
                .gauge("config_last_reload_success_timestamp_seconds", "When the present configuration was taken over"),
            build_info: new.gauges("build_info", "Always 1", &["version", "revision"]),
            registry: registry.clone(),
        };
        metrics.start_at_zero(known);
        metrics
    }

    /// Notes the receipt of an event; what is imported or readmitted came before others.
    pub fn note_event(&self, kind: &str, received_at: Timestamp) {
        #[expect(clippy::cast_precision_loss, reason = "seconds of our time are exact in an f64")]
        let received = received_at.secs() as f64;
        let latest = self.last_event_timestamp_seconds.with_label_values(&[kind]);
        latest.set(latest.get().max(received));
    }

    /// Shows no more how much is owed to handlers that are none of these. What they have done stays counted.
    pub fn keep_queues_of(&self, keeps: impl Fn(&str) -> bool) {
        let shown = self.queue_depth.collect();
        let labels = shown.iter().flat_map(MetricFamily::get_metric).flat_map(Metric::get_label);
        for name in labels.map(LabelPair::value).filter(|name| !keeps(name)) {
            // An error says that there is no such label value.
            let _ = self.queue_depth.remove_label_values(&[name]);
            let _ = self.queue_oldest_timestamp_seconds.remove_label_values(&[name]);
            let _ = self.dead_letters.remove_label_values(&[name]);
        }
    }

    /// The metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(%error, "metrics cannot be rendered");
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Shows label values that have become known at zero; those that have counted go on.
    pub fn start_at_zero(&self, known: KnownLabels<'_>) {
        for kind in known.kinds {
            self.events_received_total.with_label_values(&[kind]);
            self.events_duplicate_total.with_label_values(&[kind]);
            self.events_drift_total.with_label_values(&[kind]);
            self.callbacks_misrouted_total.with_label_values(&[kind]);
            self.event_lag_seconds.with_label_values(&[kind]);
            self.last_event_timestamp_seconds.with_label_values(&[kind]);
        }
        for route in known.routes {
            self.http_requests_total.with_label_values(&[*route, "200"]);
            self.http_request_duration_seconds.with_label_values(&[route]);
        }
        for reason in known.reasons {
            self.callbacks_quarantined_total.with_label_values(&[reason]);
        }
        for key in known.keys {
            self.signature_key_matches_total.with_label_values(&[key]);
        }
        for handler in known.handlers {
            self.filter_errors_total.with_label_values(&[handler]);
            self.queue_depth.with_label_values(&[handler]);
            self.queue_oldest_timestamp_seconds.with_label_values(&[handler]);
            self.dead_letters.with_label_values(&[handler]);
            self.handler_duration_seconds.with_label_values(&[handler]);
            for outcome in ["done", "retry", "dead"] {
                self.handler_attempts_total.with_label_values(&[*handler, outcome]);
            }
        }
        for reason in ["missing", "token", "too-many"] {
            self.admin_refused_total.with_label_values(&[reason]);
        }
        self.store_append_duration_seconds.with_label_values::<&str>(&[]);
        let revision = option_env!("LIVEHOOK_REVISION").unwrap_or("unknown");
        self.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), revision]).set(1);
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("livehook")
}

/// Makes metrics and registers them.
struct Made<'a> {
    registry: &'a Registry,
}

impl Made<'_> {
    fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let collector = made.expect("the names above are valid and their labels differ");
        self.registry.register(Box::new(collector.clone())).expect("the names above differ");
        collector
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::with_opts(opts(name, help)))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(opts(name, help)))
    }

    /// Seconds since 1970; 0 for none.
    fn moments(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(opts(name, help), labels))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(opts(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(opts(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let opts = HistogramOpts { common_opts: opts(name, help), buckets: buckets.to_vec() };
        self.add(HistogramVec::new(opts, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_labels_start_at_zero() {
        let metrics = Metrics::new(KnownLabels {
            kinds: &["stream-push"],
            reasons: &["token"],
            keys: &["main"],
            handlers: &["rooms"],
            routes: &["/callbacks"],
        });
        let text = metrics.render();
        for line in [
            "livehook_events_received_total{kind=\"stream-push\"} 0",
            "livehook_callbacks_quarantined_total{reason=\"token\"} 0",
            "livehook_callbacks_spilled_total 0",
            "livehook_http_requests_total{code=\"200\",route=\"/callbacks\"} 0",
            "livehook_handler_attempts_total{handler=\"rooms\",outcome=\"dead\"} 0",
            "livehook_filter_errors_total{handler=\"rooms\"} 0",
            "livehook_admin_refused_total{reason=\"token\"} 0",
            "livehook_store_append_duration_seconds_count 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
