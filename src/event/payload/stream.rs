//! Push started and push interrupted (page 38081).

use super::natural_key::{self, Part};
use crate::event::lenient::documented;
use crate::event::{Cause, Kind};

documented! {
    /// A push began (event 1).
    pub struct StreamPush {
        /// Account number; absent in 2016.
        optional appid: Int,
        /// Push domain; an IP address and blanks at the end occur.
        required app: Text,
        /// Path of the push URL, `live` unless chosen otherwise.
        required appname: Text,
        /// Stream name.
        required stream_id: Text,
        /// An older name of the stream, equal to `stream_id` with rare exceptions.
        required channel_id: Text,
        /// When the push began, in seconds since 1970.
        required event_time = "event_time" or "update_time": Int,
        /// Number of this push, which its interruption repeats. May exceed 64 bits.
        required sequence: Id,
        /// IP address of the access point.
        required node: Text,
        /// IP address of the client.
        required user_ip: Text,
        /// Query string of the push URL, not decoded; may be empty.
        required stream_param: Text,
        /// 0 here.
        required errcode: Int,
        /// Prose without fixed wording; may be empty.
        required errmsg: Text,
        /// Where the push came in: 1 to 6 Chinese mainland, 7 to 200 elsewhere. Since 2021.
        optional set_id: Int,
        /// Width of the picture in pixels, 0 while it is not known. Since 2021.
        optional width: Int,
        /// Height of the picture in pixels, 0 while it is not known. Since 2021.
        optional height: Int,
        /// Number of the data centre; in bodies, not on the page.
        optional idc_id: Int,
        /// On the page, but only interruptions have it: length of the push in milliseconds.
        optional push_duration: IntText,
    }

    /// A push ended (event 0).
    pub struct StreamInterruption {
        /// Account number; absent in 2016.
        optional appid: Int,
        /// Push domain; an IP address and blanks at the end occur.
        required app: Text,
        /// Path of the push URL, `live` unless chosen otherwise.
        required appname: Text,
        /// Stream name.
        required stream_id: Text,
        /// An older name of the stream, equal to `stream_id` with rare exceptions.
        required channel_id: Text,
        /// When the push ended, in seconds since 1970.
        required event_time = "event_time" or "update_time": Int,
        /// Number of the push that ended. It need not be the stream's current one.
        required sequence: Id,
        /// IP address of the access point.
        required node: Text,
        /// IP address of the client.
        required user_ip: Text,
        /// Query string of the push URL, not decoded; may be empty.
        required stream_param: Text,
        /// Why it ended; see [`cause`](Self::cause).
        required errcode: Int,
        /// Prose whose wording and language vary: never match on it.
        required errmsg: Text,
        /// Detail of `errcode`. Page 31083 lists such codes, no callback with one is known.
        optional sub_errcode: Int,
        /// How long the push lasted, in milliseconds; sent as text. Absent before 2018.
        optional push_duration: IntText,
        /// Where the push came in: 1 to 6 Chinese mainland, 7 to 200 elsewhere. Since 2021.
        optional set_id: Int,
        /// Width of the picture in pixels; 0 is usual here. Since 2021.
        optional width: Int,
        /// Height of the picture in pixels; 0 is usual here. Since 2021.
        optional height: Int,
        /// Number of the data centre; in bodies, not on the page.
        optional idc_id: Int,
    }
}

impl StreamPush {
    /// Domain, path, stream and push number; the time where there is no number.
    pub fn natural_key(&self) -> Option<String> {
        let stream: [&dyn Part; 3] = [&self.app, &self.appname, &self.stream_id];
        key_of_push(Kind::StreamPush, stream, &self.sequence, &self.event_time)
    }
}

impl StreamInterruption {
    /// Domain, path, stream and push number; the time where there is no number.
    pub fn natural_key(&self) -> Option<String> {
        let stream: [&dyn Part; 3] = [&self.app, &self.appname, &self.stream_id];
        key_of_push(Kind::StreamInterruption, stream, &self.sequence, &self.event_time)
    }

