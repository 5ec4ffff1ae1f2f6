//! The kinds of event CSS sends, in one table from which routes, command line, metrics and docs are made.

use std::fmt;
use std::str::FromStr;

/// What an event tells. The number in the body decides it, with two corrections (see [`Kind::of`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the table below says what each one is")]
pub enum Kind {
    StreamPush,
    StreamInterruption,
    Recording,
    RecordingStatus,
    RecordingException,
    Screencapture,
    ImageAudit,
    AudioAudit,
    PushError,
    Relay,
    Monitor,
    QualityControl,
    EvaluationThreshold,
    EvaluationAverage,
    SmartErase,
    Subtitles,
    Summary,
    Highlight,
    Unknown,
}

/// One row of the table of kinds.
#[derive(Debug)]
pub struct KindFacts {
    /// The kind the row is about.
    pub kind: Kind,
    /// Its number in the member `event_type`; none for [`Kind::Unknown`].
    pub event_type: Option<i64>,
    /// Its name in URLs, configuration, API and CloudEvents type.
    pub slug: &'static str,
    /// A second name its route answers to.
    pub alias: Option<&'static str>,
    /// What it is called in English and in Chinese.
    pub title: [&'static str; 2],
    /// Where its URL is entered.
    pub set_in: SetIn,
    /// Page of the CSS documentation (product 267): international site, Chinese site.
    pub pages: [Option<u32>; 2],
    /// How often CSS tries again, as far as it says.
    pub retries: Retries,
    /// Where its body names the stream.
    pub names: Names,
    /// Where its body says when it happened.
    pub own_time: OwnTime,
}

/// Where the callback URL of a kind is entered in CSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetIn {
    /// A field of the callback template, by its name in the API; the console shows the same field.
    Template(&'static str),
    /// A field that only the console's callback template has.
    ConsoleTemplate,
    /// A field of the task itself, outside any template: never signed.
    Task(&'static str),
    /// Nowhere.
    Nowhere,
}

/// How often CSS repeats a callback that was not answered 200 (pages 38080, 32744, 73169, 73170).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    /// So many times, so many minutes apart.
    Every {
        /// Attempts after the first.
        times: u32,
        /// Minutes between two attempts.
        minutes: u32,
    },
    /// So many attempts in all, at an interval that is not stated.
    Attempts(u32),
    /// The documentation does not say.
    NotStated,
}

/// The members that name domain, app and stream; of several the first that is there counts.
#[derive(Debug)]
pub struct Names {
    /// Members that hold the push domain; empty for a relay, whose `to_url` names domain and app.
    pub domain: &'static [&'static str],
    /// Members that hold the app (the path of the push URL).
    pub app: &'static [&'static str],
    /// Members that hold the stream name.
    pub stream: &'static [&'static str],
}

