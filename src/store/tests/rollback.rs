//! A store that a later version has written to, which knew kinds that this one does not.

use super::*;

/// What the tables of the catalogue call by its kind.
const TABLES: [&str; 4] = ["events", "groups", "kinds", "counts"];

fn catalogued(on: On, events: u64) -> Fixture {
    let fixture = Fixture::new(on, |settings| settings.retention = Duration::from_hours(1));
    for number in 0..events {
        fixture.append(number, Some(number));
    }
    for claim in fixture.claim(100) {
        fixture.settle(claim, Settlement::Done);
    }
    while fixture.runtime.block_on(fixture.store.catalogue()).unwrap().is_some() {}
    fixture
}

fn events_of_a_kind_that_only_a_later_version_knows_are_counted_as_unknown_and_pruned(on: On) {
    let fixture = catalogued(on, 3);
    for table in TABLES {
        fixture.change(&format!("UPDATE {table} SET kind = 'of-later'"));
    }
    fixture.change("INSERT INTO kinds (kind, count) VALUES ('unknown', 2)");
    let stats = fixture.runtime.block_on(fixture.store.stats(60, 1)).unwrap();
    assert_eq!(stats.kinds[&Kind::Unknown].count, 5, "both are counted");
    fixture.clock.advance(Duration::from_hours(2));
    assert_eq!((fixture.prune(), fixture.event_count()), (3, 0));
    let stats = fixture.runtime.block_on(fixture.store.stats(60, 1)).unwrap();
    assert_eq!(stats.kinds[&Kind::Unknown].count, 2);
}

fn sums_and_lists_that_are_damaged_keep_nothing_from_being_pruned(on: On) {
    let fixture = catalogued(on, 3);
    fixture.change("DELETE FROM counts; DELETE FROM kinds");
    fixture.change(if on == On::Sqlite { "DELETE FROM grouped WHERE event = 2" } else { "DELETE FROM groups" });
    fixture.clock.advance(Duration::from_hours(2));
    assert_eq!((fixture.prune(), fixture.event_count()), (3, 0));
}

fn a_replay_that_only_a_later_version_understands_keeps_no_other_from_being_made(on: On) {
    let fixture = Fixture::new(on, |_| {});
    let begin = || fixture.runtime.block_on(fixture.store.begin_replay(Wish::default(), 1, 1)).unwrap().unwrap().id;
    let (own, of_later) = (begin(), begin());
    fixture.change(&format!(r#"UPDATE replays SET wish = '{{"kind":"of-later"}}' WHERE id = {}"#, of_later.0));
    let replays = fixture.runtime.block_on(fixture.store.replays()).unwrap();
    let states: Vec<_> = replays.iter().map(|replay| (replay.id, replay.state)).collect();
    assert_eq!(states, [(of_later, ReplayState::Failed), (own, ReplayState::Running)]);
    assert!(replays[0].detail.as_ref().is_some_and(|detail| detail.contains("of-later")), "{replays:?}");
}

on_both! {
    a_replay_that_only_a_later_version_understands_keeps_no_other_from_being_made,
    events_of_a_kind_that_only_a_later_version_knows_are_counted_as_unknown_and_pruned,
    sums_and_lists_that_are_damaged_keep_nothing_from_being_pruned,
}
