//! Quality control (page 73166) and evaluation (73167, 73168).

use super::natural_key::{self, IfAny, Part};
use crate::event::Kind;
use crate::event::lenient::documented;

documented! {
    /// Format or content of a stream is faulty (event 343).
    pub struct QualityControl {
        /// Account number.
        required appid: Int,
        /// Path of the push URL.
        required appname: Text,
        /// Stream name.
        required stream_id: Text,
        /// Push domain.
        required domain: Text,
        /// Seconds since 1970.
        required event_time: Int,
        /// The transcoding template.
        required transcode_template_id: Int,
        /// The watermark template.
        optional watermark_template_id: Int,
        /// What was measured.
        required score: Float,
        /// `QualityControl`.
        required function: Text,
        /// The fault: of the format, as `VideoResolutionChanged`, `DtsJitter` or `StreamOpenFailed`, or of the content,
        /// as `Mosaic`, `Blur` or `Silence`.
        required class: Text,
    }

    /// Frames scored below the threshold (event 344).
    pub struct EvaluationThreshold {
        /// Account number.
        required appid: Int,
        /// Path of the push URL.
        required appname: Text,
        /// Stream name.
        required stream_id: Text,
        /// Push domain.
        required domain: Text,
        /// Seconds since 1970.
        required event_time: Int,
        /// The transcoding template.
        required transcode_template_id: Int,
        /// The watermark template; none for measures that compare with a reference.
        optional watermark_template_id: Int,
        /// The frames.
        required frames: [FrameScore],
        /// `Assessment`.
        required function: Text,
        /// The measure: `PSNR`, `SSIM`, `VMAF` or `VQA`.
        required class: Text,
    }

    /// How frames scored on average (event 345, also sent as 344).
    pub struct EvaluationAverage {
        /// Account number.
        required appid: Int,
        /// Path of the push URL.
        required appname: Text,
        /// Stream name.
        required stream_id: Text,
        /// Push domain.
        required domain: Text,
        /// Seconds since 1970.
        required event_time: Int,
        /// The transcoding template.
        required transcode_template_id: Int,
        /// The watermark template; none for measures that compare with a reference.
        optional watermark_template_id: Int,
        /// The frames.
        required frames: [FrameScore],
        /// Mean of the scores.
        required average_score: Float,
        /// Best of the scores.
        required max_score: Float,
        /// Worst of the scores.
        required min_score: Float,
        /// `Assessment`.
        required function: Text,
        /// The measure: `PSNR`, `SSIM`, `VMAF` or `VQA`.
        required class: Text,
    }

    /// A frame and its score.
    pub struct FrameScore {
        /// In the scale of the measure.
        required score: Float,
        /// **Milliseconds** since 1970.
        required time: Int,
    }
}

/// The three kinds are known alike: domain, path, stream, class, time and templates.
macro_rules! known_alike {
    ($($kind:ident)+) => { $(
        impl $kind {
            /// Domain, path, stream, class, time and templates.
            pub fn natural_key(&self) -> Option<String> {
                let watermark = IfAny(&self.watermark_template_id);
                let parts: [&dyn Part; 7] = [
                    &self.domain,
                    &self.appname,
                    &self.stream_id,
                    &self.class,
                    &self.event_time,
                    &self.transcode_template_id,
                    &watermark,
                ];
                natural_key::of(Kind::$kind, &parts)
            }
        }
    )+ };
}

known_alike!(QualityControl EvaluationThreshold EvaluationAverage);

#[cfg(test)]
mod tests {
    use super::super::Payload;
    use super::super::testing::{drift_of, key_of, payload_of, sample};
    use super::*;

    #[test]
    fn a_quality_report_is_read() {
        let Payload::QualityControl(report) = payload_of(&sample("quality-control-2025")) else { panic!() };
        assert_eq!(report.score, Some(44.153_141_047_414_61));
        assert_eq!(report.class.as_deref(), Some("Blur"));
        assert_eq!(report.watermark_template_id, Some(123_457));
    }

    #[test]
    fn an_average_report_is_told_from_a_threshold_report_by_its_average() {
        let Payload::EvaluationThreshold(below) = payload_of(&sample("evaluation-threshold-2025")) else { panic!() };
        assert_eq!(below.frames[1], FrameScore { score: Some(32.75), time: Some(1_752_130_786_281) });
        let body = sample("evaluation-average-2025");
        let Payload::EvaluationAverage(average) = payload_of(&body) else { panic!() };
        assert_eq!((average.average_score, average.min_score), (Some(27.765), Some(22.78)));
        assert_eq!(drift_of(&body), ["`event_type` is 344, documented as 345 for evaluation-average"]);
        assert_eq!(drift_of(&body.replace("\"event_type\": 344", "\"event_type\": 345")), [""; 0]);
    }

    #[test]
    fn reports_of_different_kinds_or_templates_differ() {
        let threshold = key_of(&sample("evaluation-threshold-2025")).unwrap();
        let tail = "19:abc.record.test.org,4:live,11:livestream1,4:PSNR,10:1752130787,5:12345,-,";
        assert_eq!(threshold, format!("evaluation-threshold {tail}"));
        assert_eq!(key_of(&sample("evaluation-average-2025")).unwrap(), format!("evaluation-average {tail}"));
        let marked =
            sample("evaluation-threshold-2025").replace("\"class\"", "\"watermark_template_id\": 1, \"class\"");
        assert_ne!(key_of(&marked).unwrap(), threshold);
    }
}
