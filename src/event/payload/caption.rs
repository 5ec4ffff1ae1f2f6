//! Smart erase (page 73169) and subtitles (73170): what was said, and when.

use super::natural_key::{self, Part};
use crate::event::Kind;
use crate::event::lenient::documented;

documented! {
    /// Words were muted (event 347).
    pub struct SmartErase {
        /// Account number; on the page, in no body.
        optional appid: Int,
        /// Stream name.
        required stream_id: Text,
        /// An older name of the stream.
        required channel_id: Text,
        /// The task.
        required task_id: Id,
        /// What was said.
        required data: ErasedSentences,
    }

    /// Sentences in which words were muted.
    pub struct ErasedSentences {
        /// The sentences.
        required subtitle_tmp_res: [ErasedSentence],
    }

    /// A sentence in which words were muted.
    pub struct ErasedSentence {
        /// What was said.
        required src_txt: Text,
        /// Begin in the audio stream, in milliseconds.
        required start_pts: Int,
        /// End in the audio stream, in milliseconds.
        required end_pts: Int,
        /// Begin, in seconds since 1970.
        optional start_unix_time: Int,
        /// End, in seconds since 1970.
        optional end_unix_time: Int,
        /// The words.
        optional keywords_info: [ErasedWord],
    }

    /// A word that was muted.
    pub struct ErasedWord {
        /// The word.
        optional word: Text,
        /// Begin in the audio stream, in milliseconds.
        optional begin_time: Int,
        /// End in the audio stream, in milliseconds.
        optional end_time: Int,
    }

    /// Subtitles (event 338), sent only while somebody watches a stream with subtitles. A sentence comes again and
    /// again until it is steady; its last version counts.
    pub struct Subtitles {
        /// Account number; on the page, in no body.
        optional appid: Int,
        /// Stream name.
        required stream_id: Text,
        /// An older name of the stream.
        required channel_id: Text,
        /// The task.
        required task_id: Id,
        /// What was said.
        required data: SubtitleSentences,
    }

    /// Sentences of a stream.
    pub struct SubtitleSentences {
        /// The sentences.
        required subtitle_tmp_res: [SubtitleSentence],
    }

    /// A sentence of a stream.
    pub struct SubtitleSentence {
        /// What was said.
        required src_txt: Text,
        /// Its translation, where one is set up.
        optional dst_txt: Text,
        /// Begin in the audio stream, in milliseconds.
        required start_pts: Int,
        /// End in the audio stream, in milliseconds.
        required end_pts: Int,
        /// Begin, in seconds since 1970; in no body.
        optional start_unix_time: Int,
        /// End, in seconds since 1970; in no body.
        optional end_unix_time: Int,
        /// Whether the sentence will not change any more.
        optional steady_state = "steady_state" misspelt "stead_state": Bool,
    }
}

/// Both kinds are known alike: the task, and begin, end and text of every sentence.
macro_rules! known_alike {
    ($($kind:ident)+) => { $(
        impl $kind {
            /// The task, and begin, end and text of every sentence.
            pub fn natural_key(&self) -> Option<String> {
                let sentences = &self.data.as_ref().filter(|data| !data.subtitle_tmp_res.is_empty())?.subtitle_tmp_res;
                let mut parts: Vec<&dyn Part> = vec![&self.task_id];
                for sentence in sentences {
                    let three: [&dyn Part; 3] = [&sentence.start_pts, &sentence.end_pts, &sentence.src_txt];
                    parts.extend(three);
                }
                natural_key::of(Kind::$kind, &parts)
            }
        }
    )+ };
}

known_alike!(SmartErase Subtitles);

#[cfg(test)]
mod tests {
    use super::super::Payload;
    use super::super::testing::{drift_of, key_of, payload_of, sample};

    #[test]
    fn muted_words_are_read() {
        let Payload::SmartErase(erase) = payload_of(&sample("smart-erase-2025")) else { panic!() };
        let sentence = &erase.data.unwrap().subtitle_tmp_res[0];
        assert_eq!((sentence.start_pts, sentence.end_unix_time), (Some(954_864), Some(1_750_402_597)));
        assert_eq!(sentence.keywords_info[0].begin_time, Some(957_759));
    }

    #[test]
    fn steadiness_is_read_under_either_spelling() {
        let misspelt = sample("subtitles-2025");
        let correct = misspelt.replace("stead_state", "steady_state");
        let as_text = correct.replace("true", "\"false\"");
        let place = "data.subtitle_tmp_res[0]";
        for (body, steady, drift) in [
            (&misspelt, true, format!("`{place}.stead_state` stands for `steady_state`")),
            (&correct, true, String::new()),
            (&as_text, false, format!("`{place}.steady_state` is text, documented as a boolean")),
        ] {
            let Payload::Subtitles(subtitles) = payload_of(body) else { panic!() };
            assert_eq!(subtitles.data.unwrap().subtitle_tmp_res[0].steady_state, Some(steady));
            assert_eq!(drift_of(body).join("; "), drift);
        }
    }

    #[test]
    fn sentences_are_known_by_their_task_place_and_text() {
        let body = |items: &str| format!(r#"{{"event_type":338,"task_id":"7","data":{{"subtitle_tmp_res":{items}}}}}"#);
        let item = r#"{"src_txt":"hi","start_pts":1,"end_pts":2}"#;
        let one = key_of(&body(&format!("[{item}]"))).unwrap();
        assert_eq!(one, "subtitles 1:7,1:1,1:2,2:hi,");
        assert_eq!(key_of(&body(&format!("[{item},{item}]"))).unwrap(), format!("{one}1:1,1:2,2:hi,"));
        assert_eq!(key_of(&body("[]")), None);
        assert_eq!(key_of(&body("[{}]")), None);
    }
}
