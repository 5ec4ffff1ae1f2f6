//! What CSS does, in short: sends an event until somebody answers 200, and sometimes once more. Each stream tells one
//! thing after the other, so what was answered first came first.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use livehook::clock::{Clock as _, SystemClock};
use md5::{Digest as _, Md5};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::http::{request, try_ask};
use crate::letter::KEY;
use crate::sink::Sink;

/// Where callbacks may be sent to: replicas come and go.
pub(crate) type Doors = Arc<Mutex<Vec<SocketAddr>>>;

/// Streams that tell something at the same time.
pub(crate) const STREAMS: u64 = 24;
/// One in so many events is sent again after it was answered, to whichever replica.
const COPY_EVERY: u64 = 5;

/// Events that were answered, by stream: all up to this number.
pub(crate) struct Told(pub(crate) Vec<u64>);

/// An event that says which it is. It counts as a push, as it must be of a stream.
pub(crate) fn event(stream: u64, number: u64) -> String {
    let t = SystemClock.now().secs() + 600;
    let sign = hex::encode(Md5::digest(format!("{KEY}{t}")));
    format!(
        "{{\"event_type\":1,\"stream_id\":\"room-{stream}\",\"app\":\"push.example.com\",\"appname\":\"live\",\
         \"sequence\":\"{number}\",\"number\":{number},\"room\":{stream},\"t\":{t},\"sign\":\"{sign}\"}}"
    )
}

/// Sends until `stop`, at most `most` of each stream. Whatever is not answered is sent again, as CSS does.
pub(crate) async fn send(doors: &Doors, stop: &CancellationToken, most: u64) -> Told {
    let mut streams = JoinSet::new();
    for stream in 0..STREAMS {
        let (doors, stop) = (Arc::clone(doors), stop.clone());
        streams.spawn(async move {
            let mut number = 0;
            while number < most && !stop.is_cancelled() {
                post_until_answered(&doors, &event(stream, number)).await;
                if number % COPY_EVERY == stream % COPY_EVERY {
                    post_until_answered(&doors, &event(stream, number)).await;
                }
                number += 1;
            }
            (stream, number)
        });
    }
    let mut told: Vec<_> = streams.join_all().await;
    told.sort_unstable();
    Told(told.into_iter().map(|(_, count)| count).collect())
}

async fn post_until_answered(doors: &Doors, body: &str) {
    loop {
        let door = { fastrand::choice(doors.lock().unwrap().iter().copied()) };
        let answer = match door {
            Some(door) => try_ask(door, &request("POST", "/callbacks", &[], body.as_bytes())).await,
            None => None,
        };
        match answer {
            Some(answer) => {
                assert_eq!((answer.status, answer.text().as_str()), (200, "{\"code\":0}"));
                return;
            }
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

impl Told {
    /// How many there are in all.
    pub(crate) fn count(&self) -> usize {
        usize::try_from(self.0.iter().sum::<u64>()).unwrap()
    }

    /// Waits until all of it has arrived, as long as more of it does from time to time, and holds it against what was
    /// answered.
    pub(crate) async fn check(&self, sink: &Sink) {
        let mut before = 0;
        while before < self.count() {
            before = crate::eventually(&format!("more than {before} of {} arrive", self.count()), async || {
                let arrived = sink.events();
                (arrived > before).then_some(arrived)
            })
            .await;
        }
        sink.check(&self.0);
    }
}
