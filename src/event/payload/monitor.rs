//! Live monitoring (page 88050 of the Chinese site).

use super::natural_key;
use crate::event::Kind;
use crate::event::lenient::documented;

documented! {
    /// A monitor noticed something about a stream (event 328).
    pub struct Monitor {
        /// Account number.
        required appid: Int,
        /// Number of the business.
        required bizid: Int,
        /// `StreamBroken`, `StreamLowFramerate`, `OcrFullText`, `AsrFullText`, or a fault as in
        /// [`QualityControl::class`](super::QualityControl::class).
        required event_name: Text,
        /// **Milliseconds** since 1970.
        required event_time: Int,
        /// Prose; recognised text stands in braces there, which are no JSON.
        required event_msg: Text,
        /// Stream name.
        required stream_id: Text,
    }
}

impl Monitor {
    /// Account, stream, event and time.
    pub fn natural_key(&self) -> Option<String> {
        natural_key::of(Kind::Monitor, &[&self.appid, &self.stream_id, &self.event_name, &self.event_time])
    }
}

#[cfg(test)]
mod tests {
    use super::super::Payload;
    use super::super::testing::{key_of, payload_of, sample};

    #[test]
    fn a_notice_is_read() {
        let Payload::Monitor(notice) = payload_of(&sample("monitor-ocr")) else { panic!() };
        assert_eq!(notice.event_name.as_deref(), Some("OcrFullText"));
        assert_eq!(notice.event_time, Some(1_678_086_955_691));
        assert!(notice.event_msg.unwrap().ends_with("Text:新闻联播}"));
    }

    #[test]
    fn a_notice_is_known_by_account_stream_event_and_time() {
        let key = key_of(&sample("monitor-stream-broken")).unwrap();
        assert_eq!(key, "monitor 9:251000000,5:test1,12:StreamBroken,13:1678086930413,");
    }
}
