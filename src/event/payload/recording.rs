//! Recording files (page 38082), the state of recordings (58590) and what went wrong in them (68622).

use super::natural_key;
use crate::event::Kind;
use crate::event::lenient::documented;

documented! {
    /// A recording file is ready (event 100).
    pub struct Recording {
        /// Account number; absent in 2016.
        optional appid: Int,
        /// Push domain. Since 2021.
        optional app: Text,
        /// Path of the push URL. Since 2021.
        optional appname: Text,
        /// Stream name.
        required stream_id: Text,
        /// An older name of the stream.
        required channel_id: Text,
        /// Name of the file, unique to it: digits in VOD, `<appid>_<hex>` in COS.
        required file_id: Id,
        /// Equal to `file_id` wherever it was seen.
        optional record_file_id: Id,
        /// `flv`, `hls`, `mp4` or `aac`, in any case.
        required file_format: Text,
        /// The recording task; a task leaves many files.
        optional task_id: Id,
        /// The recording template; empty for recordings made through the API.
        optional record_temp_id: Id,
        /// When the task began to write, in seconds since 1970. Not the start of the content, see
        /// [`content_start_secs`](Self::content_start_secs).
        required start_time: Int,
        /// When the task stopped writing, in seconds since 1970.
        required end_time: Int,
        /// Microseconds beyond `start_time`. Since 2022.
        optional start_time_usec: Int,
        /// Microseconds beyond `end_time`. Since 2022.
        optional end_time_usec: Int,
        /// Length of the content in seconds. It may exceed the time of writing a little, or fall short of it by more
        /// than a minute on bad links. Absent in 2016.
        optional duration: Int,
        /// Bytes; for HLS perhaps those of the playlist.
        required file_size: IntText,
        /// Query string of the push URL, not decoded; absent for mixed streams and API recordings.
        optional stream_param: Text,
        /// Where the file can be fetched; in a private bucket only with a signature.
        required video_url: Text,
        /// Timestamp (pts) of the first frame that reached the recorder, in milliseconds. Since 2022.
        optional media_start_time: Int,
        /// Bit rate in kbit/s of the transcoded stream that was recorded, 0 for the stream as pushed.
        optional record_bps: Int,
        /// Extras CSS makes no promise about. Since 2022.
        optional callback_ext: (json RecordingExtras),
        /// Name of the file in the VOD of 2016; obsolete, still sent.
        optional video_id: Id,
        /// 1 where the account used the second VOD, in legacy bodies.
        optional vod2_flag = "vod2Flag" or "vod2flag": Int,
    }

    /// Extras of a recording file.
    pub struct RecordingExtras {
        /// For example `h264`.
        optional video_codec: Text,
        /// For example `640x480`.
        optional resolution: Text,
        /// The recording session, as in [`RecordingStatus`].
        optional session_id: Id,
    }

    /// A recording began, failed, paused, resumed or ended (event 332).
    pub struct RecordingStatus {
        /// Account number.
        required appid: Int,
        /// Path of the push URL.
        required appname: Text,
        /// Push domain.
        required domain: Text,
        /// Seconds since 1970.
        required event_time: Int,
        /// `record_start_succeeded`, `record_start_failed`, `record_paused`, `record_resumed`, `record_error` or
        /// `record_ended`.
        required record_event = "record_event" misspelt "recordevent": Text,
        /// What is recorded and how.
        required record_detail: (json RecordDetail),
        /// The task, for recordings made through the API. Since 2025.
        optional task_id: Id,
        /// The recording session.
        required session_id: Id,
        /// Number of this message.
        required seq: Id,
        /// Stream name; for a relay that records, the name of its task.
        required stream_id: Text,
    }

    /// What is recorded and how.
    pub struct RecordDetail {
        /// 1 FLV, 2 HLS, 3 MP4, 4 AAC, 5 MP3.
        optional file_format: Int,
        /// Bit rate.
        optional record_bps: Int,
        /// 1 by a template, 5 through the API.
        optional start_model: Int,
        /// 1 as pushed, 2 watermarked, 3 transcoded.
        optional record_content: Int,
        /// 1 a live stream, 2 a relay.
        optional source_type: Int,
        /// The transcoding template.
        optional codec_temp_id: Int,
    }

    /// Something went wrong in a recording (event 341). Equal faults are merged, up to two minutes late.
    pub struct RecordingException {
        /// Account number.
        required appid: Int,
        /// Push domain; in bodies, not on the page.
        optional domain: Text,
        /// Path of the push URL; in bodies, not on the page.
        optional path: Text,
        /// Stream name.
        required stream_id: Text,
        /// The recording session.
        required session_id: Id,
        /// `flv`, `ts`, `mp4` or `aac`, in any case.
        required file_format: Text,
        /// Seconds since 1970.
        required timestamp: Int,
        /// `info`, `warning` or `error`.
        required exception_level: Text,
        /// What happened.
        required exception: RecordingFault,
    }

    /// What went wrong in a recording.
    pub struct RecordingFault {
        /// A negative number; see [`meaning`](Self::meaning).
        required kind = "type": Int,
        /// How often within the time that was counted.
        required occurs: Int,
        /// Prose.
        required desc: Text,
    }
}