/// Where a body says when its event happened.
#[derive(Debug)]
pub enum OwnTime {
    /// A member in seconds since the Unix epoch, as a number or as text.
    Secs(&'static str),
    /// A member in milliseconds since the Unix epoch.
    Millis(&'static str),
    /// The latest of a member in seconds, over the items of the list found along the path.
    LatestSecs {
        /// Members that lead to the list.
        path: &'static [&'static str],
        /// The member of each item.
        member: &'static str,
    },
    /// Nowhere.
    None,
}

/// `app` is the push domain and `appname` the app, as the first kinds had it (pages 38081 to 38083).
const BY_APP: Names = Names { domain: &["app"], app: &["appname"], stream: &["stream_id"] };
/// Camel case, in image audits only (page 38084).
const BY_APP_CAMEL: Names = Names { domain: &["app"], app: &["appname"], stream: &["streamId"] };
/// `domain` and `appname` (pages 58590, 73166 to 73168).
const BY_DOMAIN: Names = Names { domain: &["domain"], app: &["appname"], stream: &["stream_id"] };
/// `domain` and `path` (pages 53310, 58643, 68622, 74671, 74672).
const BY_PATH: Names = Names { domain: &["domain"], app: &["path"], stream: &["stream_id"] };
/// Documented with a stream name only; should a revision add more, any of the usual names will do.
const BY_ANY: Names =
    Names { domain: &["domain", "app"], app: &["appname", "path"], stream: &["stream_id", "streamId"] };
/// Domain and app stand inside `to_url` (page 42525).
const BY_TO_URL: Names = Names { domain: &[], app: &[], stream: &["stream_id"] };

const TWELVE_MINUTES: Retries = Retries::Every { times: 12, minutes: 1 };

/// All kinds, [`Kind::Unknown`] last. The order is that of the enumeration.
pub const KINDS: [KindFacts; 19] = [
    KindFacts {
        kind: Kind::StreamPush,
        event_type: Some(1),
        slug: "stream-push",
        alias: None,
        title: ["push started", "推流"],
        set_in: SetIn::Template("StreamBeginNotifyUrl"),
        pages: [Some(38081), Some(47025)],
        retries: TWELVE_MINUTES,
        names: BY_APP,
        own_time: OwnTime::Secs("event_time"),
    },
    KindFacts {
        kind: Kind::StreamInterruption,
        event_type: Some(0),
        slug: "stream-interruption",
        alias: None,
        title: ["push interrupted", "断流"],
        set_in: SetIn::Template("StreamEndNotifyUrl"),
        pages: [Some(38081), Some(47025)],
        retries: TWELVE_MINUTES,
        names: BY_APP,
        own_time: OwnTime::Secs("event_time"),
    },
    KindFacts {
        kind: Kind::Recording,
        event_type: Some(100),
        slug: "recording",
        alias: None,
        title: ["recording file ready", "录制文件"],
        set_in: SetIn::Template("RecordNotifyUrl"),
        pages: [Some(38082), Some(47026)],
        retries: TWELVE_MINUTES,
        names: BY_APP,
        own_time: OwnTime::Secs("end_time"),
    },
    KindFacts {
        kind: Kind::RecordingStatus,
        event_type: Some(332),
        slug: "recording-status",
        alias: None,
        title: ["recording status", "录制状态"],
        set_in: SetIn::Template("RecordStatusNotifyUrl"),
        pages: [Some(58590), Some(102_192)],
        retries: Retries::NotStated,
        names: BY_DOMAIN,
        own_time: OwnTime::Secs("event_time"),
    },
    KindFacts {
        kind: Kind::RecordingException,
        event_type: Some(341),
        slug: "recording-exception",
        alias: None,
        title: ["abnormal recording", "录制异常"],
        set_in: SetIn::Template("RecordExceptionNotifyUrl"),
        pages: [Some(68622), Some(117_052)],
        retries: Retries::NotStated,
        names: BY_PATH,
        own_time: OwnTime::Secs("timestamp"),
    },
    KindFacts {
        kind: Kind::Screencapture,
        event_type: Some(200),
        slug: "screencapture",
        alias: None,
        title: ["screencapture ready", "截图"],
        set_in: SetIn::Template("SnapshotNotifyUrl"),
        pages: [Some(38083), Some(47028)],
        retries: Retries::Every { times: 5, minutes: 2 },
        names: BY_APP,
        own_time: OwnTime::Secs("create_time"),
    },
    KindFacts {
        kind: Kind::ImageAudit,
        event_type: Some(317),
        slug: "image-audit",
        alias: Some("porn-detection"),
        title: ["image audit (porn detection)", "图片审核（鉴黄）"],
        set_in: SetIn::Template("PornCensorshipNotifyUrl"),
        pages: [Some(38084), Some(47029)],
        retries: TWELVE_MINUTES,
        names: BY_APP_CAMEL,
        own_time: OwnTime::Secs("screenshotTime"),
    },
    KindFacts {
        kind: Kind::AudioAudit,
        event_type: Some(315),
        slug: "audio-audit",
        alias: None,
        title: ["audio audit", "音频审核"],
        set_in: SetIn::Template("AudioAuditNotifyUrl"),
        pages: [Some(58643), Some(94421)],
        retries: TWELVE_MINUTES,
        names: BY_PATH,
        own_time: OwnTime::None,
    },
    KindFacts {
        kind: Kind::PushError,
        event_type: Some(321),
        slug: "push-error",
        alias: None,
        title: ["push error", "推流异常"],
        set_in: SetIn::Template("PushExceptionNotifyUrl"),
        pages: [Some(53310), Some(84046)],
        retries: Retries::NotStated,
        names: BY_PATH,
        own_time: OwnTime::Millis("data_time"),
    },
    KindFacts {
        kind: Kind::Relay,
        event_type: Some(314),
        slug: "relay",
        alias: None,
        title: ["relay (pull and push)", "拉流转推"],
        set_in: SetIn::Task("CreateLivePullStreamTask: CallbackUrl"),
        pages: [Some(42525), Some(56208)],
        retries: Retries::NotStated,
        names: BY_TO_URL,
        own_time: OwnTime::Secs("event_time"),
    },
    KindFacts {
        kind: Kind::Monitor,
        event_type: Some(328),
        slug: "monitor",
        alias: None,
        title: ["live monitoring", "监播"],
        set_in: SetIn::Task("CreateLiveStreamMonitor: NotifyPolicy.CallbackUrl"),
        pages: [None, Some(88050)],
        retries: Retries::NotStated,
        names: BY_ANY,
        own_time: OwnTime::Millis("event_time"),
    },
    KindFacts {
        kind: Kind::QualityControl,
        event_type: Some(343),
        slug: "quality-control",
        alias: None,
        title: ["quality control", "媒体质检"],
        set_in: SetIn::ConsoleTemplate,
        pages: [Some(73166), Some(122_602)],
        retries: Retries::NotStated,
        names: BY_DOMAIN,
        own_time: OwnTime::Secs("event_time"),
    },
    KindFacts {
        kind: Kind::EvaluationThreshold,
        event_type: Some(344),
        slug: "evaluation-threshold",
        alias: None,
        title: ["evaluation below threshold", "评测低于阈值"],
        set_in: SetIn::ConsoleTemplate,
        pages: [Some(73167), None],
        retries: Retries::NotStated,
        names: BY_DOMAIN,
        own_time: OwnTime::Secs("event_time"),
    },
    KindFacts {
        kind: Kind::EvaluationAverage,
        event_type: Some(345),
        slug: "evaluation-average",
        alias: None,
        title: ["evaluation average score", "评测平均分"],
        set_in: SetIn::ConsoleTemplate,
        pages: [Some(73168), Some(122_603)],
        retries: Retries::NotStated,
        names: BY_DOMAIN,
        own_time: OwnTime::Secs("event_time"),
    },
    KindFacts {
        kind: Kind::SmartErase,
        event_type: Some(347),
        slug: "smart-erase",
        alias: None,
        title: ["smart erase", "智能擦除"],
        set_in: SetIn::ConsoleTemplate,
        pages: [Some(73169), Some(121_710)],
        retries: Retries::Attempts(3),
        names: BY_ANY,
        own_time: OwnTime::LatestSecs { path: &["data", "subtitle_tmp_res"], member: "end_unix_time" },
    },
    KindFacts {
        kind: Kind::Subtitles,
        event_type: Some(338),
        slug: "subtitles",
        alias: None,
        title: ["live subtitles", "实时字幕"],
        set_in: SetIn::ConsoleTemplate,
        pages: [Some(73170), Some(121_711)],
        retries: Retries::Attempts(3),
        names: BY_ANY,
        own_time: OwnTime::LatestSecs { path: &["data", "subtitle_tmp_res"], member: "end_unix_time" },
    },
    KindFacts {
        kind: Kind::Summary,
        event_type: Some(348),
        slug: "summary",
        alias: None,
        title: ["live summary", "直播摘要"],
        set_in: SetIn::ConsoleTemplate,
        pages: [Some(74671), Some(125_914)],
        retries: Retries::NotStated,
        names: BY_PATH,
        own_time: OwnTime::Secs("end_time"),
    },
    KindFacts {
        kind: Kind::Highlight,
        event_type: Some(349),
        slug: "highlight",
        alias: None,
        title: ["smart highlights", "智能集锦"],
        set_in: SetIn::ConsoleTemplate,
        pages: [Some(74672), Some(125_915)],
        retries: Retries::NotStated,
        names: BY_PATH,
        own_time: OwnTime::LatestSecs { path: &["items"], member: "end_time" },
    },
    KindFacts {
        kind: Kind::Unknown,
        event_type: None,
        slug: "unknown",
        alias: None,
        title: ["unknown event", "未知事件"],
        set_in: SetIn::Nowhere,
        pages: [None, None],
        retries: Retries::NotStated,
        names: BY_ANY,
        own_time: OwnTime::Secs("event_time"),
    },
];

/// A body carries this member when it is an average report, whatever its number says: the documented sample of
/// page 73168 prints 344.
pub(super) const AVERAGE_MARK: &str = "average_score";

impl Kind {
    /// The kind of a number; `average` says that the body carries a value `average_score`, which turns a
    /// threshold report into an average report.
    pub fn of(event_type: Option<i64>, average: bool) -> Self {
        let known = KINDS.iter().find(|row| row.event_type.is_some() && row.event_type == event_type);
        match known.map_or(Self::Unknown, |row| row.kind) {
            Self::EvaluationThreshold if average => Self::EvaluationAverage,
            kind => kind,
        }
    }

