//! Spills and their way back, with kills and garbage on it.

use std::io::Write as _;
use std::process::Output;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use livehook::clock::{Clock as _, SystemClock};
use serde_json::json;

use crate::audit::Audit;
use crate::disk::{Disk, Stall};
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::letter::{Letters, Sort, digest};
use crate::program::{FILE_HANDLER, Place, Program, import};
use crate::report::Faults;
use crate::sink::{Act, Sink};
use crate::{DEADLINE, a_moment, rounds, seed, tell};

/// Callbacks as lines of standard error, each entered into the ledger as answered: that is what a spill means.
fn spills(ledger: &Ledger, count: usize) -> Vec<String> {
    let letters = Letters::load();
    let mut entries = ledger.lock();
    let line = |at| {
        let sort = if at % 10 == 9 { Sort::Forged } else { Sort::Event };
        let number = entries.begin(sort);
        let body = letters.body(number, sort, 0);
        entries.post(number, digest(body.as_bytes()));
        entries.outcome(number, Some((200, r#"{"code":0}"#)));
        let refusal = (sort == Sort::Forged).then_some("signature-mismatch");
        json!({ "spill": 1, "received_at": SystemClock.now().rfc3339(), "path": "/callbacks", "refusal": refusal,
            "body_base64": BASE64.encode(body) })
        .to_string()
    };
    (0..count).map(line).collect()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// Starts the program, which delivers what was imported, and holds everything against the ledger.
async fn check(place: &Place, ledger: &Ledger) {
    let program = Program::start(place).await;
    program.drained(&["file"]).await;
    program.stop().await;
    let (mut audit, mut faults) = (Audit::default(), Faults::default());
    audit.read(&Disk::open(place), ledger, &mut faults);
    audit.check_all(ledger, &mut faults);
    let nothing = Sink::start(|| Act::Accept).await;
    audit.check_journal(&Journal::read(place), &nothing.received(), &mut faults);
    faults.assert_none();
}

#[tokio::test]
async fn killed_after_a_spill_what_was_answered_comes_back_by_an_import() {
    let place = Place::new();
    place.configure("ack.deadline = \"2s\"\n", FILE_HANDLER);
    let (letters, ledger) = (Letters::load(), Ledger::default());
    let program = Program::start(&place).await;
    let stall = Stall::begin(&place);
    let post = async |sort| {
        let number = ledger.lock().begin(sort);
        let body = letters.body(number, sort, 0);
        ledger.lock().post(number, digest(body.as_bytes()));
        // On a machine that is very busy not even the spill may be written in time, and then it says so.
        let status = program.post(&body).await.unwrap();
        ledger.lock().outcome(number, Some((status, r#"{"code":0}"#)));
    };
    let sorts = [Sort::Event, Sort::Forged, Sort::Event, Sort::Garbage, Sort::Event, Sort::Nameless];
    futures_util::future::join_all(sorts.map(post)).await;
    let ended = program.kill();
    drop(stall);
    assert!(ledger.lock().count(|callback| callback.answered > 0) > 0);
    assert_eq!(stored(&place), 0, "it could not store anything");

    let file = place.path("said.log");
    std::fs::write(&file, &ended.said).unwrap();
    let output = import(&place, &file).output().unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    let again = import(&place, &file).output().unwrap();
    assert!(String::from_utf8_lossy(&again.stdout).starts_with("0 imported"), "{again:?}");
    check(&place, &ledger).await;
}

#[tokio::test]
async fn an_import_that_is_killed_is_finished_by_the_next_one() {
    const LINES: usize = 250;
    let mut dice = fastrand::Rng::with_seed(seed("import"));
    for _ in 0..rounds(1) {
        let (place, ledger) = (Place::with(FILE_HANDLER), Ledger::default());
        let file = place.path("said.log");
        std::fs::write(&file, spills(&ledger, LINES).join("\n")).unwrap();
        // The store is made by the first import; a few come no further than that.
        for _ in 0..3 {
            let mut killed = import(&place, &file).spawn().unwrap();
            a_moment(&mut dice, std::time::Duration::from_millis(30)).await;
            killed.kill().unwrap();
            killed.wait().unwrap();
        }
        let mut killed = import(&place, &file).spawn().unwrap();
        let until = Instant::now() + DEADLINE;
        while stored(&place) == 0 {
            assert!(Instant::now() < until, "nothing was imported");
        }
        a_moment(&mut dice, std::time::Duration::from_millis(30)).await;
        killed.kill().unwrap();
        killed.wait().unwrap();
        tell(&format!("import: killed with {} events of {LINES} lines", stored(&place)));

        let output = import(&place, &file).output().unwrap();
        assert_eq!(code(&output), 0, "{output:?}");
        check(&place, &ledger).await;
    }
}

/// Events in a store that another process may be making just now.
fn stored(place: &Place) -> i64 {
    let count = || {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let db = rusqlite::Connection::open_with_flags(place.database(), flags)?;
        db.query_row("SELECT count(*) FROM events", [], |row| row.get(0))
    };
    count().unwrap_or(0)
}

#[tokio::test]
async fn garbage_among_spills_costs_only_its_own_lines() {
    let (place, ledger) = (Place::with(FILE_HANDLER), Ledger::default());
    let good = spills(&ledger, 60);
    let torn = &good[0].as_bytes()[..good[0].len() / 2];
    let garbage: [&[u8]; 8] = [
        torn,
        b"\0\0\0\0\0\0\0\0",
        &[0xA5; 5000],
        b"{\"spill\":1}",
        b"{\"spill\":1,\"received_at\":\"never\",\"path\":\"/\",\"refusal\":null,\"body_base64\":\"e30=\"}",
        b"{\"spill\":1,\"received_at\":\"2023-11-14T22:13:21.000Z\",\"path\":\"/\",\"refusal\":null,\"body_base64\":\"*\"}",
        b"thread 'main' panicked at src/main.rs",
        b"2023-11-14T22:13:21Z stderr P {\"spill\":1",
    ];
    let mut file = std::fs::File::create(place.path("said.log")).unwrap();
    let mut faulty = Vec::new();
    for (at, line) in good.iter().enumerate() {
        writeln!(file, "{line}").unwrap();
        if let Some(more) = garbage.get(at / 5).filter(|_| at % 5 == 0) {
            file.write_all(&[more, &b"\n"[..]].concat()).unwrap();
            faulty.push(at + faulty.len() + 2);
        }
    }
    // As a machine leaves it that went down while the last line was written.
    file.write_all(torn).unwrap();
    faulty.push(good.len() + faulty.len() + 1);
    let output = import(&place, &place.path("said.log")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 1, "{output:?}");
    let number = |line: &str| line.strip_prefix("livehook: line ")?.split(':').next()?.parse().ok();
    let mut named: Vec<usize> = said.lines().filter_map(number).collect();
    named.sort_unstable();
    assert_eq!(named, faulty, "{said}");
    check(&place, &ledger).await;
}
