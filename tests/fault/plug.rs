//! Pulls the plug on the disk: the n-th write or sync fails, for every n of a run.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use faulty_disk::Fault;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use livehook::event::Event;
use livehook::handler::Policy;
use serde_json::json;

use crate::app::{Setup, TestApp, assert_answered, push};
use crate::recorder::{Act, Recorder};
use crate::rig::{Contents, LOG, Rig, awaited, import, ready, spilled};

/// Runs at the same time: they mostly wait.
const ABREAST: usize = 16;
/// Every run writes so often at least; less, and it did not do what it should.
const WRITES_MIN: u64 = 60;
/// And syncs the log so often.
pub(crate) const LOG_SYNCS_MIN: u64 = 8;
/// Good callbacks of a run that are no copies; the others are copies, or refused.
const EVENTS: u64 = 12;
/// Their numbers that are sent twice.
const COPIED: [u64; 3] = [1, 2, 11];

/// What a run sends: each wave at once, and the next one when all of it is answered.
struct Callbacks {
    waves: Vec<Vec<String>>,
    bad: BTreeSet<String>,
}

impl Callbacks {
    fn new(app: &TestApp) -> Self {
        let event = |number| app.signed(&push(&format!("room-{}", number % 3), number));
        let events = |numbers: std::ops::Range<u64>| numbers.map(event);
        let forged = json!({"event_type": 1, "t": app.t(), "sign": "0123456789abcdef0123456789abcdef"}).to_string();
        let unsigned = push("room-0", 100).to_string();
        let bad = [String::new(), "no JSON".to_owned(), "{}".to_owned(), forged, unsigned];
        let [empty, garbled, untyped, forged, unsigned] = bad.clone();
        let [first, second, at_once] = COPIED.map(event);
        let waves = vec![
            events(0..5).chain([garbled, unsigned]).collect(),
            events(5..9).chain([first, untyped, empty]).collect(),
            events(9..EVENTS).chain([second, at_once, forged]).collect(),
        ];
        Self { waves, bad: bad.into() }
    }

    /// What must be there of some waves.
    fn contents<'a>(&self, waves: impl IntoIterator<Item = &'a Vec<String>>) -> Contents {
        let (bad, good) = waves.into_iter().flatten().cloned().partition(|body| self.bad.contains(body));
        Contents { good, bad }
    }
}

/// What becomes of the delivery of an event: most are done at once, some the second time, some never.
fn act(event: &Event, attempt: usize) -> Act {
    match number(event.facts.sequence.as_deref().unwrap()) % 7 {
        3 => Act::Permanent,
        5 if attempt == 1 => Act::Fail,
        _ => Act::Done,
    }
}

fn number(sequence: &str) -> u64 {
    sequence.parse::<u64>().unwrap() % 1_000_000_000
}

fn with_handler(setup: Setup) -> (Setup, Recorder) {
    let recorder = Recorder::with(act);
    let mut policy = Policy::new("rooms");
    policy.retry.min_delay = Duration::ZERO;
    (setup.policy(policy, &recorder), recorder)
}

async fn send(app: &TestApp, wave: &[String]) {
    for response in join_all(wave.iter().map(|body| app.post("/callbacks", body))).await {
        assert_answered(&response);
    }
}

async fn stored(app: &TestApp, count: usize) {
    awaited("all is stored", async || (app.events().await.len() == count).then_some(())).await;
}

/// Waits until all deliveries have ended as they should.
async fn delivered(app: &TestApp) {
    awaited("all deliveries ended", async || app.pending().await.is_empty().then_some(())).await;
    let sequences = app.events().await;
    let dead = sequences.iter().filter(|event| number(event["sequence"].as_str().unwrap()) % 7 == 3).count();
    assert_eq!(app.deliveries("dead").await.len(), dead);
    assert_eq!(app.deliveries("done").await.len(), sequences.len() - dead);
}

/// Every event has been brought to the handler, those of one stream one by one in the order they were stored in.
async fn assert_in_order(app: &TestApp, recorder: &Recorder) {
    let mut stored: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for event in app.events().await.iter().rev() {
        let stream = event["stream"].as_str().map(str::to_owned);
        stored.entry(stream).or_default().push(event["id"].as_str().unwrap().to_owned());
    }
    let mut attempted: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for call in recorder.calls() {
        attempted.entry(call.stream).or_default().push(call.id.to_string());
    }
    attempted.values_mut().for_each(Vec::dedup);
    assert_eq!(attempted, stored);
    assert_eq!(recorder.overlapped(), Vec::<String>::new());
}

/// Which events were recognised as copies, once for each time.
async fn copies(app: &TestApp) -> Vec<u64> {
    let mut copies = Vec::new();
    for event in app.events().await {
        let count = usize::try_from(event["duplicates"].as_u64().unwrap()).unwrap();
        copies.extend(vec![number(event["sequence"].as_str().unwrap()); count]);
    }
    copies.sort_unstable();
    copies
}

