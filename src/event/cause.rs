//! Why a push was interrupted, by `errcode` (pages 31083 and 38081).

use self::CauseClass as Class;

/// Who or what ended a push, coarse enough to decide what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CauseClass {
    /// The pushing client stopped or closed its connection.
    Client,
    /// The link between client and access point failed.
    Network,
    /// What was pushed cannot be handled.
    Content,
    /// Nothing was pushed, or nobody watched.
    Idle,
    /// A fault inside CSS.
    Internal,
    /// Account, domain, push URL or quota did not allow the push. The callback does not say which.
    Account,
    /// The customer's own authentication refused the push.
    Auth,
    /// Cut because the customer asked for it, through API or console.
    Requested,
    /// A newer push of the same name took its place. Only the pushes of a stream seen together tell this from
    /// [`Requested`](Self::Requested): both come as 21, so [`Cause::of`] never says it.
    Replaced,
    /// None of the documented reasons.
    Unknown,
}

impl CauseClass {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Client,
        Self::Network,
        Self::Content,
        Self::Idle,
        Self::Internal,
        Self::Account,
        Self::Auth,
        Self::Requested,
        Self::Replaced,
        Self::Unknown,
    ];

    /// The name in API and metrics.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Network => "network",
            Self::Content => "content",
            Self::Idle => "idle",
            Self::Internal => "internal",
            Self::Account => "account",
            Self::Auth => "auth",
            Self::Requested => "requested",
            Self::Replaced => "replaced",
            Self::Unknown => "unknown",
        }
    }
}

/// What an `errcode` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Its class.
    pub class: CauseClass,
    /// Its meaning in a few words.
    pub meaning: &'static str,
    /// The same in Chinese.
    pub meaning_zh: &'static str,
}

impl Cause {
    /// The cause of a code. `errmsg` never decides: its wording and language changed over the years.
    pub fn of(errcode: i64) -> Self {
        let row = CAUSES.iter().find(|(code, ..)| *code == errcode);
        row.map_or(Self::NOT_LISTED, |&(_, class, meaning, meaning_zh)| Self { class, meaning, meaning_zh })
    }

    /// For codes the pages do not list, or list as unknown.
    const NOT_LISTED: Self = Self { class: Class::Unknown, meaning: "reason not known", meaning_zh: "原因不明" };
}

/// By code. Where the two pages disagree, page 31083 with its longer list decides, but for 10, which 38081 counts
/// among the internal faults.
const CAUSES: [(i64, CauseClass, &str, &str); 29] = [
    (0, Class::Unknown, "no reason given", "未给出原因"),
    (1, Class::Client, "the client deleted its stream", "推流端删除了流"),
    (2, Class::Client, "the client closed its stream", "推流端关闭了流"),
    (3, Class::Client, "the client closed the connection", "推流端关闭了连接"),
    (4, Class::Client, "the connection of the client broke", "推流端连接出错"),
    (5, Class::Internal, "fault inside CSS", "云直播内部故障"),
    (6, Class::Content, "RTMP content is faulty", "RTMP 内容有误"),
    (7, Class::Content, "an RTMP message is too large", "单个 RTMP 消息过大"),
    (8, Class::Idle, "no data came for a long time", "长时间没有数据"),
    (9, Class::Internal, "fault inside CSS", "云直播内部故障"),
    (10, Class::Internal, "the proxy layer of CSS was told to cut the push", "云直播代理层收到断流指令"),
    (11, Class::Internal, "fault inside CSS", "云直播内部故障"),
    (12, Class::Network, "network fault on the way in", "上行网络故障"),
    (13, Class::Network, "network fault on the way in", "上行网络故障"),
    (14, Class::Network, "network fault on the way in", "上行网络故障"),
    (15, Class::Network, "network fault on the way in", "上行网络故障"),
    (16, Class::Network, "network fault on the way in", "上行网络故障"),
    (17, Class::Network, "network fault on the way in", "上行网络故障"),
    (18, Class::Account, "account, domain, push URL or quota did not allow it", "账号、域名、推流地址或配额不允许推流"),
    (19, Class::Auth, "third-party authentication refused it", "第三方鉴权未通过"),
    (20, Class::Idle, "no data came for a long time", "长时间没有数据"),
    (21, Class::Requested, "cut on request, or replaced by a newer push", "按请求断流,或被新的推流顶替"),
    (23, Class::Content, "RTMP content is faulty", "RTMP 内容有误"),
    (24, Class::Internal, "fault inside CSS", "云直播内部故障"),
    (33, Class::Content, "RTMP AMF data is faulty", "RTMP AMF 数据有误"),
    (35, Class::Client, "the client stopped pushing", "推流端停止推流"),
    (37, Class::Idle, "nobody was watching", "没有观众,推流被断开"),
    (38, Class::Internal, "fault inside CSS", "云直播内部故障"),
    (39, Class::Content, "frames exceed the limit for pushing", "帧超出推流限制"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_class() {
        let codes = |class: Class| (-1..=100).filter(|code| Cause::of(*code).class == class).collect::<Vec<i64>>();
        assert_eq!(codes(Class::Client), [1, 2, 3, 4, 35]);
        assert_eq!(codes(Class::Network), [12, 13, 14, 15, 16, 17]);
        assert_eq!(codes(Class::Content), [6, 7, 23, 33, 39]);
        assert_eq!(codes(Class::Idle), [8, 20, 37]);
        assert_eq!(codes(Class::Internal), [5, 9, 10, 11, 24, 38]);
        assert_eq!(codes(Class::Account), [18]);
        assert_eq!(codes(Class::Auth), [19]);
        assert_eq!(codes(Class::Requested), [21]);
        assert_eq!(codes(Class::Replaced), [0; 0]);
    }

    #[test]
    fn codes_nobody_documented_are_unknown() {
        for code in [i64::MIN, -1, 0, 22, 25, 36, 40, i64::MAX] {
            assert_eq!(Cause::of(code).class, Class::Unknown, "{code}");
        }
        assert_ne!(Cause::of(0).meaning, Cause::of(40).meaning);
    }

    #[test]
    fn no_code_is_listed_twice_and_slugs_differ() {
        let codes: std::collections::BTreeSet<_> = CAUSES.iter().map(|(code, ..)| code).collect();
        assert_eq!(codes.len(), CAUSES.len());
        let slugs: std::collections::BTreeSet<_> = CauseClass::ALL.iter().map(|class| class.slug()).collect();
        assert_eq!(slugs.len(), CauseClass::ALL.len());
    }
}
