//! Streams in the store, held against the plain fold over the same events.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::streams::{End, Entry, Notice, Push, PushName, Span, timeline};

/// Pushes that a story tells of, in tests.
const TOLD: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Append(Sketch),
    Catalogue,
    Wait(u64),
    Prune,
    Rebuild,
    Reopen,
}

/// An event in short.
#[derive(Clone, Debug)]
struct Sketch {
    stream: u8,
    sort: Sort,
    /// 0 for none.
    sequence: u8,
    secs: i64,
    lasted: Option<i64>,
    /// Whether it is never delivered, and so never pruned.
    owed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sort {
    Push,
    Interruption,
    Recording,
    Screencapture,
    PushError,
    /// Of a moderation, which has no time.
    Audio,
    /// Of a kind of which nothing but its time counts.
    Relay,
    /// Of the stream of that name without domain and app.
    Unknown,
    /// Not of an interruption in shape.
    Bare,
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let sort = prop_oneof![
        5 => Just(Sort::Push),
        5 => Just(Sort::Interruption),
        1 => Just(Sort::Recording),
        1 => Just(Sort::Screencapture),
        1 => Just(Sort::PushError),
        1 => Just(Sort::Audio),
        2 => Just(Sort::Relay),
        1 => Just(Sort::Unknown),
        1 => Just(Sort::Bare),
    ];
    let lasted = prop::option::of(0_i64..30);
    (0_u8..3, sort, 0_u8..4, 0_i64..40, lasted, prop::bool::weighted(0.2))
        .prop_map(|(stream, sort, sequence, secs, lasted, owed)| Sketch { stream, sort, sequence, secs, lasted, owed })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        16 => sketch().prop_map(Step::Append),
        3 => Just(Step::Catalogue),
        2 => (0_u64..50).prop_map(Step::Wait),
        2 => Just(Step::Prune),
        1 => Just(Step::Rebuild),
        1 => Just(Step::Reopen),
    ]
}

impl Sketch {
    fn body(&self) -> String {
        let stream = ["room", "live", "直播"][usize::from(self.stream)];
        let time = START.secs() + self.secs;
        let mut body = match self.sort {
            Sort::Push => json!({"event_type": 1, "app": "d", "appname": "a", "event_time": time}),
            Sort::Interruption => {
                json!({"event_type": 0, "app": "d", "appname": "a", "event_time": time, "errcode": self.secs})
            }
            Sort::Recording => json!({"event_type": 100, "app": "d", "appname": "a", "end_time": time, "duration": 3}),
            Sort::Screencapture => {
                json!({"event_type": 200, "app": "d", "appname": "a", "create_time": time, "pic_full_url": "http://p/"})
            }
            Sort::PushError => json!({"event_type": 321, "domain": "d", "path": "a", "data_time": time * 1000}),
            Sort::Audio => json!({"event_type": 315, "domain": "d", "path": "a", "requestId": self.secs}),
            Sort::Relay => json!({"event_type": 314, "to_url": "rtmp://d/a/x", "event_time": time}),
            Sort::Unknown => json!({"event_type": 999, "event_time": time}),
            Sort::Bare => json!({"event_type": 0, "app": "d", "appname": "a", "event_time": time}),
        };
        body["stream_id"] = stream.into();
        if self.sequence > 0 && self.sort != Sort::Bare {
            body["sequence"] = ["9", "10", "100"][usize::from(self.sequence) - 1].into();
        }
        if let Some(lasted) = self.lasted.filter(|_| self.sort != Sort::Bare) {
            body["push_duration"] = (lasted * 1000).into();
        }
        body.to_string()
    }
}

/// What is known of a stream, kept as simply as can be.
#[derive(Clone, Debug, Default)]
struct Known {
    /// With the number of their events that are stored.
    pushes: Vec<(Push, usize)>,
    loose: Vec<(End, usize)>,
    recordings: usize,
    events: usize,
    last_event_at: Option<Timestamp>,
}

