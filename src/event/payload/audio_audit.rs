//! Audio audit (page 58643).

use super::natural_key;
use crate::event::Kind;
use crate::event::lenient::documented;

documented! {
    /// The sound of a stream looks suspicious (event 315). Sound without findings is not reported.
    pub struct AudioAudit {
        /// Account number.
        required appid: Int,
        /// Obsolete.
        optional bizid: Int,
        /// Stream name.
        required stream_id: Text,
        /// An older name of the stream.
        required channel_id: Text,
        /// Push domain.
        required domain: Text,
        /// Path of the push URL.
        optional path: Text,
        /// 1 where something was found.
        optional hit_flag = "HitFlag": Int,
        /// Confidence of the label, 0 to 100.
        optional score = "Score": Float,
        /// Second level of the label.
        optional sub_tag = "SubTag": Text,
        /// The audit task.
        optional task_id: Id,
        /// 2 is normal.
        optional status: Int,
        /// What was said.
        optional asr_text: Text,
        /// Where the sound can be fetched; may be empty.
        optional cdn_url: Text,
        /// Length of the recognised speech in seconds.
        optional duration: Float,
        /// The worst label, for example `Normal`, `Porn`, `Abuse`, `Ad`, `Custom`.
        optional label: Text,
        /// Its second level; may be empty.
        optional sub_label: Text,
        /// `Block`, `Review` or `Pass`.
        optional suggestion: Text,
        /// Languages heard.
        optional language_results: [LanguageResult],
        /// Moaning heard.
        optional moan_results: [MoanResult],
        /// What voices were recognised as.
        optional recognition_results: [RecognitionResult],
        /// Known voices heard.
        optional speaker_results: [SpeakerResult],
        /// What the words were found to be.
        optional text_results: [TextResult],
        /// Name of the request.
        optional request_id: Id,
        /// Number of the piece of sound; exceeds 32 bits.
        optional seq: Id,
        /// Transcripts.
        optional data: AudioTranscripts,
    }

    /// A language that was heard. Any member may be null, here and in the results that follow.
    pub struct LanguageResult {
        /// The language.
        nullable label = "Label": Text,
        /// 0 to 100.
        nullable score = "Score": Int,
        /// Seconds into the sound.
        nullable start_time = "StartTime": Float,
        /// Seconds into the sound.
        nullable end_time = "EndTime": Float,
    }

    /// Moaning that was heard.
    pub struct MoanResult {
        /// `Moan` says the page; bodies have other labels too.
        nullable label = "Label": Text,
        /// 0 to 100.
        nullable score = "Score": Int,
        /// `Block`, `Review` or `Pass`.
        nullable suggestion = "Suggestion": Text,
        /// Seconds into the sound.
        nullable start_time = "StartTime": Float,
        /// Seconds into the sound.
        nullable end_time = "EndTime": Float,
        /// Second level of the label.
        nullable sub_label = "SubLabel": Text,
    }

    /// What voices were recognised as.
    pub struct RecognitionResult {
        /// `Teenager` or `Gender`.
        nullable label = "Label": Text,
        /// The findings one by one.
        optional tags = "Tags": [RecognitionTag],
    }

    /// What a voice was recognised as.
    pub struct RecognitionTag {
        /// `Teenager`, `Male` or `Female`.
        nullable name = "Name": Text,
        /// 0 to 100.
        nullable score = "Score": Int,
        /// **Milliseconds** into the sound.
        nullable start_time = "StartTime": Float,
        /// **Milliseconds** into the sound.
        nullable end_time = "EndTime": Float,
    }

    /// A known voice that was heard.
    pub struct SpeakerResult {
        /// Whose it is.
        nullable label = "Label": Text,
        /// 0 to 100.
        nullable score = "Score": Int,
        /// Seconds into the sound.
        nullable start_time = "StartTime": Float,
        /// Seconds into the sound.
        nullable end_time = "EndTime": Float,
    }

    /// What words were found to be.
    pub struct TextResult {
        /// Their label.
        nullable label = "Label": Text,
        /// The words.
        optional keywords = "Keywords": [Text],
        /// The library that has them.
        nullable lib_id = "LibId": Id,
        /// Its name.
        nullable lib_name = "LibName": Text,
        /// 0 to 100.
        nullable score = "Score": Int,
        /// `Block`, `Review` or `Pass`.
        nullable suggestion = "Suggestion": Text,
        /// 1 a library of allowed and blocked words, 2 one of the customer's own.
        nullable lib_type = "LibType": Int,
        /// Second level of the label.
        nullable sub_label = "SubLabel": Text,
        /// Where they stand.
        optional hit_infos = "HitInfos": [HitInfo],
    }

    /// A word that was found.
    pub struct HitInfo {
        /// `Model` or `Keyword`: what found it.
        nullable kind = "Type": Text,
        /// The word.
        nullable keyword = "Keyword": Text,
        /// Name of the library that has it.
        nullable lib_name = "LibName": Text,
        /// Where it stands.
        optional positions = "Positions": [Position],
    }

    /// A place in the transcript, in characters.
    pub struct Position {
        /// First character.
        nullable start = "Start": Int,
        /// Last character.
        nullable end = "End": Int,
    }

    /// Transcripts of a piece of sound.
    pub struct AudioTranscripts {
        /// Transcripts.
        optional asr_tmp_full_results: [AudioTranscript],
    }

    /// A transcript of a piece of sound.
    pub struct AudioTranscript {
        /// Where it begins and ends in the stream.
        optional appearing_point: [Float],
        /// 0 to 100.
        nullable confidence: Float,
        /// Seconds since 1970; in bodies, not on the page.
        nullable create_time: Int,
        /// The transcript itself says the page; empty in the body printed there.
        nullable id: Text,
        /// From and to, as `hh:mm:ss-hh:mm:ss`.
        nullable periods: Text,
        /// Where the sound can be fetched.
        nullable url: Text,
    }
}

