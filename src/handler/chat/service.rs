//! What each service takes and answers.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::Sha256;
use url::Url;

use crate::clock::Timestamp;
use crate::handler::http::answer::Answer;
use crate::secret::Secret;

/// Whose incoming webhook it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// WeCom (WeChat Work), group robot.
    WeCom,
    /// DingTalk, custom robot.
    DingTalk,
    /// Feishu, or Lark outside China, custom bot.
    Feishu,
    /// Slack, incoming webhook, or what takes the same, such as Mattermost.
    Slack,
}

/// What is posted, and where.
pub(super) struct Letter {
    pub(super) url: Url,
    pub(super) body: String,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The service has the message.
    Taken,
    /// It takes no more for so long.
    Limited(Duration),
    /// It cannot at present.
    Busy,
    /// It does not want this message, or any from us.
    Refused,
}

impl Service {
    /// All of them, with their names in the configuration.
    pub const ALL: [(&'static str, Self); 4] =
        [("wecom", Self::WeCom), ("dingtalk", Self::DingTalk), ("feishu", Self::Feishu), ("slack", Self::Slack)];

    /// The name in the configuration.
    pub fn slug(self) -> &'static str {
        Self::ALL.iter().find(|(_, service)| *service == self).map_or("", |(slug, _)| slug)
    }

    /// The service of that name.
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.iter().find(|(own, _)| *own == slug).map(|(_, service)| *service)
    }

    /// Whether its webhooks may ask for signatures.
    pub const fn signs(self) -> bool {
        matches!(self, Self::DingTalk | Self::Feishu)
    }

    /// Bytes of a text. WeCom takes 2,048. DingTalk and Feishu take bodies of 20 KB, in which a text may double. Slack
    /// takes 40,000 characters and asks for 4,000.
    pub(super) const fn text_bytes_max(self) -> usize {
        match self {
            Self::WeCom => 2_048,
            Self::DingTalk | Self::Feishu => 8_000,
            Self::Slack => 4_000,
        }
    }

    /// A message of plain text that mentions nobody.
    pub(super) fn letter(self, url: &Url, secret: Option<&Secret>, text: &str, now: Timestamp) -> Letter {
        let mut url = url.clone();
        let mut body = match self {
            Self::WeCom => json!({ "msgtype": "text", "text": { "content": text } }),
            Self::DingTalk => json!({ "msgtype": "text", "text": { "content": text }, "at": { "isAtAll": false } }),
            Self::Feishu => json!({ "msg_type": "text", "content": { "text": text } }),
            Self::Slack => json!({
                "text": text, "mrkdwn": false, "link_names": false, "unfurl_links": false, "unfurl_media": false,
            }),
        };
        match (self, secret) {
            (Self::DingTalk, Some(secret)) => {
                let timestamp = now.millis().to_string();
                let signed = format!("{timestamp}\n{}", secret.expose());
                let sign = sign(secret.expose().as_bytes(), signed.as_bytes());
                url.query_pairs_mut().append_pair("timestamp", &timestamp).append_pair("sign", &sign);
            }
            (Self::Feishu, Some(secret)) => {
                let timestamp = now.secs().to_string();
                // What others sign is the key here, and nothing is signed with it.
                body["sign"] = sign(format!("{timestamp}\n{}", secret.expose()).as_bytes(), b"").into();
                body["timestamp"] = timestamp.into();
            }
            _ => {}
        }
        Letter { url, body: body.to_string() }
    }

    /// All but Slack answer 200 whatever has become of the message, and tell by a code in the body.
    pub(super) fn judge(self, answer: &Answer) -> Verdict {
        let good = answer.status.is_success();
        match self.code(answer) {
            Some(0) if good => Verdict::Taken,
            Some(code) if code != 0 => self.judge_code(code, answer),
            None if good && self == Self::Slack => Verdict::Taken,
            // Whatever answered there, it was not the service.
            _ if good => Verdict::Busy,
            _ if answer.status == StatusCode::TOO_MANY_REQUESTS => Verdict::Limited(MINUTE),
            _ if answer.asks_again() => Verdict::Busy,
            _ => Verdict::Refused,
        }
    }