impl Known {
    fn add(&mut self, event: &Event, change: isize) {
        self.events = self.events.wrapping_add_signed(change);
        self.last_event_at = self.last_event_at.max(event.facts.occurred_at);
        match Entry::of(event) {
            Some(Entry::Push(Notice::Began(name, at))) => self.merge(&name, Some(at), None, change),
            Some(Entry::Push(Notice::Ended(Some(name), end))) => self.merge(&name, None, Some(end), change),
            Some(Entry::Push(Notice::Ended(None, end))) => {
                let place = self.loose.iter().position(|(known, _)| known.at == end.at).unwrap_or_else(|| {
                    self.loose.push((end, 0));
                    self.loose.len() - 1
                });
                let (known, count) = &mut self.loose[place];
                (*known, *count) = ((*known).max(end), count.wrapping_add_signed(change));
            }
            Some(Entry::Recording { .. }) => self.recordings = self.recordings.wrapping_add_signed(change),
            _ => {}
        }
    }

    fn merge(&mut self, name: &PushName, began: Option<Timestamp>, end: Option<End>, change: isize) {
        let place = self.pushes.iter().position(|(push, _)| push.name == *name).unwrap_or_else(|| {
            self.pushes.push((Push::named(name.clone()), 0));
            self.pushes.len() - 1
        });
        let (push, count) = &mut self.pushes[place];
        push.merge(began, end);
        *count = count.wrapping_add_signed(change);
    }

    fn timeline(&self) -> Vec<Span> {
        let pushes = self.pushes.iter().map(|(push, _)| push.clone()).collect();
        timeline(pushes, self.loose.iter().map(|(end, _)| *end))
    }

    fn is_live(&self) -> bool {
        self.timeline().first().is_some_and(|current| current.end.is_none())
    }

    /// Drops what no event that is stored tells of and nothing depends on. Returns whether anything is left.
    fn sweep(&mut self) -> bool {
        if self.events == 0 && !self.is_live() {
            return false;
        }
        // What goes may have been all that something else was kept for.
        loop {
            let before = (self.loose.len(), self.pushes.len());
            self.sweep_once();
            if before == (self.loose.len(), self.pushes.len()) {
                return true;
            }
        }
    }

    fn sweep_once(&mut self) {
        let timeline = self.timeline();
        let begun: Vec<_> = self.pushes.iter().map(|(push, _)| push.beginning()).collect();
        let is_current = |name: &PushName| timeline.first().is_some_and(|current| current.name == *name);
        self.loose.retain(|(end, count)| {
            *count > 0
                || begun.iter().any(|began| *began <= Some(end.at))
                || begun.is_empty() && is_current(&PushName::Time(end.at))
        });
        self.pushes.retain(|(push, count)| *count > 0 || is_current(&push.name));
    }
}

type Streams = BTreeMap<StreamName, Known>;

/// A store, the model of its streams, and what the model was not told of yet.
struct Play {
    fixture: Fixture,
    known: Streams,
    waiting: Vec<Arc<Event>>,
    stored: BTreeMap<EventId, Arc<Event>>,
    appended: u128,
}

impl Play {
    fn new(on: On) -> Self {
        let change = |settings: &mut Settings| settings.retention = Duration::from_hours(1);
        let (known, waiting, stored) = (Streams::new(), Vec::new(), BTreeMap::new());
        Self { fixture: Fixture::new(on, change), known, waiting, stored, appended: 0 }
    }

    fn step(mut self, step: Step) -> Self {
        match step {
            Step::Append(sketch) => self.append(&sketch),
            Step::Catalogue => self.catch_up(),
            Step::Wait(minutes) => self.fixture.clock.advance(Duration::from_mins(minutes)),
            Step::Prune => self.prune(),
            Step::Rebuild => self.rebuild(),
            Step::Reopen => self.fixture = self.fixture.reopen(),
        }
        self
    }

    fn append(&mut self, sketch: &Sketch) {
        let body = sketch.body();
        let incoming = Incoming::read(body.as_bytes()).unwrap();
        let facts = incoming.facts();
        self.appended += 1;
        let event = Arc::new(Event {
            id: EventId::from_u128(self.appended),
            received_at: self.fixture.clock.now(),
            verification: Verification::Unsigned,
            body: Bytes::from(body.clone()),
            facts: facts.clone(),
        });
        let owed = Owed { handler: self.fixture.handler, ordered: false };
        let new = NewEvent {
            event: Arc::clone(&event),
            identity: Identity::of(incoming.body(), facts.occurred_at, None),
            drift: Vec::new(),
            owed: if sketch.owed { vec![owed] } else { Vec::new() },
            readmitted: None,
        };
        let appended = self.fixture.runtime.block_on(self.fixture.store.append(new)).unwrap();
        if matches!(appended, Appended::Stored { .. }) {
            self.waiting.push(Arc::clone(&event));
            self.stored.insert(event.id, event);
        }
    }

