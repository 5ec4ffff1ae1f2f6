//! Relays, which pull from one place and push to another (page 42525).

use super::natural_key;
use crate::event::Kind;
use crate::event::lenient::{Embedded, documented};

documented! {
    /// A relay task has something to say (event 314). `TaskExit` is not the end: it also comes when a task is tried
    /// again or moved.
    pub struct Relay {
        /// Account number.
        required appid = "appid" or "appId": Int,
        /// `TaskStart`, `TaskExit`, `VodSourceFileStart`, `VodSourceFileFinish`, `TaskAlarm` or `ResetTaskConfig`.
        required callback_event: Text,
        /// Addresses the task pulls from.
        required source_urls: (json [Text]),
        /// Address the task pushes to; absent in `TaskExit`.
        optional to_url: Text,
        /// Stream name; absent in `TaskExit`, may be empty.
        optional stream_id: Text,
        /// The task; absent in `TaskExit`.
        optional task_id: Id,
        /// What it says.
        required msg: (json RelayMessage),
        /// Seconds since 1970, sent as text. Since 2024.
        optional event_time: IntText,
        /// Where this was sent; in bodies, not on the page.
        optional callback_url: Text,
        /// `pullpush`; in bodies, not on the page.
        optional product_name: Text,
    }

    /// What a relay task says.
    pub struct RelayMessage {
        /// `TaskStart`: milliseconds since 1970; 0 occurs.
        optional task_start_time: Int,
        /// `VodSourceFile…`: the file.
        optional url: Text,
        /// `VodSourceFile…`: its place in the list.
        optional index: IntText,
        /// `VodSourceFile…`: its length in seconds.
        optional duration: Int,
        /// `TaskExit`: milliseconds since 1970; 0 occurs.
        optional task_exit_time: Int,
        /// `TaskExit`: number of the fault.
        optional code: IntText,
        /// `TaskExit`: prose.
        optional message: Text,
        /// `TaskAlarm`: `PullFileUnstable`, `PushStreamUnstable`, `PullFileFailed`, `PushStreamFailed` or
        /// `FileEndEarly`.
        optional kind = "type": Text,
    }
}

impl Relay {
    /// Task, event, time and message.
    pub fn natural_key(&self) -> Option<String> {
        let message = self.msg.as_ref().map(|Embedded { text, .. }| text.as_str())?;
        natural_key::of(Kind::Relay, &[&self.task_id, &self.callback_event, &self.event_time, &message])
    }
}

#[cfg(test)]
mod tests {
    use super::super::Payload;
    use super::super::testing::{drift_of, key_of, payload_of, sample};
    use super::*;

    fn relay(body: &str) -> Relay {
        match payload_of(body) {
            Payload::Relay(relay) => relay,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sources_and_message_are_read_out_of_their_text() {
        let start = relay(&sample("relay-vod-file-start"));
        let sources = start.source_urls.unwrap();
        assert!(sources.text.ends_with("]\n"));
        assert_eq!(
            sources.value.unwrap(),
            ["http://yourURL.cn/live/normal_466247620*****3100448-upload-216b/playlist.m3u8"]
        );
        let message = start.msg.unwrap().value.unwrap();
        assert_eq!((message.index, message.duration), (Some(0), Some(14_920)));
        let exit = relay(&sample("relay-task-exit"));
        assert_eq!(exit.task_id, None);
        assert_eq!(exit.msg.unwrap().value.unwrap().code, Some(-22));
    }

    #[test]
    fn both_documented_types_are_no_drift() {
        let body = r#"{"event_type":314,"appId":4,"callback_event":"TaskExit","source_urls":"[]",
            "event_time":"1712893433","msg":"{\"code\":\"-22\",\"index\":\"3\"}","t":"1712893433","sign":"s"}"#;
        let relay = relay(body);
        assert_eq!((relay.appid, relay.event_time), (Some(4), Some(1_712_893_433)));
        let message = relay.msg.unwrap().value.unwrap();
        assert_eq!((message.code, message.index), (Some(-22), Some(3)));
        assert_eq!(drift_of(body), [""; 0]);
    }

    #[test]
    fn a_message_is_known_by_task_event_time_and_text() {
        let body = r#"{"event_type":314,"task_id":"7","callback_event":"E","event_time":"5","msg":"{}"}"#;
        assert_eq!(key_of(body).unwrap(), "relay 1:7,1:E,1:5,2:{},");
        assert_eq!(key_of(&sample("relay-task-start")), None, "it has no time");
    }
}
