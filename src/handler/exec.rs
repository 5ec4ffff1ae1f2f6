//! Runs a program for each event: no shell, the CloudEvents object and a line break on its standard input, nothing
//! about the event in its arguments. It runs in a process group of its own; when the attempt's time is over, the whole
//! group is killed. What it leaves running after it has exited is left alone. Its standard output is discarded, the end
//! of its standard error becomes part of the reason of a failure. It inherits our environment without the variables that
//! configure us, which may hold keys; `env` adds to it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};

use super::excerpt::{excerpt, hidden};
use super::{Handler, HandlerError, cloudevent};
use crate::event::Event;
use crate::secret::Secret;

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// Variables added to the program's environment: name, value.
    pub env: Vec<(String, Secret)>,
}

/// The `exec` handler.
#[derive(Debug)]
pub struct Exec {
    command: Vec<String>,
    env: Vec<(String, Secret)>,
    /// Variables of ours that are nobody else's business: keys and tokens may be among them.
    ours: Vec<OsString>,
}

impl Exec {
    /// A handler with these settings.
    pub fn new(settings: &Settings) -> Self {
        let ours = std::env::vars_os().map(|(name, _)| name).filter(|name| is_ours(name)).collect();
        Self { command: settings.command.clone(), env: settings.env.clone(), ours }
    }

    async fn run(&self, event: &Event) -> Result<(), HandlerError> {
        let mut child = self.spawn()?;
        // Declared after the child, so that it goes before it: the group is killed, then the child is reaped.
        let mut group = Group(child.id());
        let tail = Tail::default();
        let mut line = cloudevent::json(event);
        line.push('\n');
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let talk = Box::pin(async { tokio::join!(feed(stdin, &line), tail.follow(stderr)) });
        let exit = Box::pin(async {
            let status = child.wait().await;
            group.0 = None;
            status
        });
        let status = match select(exit, talk).await {
            Either::Left((status, talk)) => {
                // Something it left behind may hold the pipes open for ever.
                let _ = tokio::time::timeout(LAST_WORDS_WAIT, talk).await;
                status
            }
            Either::Right((_, exit)) => exit.await,
        };
        self.judge(status, &tail, event)
    }

    fn spawn(&self) -> Result<Child, HandlerError> {
        let (program, args) =
            self.command.split_first().ok_or_else(|| HandlerError::permanent("no command is configured"))?;
        let mut command = Command::new(program);
        for name in &self.ours {
            command.env_remove(name);
        }
        command
            .args(args)
            .envs(self.env.iter().map(|(name, value)| (name, value.expose())))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| HandlerError::transient(format!("cannot run `{program}`: {e}")))
    }

    fn judge(&self, status: io::Result<ExitStatus>, tail: &Tail, event: &Event) -> Result<(), HandlerError> {
        let status = status.map_err(|e| HandlerError::transient(format!("cannot wait for the program: {e}")))?;
        if status.success() {
            return Ok(());
        }
        let hidden = hidden(self.env.iter().map(|(_, value)| value.expose()), event);
        let said = excerpt(&tail.bytes(), &hidden, TAIL_BYTES);
        let start = said.char_indices().rev().take(REASON_CHARS).last().map_or(0, |(at, _)| at);
        let separator = if said.is_empty() { "" } else { ": " };
        Err(HandlerError::transient(format!("{status}{separator}{}", &said[start..])))
    }
}

impl Handler for Exec {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(self.run(event))
    }
}

/// Whether a variable configures livehook.
fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"LIVEHOOK_")
}

/// The process group of a program that has not exited; killed when dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // An error says that nobody is left in it.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// A program need not read its input, so a broken pipe is no failure, and what it makes of half an input is told by
/// how it exits.
async fn feed(stdin: Option<ChildStdin>, line: &str) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(line.as_bytes()).await;
    }
}

/// The last bytes of a program's standard error.
#[derive(Debug, Default)]
struct Tail(Mutex<Vec<u8>>);

impl Tail {
    /// Reads to the end, so that the program never waits for us.
    async fn follow(&self, stderr: Option<ChildStderr>) {
        let Some(mut stderr) = stderr else { return };
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut bytes).await {
            let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend_from_slice(&bytes[..count]);
            let surplus = tail.len().saturating_sub(TAIL_BYTES);
            tail.drain(..surplus);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How much of standard error stands in a reason.
const REASON_CHARS: usize = 500;
/// How much of it is kept: more, so that a secret at the cut is still recognised whole.
const TAIL_BYTES: usize = 4096;
/// How long after its exit a program's standard error is still read.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::handler::cloudevent::tests::event;

    const PUSH: &str = r#"{"event_type":1,"app":"a.b","stream_id":"room-7"}"#;
    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str, env: &[(&str, &str)]) -> Exec {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
        Exec::new(&Settings { command, env })
    }

