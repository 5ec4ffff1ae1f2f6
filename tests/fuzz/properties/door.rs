//! Any bytes on a connection to the callback listener. Answered is only with the statuses we know, what is answered as
//! taken has been counted as kept, and the next caller is taken care of as if nothing had been.

use std::sync::Arc;
use std::time::Duration;

use livehook::clock::{ManualClock, Timestamp};
use livehook::event::{Kind, Reason};
use livehook::intake::Intake;
use livehook::receive::{Door, Receiver, Settings, StandardError};
use livehook::secret::Secret;
use livehook::signature::{self, Key};
use livehook::store::{self, QuarantineSettings, Store};
use livehook::telemetry::{KnownLabels, Metrics};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;

/// The answers there are: ours, and those of the HTTP library to what is no request.
const STATUSES: [&str; 9] = ["100", "200", "400", "404", "405", "408", "414", "431", "505"];
const TAKEN: &[u8] = b"{\"code\":0}";

/// A good callback, of a kind that is not signed.
const GOOD: &[u8] = b"POST /callbacks HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n{\"event_type\":328}";

pub(crate) fn holds(data: &[u8]) {
    BENCH.with(|bench| {
        let before = bench.kept();
        let answers = bench.converse(data);
        let taken = occurrences(&answers, TAKEN);
        assert!(bench.kept() - before >= taken, "{taken} answered, {} kept", bench.kept() - before);
        for (at, _) in answers.windows(7).enumerate().filter(|(_, bytes)| *bytes == b"HTTP/1.") {
            let status = answers.get(at + 9..at + 12).and_then(|bytes| std::str::from_utf8(bytes).ok());
            assert!(status.is_some_and(|status| STATUSES.contains(&status)), "{status:?}");
        }
        let next = bench.converse(GOOD);
        assert!(next.starts_with(b"HTTP/1.1 200 ") && occurrences(&next, TAKEN) == 1);
    });
}

fn occurrences(text: &[u8], part: &[u8]) -> u64 {
    text.windows(part.len()).filter(|bytes| *bytes == part).count() as u64
}

struct Bench {
    runtime: Runtime,
    door: Door,
    metrics: Metrics,
    _directory: TempDir,
}

thread_local! {
    static BENCH: Bench = Bench::new();
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_703_128_357_104)));
        let quarantine = QuarantineSettings { max_count: 100, max_bytes: 1 << 20 };
        let url = format!("sqlite:{}", directory.path().join("s.db").display());
        let settings = store::Settings { url, quarantine, ..store::Settings::default() };
        let store = Store::open(settings, &[], Duration::from_mins(1), clock.clone()).expect("a store");
        let metrics = Metrics::new(KnownLabels::default());
        let keys = vec![Key { name: "main".to_owned(), key: Secret::new("abc123"), domains: Vec::new() }];
        let signature = signature::Settings { keys, ..signature::Settings::default() };
        let intake = Arc::new(Intake::new(store, signature, &[], clock.clone(), metrics.clone()));
        let mut settings = Settings { body_limit: 4096, ..Settings::default() };
        settings.ack.deadline = Duration::from_secs(19);
        let receiver = Receiver::new(intake, settings, clock, metrics.clone(), Arc::new(StandardError));
        let door = runtime.block_on(async { receiver.door() });
        Self { runtime, door, metrics, _directory: directory }
    }

    /// Sends all there is, then nothing more, and reads until the end.
    fn converse(&self, data: &[u8]) -> Vec<u8> {
        let (theirs, ours) = tokio::io::duplex(16 << 10);
        let (mut from, mut to) = tokio::io::split(theirs);
        let mut answers = Vec::new();
        self.runtime.block_on(async {
            let sending = async {
                // Whoever is cut off cannot send the rest.
                let _ = to.write_all(data).await;
                let _ = to.shutdown().await;
            };
            let reading = async {
                let _ = from.read_to_end(&mut answers).await;
            };
            tokio::join!(self.door.serve(ours), sending, reading);
        });
        answers
    }

    /// Callbacks of which anything was kept.
    fn kept(&self) -> u64 {
        let of_kind = |kind: Kind| {
            let counters = [&self.metrics.events_received_total, &self.metrics.events_duplicate_total];
            counters.map(|counter| counter.with_label_values(&[kind.slug()]).get()).iter().sum::<u64>()
        };
        let refused =
            |reason: Reason| self.metrics.callbacks_quarantined_total.with_label_values(&[reason.slug()]).get();
        Kind::all().map(of_kind).sum::<u64>() + Reason::ALL.map(refused).iter().sum::<u64>()
    }
}