    fn catch_up(&mut self) {
        while self.fixture.runtime.block_on(self.fixture.store.catalogue()).unwrap().is_some() {}
        for event in std::mem::take(&mut self.waiting) {
            self.add(&event);
        }
    }

    fn add(&mut self, event: &Event) {
        if let Some(name) = StreamName::of(&event.facts).filter(|_| Entry::of(event).is_some()) {
            self.known.entry(name).or_default().add(event, 1);
        }
    }

    fn prune(&mut self) {
        self.catch_up();
        self.fixture.prune();
        let left: BTreeSet<_> = self.ids();
        let gone: Vec<_> =
            self.stored.iter().filter(|(id, _)| !left.contains(id)).map(|(_, e)| Arc::clone(e)).collect();
        self.stored.retain(|id, _| left.contains(id));
        let mut touched = BTreeSet::new();
        for event in &gone {
            if let Some(name) = StreamName::of(&event.facts).filter(|_| Entry::of(event).is_some()) {
                self.known.get_mut(&name).unwrap().add(event, -1);
                touched.insert(name);
            }
        }
        for name in touched {
            if !self.known.get_mut(&name).unwrap().sweep() {
                self.known.remove(&name);
            }
        }
    }

    fn ids(&self) -> BTreeSet<EventId> {
        let all = self.fixture.store.events(EventFilter::default(), 10_000, None);
        self.fixture.runtime.block_on(all).unwrap().items.into_iter().map(|row| row.id).collect()
    }

    /// Makes streams anew; what is known of them must stay to the last row.
    fn rebuild(&mut self) {
        self.catch_up();
        let before = self.dump();
        let Fixture { store, runtime, .. } = &self.fixture;
        runtime.block_on(store.begin_streams_rebuild()).unwrap();
        while runtime.block_on(store.rebuild_streams()).unwrap() {}
        assert_eq!(runtime.block_on(store.streams_rebuild()).unwrap(), None);
        assert_eq!(self.dump(), before);
    }

    /// All rows about streams, without the numbers that tell them apart.
    fn dump(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (columns, table) in [
            ("state, current, s.pushes, loose, alone, recordings, s.events, last_event_at, outlived_at", "streams s"),
            (
                "name, began, ended, errcode, lasted, outlived, old_began, old_ended, old_errcode, old_lasted, p.events",
                "pushes p JOIN streams s ON s.id = p.stream",
            ),
            ("sort, at, event", "stream_notes n JOIN streams s ON s.id = n.stream"),
        ] {
            let columns = match self.fixture.place.engine() {
                On::Postgres => columns.replace("name,", "key,"),
                On::Sqlite => columns.to_owned(),
            };
            let rows = self.fixture.rows(&format!("SELECT s.domain, s.app, s.stream, {columns} FROM {table}"));
            all.extend(rows.iter().map(|row| format!("{table} {row:?}")));
        }
        all.sort();
        all
    }

    fn check(&mut self) {
        let Fixture { store, runtime, .. } = &self.fixture;
        let shown = runtime.block_on(store.streams(StreamFilter::default(), 100, None)).unwrap();
        assert_eq!(shown.next, None);
        self.catch_up();
        let known: Vec<_> = self.known.iter().filter(|(_, known)| !known.timeline().is_empty()).collect();
        assert_eq!(shown.items.len(), known.len());
        for (row, (name, known)) in shown.items.iter().zip(&known) {
            let timeline = known.timeline();
            assert_eq!(row.name, **name);
            assert_eq!(row.live, known.is_live());
            assert_eq!(row.current.as_ref().map(facts_of), timeline.first().map(facts_of), "{known:?}");
            assert_eq!(row.pushes, timeline.len() as u64, "{known:?}");
            assert_eq!(row.recordings, known.recordings as u64);
            assert_eq!(Some(row.last_event_at), known.last_event_at);
            self.check_story(row, &timeline);
        }
        let live = known.iter().filter(|(_, known)| known.is_live()).count();
        assert_eq!(self.fixture.store.tally().streams_live, live as u64);
    }

