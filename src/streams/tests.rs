//! The fold against a model that knows nothing of it, over every order and number of the same events.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clock::Timestamp;
use crate::event::{CauseClass, Event, EventId, Incoming, Verification};

/// 2023-12-21T03:06:40Z, where the times of these tests begin.
const START: i64 = 1_703_128_000;

fn event(body: &Value) -> Event {
    let body = body.to_string();
    Event {
        id: EventId::nil(),
        facts: Incoming::read(body.as_bytes()).unwrap().facts(),
        received_at: Timestamp::from_secs(START + 10_000),
        verification: Verification::Verified,
        body: body.into_bytes().into(),
    }
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(START + secs)
}

fn push(sequence: &str, began: i64) -> Value {
    let mut body = json!({"event_type": 1, "stream_id": "room", "event_time": START + began});
    if !sequence.is_empty() {
        body["sequence"] = sequence.into();
    }
    body
}

fn interruption(sequence: &str, ended: i64, errcode: i64, lasted: Option<i64>) -> Value {
    let mut body = json!({"event_type": 0, "stream_id": "room", "event_time": START + ended, "errcode": errcode});
    if !sequence.is_empty() {
        body["sequence"] = sequence.into();
    }
    if let Some(lasted) = lasted {
        body["push_duration"] = (lasted * 1000).to_string().into();
    }
    body
}

/// Everything known of a stream's pushes.
#[derive(Clone, Debug, Default)]
struct History {
    pushes: Vec<Push>,
    loose: Vec<End>,
}

impl History {
    fn of<'a>(bodies: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut history = Self::default();
        for body in bodies {
            match Entry::of(&event(body)) {
                Some(Entry::Push(Notice::Began(name, at))) => history.merge(name, Some(at), None),
                Some(Entry::Push(Notice::Ended(Some(name), end))) => history.merge(name, None, Some(end)),
                Some(Entry::Push(Notice::Ended(None, end))) => history.loose.push(end),
                _ => {}
            }
        }
        history
    }

    fn merge(&mut self, name: PushName, began: Option<Timestamp>, end: Option<End>) {
        let place = self.pushes.iter().position(|push| push.name == name).unwrap_or_else(|| {
            self.pushes.push(Push::named(name));
            self.pushes.len() - 1
        });
        self.pushes[place].merge(began, end);
    }

    fn timeline(&self) -> Vec<Span> {
        timeline(self.pushes.clone(), self.loose.iter().copied())
    }
}

/// A line for each push, the newest first.
fn told(bodies: &[Value]) -> Vec<String> {
    History::of(bodies).timeline().iter().map(line).collect()
}

fn line(span: &Span) -> String {
    let secs = |moment: Option<Timestamp>| moment.map_or("?".to_owned(), |moment| (moment.secs() - START).to_string());
    let name = span.name.sequence().unwrap_or("-");
    let Some(cause) = span.cause() else { return format!("{name}: {}..", secs(span.began)) };
    let lasted = span.lasted().map_or("?".to_owned(), |lasted| (lasted / 1000).to_string());
    format!("{name}: {}..{} {lasted}s {}", secs(span.began), secs(span.ended()), cause.class.slug())
}

#[test]
fn a_late_interruption_of_a_replaced_push_ends_nothing() {
    let all = [push("8", 100), push("9", 160), interruption("8", 161, 21, Some(61))];
    assert_eq!(told(&all), ["9: 160..", "8: 100..161 61s replaced"]);
}

#[test]
fn an_interruption_may_come_before_its_push_or_without_it() {
    assert_eq!(told(&[interruption("8", 161, 1, Some(61))]), ["8: 100..161 61s client"]);
    assert_eq!(told(&[interruption("8", 161, 1, Some(61)), push("8", 99)]), ["8: 99..161 61s client"]);
    assert_eq!(told(&[interruption("8", 161, 1, None)]), ["8: ?..161 ?s client"]);
}