impl AudioAudit {
    /// Task and number of the piece of sound, or else the request.
    pub fn natural_key(&self) -> Option<String> {
        let by_task = natural_key::of(Kind::AudioAudit, &[&"task", &self.task_id, &self.seq]);
        by_task.or_else(|| natural_key::of(Kind::AudioAudit, &[&"request", &self.request_id]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Payload;
    use super::super::testing::{drift_of, key_of, payload_of, sample};
    use super::*;

    fn audit(body: &str) -> AudioAudit {
        match payload_of(body) {
            Payload::AudioAudit(audit) => *audit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn findings_are_read() {
        let audit = audit(&sample("audio-audit-2025"));
        assert_eq!((audit.task_id.as_deref(), audit.seq.as_deref()), (Some("36881"), Some("3232590095")));
        let hit = &audit.text_results[0].hit_infos[0];
        assert_eq!(hit.keyword.as_deref(), Some("mobile phone number"));
        assert_eq!(hit.positions[1], Position { start: Some(18), end: Some(22) });
        assert_eq!(audit.moan_results[0].end_time, Some(15.0));
        let transcript = &audit.data.unwrap().asr_tmp_full_results[0];
        assert_eq!(transcript.appearing_point, [1_810_089.2, 1_810_104.8]);
    }

    #[test]
    fn nulls_the_page_allows_are_no_drift_but_null_lists_are() {
        let body = sample("audio-audit-2025")
            .replace(r#""LibId": """#, r#""LibId": null"#)
            .replace(r#""speaker_results": []"#, r#""speaker_results": null"#);
        assert_eq!(audit(&body).text_results[0].lib_id, None);
        assert_eq!(drift_of(&body), ["`speaker_results` is null, documented as a list"]);
    }

    #[test]
    fn a_finding_is_known_by_task_and_number_or_else_by_its_request() {
        let key = |rest: &str| key_of(&format!(r#"{{"event_type":315,{rest}}}"#));
        assert_eq!(key(r#""task_id":1,"seq":2,"request_id":"r""#).unwrap(), "audio-audit 4:task,1:1,1:2,");
        assert_eq!(key(r#""task_id":1,"request_id":"r""#).unwrap(), "audio-audit 7:request,1:r,");
        assert_eq!(key(r#""task_id":1"#), None);
    }
}
