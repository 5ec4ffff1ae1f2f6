//! The ways in which questions must be answered: by an index, whatever there is.

use super::*;

#[test]
fn claims_and_lanes_are_answered_by_partial_indexes() {
    let fixture = Fixture::new(On::Sqlite, |_| {});
    let db = fixture.place.sqlite().unwrap();
    for (sql, index) in sqlite::HOT_QUERIES {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = rusqlite::params_from_iter(vec![1; statement.parameter_count()]);
        let plan: Vec<String> =
            statement.query_map(values, |row| row.get(3)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
        let plan = plan.join("; ");
        assert!(plan.contains(index) && !plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
}

#[test]
fn lists_are_answered_by_their_keys() {
    let fixture = Fixture::new(On::Sqlite, |_| {});
    let db = fixture.place.sqlite().unwrap();
    for (sql, way) in sqlite::LIST_QUERIES.concat().into_iter().chain(sqlite::DELIVERY_LIST_QUERIES) {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = rusqlite::params_from_iter(vec![1; statement.parameter_count()]);
        let way_taken: Vec<String> =
            statement.query_map(values, |row| row.get(3)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
        let way_taken = way_taken.join("; ");
        let is_sorted = way_taken.contains("TEMP B-TREE");
        let as_told = way_taken.contains(way) && is_sorted == way.contains("TEMP B-TREE");
        assert!(as_told && !way_taken.contains("SCAN"), "{sql}: {way_taken}");
    }
}

/// Many rows of everything that is listed, most of them of no interest, as years of work leave them.
const MANY: &str = "
INSERT INTO groups (kind, domain, app, verification)
    SELECT 'stream-push', 'd' || n, 'live', 'verified' FROM generate_series(1, 8) n;
INSERT INTO events (seq, id, identity, kind, domain, app, stream, received_at, verification, grp, name, body)
    SELECT n, decode(lpad(to_hex(n), 32, '0'), 'hex'), sha256(n::text::bytea), 'stream-push', 'd' || (n % 8 + 1), 'live',
        's' || n % 5000, 1700000000000 + n * 100, 'verified', n % 8 + 1, n % 5000, convert_to(repeat('x', 300), 'UTF8')
    FROM generate_series(1, 30000) n;
INSERT INTO moments SELECT n / 4, min(1700000000000 + n * 100), max(1700000000000 + n * 100)
    FROM generate_series(1, 30000) n GROUP BY 1;
UPDATE meta SET value = 30001 WHERE key = 'catalogued_before';
UPDATE meta SET value = 30000 WHERE key = 'last_seq';
INSERT INTO deliveries (event, handler, state, lane, rank, due, updated_at)
    SELECT n, h.id, CASE n % 1000 WHEN 1 THEN 0 WHEN 2 THEN 2 WHEN 3 THEN 3 ELSE 1 END, n % 5000, n, n, n
    FROM generate_series(1, 30000) n CROSS JOIN handlers h;
UPDATE handlers SET pending = 30, dead = 30;
INSERT INTO quarantine (received_at, reason, detail, path, bytes, body)
    SELECT n, CASE WHEN n % 500 = 0 THEN 'token' ELSE 'empty' END, '', '/callbacks', 0, '' FROM generate_series(1, 20000) n;
INSERT INTO streams (generation, digest, domain, app, stream, state, current, pushes, events)
    SELECT 1, sha256(n::text::bytea), 'd' || n % 8, 'live', 's' || n, 1 + (n % 500 = 0)::int, '#1', 1, 4
    FROM generate_series(1, 20000) n;
INSERT INTO pushes (stream, key, began, outlived, events)
    SELECT s.id, '#' || n, n, false, 1 FROM streams s CROSS JOIN generate_series(1, 2) n;
INSERT INTO stream_notes (stream, sort, at, event)
    SELECT s.id, sort, n, n FROM streams s CROSS JOIN generate_series(1, 2) n CROSS JOIN generate_series(1, 3) sort;
ANALYZE;
";

/// The tables that hold these.
const LARGE: &str = "('events', 'deliveries', 'quarantine', 'streams', 'pushes', 'stream_notes')";

#[test]
fn lists_read_no_table_through() {
    if !On::Postgres.is_there() {
        return;
    }
    let fixture = Fixture::new(On::Postgres, |_| {});
    fixture.change(MANY);
    let schema = fixture.rows("SELECT current_schema()").remove(0).remove(0);
    let of_large = |column: &str| {
        format!("SELECT sum({column}) FROM pg_stat_all_tables WHERE schemaname = '{schema}' AND relname IN {LARGE}")
    };
    // What a connection did is counted when it ends.
    let counted = |fixture: &Fixture| {
        let used = fixture.number(&of_large("coalesce(idx_scan, 0)"));
        (used, fixture.rows(&of_large("seq_tup_read")))
    };
    let fixture = fixture.reopen();
    let before = counted(&fixture);
    fixture.runtime.block_on(ask_everything(&fixture.store));
    let fixture = fixture.reopen();
    let until = std::time::Instant::now() + Duration::from_secs(30);
    let mut after = counted(&fixture);
    while after.0 < before.0 + 100 {
        assert!(std::time::Instant::now() < until, "the server never counted: {before:?} {after:?}");
        after = counted(&fixture);
    }
    assert_eq!(after.1, before.1, "rows that were read one after the other");
}

/// Asks for every list by every kind of filter.
async fn ask_everything(store: &Store) {
    let name = |name: &str| Some(name.to_owned());
    let early = Some(START.plus(Duration::from_mins(1)));
    for filter in [
        EventFilter::default(),
        EventFilter { kind: Some(Kind::StreamPush), ..EventFilter::default() },
        EventFilter { domain: name("d1"), app: name("live"), ..EventFilter::default() },
        EventFilter { domain: name("nowhere"), ..EventFilter::default() },
        EventFilter { stream: name("s7"), ..EventFilter::default() },
        EventFilter { until: early, ..EventFilter::default() },
        EventFilter { verification: Some(Verification::Verified), until: early, ..EventFilter::default() },
    ] {
        for cursor in [None, Some("200")] {
            store.events(filter.clone(), 50, cursor).await.unwrap();
        }
    }
    store.event(EventId::from_u128(7)).await.unwrap().unwrap();
    let handlers = [None, name("rooms"), name("nobody")];
    for state in DeliveryState::ALL.map(Some).into_iter().chain([None]) {
        for handler in handlers.clone() {
            let filter = DeliveryFilter { handler, state, ..DeliveryFilter::default() };
            store.deliveries(filter.clone(), 50, None).await.unwrap();
            store.deliveries(filter.clone(), 50, Some("200.2")).await.unwrap();
            store.judge_many(filter, Verdict::Retry, true).await.unwrap();
        }
    }
    let handlers = store.handlers().await.unwrap();
    assert_eq!(handlers.iter().filter(|row| row.oldest_pending_at.is_some()).count(), HANDLERS.len());
    for reason in [None, Some(Reason::Token), Some(Reason::TooLarge)] {
        store.quarantine(QuarantineFilter { reason }, 50, None).await.unwrap();
    }
    store.stats(60, 10).await.unwrap();
    for (live, domain, app) in [
        (None, None, None),
        (Some(true), None, None),
        (None, name("d3"), None),
        (Some(false), None, name("live")),
        (None, None, name("nowhere")),
    ] {
        let page = store.streams(StreamFilter { live, domain, app }, 50, None).await.unwrap();
        if let Some(next) = page.next {
            store.streams(StreamFilter { live, ..StreamFilter::default() }, 50, Some(&next)).await.unwrap();
        }
    }
}
