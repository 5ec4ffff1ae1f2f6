//! Summaries (page 74671) and highlights (74672) of a stream.

use super::natural_key::{self, Part};
use crate::event::Kind;
use crate::event::lenient::documented;

documented! {
    /// A span of a stream summed up (event 348).
    pub struct Summary {
        /// Account number.
        required appid: Int,
        /// Push domain.
        required domain: Text,
        /// Path of the push URL.
        required path: Text,
        /// Stream name.
        required stream_id: Text,
        /// Begin of the span, in seconds since 1970.
        required begin_time: Int,
        /// End of the span, in seconds since 1970.
        required end_time: Int,
        /// A headline.
        required title: Text,
        /// A paragraph.
        required summary: Text,
        /// Words that stand out.
        required key_words: [Text],
        /// Its points in short.
        required key_points: [Text],
    }

    /// Clips of a stream worth seeing again (event 349). They do not come in the order of their time.
    pub struct Highlight {
        /// Account number.
        required appid: Int,
        /// Push domain.
        required domain: Text,
        /// Path of the push URL.
        required path: Text,
        /// Stream name.
        required stream_id: Text,
        /// The clips.
        required items: [HighlightClip],
    }

    /// A clip.
    pub struct HighlightClip {
        /// Begin, in seconds since 1970.
        required begin_time: Int,
        /// End, in seconds since 1970.
        required end_time: Int,
        /// A headline.
        required title: Text,
        /// A paragraph.
        required summary: Text,
        /// Where the clip can be fetched; in a private bucket only with a signature.
        required video_store_url: Text,
        /// Where its cover can be fetched; empty in all bodies known.
        required cov_img_store_url: Text,
        /// Words that stand out.
        required key_words: [Text],
    }
}

impl Summary {
    /// Stream and span.
    pub fn natural_key(&self) -> Option<String> {
        natural_key::of(Kind::Summary, &[&self.stream_id, &self.begin_time, &self.end_time])
    }
}

impl Highlight {
    /// Stream and the span of every clip, or where a clip is kept if it has no span.
    pub fn natural_key(&self) -> Option<String> {
        let mut parts: Vec<&dyn Part> = vec![&self.stream_id];
        for clip in &self.items {
            if clip.begin_time.is_some() && clip.end_time.is_some() {
                let span: [&dyn Part; 2] = [&clip.begin_time, &clip.end_time];
                parts.extend(span);
            } else {
                let kept: [&dyn Part; 2] = [&"at", &clip.video_store_url];
                parts.extend(kept);
            }
        }
        if self.items.is_empty() { None } else { natural_key::of(Kind::Highlight, &parts) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Payload;
    use super::super::testing::{drift_of, key_of, payload_of, sample};

    #[test]
    fn a_summary_is_read() {
        let Payload::Summary(summary) = payload_of(&sample("summary-2025-zh")) else { panic!() };
        assert_eq!(summary.key_words, ["三件套", "山东老粗布", "床品促销", "新疆棉"]);
        assert_eq!(summary.key_points.len(), 2);
        assert_eq!(key_of(&sample("summary-2025-zh")), key_of(&sample("summary-2025-en")));
        assert_eq!(key_of(&sample("summary-2025-en")).unwrap(), "summary 8:test1820,10:1761211980,10:1761212541,");
    }

    #[test]
    fn clips_are_read() {
        let Payload::Highlight(highlight) = payload_of(&sample("highlight-2025")) else { panic!() };
        let clip = &highlight.items[0];
        assert_eq!((clip.begin_time, clip.end_time), (Some(1_761_128_808), Some(1_761_128_834)));
        assert_eq!(clip.key_words.len(), 5);
    }

    #[test]
    fn clips_are_known_by_their_spans_or_else_by_their_place() {
        let key = |items: &str| key_of(&format!(r#"{{"event_type":349,"stream_id":"s","items":{items}}}"#));
        let items = r#"[{"begin_time":1,"end_time":2,"video_store_url":"u"},{"video_store_url":"v"}]"#;
        assert_eq!(key(items).unwrap(), "highlight 1:s,1:1,1:2,2:at,1:v,");
        assert_eq!(key("[]"), None);
        assert_eq!(key("[{}]"), None);
    }

    #[test]
    fn unreadable_clips_are_left_out() {
        let body = r#"{"event_type":349,"appid":1,"domain":"d","path":"p","stream_id":"s","items":[null,7]}"#;
        let Payload::Highlight(highlight) = payload_of(body) else { panic!() };
        assert_eq!(highlight.items, []);
        assert_eq!(
            drift_of(body),
            ["`items[0]` is null, documented as an object", "`items[1]` is a number, documented as an object"]
        );
    }
}