impl Recording {
    /// The file; without its name, the task, format and start to the microsecond.
    pub fn natural_key(&self) -> Option<String> {
        let of_file = |id| natural_key::of(Kind::Recording, &[&"file", id]);
        of_file(&self.file_id).or_else(|| of_file(&self.record_file_id)).or_else(|| {
            let format = self.file_format.as_ref().map(|format| format.to_ascii_lowercase());
            natural_key::of(
                Kind::Recording,
                &[&"task", &self.task_id, &format, &self.start_time, &self.start_time_usec],
            )
        })
    }

    /// When the content of the file begins, in seconds since 1970: its end less its length, as page 38082 says.
    pub fn content_start_secs(&self) -> Option<i64> {
        self.end_time?.checked_sub(self.duration?)
    }
}

impl RecordingStatus {
    /// Session, state, time and message number.
    pub fn natural_key(&self) -> Option<String> {
        natural_key::of(Kind::RecordingStatus, &[&self.session_id, &self.record_event, &self.event_time, &self.seq])
    }
}

impl RecordingException {
    /// Session, fault and time.
    pub fn natural_key(&self) -> Option<String> {
        let fault = self.exception.as_ref().and_then(|fault| fault.kind);
        natural_key::of(Kind::RecordingException, &[&self.session_id, &fault, &self.timestamp])
    }
}

impl RecordingFault {
    /// What `kind` means, in English and in Chinese, where page 68622 lists it.
    pub fn meaning(&self) -> Option<[&'static str; 2]> {
        RECORDING_FAULTS.iter().find(|(kind, _)| Some(*kind) == self.kind).map(|(_, meaning)| *meaning)
    }
}

/// The faults of a recording by number, in English and in Chinese (page 68622).
pub const RECORDING_FAULTS: [(i64, [&str; 2]); 18] = [
    (-8, ["audio timestamps jump", "音频时间戳跳变"]),
    (-9, ["video timestamps jump", "视频时间戳跳变"]),
    (-10, ["audio and video timestamps are far apart", "音视频时间戳相差过大"]),
    (-11, ["video timestamps are invalid", "视频时间戳无效"]),
    (-16, ["the stream could not be pulled", "拉流失败"]),
    (-17, ["audio is to be recorded but none is pushed", "需录制音频但未推音频"]),
    (-18, ["video is to be recorded but none is pushed", "需录制视频但未推视频"]),
    (-22, ["audio timestamps stand still", "音频时间戳不变"]),
    (-23, ["video timestamps stand still", "视频时间戳不变"]),
    (-24, ["audio timestamps are invalid", "音频时间戳无效"]),
    (-100, ["the resolution changed", "分辨率变化"]),
    (-104, ["frames could not be written to the file", "帧写入文件失败"]),
    (-120, ["the codec changed and a new file was begun", "编码变化,已另起文件"]),
    (-130, ["bad video frames were dropped", "丢弃了异常视频帧"]),
    (-131, ["bad audio frames were dropped", "丢弃了异常音频帧"]),
    (-132, ["groups of pictures have an odd length", "GOP 长度异常"]),
    (-200, ["audio timestamps grow unevenly", "音频时间戳增长不均匀"]),
    (-201, ["video timestamps grow unevenly", "视频时间戳增长不均匀"]),
];

#[cfg(test)]
mod tests {
    use super::super::testing::{drift_of, key_of, payload_of, sample};
    use super::super::{Embedded, Payload};
    use super::*;

    fn recording(body: &str) -> Recording {
        match payload_of(body) {
            Payload::Recording(recording) => *recording,
            other => panic!("{other:?}"),
        }
    }