    /// Why the push ended, by `errcode`; unknown where that is missing.
    pub fn cause(&self) -> Cause {
        Cause::of(self.errcode.unwrap_or(0))
    }
}

fn key_of_push(kind: Kind, stream: [&dyn Part; 3], sequence: &dyn Part, event_time: &dyn Part) -> Option<String> {
    let [app, appname, stream_id] = stream;
    let by_sequence = natural_key::of(kind, &[app, appname, stream_id, &"sequence", sequence]);
    by_sequence.or_else(|| natural_key::of(kind, &[app, appname, stream_id, &"time", event_time]))
}

#[cfg(test)]
mod tests {
    use super::super::Payload;
    use super::super::testing::{drift_of, key_of, payload_of, sample};
    use super::*;
    use crate::event::CauseClass;

    fn interruption(body: &str) -> StreamInterruption {
        match payload_of(body) {
            Payload::StreamInterruption(interruption) => interruption,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_push_and_its_interruption_are_read() {
        let Payload::StreamPush(push) = payload_of(&sample("stream-push-2024")) else { panic!() };
        let interruption = interruption(&sample("stream-interrupt-2024"));
        assert_eq!(push.sequence.as_deref(), Some("2210464508206756938"));
        assert_eq!(push.sequence, interruption.sequence);
        assert_eq!((push.event_time, push.set_id, push.idc_id), (Some(1_703_731_478), Some(2), Some(34)));
        assert_eq!(interruption.push_duration, Some(128_581));
        assert_eq!(interruption.cause().class, CauseClass::Client);
        assert_eq!(interruption.width, Some(0));
    }

    #[test]
    fn numbers_and_text_may_stand_for_each_other() {
        let odd = sample("stream-interrupt-2024")
            .replace(r#""errcode": 1"#, r#""errcode": "18""#)
            .replace(r#""2210464508206756938""#, "18446744073709551999")
            .replace(r#""128581""#, "128581")
            .replace(r#""42.81.194.37""#, "42");
        let read = interruption(&odd);
        assert_eq!(read.cause().class, CauseClass::Account);
        assert_eq!(read.sequence.as_deref(), Some("18446744073709551999"));
        assert_eq!(read.push_duration, Some(128_581));
        assert_eq!(read.node.as_deref(), Some("42"));
        assert_eq!(
            drift_of(&odd),
            ["`errcode` is text, documented as a whole number", "`node` is a number, documented as text"]
        );
    }

    #[test]
    fn a_wrong_type_costs_only_itself() {
        let odd = sample("stream-interrupt-2024").replace(r#""errmsg": "#, r#""errmsg": null, "node": {}, "x": "#);
        let read = interruption(&odd);
        assert_eq!((read.errmsg, read.errcode), (None, Some(1)));
        assert_eq!(read.node.as_deref(), Some("42.81.194.37"), "the last one counts");
        assert_eq!(
            drift_of(&odd),
            [
                "`errmsg` is null, documented as text",
                "`node` is an object, documented as text",
                "unknown member `x`",
                "`node` is repeated, the last one counts",
            ]
        );
    }

    #[test]
    fn an_interruption_without_a_code_has_an_unknown_cause() {
        assert_eq!(interruption(r#"{"event_type":0}"#).cause().class, CauseClass::Unknown);
    }

    #[test]
    fn a_push_is_known_by_its_number_or_else_by_its_time() {
        let key = |rest: &str| key_of(&format!(r#"{{"event_type":1,"app":"a","appname":"b","stream_id":"c"{rest}}}"#));
        let numbered = key(r#","sequence":"7","event_time":5"#).unwrap();
        assert_eq!(numbered, "stream-push 1:a,1:b,1:c,8:sequence,1:7,");
        assert_eq!(key(r#","sequence":7,"event_time":6"#).as_deref(), Some(numbered.as_str()));
        assert_eq!(key(r#","sequence":"","event_time":7"#).unwrap(), "stream-push 1:a,1:b,1:c,4:time,1:7,");
        assert_eq!(key(""), None);
        assert_eq!(key(r#","sequence":"7","app":"""#), None);
    }
}
