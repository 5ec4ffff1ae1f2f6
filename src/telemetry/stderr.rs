//! The one road to standard error: a thread of its own, so that nobody else ever waits for a stalled pipe.
//!
//! Two kinds of lines travel it. *Log lines* wait in a queue bounded in count and bytes; what does not fit is dropped
//! and counted, and the count is written once lines move again. *Owed lines* are promised to somebody who waits for
//! them: once accepted they are never dropped while the process lives, and they go first. Lines never interleave; one
//! that broke off in a write error is closed with a line break before the next.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

/// Log lines that wait at the same time.
pub const LOG_LINES_MAX: usize = 8192;
/// Bytes of log lines that wait at the same time.
pub const LOG_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of owed lines that wait at the same time.
pub const OWED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Writes `line` to standard error, with a line break where it has none. Completes once the whole line is written; an
/// error means that it is not. The line is in the queue when this returns, so dropping the future takes nothing back.
pub fn write_line(line: Vec<u8>) -> impl Future<Output = io::Result<()>> + Send {
    let waiting = global().map(|stderr| stderr.write_line(line));
    async move { waiting?.await }
}

/// The process's standard error; starts its thread when this is the first to ask.
pub fn global() -> io::Result<Stderr> {
    let mut global = lock(&GLOBAL);
    if let Some(stderr) = &*global {
        return Ok(stderr.clone());
    }
    let stderr = Stderr::start(io::stderr())?;
    *global = Some(stderr.clone());
    Ok(stderr)
}

static GLOBAL: Mutex<Option<Stderr>> = Mutex::new(None);

/// A sink with a thread that writes to it. The thread ends after the last clone is gone and all is written.
#[derive(Clone, Debug)]
pub struct Stderr(Arc<Owner>);

/// How many lines had been lost at some moment: take one, log, and wait until what you logged is written.
#[derive(Debug)]
pub struct Mark {
    stderr: Stderr,
    lost: u64,
}

/// Log lines were dropped or could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} log lines were lost: standard error does not take them")]
pub struct Lost(pub u64);

impl Stderr {
    /// Starts a thread that writes to `sink`.
    pub fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("stderr".to_owned()).spawn(move || run(&theirs, sink))?;
        Ok(Self(Arc::new(Owner(shared))))
    }

    /// As the function [`write_line`], for this sink.
    pub fn write_line(&self, line: Vec<u8>) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let waiting = self.shared().owe(line);
        async move { waiting?.await.unwrap_or_else(|_| Err(io::Error::other("the writer of standard error ended"))) }
    }

    /// Puts a log line into the queue, or drops and counts it when the queue is full. Never waits for the sink.
    pub fn log(&self, line: Vec<u8>) {
        let mut state = self.shared().lock();
        let full = state.logs.len() >= LOG_LINES_MAX || state.log_bytes + line.len() > LOG_BYTES_MAX;
        if full || state.ended {
            state.lost += 1;
            state.unreported += 1;
            return;
        }
        state.log_bytes += line.len();
        state.accepted += 1;
        state.logs.push_back(line);
        self.shared().work.notify_one();
    }

    /// A mark to log behind.
    pub fn mark(&self) -> Mark {
        Mark { lost: self.shared().lock().lost, stderr: self.clone() }
    }

    /// Waits until nothing is queued, at most for `limit`. Blocks the thread. Says whether all is written.
    pub fn flush(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.shared().lock();
        while !state.ended && (state.busy || !state.is_empty()) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared().idle.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_empty()
    }

    /// Sets how a number of lost lines is told; the first to ask wins.
    pub fn report_losses_with(&self, report: fn(u64) -> String) {
        let _ = self.shared().report.set(report);
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }
}

impl Mark {
    /// Waits until all log lines accepted so far have left the queue. An error says that lines were lost since the
    /// mark was taken; they may have been somebody else's.
    pub async fn written(self) -> Result<(), Lost> {
        let shared = self.stderr.shared();
        let accepted = shared.lock().accepted;
        // An error would mean that the sender, which `shared` holds, is gone.
        let _ = shared.written.subscribe().wait_for(|written| *written >= accepted).await;
        match shared.lock().lost - self.lost {
            0 => Ok(()),
            lost => Err(Lost(lost)),
        }
    }
}

/// Tells the thread to end when the last handle goes.
#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.notify_one();
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to do.
    work: Condvar,
    /// There is nothing to do.
    idle: Condvar,
    /// How many accepted log lines have left the queue, written or lost.
    written: watch::Sender<u64>,
    report: OnceLock<fn(u64) -> String>,
}