    fn status(body: &str) -> RecordingStatus {
        match payload_of(body) {
            Payload::RecordingStatus(status) => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_is_read_in_its_oldest_and_newest_form() {
        let new = recording(&sample("record-file-2022"));
        assert_eq!(new.content_start_secs(), Some(1_642_089_444));
        assert_eq!((new.start_time_usec, new.media_start_time), (Some(316_441), Some(135_802)));
        let extras = new.callback_ext.unwrap().value.unwrap();
        assert_eq!(extras.resolution.as_deref(), Some("640x480"));
        let old = recording(&sample("record-file-2016-legacy"));
        assert_eq!(old.file_id.as_deref(), Some("16093425727657168197"));
        assert_eq!(old.content_start_secs(), None);
        let text = sample("record-file-2018").replace("277941079", r#""277941079""#);
        assert_eq!((recording(&text).file_size, drift_of(&text)), (Some(277_941_079), vec![]));
    }

    #[test]
    fn embedded_json_is_read_once_or_twice_escaped() {
        let once = status(&sample("record-status-2025")).record_detail.unwrap();
        let fields = RecordDetail {
            file_format: Some(2),
            record_bps: Some(0),
            start_model: Some(1),
            record_content: Some(1),
            source_type: Some(2),
            codec_temp_id: Some(0),
        };
        assert_eq!(once.value, Some(fields.clone()));
        let again = serde_json::to_string(&once.text).unwrap();
        let body = |detail: &str| {
            let mut body: serde_json::Value = serde_json::from_str(&sample("record-status-2025")).unwrap();
            body["record_detail"] = detail.into();
            body.to_string()
        };
        let twice = status(&body(&again)).record_detail.unwrap();
        assert_eq!(twice, Embedded { text: again.clone(), value: Some(fields) });
        assert_eq!(drift_of(&body(&again)), [""; 0]);
    }

    #[test]
    fn embedded_text_that_is_no_json_is_kept() {
        for broken in [r#""{\"file_format\":2""#, r#""""#, r#""\"{\"""#] {
            let body = format!(r#"{{"event_type":332,"record_detail":{broken}}}"#);
            let detail = status(&body).record_detail.unwrap();
            assert_eq!(detail.value, None);
            assert_eq!(detail.text, serde_json::from_str::<String>(broken).unwrap());
            assert!(drift_of(&body).contains(&"the text of `record_detail` is not JSON".to_owned()), "{broken}");
        }
        let object = r#"{"event_type":332,"record_detail":{"file_format":"2","more":1}}"#;
        let detail = status(object).record_detail.unwrap();
        assert_eq!(detail.text, r#"{"file_format":"2","more":1}"#);
        assert_eq!(detail.value.unwrap().file_format, Some(2));
        assert_eq!(
            drift_of(object)[..3],
            [
                "`record_detail` is an object, documented as text that holds JSON",
                "`record_detail.file_format` is text, documented as a whole number",
                "unknown member `record_detail.more`",
            ]
        );
    }

    #[test]
    fn the_misspelt_state_is_understood_and_noted() {
        let body = sample("record-status-2025").replace("record_event", "recordevent");
        assert_eq!(status(&body).record_event.as_deref(), Some("record_ended"));
        assert_eq!(drift_of(&body), ["`recordevent` stands for `record_event`"]);
    }

    #[test]
    fn a_fault_is_named() {
        let Payload::RecordingException(exception) = payload_of(&sample("record-exception-2025")) else { panic!() };
        let fault = exception.exception.unwrap();
        assert_eq!((fault.kind, fault.occurs), (Some(-201), Some(4)));
        assert_eq!(fault.meaning().unwrap()[0], "video timestamps grow unevenly");
        assert_eq!(RecordingFault { kind: Some(1), ..fault }.meaning(), None);
    }

    #[test]
    fn a_file_is_known_by_its_name_or_else_by_its_task_and_start() {
        let key = |rest: &str| key_of(&format!(r#"{{"event_type":100{rest}}}"#));
        assert_eq!(key(r#","file_id":"f","record_file_id":"g""#).unwrap(), "recording 4:file,1:f,");
        assert_eq!(key(r#","record_file_id":"g""#).unwrap(), "recording 4:file,1:g,");
        let task = r#","task_id":"t","file_format":"FLV","start_time":5,"start_time_usec":6"#;
        assert_eq!(key(task).unwrap(), "recording 4:task,1:t,3:flv,1:5,1:6,");
        assert_eq!(key(r#","task_id":"t""#), None);
    }
}