    /// The row of the table.
    pub fn facts(self) -> &'static KindFacts {
        &KINDS[self as usize]
    }

    /// The name used in URLs, configuration and API.
    pub fn slug(self) -> &'static str {
        self.facts().slug
    }

    /// All kinds, [`Kind::Unknown`] last.
    pub fn all() -> impl Iterator<Item = Kind> {
        KINDS.iter().map(|row| row.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.slug())
    }
}

/// The text names no kind.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no kind of event; the kinds are {kinds}", kinds = slugs())]
pub struct NoSuchKind(String);

impl FromStr for Kind {
    type Err = NoSuchKind;

    /// Takes a slug or an alias.
    fn from_str(text: &str) -> Result<Self, NoSuchKind> {
        let named = |row: &&KindFacts| row.slug == text || row.alias == Some(text);
        KINDS.iter().find(named).map(|row| row.kind).ok_or_else(|| NoSuchKind(text.to_owned()))
    }
}

fn slugs() -> String {
    KINDS.iter().map(|row| row.slug).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enumeration() {
        for (place, row) in KINDS.iter().enumerate() {
            assert_eq!(row.kind as usize, place, "{}", row.slug);
        }
    }

    #[test]
    fn zero_is_an_interruption_and_no_number_is_unknown() {
        assert_eq!(Kind::of(Some(0), false), Kind::StreamInterruption);
        assert_eq!(Kind::of(None, false), Kind::Unknown);
        assert_eq!(Kind::of(Some(329), false), Kind::Unknown);
    }

    #[test]
    fn an_average_score_makes_an_average_report_of_344() {
        assert_eq!(Kind::of(Some(344), true), Kind::EvaluationAverage);
        assert_eq!(Kind::of(Some(344), false), Kind::EvaluationThreshold);
        assert_eq!(Kind::of(Some(345), false), Kind::EvaluationAverage);
        assert_eq!(Kind::of(Some(343), true), Kind::QualityControl);
    }

    #[test]
    fn slugs_and_aliases_name_their_kind() {
        for kind in Kind::all() {
            assert_eq!(kind.slug().parse::<Kind>().unwrap(), kind);
        }
        assert_eq!("porn-detection".parse::<Kind>().unwrap(), Kind::ImageAudit);
        assert!("mixing".parse::<Kind>().unwrap_err().to_string().contains("stream-push"));
    }
}