    async fn deliver(exec: &Exec, body: &str) -> Result<(), String> {
        let result = tokio::time::timeout(LONG, exec.deliver(&event(body))).await.expect("it hangs");
        result.map_err(|error| match error {
            HandlerError::Transient { reason, retry_after: None } => reason,
            other => panic!("{other:?}"),
        })
    }

    #[tokio::test]
    async fn the_event_comes_on_standard_input_with_the_configured_environment() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let exec = shell("cat > $OUT; test -n \"$PATH\" && test $# = 0", &[("OUT", out.to_str().unwrap()), ("X", "1")]);
        deliver(&exec, PUSH).await.unwrap();
        assert_eq!(std::fs::read_to_string(out).unwrap(), format!("{}\n", cloudevent::json(&event(PUSH))));
    }

    #[tokio::test]
    async fn the_exit_decides_and_the_reason_says_why() {
        for (script, reason) in [
            ("cat >/dev/null; exit 75", "exit status: 75"),
            ("echo 'no such room' >&2; exit 3", "exit status: 3: no such room"),
            ("kill -9 $$", "signal: 9 (SIGKILL)"),
            ("echo key=$KEY >&2; exit 1", "exit status: 1: key=…"),
        ] {
            assert_eq!(deliver(&shell(script, &[("KEY", "hunter22")]), PUSH).await.unwrap_err(), reason, "{script}");
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let exec = Exec::new(&Settings { command: vec!["/nowhere/program".to_owned()], env: Vec::new() });
        let reason = deliver(&exec, PUSH).await.unwrap_err();
        assert!(reason.starts_with("cannot run `/nowhere/program`: No such file"), "{reason}");
    }

    #[tokio::test]
    async fn an_input_that_nobody_reads_is_no_failure() {
        let large = format!(r#"{{"event_type":1,"x":"{}"}}"#, "x".repeat(1 << 20));
        deliver(&shell("exit 0", &[]), &large).await.unwrap();
    }

    #[tokio::test]
    async fn endless_complaints_neither_block_nor_fill_memory() {
        let script = "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1";
        let reason = deliver(&shell(script, &[]), PUSH).await.unwrap_err();
        assert!(reason.ends_with("xthe end") && reason.len() < REASON_CHARS + 50, "{}", reason.len());
    }

    #[tokio::test]
    async fn a_grandchild_that_keeps_the_pipes_open_holds_nobody_up() {
        let large = format!(r#"{{"event_type":1,"x":"{}"}}"#, "x".repeat(1 << 20));
        let exec = shell("exec 3<&0; sleep 60 <&3 & echo $! >&2; exit 4", &[]);
        let started = std::time::Instant::now();
        let reason = deliver(&exec, &large).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(10));
        let left_behind = reason.strip_prefix("exit status: 4: ").unwrap().parse().unwrap();
        let _ = rustix::process::kill_process(Pid::from_raw(left_behind).unwrap(), Signal::KILL);
    }

    #[tokio::test]
    async fn a_timeout_kills_the_program_and_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let exec =
            shell("sleep 60 & echo $! $$ > $PIDS.new; mv $PIDS.new $PIDS; wait", &[("PIDS", pids.to_str().unwrap())]);
        let push = event(PUSH);
        {
            let mut delivery = exec.deliver(&push);
            while !pids.exists() {
                let tick = tokio::time::timeout(Duration::from_millis(20), &mut delivery).await;
                assert!(tick.is_err(), "{tick:?}");
            }
        }
        for pid in std::fs::read_to_string(&pids).unwrap().split_whitespace() {
            assert!(is_gone(pid).await, "{pid} lives");
        }
    }

    /// Whether a process ends within some time. The grandchild is reaped by init, where there is one.
    async fn is_gone(pid: &str) -> bool {
        let proc = Path::new("/proc").join(pid);
        for _ in 0..500 {
            let stat = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            let orphaned_zombie = stat.contains(") Z ") && parent != Some(&std::process::id().to_string());
            if stat.is_empty() || orphaned_zombie {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }
}
