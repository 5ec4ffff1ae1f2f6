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
    /// The next delivery of a handler is done, to be tried again later, or dead.
    End(usize, usize),
    Judge(usize, usize, Verdict),
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
        4 => (0_usize..2, 0_usize..3).prop_map(|(handler, end)| Step::End(handler, end)),
        1 => (0_usize..64, 0_usize..2, prop_oneof![Just(Verdict::Retry), Just(Verdict::Drop)])
            .prop_map(|(number, handler, verdict)| Step::Judge(number, handler, verdict)),
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
    on: On,
}

impl Play {
    fn new(on: On) -> Self {
        let change = |settings: &mut Settings| settings.retention = Duration::from_hours(1);
        Self { fixture: Fixture::new(on, change), appended: Vec::new(), on }
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
            Step::Deliver => {
                for at in 0..HANDLERS.len() {
                    while let Some(claim) = self.claim(at) {
                        self.fixture.settle(claim, Settlement::Done);
                    }
                }
            }
            Step::End(handler, end) => {
                if let Some(claim) = self.claim(handler) {
                    let (error, due) = (String::new(), clock.now().plus(Duration::from_mins(30)));
                    let settlement = match end {
                        0 => Settlement::Done,
                        1 => Settlement::Retry { due, error },
                        _ => Settlement::Dead { error, exhausted: true },
                    };
                    self.fixture.settle(claim, settlement);
                }
            }
            Step::Judge(number, handler, verdict) if !self.appended.is_empty() => {
                let id = self.appended[number % self.appended.len()].event.id;
                runtime.block_on(store.judge(id, HANDLERS[handler].to_owned(), verdict)).unwrap();
            }
            Step::Copy(_) | Step::Judge(..) => {}
            Step::Wait(minutes) => clock.advance(Duration::from_mins(minutes)),
            Step::Prune => drop(self.fixture.prune()),
            Step::Catalogue => drop(runtime.block_on(store.catalogue()).unwrap()),
            // Elsewhere a run is read and taken in by one transaction.
            Step::Stale(between) if self.on == On::Postgres => self = self.step(*between),
            Step::Stale(between) => {
                let run = runtime.block_on(embedded(store).next_run()).unwrap();
                self = self.step(*between);
                if let Some(run) = run {
                    let Fixture { store, runtime, .. } = &self.fixture;
                    runtime.block_on(embedded(store).take_in(run)).unwrap();
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
        let owed = HANDLERS.map(|name| self.fixture.store.handler(name).unwrap());
        let owed = owed.map(|handler| Owed { handler, ordered: handler == self.fixture.handler }).to_vec();
        NewEvent { event: Arc::new(event), identity, drift: Vec::new(), owed, readmitted: None }
    }

    fn claim(&self, handler: usize) -> Option<Claim> {
        let Fixture { store, runtime, .. } = &self.fixture;
        let handler = store.handler(HANDLERS[handler]).unwrap();
        runtime.block_on(store.claim(handler, 1)).claims.pop()
    }

    /// Has everything catalogued.
    fn catch_up(&self) {
        let Fixture { store, runtime, .. } = &self.fixture;
        while runtime.block_on(store.catalogue()).unwrap().is_some() {}
    }
}

/// The embedded engine of a store that has it.
fn embedded(store: &Store) -> &sqlite::Engine {
    match &store.0.engine {
        engine::Engine::Sqlite(engine) => engine,
        engine::Engine::Postgres(_) => panic!("the store is not embedded"),
    }
}

const CATALOGUED: &str = "FROM events WHERE seq < (SELECT value FROM meta WHERE key = 'catalogued_before')";

fn check_sums(play: &Play) {
    let rows = |sql: &str| play.fixture.rows(sql);
    let sums = "SELECT kind, count FROM kinds WHERE count <> 0 ORDER BY kind";
    let events = format!("SELECT kind, count(*) {CATALOGUED} GROUP BY kind ORDER BY kind");
    assert_eq!(rows(sums), rows(&events));
    // Copies are counted with their events, or as they come.
    let (sums, events) = match play.on {
        On::Sqlite => ("kinds", CATALOGUED),
        On::Postgres => {
            ("(SELECT kind, duplicates FROM kinds UNION ALL SELECT kind, n AS duplicates FROM copies) k", "FROM events")
        }
    };
    let copies = |from: &str| {
        format!("SELECT kind, sum(duplicates) {from} GROUP BY kind HAVING sum(duplicates) <> 0 ORDER BY kind")
    };
    assert_eq!(rows(&copies(&format!("FROM {sums}"))), rows(&copies(events)));
    for step in [60, 3600] {
        let sums = format!("SELECT at, kind, count FROM counts WHERE step = {step} ORDER BY at, kind");
        let length = step * 1000;
        let events = format!(
            "SELECT received_at / {length} AS at, kind, count(*) {CATALOGUED} GROUP BY 1, kind ORDER BY 1, kind"
        );
        assert_eq!(rows(&sums), rows(&events), "in steps of {step} s");
    }
}

/// Statistics in short: per kind the count, the copies and the counts of the steps.
fn check_stats(play: &Play, step_seconds: i64, steps: usize) {
    let Fixture { store, runtime, .. } = &play.fixture;
    let stats = runtime.block_on(store.stats(step_seconds, steps)).unwrap();
    assert_eq!(stats.kinds.len(), Kind::all().count());
    let mut expected = Vec::new();
    for (kind, sum) in &stats.kinds {
        let plain = format!("SELECT count(*), coalesce(sum(duplicates), 0) FROM events WHERE kind = '{kind}'");
        let told = vec![sum.count.to_string(), sum.duplicates.to_string()];
        assert_eq!(vec![told], play.fixture.rows(&plain), "{kind}");
        for (at, count) in stats.timeline.kinds[kind].iter().enumerate() {
            let start = stats.timeline.from.millis() + i64::try_from(at).unwrap() * step_seconds * 1000;
            expected.push((*kind, at, start, *count));
        }
    }
    // All at once, since there are many.
    let counts = expected.iter().map(|(kind, _, start, _)| {
        let end = start + step_seconds * 1000;
        format!(
            "(SELECT count(*) FROM events WHERE kind = '{kind}' AND received_at >= {start} AND received_at < {end})"
        )
    });
    let plain = play.fixture.rows(&format!("SELECT {}", counts.collect::<Vec<_>>().join(", "))).remove(0);
    for ((kind, at, _, count), plain) in expected.iter().zip(plain) {
        assert_eq!(count.to_string(), plain, "{kind}, step {at}");
    }
    let now = play.fixture.clock.now();
    let length = Duration::from_secs(u64::try_from(step_seconds).unwrap() * steps as u64);
    let end = stats.timeline.from.plus(length);
    assert!(end > now && end.minus(length / u32::try_from(steps).unwrap()) <= now, "the last step holds the present");
}

fn what_is_catalogued_is_what_is_stored(on: On) {
    proptest!(on.cases(24), |(steps in prop::collection::vec(step(), 1..80))| {
        let play = Play::new(on).run(steps);
        check_sums(&play);
        check_stats(&play, 300, 10);
        check_stats(&play, 3600, 5);
        play.catch_up();
        check_sums(&play);
    });
}

/// A filter in short.
#[derive(Clone, Debug)]
struct Wanted {
    event_type: Option<usize>,
    domain: Option<u8>,
    app: Option<u8>,
    stream: Option<u8>,
    verification: Option<usize>,
    /// Minutes before now.
    since: Option<u64>,
    until: Option<u64>,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let name = || prop::option::weighted(0.3, 0_u8..4);
    let minutes = || prop::option::weighted(0.3, 0_u64..300);
    let (kind, verification) = (prop::option::weighted(0.3, 0..TYPES.len()), prop::option::weighted(0.3, 0_usize..3));
    (kind, name(), name(), name(), verification, minutes(), minutes()).prop_map(
        |(event_type, domain, app, stream, verification, since, until)| Wanted {
            event_type,
            domain,
            app,
            stream,
            verification,
            since,
            until,
        },
    )
}

impl Wanted {
    fn filter(&self, now: Timestamp) -> EventFilter {
        let name = |prefix: &str, name: Option<u8>| name.map(|name| format!(" {prefix}{name} "));
        let ago = |minutes: u64| now.minus(Duration::from_mins(minutes));
        EventFilter {
            kind: self.event_type.map(|at| Kind::of(i64::try_from(TYPES[at]).ok(), false)),
            domain: name("domain", self.domain),
            app: name("app", self.app),
            stream: name("room", self.stream),
            verification: self.verification.map(|at| Verification::ALL[at]),
            since: self.since.map(ago),
            until: self.until.map(ago),
        }
    }
}

/// What a list must be: every event that is stored, looked at one by one.
fn plainly(fixture: &Fixture, filter: &EventFilter) -> Vec<u128> {
    let text = |name: &Option<String>| name.as_deref().map(|name| format!("'{}'", name.trim()));
    let conditions = [
        ("kind =", filter.kind.map(|kind| format!("'{kind}'"))),
        ("domain =", text(&filter.domain)),
        ("app =", text(&filter.app)),
        ("stream =", text(&filter.stream)),
        ("verification =", filter.verification.map(|verification| format!("'{}'", verification.slug()))),
        ("received_at >=", filter.since.map(|since| since.millis().to_string())),
        ("received_at <", filter.until.map(|until| until.millis().to_string())),
    ];
    let wanted = conditions.iter().filter_map(|(compare, value)| Some(format!(" AND {compare} {}", value.as_ref()?)));
    let wanted: String = wanted.collect();
    let rows = fixture.rows(&format!("SELECT id FROM events WHERE seq > 0{wanted} ORDER BY seq DESC"));
    rows.iter().map(|row| id_of(&row[0])).collect()
}

/// Reads an id as it is written where bytes are text.
fn id_of(text: &str) -> u128 {
    u128::from_str_radix(text.trim_start_matches("\\x"), 16).unwrap()
}

/// Reads a list page by page, and does something between two of them.
fn read_through(
    mut play: Play,
    filter: &EventFilter,
    limit: usize,
    between: &mut dyn FnMut(Play) -> Play,
) -> (Play, Vec<u128>) {
    let (mut ids, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let Fixture { store, runtime, .. } = &play.fixture;
        let page = runtime.block_on(store.events(filter.clone(), limit, cursor.as_deref())).unwrap();
        assert!(page.items.len() <= limit);
        assert!(page.next.is_none() || page.items.len() == limit, "a page that is not the last is full");
        ids.extend(page.items.iter().map(|row| row.id.as_u128()));
        cursor = page.next;
        if cursor.is_none() {
            return (play, ids);
        }
        play = between(play);
    }
}

fn a_list_is_every_event_that_its_filter_matches(on: On) {
    proptest!(on.cases(24), |(steps in prop::collection::vec(step(), 1..100), filters in prop::collection::vec((wanted(), 1_usize..8), 40))| {
        let mut play = Play::new(on).run(steps);
        for (wanted, limit) in filters {
            let filter = wanted.filter(play.fixture.clock.now());
            let ids;
            (play, ids) = read_through(play, &filter, limit, &mut |play| play);
            assert_eq!(ids, plainly(&play.fixture, &filter), "{filter:?}");
        }
        play.catch_up();
        // Elsewhere the lists are indexes.
        let lists: &[_] =
            if on == On::Sqlite { &[("grouped", "1"), ("named", "stream IS NOT NULL")] } else { &[] };
        for (table, lines) in lists {
            let missing = format!(
                "SELECT seq FROM events WHERE {lines} AND seq NOT IN (SELECT event FROM {table})
                 UNION ALL SELECT event FROM {table} WHERE event NOT IN (SELECT seq FROM events)"
            );
            assert_eq!(play.fixture.rows(&missing), Vec::<Vec<String>>::new(), "{table}");
        }
    });
}

fn a_list_read_page_by_page_shows_once_what_was_there_when_it_began(on: On) {
    proptest!(on.cases(24), |(before in prop::collection::vec(step(), 20..60), wanted in wanted(), limit in 1_usize..5, between in prop::collection::vec(prop::collection::vec(step(), 0..6), 20))| {
        let play = Play::new(on).run(before);
        let filter = wanted.filter(play.fixture.clock.now());
        let first = plainly(&play.fixture, &filter);
        let mut between = between.into_iter();
        let (play, ids) = read_through(play, &filter, limit, &mut |play| play.run(between.next().unwrap_or_default()));
        let last = plainly(&play.fixture, &filter);
        let stayed: Vec<_> = first.iter().filter(|id| last.contains(id)).collect();
        assert_eq!(ids.iter().filter(|id| last.contains(id)).collect::<Vec<_>>(), stayed);
        assert!(ids.iter().all(|id| first.contains(id)), "what is new comes before everything else");
    });
}

/// What a list of deliveries must be: every one that is stored, looked at one by one.
fn deliveries_plainly(fixture: &Fixture, filter: &DeliveryFilter, order: &str) -> Vec<(u128, String)> {
    let states = match filter.state {
        Some(DeliveryState::Pending) => "(0, 4, 5)",
        Some(DeliveryState::Done) => "(1)",
        Some(DeliveryState::Dead) => "(2)",
        Some(DeliveryState::Dropped) => "(3)",
        None => "(0, 1, 2, 3, 4, 5)",
    };
    let conditions = [
        filter.handler.as_ref().map(|name| format!(" AND h.name = '{name}'")),
        filter.since.map(|since| format!(" AND e.received_at >= {}", since.millis())),
        filter.until.map(|until| format!(" AND e.received_at < {}", until.millis())),
    ];
    let wanted: String = conditions.into_iter().flatten().collect();
    let sql = format!(
        "SELECT e.id, h.name FROM deliveries d JOIN events e ON e.seq = d.event JOIN handlers h ON h.id = d.handler
         WHERE d.state IN {states}{wanted} ORDER BY d.event {order}, d.handler {order}"
    );
    fixture.rows(&sql).into_iter().map(|row| (id_of(&row[0]), row[1].clone())).collect()
}

fn a_list_of_deliveries_is_every_one_that_its_filter_matches(on: On) {
    proptest!(on.cases(24), |(steps in prop::collection::vec(step(), 1..100), limit in 1_usize..6, since in 0_u64..200, length in 0_u64..200)| {
        let play = Play::new(on).run(steps);
        let now = play.fixture.clock.now();
        let Fixture { store, runtime, .. } = &play.fixture;
        let states = DeliveryState::ALL.map(Some).into_iter().chain([None]);
        let handlers = [None, Some("rooms"), Some("files"), Some("nobody")];
        for (state, handler) in states.flat_map(|state| handlers.map(|handler| (state, handler))) {
            let mut filter = DeliveryFilter { handler: handler.map(str::to_owned), state, ..DeliveryFilter::default() };
            let (mut found, mut cursor) = (Vec::new(), None::<String>);
            loop {
                let page = runtime.block_on(store.deliveries(filter.clone(), limit, cursor.as_deref())).unwrap();
                found.extend(page.items.into_iter().map(|item| (item.event_id.as_u128(), item.handler)));
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(found, deliveries_plainly(&play.fixture, &filter, "DESC"), "{filter:?}");

            filter.since = Some(now.minus(Duration::from_mins(since)));
            filter.until = (length > 20).then(|| now.minus(Duration::from_mins(since)).plus(Duration::from_mins(length)));
            let counts = runtime.block_on(store.judge_many(filter.clone(), Verdict::Drop, true)).unwrap();
            let done = DeliveryFilter { state: Some(DeliveryState::Done), ..filter.clone() };
            let plain = deliveries_plainly(&play.fixture, &filter, "ASC");
            let done = deliveries_plainly(&play.fixture, &done, "ASC");
            let undone = plain.iter().filter(|one| !done.contains(one)).count();
            assert_eq!(counts, Counts { matched: undone as u64, changed: 0 }, "{filter:?}");
        }
    });
}

on_both! {
    what_is_catalogued_is_what_is_stored,
    a_list_is_every_event_that_its_filter_matches,
    a_list_read_page_by_page_shows_once_what_was_there_when_it_began,
    a_list_of_deliveries_is_every_one_that_its_filter_matches,
}
