//! Push errors (page 53310).

use super::natural_key;
use crate::event::Kind;
use crate::event::lenient::documented;

documented! {
    /// What was pushed was faulty within the last few seconds (event 321). Nothing is sent when it is well again.
    pub struct PushError {
        /// Account number; 0 in bodies of 2022.
        required appid: Int,
        /// IP address of the client. Since 2025.
        optional user_ip: Text,
        /// When this was counted, in **milliseconds** since 1970.
        required data_time: Int,
        /// Push domain; on the page since 2025.
        optional domain: Text,
        /// Path of the push URL.
        required path: Text,
        /// Length of the time that was counted, in milliseconds.
        required report_interval: Int,
        /// Number of the push, as in its beginning and its interruption.
        required sequence: Id,
        /// Stream name.
        required stream_id: Text,
        /// Query string of the push URL, not decoded.
        required stream_param: Text,
        /// How long CSS waits for the answer to this callback, in milliseconds.
        required timeout: Int,
        /// The faults, each kind once.
        required abnormal_event: [PushFault],
    }

    /// A kind of fault and its occurrences.
    pub struct PushFault {
        /// Number of the fault; see [`meaning`](Self::meaning).
        required kind = "type": Int,
        /// How often it occurred.
        required count: Int,
        /// The occurrences.
        required detail: [PushFaultDetail],
        /// Chinese prose; a blank on English accounts.
        required type_desc_cn: Text,
        /// English prose.
        required type_desc_en: Text,
        /// An addition to the Chinese prose; may be empty. Since 2025.
        optional event_key: Text,
        /// Always true where it is sent. Since 2025.
        optional customer_visible: BoolText,
    }

    /// An occurrence of a fault.
    pub struct PushFaultDetail {
        /// Prose.
        required desc: Text,
        /// **Milliseconds** since 1970.
        required occur_time: Int,
    }
}

impl PushError {
    /// Stream, push and time.
    pub fn natural_key(&self) -> Option<String> {
        natural_key::of(Kind::PushError, &[&self.stream_id, &self.sequence, &self.data_time])
    }
}

impl PushFault {
    /// What `kind` means, in English and in Chinese, where page 53310 lists it.
    pub fn meaning(&self) -> Option<[&'static str; 2]> {
        PUSH_FAULTS.iter().find(|(kind, _)| Some(*kind) == self.kind).map(|(_, meaning)| *meaning)
    }
}

/// The faults of a push by number, in English and in Chinese (page 53310).
pub const PUSH_FAULTS: [(i64, [&str; 2]); 16] = [
    (1, ["a video timestamp goes back", "视频时间戳回退"]),
    (2, ["an audio timestamp goes back", "音频时间戳回退"]),
    (3, ["a video timestamp jumps by more than 1 s", "视频时间戳跳跃超过 1 秒"]),
    (4, ["an audio timestamp jumps by more than 1 s", "音频时间戳跳跃超过 1 秒"]),
    (5, ["a chunk exceeds 8192 bytes", "chunk 超过 8192 字节"]),
    (6, ["video frames come too far apart", "视频帧到达间隔过大"]),
    (7, ["audio frames come too far apart", "音频帧到达间隔过大"]),
    (8, ["the video codec changed", "视频编码格式变化"]),
    (9, ["the audio codec changed", "音频编码格式变化"]),
    (10, ["a video frame came before the codec header", "视频帧之前没有编码头"]),
    (11, ["an audio frame came before the codec header", "音频帧之前没有编码头"]),
    (12, ["audio timestamps are too far apart", "音频时间戳间隔过大"]),
    (13, ["the codec is uncommon", "编码格式不常见"]),
    (14, ["the video header cannot be parsed", "视频头无法解析"]),
    (15, ["the frame rate is too low", "帧率过低"]),
    (16, ["a group of pictures exceeds 10 s", "GOP 超过 10 秒"]),
];

#[cfg(test)]
mod tests {
    use super::super::Payload;
    use super::super::testing::{drift_of, key_of, payload_of, sample};
    use super::*;

    fn error(body: &str) -> PushError {
        match payload_of(body) {
            Payload::PushError(error) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn faults_are_read_and_named() {
        let error = error(&sample("push-error-2025"));
        assert_eq!((error.data_time, error.timeout), (Some(1_670_588_074_971), Some(5000)));
        let fault = &error.abnormal_event[1];
        assert_eq!((fault.count, fault.customer_visible), (Some(2), Some(true)));
        assert_eq!(fault.detail[1].occur_time, Some(1_670_588_073_486));
        assert_eq!(fault.meaning().unwrap()[1], "音频帧到达间隔过大");
        assert_eq!(error.abnormal_event[0].customer_visible, None);
        assert_eq!(PushFault::default().meaning(), None);
    }

    #[test]
    fn a_single_fault_where_a_list_should_be_is_noted() {
        let body = sample("push-error-2025").replace("\"abnormal_event\": [", "\"abnormal_event\": {}, \"rest\": [");
        assert_eq!(error(&body).abnormal_event, []);
        assert_eq!(drift_of(&body), ["`abnormal_event` is an object, documented as a list", "unknown member `rest`"]);
    }

    #[test]
    fn a_report_is_known_by_stream_push_and_time() {
        let body = r#"{"event_type":321,"stream_id":"s","sequence":"0","data_time":5}"#;
        assert_eq!(key_of(body).unwrap(), "push-error 1:s,1:0,1:5,");
    }
}