#[test]
fn an_old_push_told_of_again_stays_old() {
    let all = [push("8", 100), interruption("8", 150, 2, None), push("9", 200), push("8", 101)];
    assert_eq!(told(&all), ["9: 200..", "8: 100..150 50s client"]);
}

#[test]
fn of_several_beginnings_the_earliest_and_of_several_ends_the_latest_counts() {
    let all = [push("8", 105), interruption("8", 150, 2, None), push("8", 100), interruption("8", 170, 12, None)];
    assert_eq!(told(&all), ["8: 100..170 70s network"]);
}

#[test]
fn an_interruption_without_a_sequence_ends_the_push_that_began_last_before_it() {
    let all = [push("8", 100), push("9", 200), interruption("", 150, 3, None)];
    assert_eq!(told(&all), ["9: 200..", "8: 100..150 50s client"]);
    assert_eq!(told(&[push("", 100), interruption("", 100, 3, None)]), ["-: 100..100 0s client"]);
    assert_eq!(told(&[push("9", 200), interruption("", 150, 3, Some(20))]), ["9: 200..", "-: 130..150 20s client"]);
    let unknown = [interruption("9", 200, 3, None), interruption("", 150, 3, Some(20))];
    assert_eq!(told(&unknown), ["9: ?..200 ?s client"], "it began before all others");
}

#[test]
fn pushes_of_unknown_beginning_come_before_all_others() {
    let all = [interruption("99", 500, 1, None), push("8", 100), interruption("7", 600, 1, None)];
    assert_eq!(told(&all), ["8: 100..", "99: ?..500 ?s client", "7: ?..600 ?s client"]);
}

#[test]
fn sequences_are_compared_as_numbers_of_any_length() {
    for (older, newer) in [
        ("9", "10"),
        ("18446744073709551615", "18446744073709551616"),
        ("99999999999999999999", "100000000000000000000"),
        ("0099", "100"),
        ("x", "0"),
        ("", "x"),
    ] {
        for all in [[push(older, 5), push(newer, 5)], [push(newer, 5), push(older, 5)]] {
            assert_eq!(History::of(&all).timeline()[0].name.sequence(), Some(newer), "{older} {newer}");
        }
    }
}

#[test]
fn a_push_was_replaced_only_by_one_that_began_soon_after_its_end() {
    let class = |all: &[Value]| History::of(all).timeline()[1].cause().unwrap().class;
    let cut = interruption("8", 150, 21, None);
    for (began, expected) in [(101, CauseClass::Replaced), (155, CauseClass::Replaced), (156, CauseClass::Requested)] {
        assert_eq!(class(&[push("8", 100), cut.clone(), push("9", began)]), expected, "{began}");
    }
    assert_eq!(class(&[push("9", 100), push("8", 100), cut.clone()]), CauseClass::Requested, "not after this push");
    let client = interruption("8", 150, 1, None);
    assert_eq!(class(&[push("8", 100), client, push("9", 151)]), CauseClass::Client);
    assert_eq!(History::of(&[push("8", 100), cut]).timeline()[0].cause().unwrap().class, CauseClass::Requested);
}

#[test]
fn a_body_without_anything_of_an_interruption_says_nothing() {
    let bare = json!({"event_type": 0, "stream_id": "room", "event_time": START});
    assert_eq!(Entry::of(&event(&bare)), None);
    for (member, value) in
        [("errcode", json!(0)), ("errmsg", json!("")), ("sequence", json!("")), ("push_duration", json!("x"))]
    {
        let mut body = bare.clone();
        body[member] = value;
        assert!(matches!(Entry::of(&event(&body)), Some(Entry::Push(Notice::Ended(None, _)))), "{body}");
        body[member] = Value::Null;
        assert_eq!(Entry::of(&event(&body)), None, "{body}");
    }
}

#[test]
fn durations_that_cannot_be_are_not_used() {
    for (duration, lasted) in [
        (json!("61000"), Some(61_000)),
        (json!(61_000), Some(61_000)),
        (json!("0"), Some(0)),
        (json!(-1), None),
        (json!("9223372036854775807"), None),
        (json!("soon"), None),
        (json!(null), None),
    ] {
        let mut body = interruption("8", 161, 1, None);
        body["push_duration"] = duration.clone();
        let Some(Entry::Push(Notice::Ended(_, end))) = Entry::of(&event(&body)) else { panic!("{body}") };
        assert_eq!(end.lasted, lasted, "{duration}");
    }
}

