//! A handler that does as it is told and remembers what it was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use livehook::event::{Event, EventId};
use livehook::handler::{BoxFuture, Handler, HandlerError};
use tokio::sync::Semaphore;

/// What an attempt comes to.
#[derive(Clone)]
pub(crate) enum Act {
    Done,
    Fail,
    FailFor(Duration),
    Permanent,
    Panic,
    Hang,
    /// Waits for a permit, which is used up, before it goes on.
    Wait(Arc<Semaphore>, Box<Act>),
}

/// One attempt.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: EventId,
    pub(crate) stream: Option<String>,
    pub(crate) body: Vec<u8>,
    /// Whether it ended well.
    pub(crate) done: bool,
}

#[derive(Clone)]
pub(crate) struct Recorder(Arc<Inner>);

type Script = dyn Fn(&Event, usize) -> Act + Send + Sync;

struct Inner {
    script: Box<Script>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    attempts: HashMap<EventId, usize>,
    running: Vec<Option<String>>,
    most_running: usize,
    overlapped: Vec<String>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self::with(|_, _| Act::Done)
    }

    /// `script` says for each event and attempt (from 1) what comes of it.
    pub(crate) fn with(script: impl Fn(&Event, usize) -> Act + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { script: Box::new(script), seen: Mutex::default() }))
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.0.seen.lock().unwrap().calls.clone()
    }

    pub(crate) fn done(&self) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.done).collect()
    }

    /// Attempts at the same time, at most.
    pub(crate) fn most_running(&self) -> usize {
        self.0.seen.lock().unwrap().most_running
    }

    /// Streams of which two attempts ran at the same time.
    pub(crate) fn overlapped(&self) -> Vec<String> {
        self.0.seen.lock().unwrap().overlapped.clone()
    }

    fn begin(&self, event: &Event) -> Running<'_> {
        let mut seen = self.0.seen.lock().unwrap();
        let count = seen.attempts.entry(event.id).or_default();
        *count += 1;
        let attempt = *count;
        let stream = event.facts.stream.clone();
        if stream.is_some() && seen.running.contains(&stream) {
            seen.overlapped.extend(stream.clone());
        }
        seen.running.push(stream.clone());
        seen.most_running = seen.most_running.max(seen.running.len());
        let index = seen.calls.len();
        let body = event.body.to_vec();
        seen.calls.push(Call { id: event.id, stream: stream.clone(), body, done: false });
        Running { recorder: self, stream, index, attempt }
    }
}

/// An attempt under way; ends when dropped, as by a timeout.
struct Running<'a> {
    recorder: &'a Recorder,
    stream: Option<String>,
    index: usize,
    attempt: usize,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut seen = self.recorder.0.seen.lock().unwrap();
        let at = seen.running.iter().position(|stream| *stream == self.stream).unwrap();
        seen.running.remove(at);
    }
}

impl Handler for Recorder {
    fn deliver<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), HandlerError>> {
        Box::pin(async move {
            let running = self.begin(event);
            let mut act = (self.0.script)(event, running.attempt);
            loop {
                act = match act {
                    Act::Done => {
                        self.0.seen.lock().unwrap().calls[running.index].done = true;
                        return Ok(());
                    }
                    Act::Fail => return Err(HandlerError::transient("told to fail")),
                    Act::FailFor(span) => {
                        let reason = "told to wait".to_owned();
                        return Err(HandlerError::Transient { reason, retry_after: Some(span) });
                    }
                    Act::Permanent => return Err(HandlerError::permanent("told to give up")),
                    Act::Panic => panic!("told to panic"),
                    Act::Hang => std::future::pending().await,
                    Act::Wait(gate, then) => {
                        gate.acquire().await.unwrap().forget();
                        *then
                    }
                }
            }
        })
    }
}