#[derive(Debug, Default)]
struct State {
    owed: VecDeque<Owed>,
    owed_bytes: usize,
    logs: VecDeque<Vec<u8>>,
    log_bytes: usize,
    /// Log lines ever taken into the queue.
    accepted: u64,
    /// Log lines ever lost.
    lost: u64,
    /// Lost lines that nobody has read about.
    unreported: u64,
    busy: bool,
    closed: bool,
    ended: bool,
}

#[derive(Debug)]
struct Owed {
    line: Vec<u8>,
    done: oneshot::Sender<io::Result<()>>,
}

enum Work {
    Owed(Owed),
    Logs(Batch),
}

/// Log lines that are written at once, behind a line about lost ones.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    lines: u64,
    reported: u64,
}

impl State {
    fn batch(&mut self) -> Batch {
        let mut batch = Batch { reported: self.unreported, ..Batch::default() };
        while batch.text.len() < BATCH_BYTES
            && let Some(line) = self.logs.pop_front()
        {
            self.log_bytes -= line.len();
            batch.text.extend_from_slice(&line);
            batch.lines += 1;
        }
        batch
    }

    fn is_empty(&self) -> bool {
        self.owed.is_empty() && self.logs.is_empty()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn owe(&self, mut line: Vec<u8>) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        let mut state = self.lock();
        if state.ended {
            return Err(io::Error::other("the writer of standard error ended"));
        }
        if state.owed_bytes + line.len() > OWED_BYTES_MAX {
            return Err(io::Error::other("too much waits for standard error"));
        }
        let (done, waiting) = oneshot::channel();
        state.owed_bytes += line.len();
        state.owed.push_back(Owed { line, done });
        self.work.notify_one();
        Ok(waiting)
    }

    /// Waits for something to write; nothing once all handles are gone and all is written.
    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            state.busy = !state.is_empty();
            if let Some(owed) = state.owed.pop_front() {
                return Some(Work::Owed(owed));
            }
            if !state.logs.is_empty() {
                return Some(Work::Logs(state.batch()));
            }
            if state.closed {
                return None;
            }
            self.idle.notify_all();
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What is said of lost lines. Called without the lock: whatever happens in here may want to log.
    fn report(&self, lost: u64) -> String {
        if lost == 0 { String::new() } else { self.report.get().copied().unwrap_or(plain_report)(lost) }
    }

    fn settle_owed(&self, owed: Owed, result: io::Result<()>) {
        self.lock().owed_bytes -= owed.line.len();
        // Whoever waited may have given up.
        let _ = owed.done.send(result);
    }

    fn settle_logs(&self, batch: &Batch, written: bool) {
        let mut state = self.lock();
        if written {
            state.unreported -= batch.reported;
        } else {
            state.lost += batch.lines;
            state.unreported += batch.lines;
        }
        drop(state);
        self.written.send_modify(|written| *written += batch.lines);
    }
}

fn plain_report(lost: u64) -> String {
    format!("WARN {}\n", Lost(lost))
}

fn run(shared: &Shared, sink: impl Write) {
    let ending = Ending(shared);
    let mut lines = Lines { sink, torn: false };
    while let Some(work) = shared.next() {
        match work {
            Work::Owed(owed) => {
                let result = lines.put(&owed.line);
                shared.settle_owed(owed, result);
            }
            Work::Logs(batch) => {
                let report = shared.report(batch.reported);
                let result = lines.put(report.as_bytes()).and_then(|()| lines.put(&batch.text));
                shared.settle_logs(&batch, result.is_ok());
            }
        }
    }
    drop(ending);
}

/// Leaves nobody waiting for a thread that has ended, even in a panic of the sink.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.owed.clear();
        state.lost += u64::from(thread::panicking());
        drop(state);
        self.0.idle.notify_all();
        self.0.written.send_replace(u64::MAX);
    }
}

struct Lines<W> {
    sink: W,
    /// The last line may have been written in part.
    torn: bool,
}

impl<W: Write> Lines<W> {
    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        if self.torn {
            self.put_bytes(b"\n")?;
        }
        self.torn = true;
        self.put_bytes(lines)?;
        self.torn = false;
        Ok(())
    }

    /// Writes everything, and waits where standard error is set not to block.
    fn put_bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.sink.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => thread::sleep(NOT_BLOCKING_PAUSE),
                Err(e) => return Err(e),
            }
        }
        self.sink.flush()
    }
}

/// Enough lines for one call to be cheap, few enough for an owed line not to wait long behind them.
const BATCH_BYTES: usize = 64 * 1024;
/// Between two tries at a sink that is full and does not block.
const NOT_BLOCKING_PAUSE: Duration = Duration::from_millis(5);