#[test]
fn what_happened_at_no_stated_time_happened_when_we_were_told() {
    let Some(Entry::Push(notice)) = Entry::of(&event(&json!({"event_type": 1, "stream_id": "room"}))) else { panic!() };
    assert_eq!(notice, Notice::Began(PushName::Time(at(10_000)), at(10_000)));
}

#[test]
fn a_file_is_of_the_push_that_most_of_it_was_recorded_from() {
    let all = [
        push("1", 100),
        interruption("1", 200, 1, None),
        push("2", 210),
        interruption("2", 300, 1, None),
        push("3", 310),
    ];
    let timeline = History::of(&all).timeline();
    let owner =
        |from, until| owner_of_file(&timeline, at(from), at(until)).map(|place| line(&timeline[place])[..1].to_owned());
    for (from, until, expected) in [
        (100, 200, "1"),
        (95, 202, "1"),
        (150, 230, "1"),
        (190, 290, "2"),
        (320, 400, "3"),
        (203, 207, "1"),
        (301, 309, "2"),
        (305, 311, "3"),
        (150, 150, "1"),
    ] {
        assert_eq!(owner(from, until).as_deref(), Some(expected), "{from}..{until}");
    }
    assert_eq!(owner(10, 90), None, "before all of them");
}

#[test]
fn a_moment_is_of_the_push_that_had_begun_last() {
    let all = [push("1", 100), interruption("1", 200, 1, None), push("2", 210)];
    let timeline = History::of(&all).timeline();
    let owner = |moment| owner_of_moment(&timeline, at(moment)).map(|place| line(&timeline[place])[..1].to_owned());
    for (moment, expected) in [(99, None), (100, Some("1")), (209, Some("1")), (210, Some("2")), (9999, Some("2"))] {
        assert_eq!(owner(moment).as_deref(), expected, "{moment}");
    }
}

#[test]
fn only_states_that_are_faults_are_problems() {
    for (state, fault) in [("record_error", true), ("record_start_failed", true), ("record_ended", false)] {
        let body = json!({"event_type": 332, "stream_id": "room", "event_time": START, "record_event": state});
        let problem = Entry::Problem(Problem { at: at(0), push: None });
        assert_eq!(Entry::of(&event(&body)), Some(if fault { problem } else { Entry::Mention }), "{state}");
    }
}

#[test]
fn the_content_of_a_file_begins_its_length_before_its_end() {
    for (body, from) in [
        (json!({"end_time": START + 500, "start_time": START, "duration": 154}), 346),
        (json!({"end_time": START + 500, "start_time": START}), 0),
        (json!({"end_time": START + 500, "start_time": START + 900}), 500),
        (json!({"end_time": START + 500, "duration": -5}), 500),
    ] {
        let mut whole = body.clone();
        whole["event_type"] = 100.into();
        assert_eq!(Entry::of(&event(&whole)), Some(Entry::Recording { from: at(from), until: at(500) }), "{body}");
    }
}

/// What an event of the model says: its sequence (none: 0), whether it ends, time, how long it lasted (unknown: none).
type Said = (u8, bool, i64, Option<i64>);

fn said() -> impl Strategy<Value = Said> {
    (0_u8..4, any::<bool>(), 0_i64..40, proptest::option::of(0_i64..30))
}

fn body((sequence, ends, time, lasted): &Said) -> Value {
    // Numbers whose text sorts otherwise than they do.
    let sequence = ["", "9", "10", "100"][usize::from(*sequence)];
    if *ends { interruption(sequence, *time, 1, *lasted) } else { push(sequence, *time) }
}