    fn check_story(&self, row: &StreamRow, timeline: &[Span]) {
        let Fixture { store, runtime, .. } = &self.fixture;
        let story = runtime.block_on(store.stream(row.name.clone())).unwrap().unwrap();
        assert_eq!(story.row, *row);
        let told: Vec<_> = story.timeline.iter().map(|push| facts_of(&push.span)).collect();
        let all: Vec<_> = timeline.iter().take(TOLD).map(facts_of).collect();
        assert_eq!(told, all);
        let pictures = story.timeline.iter().filter_map(|push| push.screencapture.as_ref());
        for (picture, push) in pictures.zip(story.timeline.iter().filter(|push| push.screencapture.is_some())) {
            assert!(push.span.began <= Some(picture.at));
        }
    }
}

/// All but what the pushes after it decide, of which a row tells nothing.
fn facts_of(span: &Span) -> (PushName, Option<Timestamp>, Option<End>) {
    (span.name.clone(), span.began, span.end)
}

fn streams_are_what_their_events_come_to(on: On) {
    proptest!(on.cases(24), |(steps in prop::collection::vec(step(), 1..60))| {
        let mut play = steps.into_iter().fold(Play::new(on), Play::step);
        play.check();
        play.rebuild();
        play.check();
    });
}

fn sketch_of(sort: Sort, sequence: u8, secs: i64) -> Sketch {
    Sketch { stream: 0, sort, sequence, secs, lasted: None, owed: false }
}

fn expire(play: &mut Play) {
    play.fixture.clock.advance(Duration::from_hours(2));
    play.prune();
}

fn a_live_stream_outlives_its_events_and_is_made_anew_without_them(on: On) {
    let mut play = Play::new(on).step(Step::Append(sketch_of(Sort::Push, 1, 5)));
    expire(&mut play);
    assert!(play.ids().is_empty());
    play.check();
    play.rebuild();
    play.check();
    assert_eq!(play.fixture.store.tally().streams_live, 1);
    play = play.step(Step::Append(sketch_of(Sort::Interruption, 1, 30)));
    play.check();
    expire(&mut play);
    assert_eq!(play.dump(), [""; 0], "it is forgotten with its last event");
}

fn a_stream_stays_ended_while_only_the_beginning_of_a_push_is_stored(on: On) {
    let mut play = Play::new(on);
    play.append(&Sketch { owed: true, ..sketch_of(Sort::Push, 1, 5) });
    play.append(&sketch_of(Sort::Interruption, 1, 20));
    play.append(&Sketch { owed: true, ..sketch_of(Sort::Push, 2, 1) });
    play.append(&sketch_of(Sort::Interruption, 0, 30));
    expire(&mut play);
    assert_eq!(play.ids().len(), 2);
    play.check();
    play.rebuild();
    play.check();
    assert_eq!(play.fixture.store.tally().streams_live, 0);
}

fn any_event_of_a_stream_keeps_it_and_moves_its_time_whichever_comes_first(on: On) {
    let told = [sketch_of(Sort::Push, 1, 5), sketch_of(Sort::Interruption, 1, 20)];
    let other = [sketch_of(Sort::Audio, 0, 0), Sketch { owed: true, ..sketch_of(Sort::Relay, 0, 30) }];
    let mut dumps = BTreeSet::new();
    for order in [[0, 1, 2, 3], [2, 3, 0, 1], [3, 0, 2, 1], [1, 2, 0, 3]] {
        let mut play = Play::new(on);
        for at in order {
            play.append(told.iter().chain(&other).nth(at).unwrap());
            play.check();
        }
        dumps.insert(play.dump().into_iter().filter(|row| !row.starts_with("stream_notes")).collect::<Vec<_>>());
        expire(&mut play);
        assert_eq!(play.ids().len(), 1);
        play.check();
        play.rebuild();
        let Fixture { store, runtime, .. } = &play.fixture;
        let shown = runtime.block_on(store.streams(StreamFilter::default(), 10, None)).unwrap().items;
        assert_eq!(
            shown.iter().map(|row| row.last_event_at).collect::<Vec<_>>(),
            [START.plus(Duration::from_secs(30))]
        );
    }
    assert_eq!(dumps.len(), 1, "{dumps:#?}");
}

fn streams_of_a_former_generation_leave_nothing_behind(on: On) {
    let mut play = Play::new(on);
    for number in 0..40 {
        play.append(&Sketch { stream: number % 3, ..sketch_of(Sort::Push, 0, i64::from(number)) });
    }
    play.rebuild();
    play.rebuild();
    let rows = play.dump();
    assert_eq!(rows.len(), 43);
}