    fn judge_code(self, code: i64, answer: &Answer) -> Verdict {
        let row = CODES.iter().find(|(service, known, _)| *service == self && *known == code);
        // Feishu has had this code for bad messages and for too many of them.
        let too_many = self == Self::Feishu && code == 9499 && answer.says("too many");
        match row {
            Some((.., verdict)) => *verdict,
            None if too_many || answer.status == StatusCode::TOO_MANY_REQUESTS => Verdict::Limited(MINUTE),
            None if answer.asks_again() => Verdict::Busy,
            None => Verdict::Refused,
        }
    }

    fn code(self, answer: &Answer) -> Option<i64> {
        let members: &[&str] = match self {
            Self::WeCom | Self::DingTalk => &["errcode"],
            Self::Feishu => &["code", "StatusCode"],
            Self::Slack => return None,
        };
        let body: Value = serde_json::from_slice(&answer.body).ok()?;
        members.iter().find_map(|member| body.get(member)?.as_i64())
    }
}

const MINUTE: Duration = Duration::from_mins(1);
/// DingTalk takes nothing for ten minutes from a robot that has posted too much.
const TEN_MINUTES: Duration = Duration::from_mins(10);

/// Codes that pass. All others, such as those of a wrong key, a wrong signature or a message that is not wanted, stay.
const CODES: [(Service, i64, Verdict); 12] = [
    (Service::WeCom, -1, Verdict::Busy),
    (Service::WeCom, 45009, Verdict::Limited(MINUTE)),
    (Service::WeCom, 45033, Verdict::Limited(MINUTE)),
    (Service::DingTalk, -1, Verdict::Busy),
    (Service::DingTalk, 130_101, Verdict::Limited(TEN_MINUTES)),
    (Service::DingTalk, 410_100, Verdict::Limited(TEN_MINUTES)),
    (Service::DingTalk, 660_026, Verdict::Limited(TEN_MINUTES)),
    (Service::DingTalk, 90018, Verdict::Limited(MINUTE)),
    (Service::Feishu, 11232, Verdict::Limited(MINUTE)),
    (Service::Feishu, 11233, Verdict::Limited(MINUTE)),
    (Service::Feishu, 99_991_400, Verdict::Limited(MINUTE)),
    (Service::Feishu, 11246, Verdict::Busy),
];

/// HMAC-SHA256 in Base64.
fn sign(key: &[u8], signed: &[u8]) -> String {
    // Keys of any length are taken; without one there would be no signature, which the service refuses.
    let mac = Hmac::<Sha256>::new_from_slice(key).ok().map(|mut mac| {
        mac.update(signed);
        mac.finalize().into_bytes()
    });
    mac.map(|bytes| BASE64.encode(bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_599_360_473_123);

    fn letter(service: Service, url: &str) -> (Url, Value) {
        let letter = service.letter(&Url::parse(url).unwrap(), Some(&Secret::new("SEC000demo")), "text", NOW);
        (letter.url, serde_json::from_str(&letter.body).unwrap())
    }

    /// Compared with `printf '%s\n%s' T K | openssl dgst -sha256 -hmac K -binary | base64`.
    #[test]
    fn dingtalk_is_signed_in_the_query() {
        let (url, body) = letter(Service::DingTalk, "https://oapi.dingtalk.com/robot/send?access_token=a");
        let query: Vec<_> = url.query_pairs().into_owned().collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(query, [pair("access_token", "a"), pair("timestamp", "1599360473123"), pair("sign", DINGTALK_SIGN)]);
        assert!(url.as_str().contains("%3D") && body.get("sign").is_none());
    }

    /// Compared with `printf '' | openssl dgst -sha256 -hmac "$(printf '%s\n%s' T K)" -binary | base64`.
    #[test]
    fn feishu_is_signed_in_the_body() {
        let (url, body) = letter(Service::Feishu, "https://open.feishu.cn/open-apis/bot/v2/hook/a");
        assert_eq!(url.query(), None);
        assert_eq!((body["timestamp"].as_str(), body["sign"].as_str()), (Some("1599360473"), Some(FEISHU_SIGN)));
    }

    const DINGTALK_SIGN: &str = "LknpwK0v7nBznwAvfZiW+lyRgEwtYFbUIrG7tKH1BGQ=";
    const FEISHU_SIGN: &str = "XQ6yQ86z8eiaS3P4Pt/hdSHWFnO1UyAJbMx7apKskcQ=";
}
