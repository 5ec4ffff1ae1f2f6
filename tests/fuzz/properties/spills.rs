//! Any lines as a file to import, and any callback as a spill. What was spilled comes back as it was, however the log of a
//! container has cut and framed it; whatever else comes, costs no more than it is long.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use livehook::clock::{ManualClock, Timestamp};
use livehook::event::Reason;
use livehook::intake::{Callback, Excess, ImportError, Imported, Intake, Lines, spill_line};
use livehook::secret::Secret;
use livehook::signature::{self, Key, LegacyHeaders};
use livehook::store::{QuarantineSettings, Settings, Store};
use livehook::telemetry::{KnownLabels, Metrics};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const NOW: Timestamp = Timestamp::from_millis(1_703_128_357_104);

pub(crate) fn holds(data: &[u8]) {
    arbitrary_lines(data);
    let Some(((cut, kind), body)) = data.split_first_chunk().map(|([cut, kind], body)| ((*cut, *kind), body)) else {
        return;
    };
    let callback = callback(kind, body);
    let refusal = (kind & 8 != 0).then(|| Reason::ALL[usize::from(kind >> 4) % Reason::ALL.len()]);
    let line = spill_line(&callback, refusal);
    assert!(!line.contains(['\n', '\r']), "{line}");
    let cut = usize::from(cut) * 7 + 1;
    let empty_part = kind & 64 != 0;
    for framed in [vec![line.clone()], docker(&line, cut, empty_part), cri(&line, cut, empty_part)] {
        let read: Vec<_> = framed.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(joined(read.iter().map(String::as_str)), std::slice::from_ref(&line));
    }
    comes_back(&line, &callback, refusal);
}

fn callback(kind: u8, body: &[u8]) -> Callback {
    let text = |of: &[u8]| String::from_utf8_lossy(of).into_owned();
    let headers = LegacyHeaders {
        secret_id: (kind & 1 != 0).then(|| text(&body[..body.len().min(9)])),
        auth: (kind & 2 != 0).then(|| text(&body[body.len() / 2..])),
    };
    Callback {
        received_at: NOW,
        path: if kind & 4 != 0 { text(&body[..body.len().min(40)]) } else { "/callbacks".to_owned() },
        route: None,
        token: None,
        headers,
        excess: (kind == 255).then_some(Excess { limit: body.len(), read: body.len() as u64 + 1 }),
        body: Bytes::copy_from_slice(body),
    }
}

fn arbitrary_lines(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let given: Vec<_> = text.split('\n').collect();
    let found = joined(given.iter().copied());
    let length = |lines: &[&str]| lines.iter().map(|line| line.len()).sum::<usize>();
    assert!(found.iter().map(String::len).sum::<usize>() <= length(&given));
    for line in &found {
        import(line);
    }
}

/// What comes out of these lines of a file.
fn joined<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all = Lines::default();
    let (mut found, mut count) = (Vec::new(), 0);
    let mut take = |all: &mut Lines, count| {
        while let Some((number, line)) = all.pop() {
            assert!((1..=count).contains(&number), "{number} of {count}");
            found.push(line);
        }
    };
    for line in lines {
        count += 1;
        all.push(line);
        take(&mut all, count);
    }
    all.end();
    take(&mut all, count);
    found
}

/// As Docker's `json-file` driver writes a line: an object for each piece, the last with the line break.
fn docker(line: &str, cut: usize, empty_part: bool) -> Vec<String> {
    let pieces = pieces(line, cut, empty_part);
    let last = pieces.len() - 1;
    let frame = |(index, piece): (usize, &str)| {
        let log = format!("{piece}{}", if index == last { "\n" } else { "" });
        serde_json::json!({"log": log, "stream": "stderr", "time": "2023-10-06T00:17:09.66Z"}).to_string()
    };
    pieces.into_iter().enumerate().map(frame).collect()
}

/// As the runtimes of Kubernetes write a line: `P` for a part of it, `F` for its end.
fn cri(line: &str, cut: usize, empty_part: bool) -> Vec<String> {
    let pieces = pieces(line, cut, empty_part);
    let last = pieces.len() - 1;
    let frame = |(index, piece): (usize, &str)| {
        format!("2023-10-06T00:17:09.669794202Z stderr {} {piece}", if index == last { 'F' } else { 'P' })
    };
    pieces.into_iter().enumerate().map(frame).collect()
}

/// Of a length, and an empty one at the end where that is wanted, as of a line that is just as long as its pieces.
fn pieces(line: &str, cut: usize, empty_part: bool) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while rest.len() > cut {
        let (piece, behind) = rest.split_at(rest.ceil_char_boundary(cut));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    pieces.extend(empty_part.then_some(""));
    pieces
}

fn comes_back(line: &str, callback: &Callback, refusal: Option<Reason>) {
    let read: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(BASE64.decode(read["body_base64"].as_str().unwrap()).unwrap(), &callback.body[..]);
    assert_eq!(read["path"].as_str(), Some(callback.path.as_str()));
    assert_eq!(read["refusal"].as_str(), refusal.map(Reason::slug));
    let (first, second) = (import(line), import(line));
    assert!(first.is_some_and(|first| first != Imported::Nothing), "{line}");
    assert_eq!(second, Some(Imported::Duplicate), "{line}");
}

/// A store that stays small, and the way into it.
struct Bench {
    runtime: Runtime,
    intake: Intake,
    _directory: TempDir,
}

thread_local! {
    static BENCH: Bench = Bench::new();
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = Settings {
            url: format!("sqlite:{}", directory.path().join("s.db").display()),
            quarantine: QuarantineSettings { max_count: 1000, max_bytes: 16 << 20 },
            ..Settings::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let clock = Arc::new(ManualClock::new(NOW));
        let store = Store::open(settings, &[], Duration::from_mins(1), clock.clone()).expect("a store");
        let keys = vec![Key { name: "main".to_owned(), key: Secret::new("abc123"), domains: Vec::new() }];
        let signature = signature::Settings { keys, ..signature::Settings::default() };
        let intake = Intake::new(store, signature, &[], clock, Metrics::new(KnownLabels::default()));
        Self { runtime, intake, _directory: directory }
    }
}

/// What becomes of a line; none when it is at fault. The store never is.
fn import(line: &str) -> Option<Imported> {
    BENCH.with(|bench| match bench.runtime.block_on(bench.intake.import(line)) {
        Ok(imported) => Some(imported),
        Err(ImportError::Line(_)) => None,
        Err(ImportError::Store(error)) => panic!("{error}: {line}"),
    })
}
