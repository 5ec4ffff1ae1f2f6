//! Handlers of type `chat`.

use super::*;
use crate::handler::Target;
use crate::handler::chat::Service;

const BEGIN: &str = "[[handlers]]\nname = \"x\"\ntype = \"chat\"";

#[test]
fn the_keys_of_chat_are_judged() {
    let url = "url = \"https://h.example/hook\"";
    for (keys, parts) in [
        (url.to_owned(), &["handlers[0].service", "is required"][..]),
        (format!("service = \"irc\"\n{url}"), &["handlers[0].service", "wecom, dingtalk, feishu, slack"]),
        ("service = \"slack\"".to_owned(), &["handlers[0].url", "is required"]),
        ("service = \"slack\"\nurl = \"hook/hunter22\"".to_owned(), &["handlers[0].url", "https://"]),
        ("service = \"slack\"\nurl = \"ftp://h/hunter22\"".to_owned(), &["handlers[0].url", "https://"]),
        (format!("service = \"slack\"\n{url}\nsecret = \"s\""), &["handlers[0].secret", "slack know no signatures"]),
        (format!("service = \"slack\"\n{url}\nrate = 0"), &["handlers[0].rate", "between 1 and 1000"]),
        (format!("service = \"slack\"\n{url}\ntemplate = \"\""), &["handlers[0].template", "is empty"]),
        (
            format!("service = \"slack\"\n{url}\ntemplate = \"a\\n{{{{ event.strem }}}}\""),
            &["handlers[0].template", "line 2: `event` has no member `strem`"],
        ),
        (format!("service = \"slack\"\n{url}\nformat = \"raw\""), &["handlers[0].format", "another type"]),
    ] {
        let faults = Bench::new(&format!("{BEGIN}\n{keys}")).faults();
        assert_eq!(faults.lines().count(), 1, "{keys}\n{faults}");
        assert!(parts.iter().all(|part| faults.contains(part)) && !faults.contains("hunter22"), "{keys}\n{faults}");
    }
}

#[test]
fn of_the_url_of_a_webhook_only_the_host_is_shown() {
    for (url, shown) in [
        ("https://hooks.slack.com/services/T0/B0/hunter22", "https://hooks.slack.com/…"),
        ("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=hunter22", "https://qyapi.weixin.qq.com/…"),
        ("http://u:hunter22@127.0.0.1:8065/hooks/hunter22", "http://127.0.0.1:8065/…"),
    ] {
        let bench = Bench::new(&format!("{BEGIN}\nservice = \"slack\"\nurl = {{ env = \"HOOK\" }}")).with("HOOK", url);
        let loaded = bench.load().unwrap();
        assert!(!format!("{:?}", loaded.config).contains("hunter22"));
        assert!(loaded.effective.contains(&format!("url = \"{shown}\"")), "{}", loaded.effective);
        let Target::Chat(settings) = &loaded.config.handlers[0].target else { panic!("another type") };
        assert_eq!((settings.url.expose(), settings.service, settings.rate), (url, Service::Slack, 20));
    }
}