/// What the lock guards is valid after every statement, so a panic elsewhere is no reason to stop writing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A sink that keeps what it gets, can be stalled, and can be told to fail.
    #[derive(Clone, Default)]
    pub(crate) struct Pipe(Arc<(Mutex<PipeState>, Condvar)>);

    #[derive(Default)]
    struct PipeState {
        bytes: Vec<u8>,
        stalled: bool,
        /// What the next writes do: take so many bytes, or fail.
        script: VecDeque<Result<usize, io::ErrorKind>>,
    }

    impl Pipe {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(lock(&self.0.0).bytes.clone()).unwrap()
        }

        pub(crate) fn stall(&self, stalled: bool) {
            lock(&self.0.0).stalled = stalled;
            self.0.1.notify_all();
        }

        pub(crate) fn script(&self, steps: &[Result<usize, io::ErrorKind>]) {
            lock(&self.0.0).script.extend(steps);
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.1.wait_while(lock(&self.0.0), |state| state.stalled).unwrap();
            let count = state.script.pop_front().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
            state.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn piped() -> (Pipe, Stderr) {
        let pipe = Pipe::default();
        (pipe.clone(), Stderr::start(pipe).unwrap())
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn an_owed_line_is_whole_before_its_waiter_goes_on() {
        let (pipe, stderr) = piped();
        pipe.script(&[Ok(2), Err(io::ErrorKind::WouldBlock), Err(io::ErrorKind::Interrupted), Ok(1)]);
        stderr.write_line(b"spill".to_vec()).await.unwrap();
        stderr.write_line(b"next\n".to_vec()).await.unwrap();
        assert_eq!(pipe.text(), "spill\nnext\n");
    }

    #[tokio::test]
    async fn a_stalled_pipe_stops_no_logger_and_the_lost_lines_are_counted() {
        let (pipe, stderr) = piped();
        pipe.stall(true);
        for _ in 0..LOG_LINES_MAX * 2 {
            stderr.log(b"line\n".to_vec());
        }
        let owed = stderr.write_line(b"owed".to_vec());
        assert!(!stderr.flush(Duration::from_millis(10)));
        pipe.stall(false);
        owed.await.unwrap();
        // The owed line went first; until the others are through, the queue may still be full.
        assert!(stderr.flush(LONG));
        stderr.log(b"after\n".to_vec());
        assert!(stderr.flush(LONG));
        let text = pipe.text();
        let kept = text.matches("line\n").count();
        let lost = LOG_LINES_MAX * 2 - kept;
        assert!(lost > 0 && kept >= LOG_LINES_MAX, "{kept} kept");
        assert!(text.contains(&format!("{lost} log lines were lost")), "{lost} lost");
        assert!(text.ends_with("after\n"));
    }

    #[tokio::test]
    async fn a_mark_tells_lines_written_from_lines_lost() {
        let (pipe, stderr) = piped();
        let mark = stderr.mark();
        stderr.log(b"one\n".to_vec());
        mark.written().await.unwrap();
        assert_eq!(pipe.text(), "one\n");

        let mark = stderr.mark();
        pipe.script(&[Ok(2), Err(io::ErrorKind::StorageFull)]);
        stderr.log(b"two\n".to_vec());
        assert_eq!(mark.written().await, Err(Lost(1)));

        stderr.write_line(b"three".to_vec()).await.unwrap();
        assert_eq!(pipe.text(), "one\ntw\nthree\n", "what broke off is closed before the next line");
    }

    #[tokio::test]
    async fn owed_lines_are_refused_beyond_their_bytes_and_kept_below() {
        let (pipe, stderr) = piped();
        pipe.stall(true);
        let big = stderr.write_line(vec![b'a'; OWED_BYTES_MAX - 10]);
        assert!(stderr.write_line(vec![b'b'; 20]).await.is_err());
        drop(stderr.write_line(b"kept".to_vec()));
        pipe.stall(false);
        big.await.unwrap();
        assert!(stderr.flush(LONG));
        assert!(pipe.text().ends_with("a\nkept\n"), "dropping the future takes nothing back");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_sink_that_panicked() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                panic!("on purpose")
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let stderr = Stderr::start(Broken).unwrap();
        let mark = stderr.mark();
        stderr.log(b"line\n".to_vec());
        assert!(mark.written().await.is_err());
        assert!(stderr.write_line(b"owed".to_vec()).await.is_err());
    }

    #[tokio::test]
    async fn the_global_road_needs_no_start() {
        write_line(b"(a line of a test)".to_vec()).await.unwrap();
    }
}
