use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::*;
use crate::handler::cloudevent::tests::event;

fn settings(path: &Path) -> Settings {
    Settings { path: path.to_owned(), rotate_bytes: None, rotate_keep: 2 }
}

fn push(stream: &str) -> Event {
    event(&format!(r#"{{"event_type":1,"app":"a.b","stream_id":"{stream}"}}"#))
}

async fn deliver(file: &File, stream: &str) -> Result<(), HandlerError> {
    file.deliver(&push(stream)).await
}

/// The streams of the events in a file, in order.
fn streams(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let stream = |line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["subject"].as_str().unwrap().to_owned()
    };
    text.lines().map(stream).collect()
}

fn job(line: &str) -> (Job, oneshot::Receiver<Result<(), Arc<io::Error>>>) {
    let (done, waiting) = oneshot::channel();
    let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    (Job { line: line.into(), done, _room: room }, waiting)
}

const UNLIMITED: Limits = Limits { rotate_bytes: None, rotate_keep: 0 };

#[tokio::test]
async fn each_event_is_a_line_in_a_folder_that_was_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/events.jsonl");
    let file = File::open(&settings(&path)).unwrap();
    let results = join_all((0..200).map(|_| deliver(&file, "s"))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(streams(&path).len(), 200);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0, "not for everybody");
    drop(file);
    let again = File::open(&settings(&path)).unwrap();
    deliver(&again, "last").await.unwrap();
    assert_eq!(streams(&path).len(), 201);
}

#[test]
fn waiting_lines_share_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&dir.path().join("f")).unwrap();
    let (jobs, waiting): (Vec<_>, Vec<_>) = (0..50).map(|n| job(&format!("{n}\n"))).unzip();
    commit(&mut journal, jobs, UNLIMITED);
    assert_eq!(journal.syncs, 1);
    assert!(waiting.into_iter().all(|waiting| matches!(waiting.now_or_never(), Some(Ok(Ok(()))))));
}

#[test]
fn a_file_is_set_aside_before_it_grows_past_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let mut journal = Journal::open(&path).unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_else(|_| "none".to_owned());
    let write = |journal: &mut Journal, lines: &[&str], rotate_keep| {
        let (jobs, waiting): (Vec<_>, Vec<_>) = lines.iter().map(|line| job(line)).unzip();
        commit(journal, jobs, Limits { rotate_bytes: Some(10), rotate_keep });
        assert!(waiting.into_iter().all(|waiting| matches!(waiting.now_or_never(), Some(Ok(Ok(()))))));
    };
    write(&mut journal, &["1234\n", "5678\n", "a\n", "longer than the limit\n", "b\n"], 2);
    assert_eq!([read("f"), read("f.1"), read("f.2"), read("f.3")], ["b\n", "longer than the limit\n", "a\n", "none"]);
    write(&mut journal, &["123456789\n"], 3);
    assert_eq!([read("f"), read("f.1"), read("f.3")], ["123456789\n", "b\n", "a\n"]);
    write(&mut journal, &["c\n"], 1);
    assert_eq!([read("f"), read("f.1"), read("f.2"), read("f.3")], ["c\n", "123456789\n", "none", "none"]);
    write(&mut journal, &["123456789\n"], 0);
    assert_eq!([read("f"), read("f.1")], ["123456789\n", "none"]);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_and_every_whole_line_is_kept() {
    let whole = format!("{}\n", cloudevent::json(&push("whole")));
    let torn = cloudevent::json(&push("torn"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for (end, zeros) in (0..torn.len()).flat_map(|end| [(end, ""), (end, "\0\0\0\0")]) {
        fs::write(&path, format!("{whole}{}{zeros}", &torn[..end])).unwrap();
        Journal::open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole, "torn after {end} bytes, {} zeros", zeros.len());
    }
    deliver(&File::open(&settings(&path)).unwrap(), "next").await.unwrap();
    assert_eq!(streams(&path), ["whole", "next"]);
    let path = dir.path().join("complete");
    fs::write(&path, format!("{whole}{torn}")).unwrap();
    deliver(&File::open(&settings(&path)).unwrap(), "next").await.unwrap();
    assert_eq!(streams(&path), ["whole", "torn", "next"], "only its line break was missing");
}

#[test]
fn what_is_not_ours_is_ended_and_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let long = "x".repeat(200_000);
    for (before, after) in [(&*long, format!("{long}\n")), ("a\nb", "a\nb\n".to_owned()), ("a\n\0\0", "a\n".to_owned())]
    {
        fs::write(&path, before).unwrap();
        Journal::open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), after);
    }
}

