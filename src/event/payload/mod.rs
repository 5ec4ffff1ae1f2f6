//! Typed payloads, a family of kinds a file.
//!
//! Every member is optional, whatever the documentation promises: pages, samples and real bodies differ, and an event
//! is worth keeping however little of it was understood. Members without a field here are in the body all the same.

mod audio_audit;
mod caption;
mod digest;
mod image_audit;
mod monitor;
mod natural_key;
mod push_error;
mod quality;
mod recording;
mod relay;
mod screencapture;
mod stream;

#[cfg(test)]
mod testing;

pub use self::audio_audit::{
    AudioAudit, AudioTranscript, AudioTranscripts, HitInfo, LanguageResult, MoanResult, Position, RecognitionResult,
    RecognitionTag, SpeakerResult, TextResult,
};
pub use self::caption::{
    ErasedSentence, ErasedSentences, ErasedWord, SmartErase, SubtitleSentence, SubtitleSentences, Subtitles,
};
pub use self::digest::{Highlight, HighlightClip, Summary};
pub use self::image_audit::{
    AbductionRisk, FaceDetail, Game, GameDetails, ImageAudit, LabelDetail, LabelResult, LibDetail, LibResult, Location,
    ObjectDetail, ObjectResult, OcrDetail, OcrResult,
};
pub use self::monitor::Monitor;
pub use self::push_error::{PUSH_FAULTS, PushError, PushFault, PushFaultDetail};
pub use self::quality::{EvaluationAverage, EvaluationThreshold, FrameScore, QualityControl};
pub use self::recording::{
    RECORDING_FAULTS, RecordDetail, Recording, RecordingException, RecordingExtras, RecordingFault, RecordingStatus,
};
pub use self::relay::{Relay, RelayMessage};
pub use self::screencapture::Screencapture;
pub use self::stream::{StreamInterruption, StreamPush};
pub use super::lenient::Embedded;

use super::json::Value;
use super::{Kind, lenient};

/// What reading a body found.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// As much of the payload as was understood.
    pub payload: Payload,
    /// How the body differs from the documentation, a sentence each. A few dozen short ones at most.
    pub drift: Vec<String>,
    /// What the documentation suggests as the name of this event, for finding others of that name.
    pub natural_key: Option<String>,
}

/// Declares [`Payload`] and what is done alike for each of its variants, which are named as the structs they hold.
macro_rules! payloads {
    ($($kind:ident($payload:ty),)+) => {
        /// The typed payload of an event, a variant for each kind.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "the kind and the payload say what each one is")]
        pub enum Payload {
            $($kind($payload),)+
            Unknown,
        }

        impl Payload {
            /// The name its content gives the event: equal for two callbacks about the same fact, unless the fact is as
            /// fine as the clock. None where members it is made of are missing.
            pub fn natural_key(&self) -> Option<String> {
                match self {
                    $(Self::$kind(payload) => payload.natural_key(),)+
                    Self::Unknown => None,
                }
            }

            fn read(kind: Kind, body: Value<'_>) -> (Self, Vec<String>) {
                match kind {
                    $(Kind::$kind => {
                        let (payload, drift) = lenient::read::<$kind>(kind, body);
                        (payload.map_or(Self::Unknown, |payload| Self::$kind(payload.into())), drift)
                    })+
                    Kind::Unknown => (Self::Unknown, vec![not_known(body)]),
                }
            }
        }
    };
}

payloads! {
    StreamPush(StreamPush),
    StreamInterruption(StreamInterruption),
    Recording(Box<Recording>),
    RecordingStatus(RecordingStatus),
    RecordingException(RecordingException),
    Screencapture(Screencapture),
    ImageAudit(Box<ImageAudit>),
    AudioAudit(Box<AudioAudit>),
    PushError(PushError),
    Relay(Relay),
    Monitor(Monitor),
    QualityControl(QualityControl),
    EvaluationThreshold(EvaluationThreshold),
    EvaluationAverage(EvaluationAverage),
    SmartErase(SmartErase),
    Subtitles(Subtitles),
    Summary(Summary),
    Highlight(Highlight),
}

/// Reads the payload of a body of the given kind; never fails.
pub fn read(kind: Kind, body: Value<'_>) -> Reading {
    let (payload, drift) = Payload::read(kind, body);
    let natural_key = payload.natural_key();
    Reading { payload, drift, natural_key }
}

fn not_known(body: Value<'_>) -> String {
    match body.member("event_type") {
        Some(number) => format!("event_type {} is not known to this version", lenient::printable(number.raw())),
        None => "a body without event_type is not known to this version".to_owned(),
    }
}