/// The rules as they are written down, without a thought of how to follow them quickly: for each push its sequence, its
/// beginning and its end.
fn model(said: &[Said]) -> Vec<(u8, Option<i64>, Option<i64>)> {
    let mut pushes: Vec<(u8, Option<i64>, Option<i64>)> = Vec::new();
    for sequence in 1..4 {
        let of = |ends| said.iter().filter(move |(own, end, ..)| *own == sequence && *end == ends);
        let began = of(false).map(|(.., time, _)| *time).min();
        let last = of(true).max_by_key(|(.., time, lasted)| (*time, *lasted));
        let reckoned = last.and_then(|(.., time, lasted)| Some(time - (*lasted)?));
        if began.is_some() || last.is_some() {
            pushes.push((sequence, began.or(reckoned), last.map(|(.., time, _)| *time)));
        }
    }
    for (.., time, _) in said.iter().filter(|(sequence, ends, ..)| *sequence == 0 && !ends) {
        if !pushes.contains(&(0, Some(*time), None)) {
            pushes.push((0, Some(*time), None));
        }
    }
    pushes.sort_by_key(|(sequence, began, _)| (began.unwrap_or(i64::MIN), *sequence));
    let begun = pushes.clone();
    let mut alone: Vec<(u8, Option<i64>, Option<i64>)> = Vec::new();
    let mut loose: Vec<_> = said.iter().filter(|(sequence, ends, ..)| *sequence == 0 && *ends).collect();
    loose.sort_by_key(|(.., time, lasted)| (*time, *lasted));
    for (.., time, lasted) in loose {
        if let Some(last) = begun.iter().rposition(|(_, began, _)| began.unwrap_or(i64::MIN) <= *time) {
            pushes[last].2 = pushes[last].2.max(Some(*time));
        } else {
            alone.retain(|(.., ended)| *ended != Some(*time));
            alone.push((0, lasted.map(|lasted| time - lasted), Some(*time)));
        }
    }
    alone.sort_by_key(|(_, began, ended)| (*began, *ended));
    alone.extend(pushes);
    alone.reverse();
    alone
}

fn shown(timeline: &[Span]) -> Vec<(u8, Option<i64>, Option<i64>)> {
    let secs = |moment: Timestamp| moment.secs() - START;
    let number = |span: &Span| ["9", "10", "100"].iter().position(|own| Some(*own) == span.name.sequence());
    let row = |span: &Span| {
        let number = number(span).map_or(0, |place| u8::try_from(place + 1).unwrap());
        (number, span.began.map(secs), span.ended().map(secs))
    };
    timeline.iter().map(row).collect()
}

proptest! {
    #[test]
    fn every_order_and_number_of_the_same_events_comes_to_the_same(
        (said, again) in proptest::collection::vec(said(), 0..12).prop_flat_map(|said| {
            let twice = [said.clone(), said.clone()].concat();
            (Just(said), Just(twice).prop_shuffle())
        })
    ) {
        let once: Vec<_> = said.iter().map(body).collect();
        let again: Vec<_> = again.iter().map(body).collect();
        prop_assert_eq!(History::of(&once).timeline(), History::of(&again).timeline());
    }

    #[test]
    fn the_fold_is_what_the_rules_say(said in proptest::collection::vec(said(), 0..12)) {
        let bodies: Vec<_> = said.iter().map(body).collect();
        prop_assert_eq!(shown(&History::of(&bodies).timeline()), model(&said));
    }

    #[test]
    fn the_newest_pushes_alone_are_told_of_as_among_all(said in proptest::collection::vec(said(), 1..16), kept in 1_usize..4) {
        let bodies: Vec<_> = said.iter().map(body).collect();
        let mut history = History::of(&bodies);
        let whole = history.timeline();
        history.pushes.sort_by(Push::cmp_by_beginning);
        let cut = history.pushes.len().saturating_sub(kept);
        history.pushes.drain(..cut);
        if let Some(first) = history.pushes.first().map(Push::beginning) {
            history.loose.retain(|end| first <= Some(end.at));
            let newest = history.timeline();
            prop_assert_eq!(&newest[..], &whole[..newest.len()]);
        }
    }
}
