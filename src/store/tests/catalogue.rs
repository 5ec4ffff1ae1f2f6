//! What is made of events in the background, held against the events themselves.

use super::*;

/// Kinds of a number that the events of the tests have.
const TYPES: [u64; 3] = [1, 0, 100];

#[derive(Clone, Debug)]
enum Step {
    Append(Sketch),
    Copy(usize),
    /// Every event so far is delivered.
    Deliver,
    Wait(u64),
    Prune,
    Catalogue,
    /// Something is done between reading a run and taking it in.
    Stale(Box<Step>),
    Reopen,
}

/// An event in short.
#[derive(Clone, Debug)]
struct Sketch {
    event_type: usize,
    domain: Option<u8>,
    app: Option<u8>,
    stream: Option<u8>,
    verification: usize,
    /// Minutes that it was received before now, as one that is imported.
    late: u64,
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let name = || prop::option::weighted(0.8, 0_u8..3);
    let late = prop_oneof![3 => Just(0), 1 => 0_u64..300];
    (0..TYPES.len(), name(), name(), name(), 0..Verification::ALL.len(), late).prop_map(
        |(event_type, domain, app, stream, verification, late)| Sketch {
            event_type,
            domain,
            app,
            stream,
            verification,
            late,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let plain = prop_oneof![
        12 => sketch().prop_map(Step::Append),
        2 => (0_usize..64).prop_map(Step::Copy),
        2 => Just(Step::Deliver),
        2 => (0_u64..90).prop_map(Step::Wait),
        1 => Just(Step::Prune),
        3 => Just(Step::Catalogue),
    ];
    prop_oneof![
        20 => plain.clone(),
        1 => plain.prop_map(|step| Step::Stale(Box::new(step))),
        1 => Just(Step::Reopen),
    ]
}

/// A store, and every event that was ever appended.
struct Play {
    fixture: Fixture,
    appended: Vec<NewEvent>,
}

impl Play {
    fn new() -> Self {
        let change = |settings: &mut Settings| settings.retention = Duration::from_hours(1);
        Self { fixture: Fixture::new(change), appended: Vec::new() }
    }

    fn run(mut self, steps: Vec<Step>) -> Self {
        for step in steps {
            self = self.step(step);
        }
        self
    }

    fn step(mut self, step: Step) -> Self {
        let Fixture { store, clock, runtime, .. } = &self.fixture;
        match step {
            Step::Append(sketch) => {
                let new = self.event(&sketch);
                self.appended.push(new.clone());
                runtime.block_on(store.append(new)).unwrap();
            }
            Step::Copy(number) if !self.appended.is_empty() => {
                let copy = self.appended[number % self.appended.len()].clone();
                runtime.block_on(store.append(copy)).unwrap();
            }
            Step::Copy(_) => {}
            Step::Deliver => {
                while let Some(claim) = self.fixture.claim(1).pop() {
                    self.fixture.settle(claim, Settlement::Done);
                }
            }
            Step::Wait(minutes) => clock.advance(Duration::from_mins(minutes)),
            Step::Prune => drop(self.fixture.prune()),
            Step::Catalogue => drop(runtime.block_on(store.catalogue()).unwrap()),
            Step::Stale(between) => {
                let run = runtime.block_on(store.read(sqlite::read_run)).unwrap();
                self = self.step(*between);
                if let Some(run) = run {
                    let take_in = move |tx: &mut Tx<'_>| sqlite::take_in(tx, &run);
                    let Fixture { store, runtime, .. } = &self.fixture;
                    runtime.block_on(store.write(0, Admission::Always, take_in)).unwrap();
                }
            }
            Step::Reopen => self.fixture = self.fixture.reopen(),
        }
        self
    }

    fn event(&self, sketch: &Sketch) -> NewEvent {
        let number = self.appended.len() as u64;
        let member = |name: &str, prefix: &str, value: Option<u8>| {
            value.map_or_else(String::new, |value| format!(r#","{name}":"{prefix}{value}""#))
        };
        let body = format!(
            r#"{{"event_type":{},"n":{number}{}{}{}}}"#,
            TYPES[sketch.event_type],
            member("app", "domain", sketch.domain),
            member("appname", "app", sketch.app),
            member("stream_id", "room", sketch.stream)
        );
        let incoming = Incoming::read(body.as_bytes()).unwrap();
        let facts = incoming.facts();
        let event = Event {
            id: EventId::from_u128(u128::from(number) + 1),
            received_at: self.fixture.clock.now().minus(Duration::from_mins(sketch.late)),
            verification: Verification::ALL[sketch.verification],
            facts,
            body: Bytes::from(body.clone()),
        };
        let identity = Identity::of(incoming.body(), None, None);
        let owed = vec![Owed { handler: self.fixture.handler, ordered: false }];
        NewEvent { event: Arc::new(event), identity, drift: Vec::new(), owed, readmitted: None }
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.fixture.directory.path().join("s.db")).unwrap()
    }

    /// Has everything catalogued.
    fn catch_up(&self) {
        let Fixture { store, runtime, .. } = &self.fixture;
        while runtime.block_on(store.catalogue()).unwrap().is_some() {}
    }
}

/// Rows of a query, as text.
fn rows(db: &rusqlite::Connection, sql: &str) -> Vec<String> {
    let mut statement = db.prepare(sql).unwrap();
    let columns = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| {
        let values = (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at));
        values.collect::<rusqlite::Result<Vec<_>>>().map(|values| format!("{values:?}"))
    };
    statement.query_map([], row).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

const CATALOGUED: &str = "FROM events WHERE seq < (SELECT value FROM meta WHERE key = 'catalogued_before')";

fn check_sums(db: &rusqlite::Connection) {
    let sums = "SELECT kind, count, duplicates FROM kinds WHERE count <> 0 OR duplicates <> 0 ORDER BY kind";
    let events = format!("SELECT kind, count(*), sum(duplicates) {CATALOGUED} GROUP BY kind ORDER BY kind");
    assert_eq!(rows(db, sums), rows(db, &events));
    for step in [60, 3600] {
        let sums = format!("SELECT at, kind, count FROM counts WHERE step = {step} ORDER BY at, kind");
        let length = step * 1000;
        let events = format!(
            "SELECT received_at / {length} AS at, kind, count(*) {CATALOGUED} GROUP BY at, kind ORDER BY at, kind"
        );
        assert_eq!(rows(db, &sums), rows(db, &events), "in steps of {step} s");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_catalogued_is_what_is_stored(steps in prop::collection::vec(step(), 1..80)) {
        let play = Play::new().run(steps);
        check_sums(&play.database());
        play.catch_up();
        check_sums(&play.database());
    }
}