fn nothing_is_pruned_while_streams_are_made_anew(on: On) {
    let mut play = Play::new(on);
    for secs in 0..20 {
        play.append(&sketch_of(Sort::Push, 1, secs));
    }
    play.catch_up();
    let begin = |play: &Play| play.fixture.runtime.block_on(play.fixture.store.begin_streams_rebuild()).unwrap();
    begin(&play);
    assert!(play.fixture.runtime.block_on(play.fixture.store.rebuild_streams()).unwrap());
    play.fixture.clock.advance(Duration::from_hours(2));
    assert_eq!(play.fixture.prune(), 0);
    let progress = play.fixture.runtime.block_on(play.fixture.store.streams_rebuild()).unwrap();
    assert!(progress.is_some_and(|progress| progress.total == 20), "{progress:?}");
    // Another process goes on where this one was.
    play.fixture = play.fixture.reopen();
    begin(&play);
    while play.fixture.runtime.block_on(play.fixture.store.rebuild_streams()).unwrap() {}
    assert_eq!(play.fixture.prune(), 20);
}

fn pages_of_streams_follow_each_other_by_every_filter(on: On) {
    let fixture = Fixture::new(on, |_| {});
    let mut all = Vec::new();
    for number in 0..60_usize {
        let (domain, app, ends) = (number % 3, number / 3 % 2, number % 4 == 0);
        let body = json!({
            "event_type": u8::from(!ends), "app": (["", "a.example", "b.example"][domain]),
            "appname": (["", "live"][app]), "stream_id": format!("s{number}"), "sequence": "1", "errcode": 0,
        })
        .to_string();
        let incoming = Incoming::read(body.as_bytes()).unwrap();
        let mut new = fixture.event(number as u64, None);
        let facts = incoming.facts();
        all.push((StreamName::of(&facts).unwrap(), !ends));
        new.event = Arc::new(Event { facts, body: Bytes::from(body.clone()), ..(*new.event).clone() });
        fixture.runtime.block_on(fixture.store.append(new)).unwrap();
    }
    all.sort();
    for (live, domain, app) in [
        (None, None, None),
        (Some(true), None, None),
        (Some(false), None, None),
        (None, Some("a.example"), None),
        (Some(true), Some(""), None),
        (None, None, Some("live")),
        (Some(false), None, Some("")),
        (None, Some("b.example"), Some("live")),
        (Some(true), Some("b.example"), Some("")),
        (None, Some("c.example"), None),
        (None, None, Some("vod")),
    ] {
        let wanted = |(name, is_live): &&(StreamName, bool)| {
            live.is_none_or(|live| live == *is_live)
                && domain.is_none_or(|domain| domain == name.domain)
                && app.is_none_or(|app| app == name.app)
        };
        let expected: Vec<_> = all.iter().filter(wanted).map(|(name, _)| name.clone()).collect();
        for limit in [1, 7, 1000] {
            let filter = StreamFilter { live, domain: domain.map(str::to_owned), app: app.map(str::to_owned) };
            let mut found = Vec::new();
            let mut cursor: Option<String> = None;
            loop {
                let page = fixture.store.streams(filter.clone(), limit, cursor.as_deref());
                let page = fixture.runtime.block_on(page).unwrap();
                assert!(page.items.len() <= limit);
                found.extend(page.items.into_iter().map(|row| row.name));
                let Some(next) = page.next else { break };
                cursor = Some(next);
            }
            assert_eq!(found, expected, "{filter:?} {limit}");
        }
    }
    let wrong = fixture.runtime.block_on(fixture.store.streams(StreamFilter::default(), 1, Some("x")));
    assert_eq!(wrong.unwrap_err(), StoreError::Cursor);
}

on_both! {
    streams_are_what_their_events_come_to,
    a_live_stream_outlives_its_events_and_is_made_anew_without_them,
    a_stream_stays_ended_while_only_the_beginning_of_a_push_is_stored,
    any_event_of_a_stream_keeps_it_and_moves_its_time_whichever_comes_first,
    streams_of_a_former_generation_leave_nothing_behind,
    nothing_is_pruned_while_streams_are_made_anew,
    pages_of_streams_follow_each_other_by_every_filter,
}
