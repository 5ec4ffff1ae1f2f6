//! Names as strangers may write them: with a NUL, as long as they may be, of private characters.

use serde_json::json;

use super::*;

fn events_of(fixture: &Fixture, filter: EventFilter) -> usize {
    fixture.runtime.block_on(fixture.store.events(filter, 100, None)).unwrap().items.len()
}

fn whatever_strangers_write_is_kept_found_and_told_as_it_is(on: On) {
    let fixture = Fixture::new(on, |settings| settings.retention = Duration::from_hours(1));
    let long = |end: &str| format!("{}{end}", "直播".repeat(170));
    let names = [long("a"), long("b"), "a\0b".to_owned(), "\u{10ffff}0".to_owned(), "\0".to_owned()];
    for (number, name) in (0..).zip(&names) {
        let body = json!({
            "event_type": 1, "app": name, "appname": name, "stream_id": name, "sequence": name,
            "event_time": START.secs(),
        })
        .to_string();
        let incoming = Incoming::read(body.as_bytes()).unwrap();
        let mut new = fixture.event(number, None);
        let identity = Identity::of(incoming.body(), None, None);
        let facts = incoming.facts();
        assert_eq!(facts.stream.as_ref(), Some(name), "it is a name");
        let event = Event { facts, body: Bytes::from(body.clone()), ..(*new.event).clone() };
        (new.event, new.identity, new.drift) = (Arc::new(event), identity, vec![name.clone()]);
        assert!(matches!(
            fixture.runtime.block_on(fixture.store.append(new)),
            Ok(Appended::Stored { drifted: true, .. })
        ));
    }
    for claim in fixture.claim(100) {
        let error = claim.event.facts.stream.clone().unwrap();
        fixture.settle(claim, Settlement::Dead { error, exhausted: false });
    }
    for (number, name) in (0_u128..).zip(&names) {
        let is_name = |told: Option<&String>| assert_eq!(told, Some(name), "{number}");
        let stored = fixture.runtime.block_on(fixture.store.event(EventId::from_u128(number + 1))).unwrap().unwrap();
        is_name(stored.event.facts.domain.as_ref());
        is_name(stored.event.facts.sequence.as_ref());
        is_name(stored.drift.first());
        let error = stored.deliveries[0].last_error.clone().unwrap();
        assert!(name.starts_with(&error) && !error.is_empty());
        let part = Some(name.clone());
        for filter in [
            EventFilter { stream: part.clone(), ..EventFilter::default() },
            EventFilter { domain: part.clone(), app: part.clone(), ..EventFilter::default() },
        ] {
            assert_eq!(events_of(&fixture, filter), 1, "{number}");
        }
        let same = StreamName { domain: name.clone(), app: name.clone(), stream: name.clone() };
        let story = fixture.runtime.block_on(fixture.store.stream(same.clone())).unwrap().unwrap();
        assert!(story.row.name == same && story.row.live);
        is_name(story.timeline[0].span.name.sequence().map(str::to_owned).as_ref());
    }
    let all = StreamFilter::default();
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = fixture.store.streams(all.clone(), 2, cursor.as_deref());
        let page = fixture.runtime.block_on(page).unwrap();
        found.extend(page.items.into_iter().map(|row| row.name.stream));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    found.sort();
    let mut expected = names.to_vec();
    expected.sort();
    assert_eq!(found, expected, "each once");
}

fn a_refused_callback_may_hold_anything(on: On) {
    let fixture = Fixture::new(on, |_| {});
    let new = NewRefused {
        received_at: START,
        reason: Reason::MalformedJson,
        detail: "not\0here".to_owned(),
        path: "/callbacks/\0\u{10ffff}".to_owned(),
        body: Bytes::from_static(b"\0\xff{"),
        bytes: 3,
        headers: LegacyHeaders::default(),
    };
    assert!(fixture.runtime.block_on(fixture.store.refuse_unless_known(new.clone())).unwrap());
    assert!(!fixture.runtime.block_on(fixture.store.refuse_unless_known(new.clone())).unwrap(), "it is known");
    let page = fixture.store.quarantine(QuarantineFilter::default(), 10, None);
    let listed = fixture.runtime.block_on(page).unwrap().items.remove(0);
    assert_eq!((&listed.detail, &listed.path), (&new.detail, &new.path));
    let (_, body) = fixture.runtime.block_on(fixture.store.refused(listed.id)).unwrap().unwrap();
    assert_eq!(body, new.body);
    assert_eq!(fixture.store.tally().refused_bytes, 3);
}

on_both! {
    whatever_strangers_write_is_kept_found_and_told_as_it_is,
    a_refused_callback_may_hold_anything,
}