/// Runs for every n, until a run says that it has no n-th change to be failed.
pub(crate) async fn for_every(least: u64, run: impl AsyncFn(u64) -> bool) {
    let (next, ended) = (Cell::new(1), Cell::new(false));
    let worker = || async {
        while !ended.get() {
            let n = next.replace(next.get() + 1);
            let run = AssertUnwindSafe(run(n)).catch_unwind().await;
            let struck = run.unwrap_or_else(|_| panic!("in the run in which number {n} fails"));
            ended.set(ended.get() || !struck);
        }
    };
    join_all((0..ABREAST).map(|_| worker())).await;
    assert!(next.get() > least, "{} runs only", next.get() - 1);
}

#[tokio::test]
async fn one_write_that_fails_costs_nobody_anything() {
    for_every(WRITES_MIN, async |n| {
        // Every other time a part of it arrives.
        let torn = if n % 2 == 0 { 0 } else { usize::try_from(n).unwrap() * 37 % 4096 };
        fail_once(Fault::write(n).torn(torn)).await
    })
    .await;
}

#[tokio::test]
async fn one_sync_of_the_log_that_fails_costs_nobody_anything() {
    for_every(LOG_SYNCS_MIN, async |n| fail_once(Fault::sync(n).on(LOG)).await).await;
}

#[tokio::test]
async fn what_cannot_be_written_is_spilled_and_comes_back() {
    for_every(WRITES_MIN, async |n| fail_until_healed(Fault::write(n)).await).await;
}

/// A run with one failure, that nobody gets to see. Returns whether it came to that.
pub(crate) async fn fail_once(fault: Fault) -> bool {
    let rig = Rig::new();
    rig.disk.remember();
    let (setup, recorder) = with_handler(rig.setup());
    let app = setup.configured(|config| config.server.ack.deadline = Duration::from_mins(1)).start().await;
    let sent = Callbacks::new(&app);
    rig.disk.fail(fault);
    for wave in &sent.waves {
        send(&app, wave).await;
    }
    assert_eq!(spilled(&app), Vec::<String>::new());
    let contents = sent.contents(&sent.waves);
    assert_eq!(Contents::of(&rig.survivor().database()), contents, "a power cut takes nothing that was answered");
    delivered(&app).await;
    assert_in_order(&app, &recorder).await;
    assert_eq!(copies(&app).await, COPIED);
    ready(&app).await;
    app.leave().await;
    let struck = rig.has_failed();

    rig.disk.heal();
    assert_eq!(Contents::of(&rig.database()), contents);
    let (setup, unneeded) = with_handler(rig.setup());
    let app = setup.start().await;
    delivered(&app).await;
    assert!(unneeded.calls().is_empty(), "what was settled stays settled");
    app.finish().await;
    struck
}

/// A run whose disk fails at some point, and all the time from then on until it is healed. Returns whether it came to
/// that.
pub(crate) async fn fail_until_healed(fault: Fault) -> bool {
    let rig = Rig::new();
    rig.disk.remember();
    let (setup, recorder) = with_handler(rig.setup());
    let app = setup.configured(|config| config.server.ack.deadline = Duration::from_millis(200)).start().await;
    let sent = Callbacks::new(&app);
    let contents = sent.contents(&sent.waves);
    rig.disk.fail(fault.until_healed());
    let mut count = 0;
    for wave in &sent.waves {
        let failing = rig.has_failed();
        send(&app, wave).await;
        count += 1;
        if failing {
            assert_eq!(app.ready().await, 503, "nothing can be stored");
            let spilled = spilled(&app);
            assert!(wave.iter().all(|body| spilled.contains(body)), "nothing can be stored, so all is spilled");
            break;
        }
    }
    let struck = rig.has_failed();
    let (spills, survivor) = (app.spills.lines(), rig.survivor());

    rig.disk.heal();
    ready(&app).await;
    for wave in &sent.waves[count..] {
        send(&app, wave).await;
    }
    stored(&app, contents.good.len()).await;
    delivered(&app).await;
    assert_in_order(&app, &recorder).await;
    assert_eq!(Contents::of(&rig.survivor().database()), contents, "a power cut takes nothing of it any more");
    let lines = app.spills.lines();
    let outcome = import(&app, &lines).await;
    assert_eq!(outcome, json!({"imported": 0, "duplicates": lines.len(), "refused": 0, "faults": []}));
    app.leave().await;
    assert_eq!(Contents::of(&rig.database()), contents);

    // Had the power failed with the disk: what was answered is there, or was spilled.
    let app = with_handler(survivor.setup()).0.start().await;
    let outcome = import(&app, &spills).await;
    assert_eq!(outcome["faults"], json!([]));
    assert_eq!(Contents::of(&survivor.database()), sent.contents(&sent.waves[..count]));
    delivered(&app).await;
    app.finish().await;
    struck
}
