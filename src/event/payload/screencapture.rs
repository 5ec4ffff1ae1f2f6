//! Screencaptures (page 38083).

use super::natural_key;
use crate::event::Kind;
use crate::event::lenient::documented;

documented! {
    /// A picture was taken of a stream (event 200). It names no account.
    pub struct Screencapture {
        /// Push domain. Since 2021.
        optional app: Text,
        /// Path of the push URL. Since 2021.
        optional appname: Text,
        /// Query string of the push URL, not decoded. Since 2021.
        optional stream_param: Text,
        /// Stream name.
        required stream_id: Text,
        /// An older name of the stream.
        required channel_id: Text,
        /// When the picture was taken, in seconds since 1970.
        required create_time: Int,
        /// Bytes; absent in 2016.
        optional file_size: Int,
        /// Width in pixels; absent in 2016.
        optional width: Int,
        /// Height in pixels; absent in 2016.
        optional height: Int,
        /// Path of the picture inside its bucket.
        required pic_url: Text,
        /// Where the picture can be fetched; absent in 2016.
        optional pic_full_url: Text,
        /// The task. Since 2025.
        optional task_id: Id,
    }
}

impl Screencapture {
    /// Stream, time and path of the picture.
    pub fn natural_key(&self) -> Option<String> {
        natural_key::of(Kind::Screencapture, &[&self.stream_id, &self.create_time, &self.pic_url])
    }
}

#[cfg(test)]
mod tests {
    use super::super::Payload;
    use super::super::testing::{key_of, payload_of, sample};

    #[test]
    fn a_picture_is_read() {
        let Payload::Screencapture(picture) = payload_of(&sample("screenshot-2025")) else { panic!() };
        assert_eq!((picture.width, picture.height, picture.file_size), (Some(1280), Some(720), Some(30_670)));
        assert_eq!(picture.task_id.as_deref(), Some("1867908378267662126"));
        assert_eq!(picture.stream_id.as_deref(), Some("your_streamid"));
    }

    #[test]
    fn a_picture_is_known_by_stream_time_and_path() {
        let body = r#"{"event_type":200,"stream_id":"s","create_time":5,"pic_url":"/p"}"#;
        assert_eq!(key_of(body).unwrap(), "screencapture 1:s,1:5,2:/p,");
        assert_eq!(key_of(&body.replace("\"/p\"", "[]")), None);
    }
}