#[tokio::test]
async fn a_file_moved_cut_or_deleted_by_others_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let file = File::open(&settings(&path)).unwrap();
    deliver(&file, "one").await.unwrap();
    fs::rename(&path, dir.path().join("moved")).unwrap();
    deliver(&file, "two").await.unwrap();
    assert_eq!((streams(&dir.path().join("moved")), streams(&path)), (vec!["one".to_owned()], vec!["two".to_owned()]));
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    deliver(&file, "three").await.unwrap();
    assert_eq!(streams(&path), ["three"]);
    fs::remove_file(&path).unwrap();
    deliver(&file, "four").await.unwrap();
    assert_eq!(streams(&path), ["four"]);
}

#[test]
fn a_full_disk_fails_the_batch_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let mut journal = Journal::open(&path).unwrap();
    let write = |journal: &mut Journal, line: &str| {
        let (job, waiting) = job(line);
        commit(journal, vec![job], UNLIMITED);
        waiting.now_or_never().unwrap().unwrap().is_ok()
    };
    assert!(write(&mut journal, "one\n"));
    let works = std::mem::replace(&mut journal.write, |file, bytes| {
        io::Write::write_all(file, &bytes[..2])?;
        Err(io::ErrorKind::StorageFull.into())
    });
    assert!(!write(&mut journal, "two\n"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
    journal.write = works;
    assert!(write(&mut journal, "three\n"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\nthree\n");
}

#[tokio::test]
async fn two_handlers_of_one_file_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let (old, new) = (File::open(&settings(&path)).unwrap(), File::open(&settings(&path)).unwrap());
    let both = (0..100).map(|n| deliver(if n % 2 == 0 { &old } else { &new }, "s"));
    assert!(join_all(both).await.iter().all(Result::is_ok));
    assert_eq!(streams(&path).len(), 100);
}

#[tokio::test]
async fn no_line_is_lost_where_two_paths_lead_to_one_file_that_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink("real/f", dir.path().join("f")).unwrap();
    let paths = ["real/f", "real/../real/f", "link/f", "f"].map(|path| dir.path().join(path));
    let rotated = |path: &PathBuf| Settings { path: path.clone(), rotate_bytes: Some(700), rotate_keep: 500 };
    let files = paths.each_ref().map(|path| File::open(&rotated(path)).unwrap());
    let sent = (0..400).map(|n| deliver(&files[n % files.len()], "s"));
    assert!(join_all(sent).await.iter().all(Result::is_ok));
    let there = fs::read_dir(dir.path().join("real")).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(there.map(|path| streams(&path).len()).sum::<usize>(), 400);
    assert!(dir.path().join("f").is_symlink(), "the link is no file to be set aside");
}

#[tokio::test]
async fn what_cannot_be_opened_is_a_fault_that_names_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let error = File::open(&settings(dir.path())).unwrap_err().to_string();
    assert!(error.contains(dir.path().to_str().unwrap()) && error.contains("not a regular file"), "{error}");
    fs::write(dir.path().join("f"), "").unwrap();
    assert!(File::open(&settings(&dir.path().join("f/g"))).is_err());
    assert!(File::open(&settings(Path::new("/proc/livehook/events"))).is_err(), "nobody may write there");
}
