use serde_json::{Value, json};

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::event::EventId;
use crate::handler::cloudevent::tests::event;
use crate::handler::http::tests::{Server, tls_server};

const CUT: &str = r#"{"event_type":0,"app":"push.example.com","appname":"live","stream_id":"room-7","event_time":1703128356,
    "errcode":12,"sequence":"1","push_duration":"5000","t":1,"sign":"ab"}"#;
const START: Timestamp = Timestamp::from_secs(1_703_128_360);

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn settings(service: Service, server: &Server) -> Settings {
    let url = Secret::new(server.url.as_str());
    Settings { service, url, secret: None, ca_file: None, template: Template::default(), rate: 20 }
}

fn chat(settings: &Settings) -> (Chat, ManualClock) {
    let clock = ManualClock::new(START);
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    (Chat::new(settings, &shared).unwrap(), clock)
}

async fn deliver(chat: &Chat, event: &Event) -> Result<(), HandlerError> {
    tokio::time::timeout(Duration::from_secs(20), chat.deliver(event)).await.expect("it hangs")
}

fn message(body: &str) -> String {
    Template::default().render(&event(body), Service::WeCom)
}

fn filled(template: &str, body: &str, service: Service) -> String {
    Template::compile(template).unwrap().render(&event(body), service)
}

#[tokio::test]
async fn each_service_gets_its_own_form_of_a_plain_text() {
    let ok = answer("200 OK", "", r#"{"errcode":0,"errmsg":"ok","code":0,"msg":"success","StatusCode":0}"#);
    for (service, form) in [
        (Service::WeCom, json!({"msgtype": "text", "text": {"content": "cut: room-7"}})),
        (Service::DingTalk, json!({"msgtype": "text", "text": {"content": "cut: room-7"}, "at": {"isAtAll": false}})),
        (Service::Feishu, json!({"msg_type": "text", "content": {"text": "cut: room-7"}})),
        (
            Service::Slack,
            json!({
                "text": "cut: room-7", "mrkdwn": false, "link_names": false, "unfurl_links": false,
                "unfurl_media": false,
            }),
        ),
    ] {
        let server = Server::answering(ok.clone());
        let template = Template::compile("cut: {{ event.stream }}").unwrap();
        let (chat, _) = chat(&Settings { template, ..settings(service, &server) });
        deliver(&chat, &event(CUT)).await.unwrap();
        let (head, body) = server.requests.recv().unwrap();
        assert!(head.starts_with("post /hook?token=hunter22 http/1.1"), "{head}");
        assert!(head.contains("content-type: application/json; charset=utf-8"), "{head}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), form);
    }
}

#[tokio::test]
async fn messages_are_signed_where_there_is_a_secret() {
    let ok = answer("200 OK", "", r#"{"errcode":0,"code":0}"#);
    for service in [Service::DingTalk, Service::Feishu] {
        let server = Server::answering(ok.clone());
        let secret = Some(Secret::new("SECdemo"));
        let (chat, _) = chat(&Settings { secret, ..settings(service, &server) });
        deliver(&chat, &event(CUT)).await.unwrap();
        let (head, body) = server.requests.recv().unwrap();
        if service == Service::DingTalk {
            assert!(head.contains("token=hunter22&timestamp=1703128360000&sign="), "{head}");
        } else {
            let body: Value = serde_json::from_str(&body).unwrap();
            assert!(body["timestamp"] == "1703128360" && body["sign"].as_str().unwrap().len() == 44, "{body}");
        }
    }
}

#[tokio::test]
async fn answers_are_understood_as_each_service_means_them() {
    let minute = Some(60);
    for (service, status, body, outcome, wait) in [
        (Service::WeCom, "200 OK", r#"{"errcode":0,"errmsg":"ok"}"#, "done", None),
        (Service::WeCom, "200 OK", r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#, "dead", None),
        (Service::WeCom, "200 OK", r#"{"errcode":45009,"errmsg":"api freq out of limit"}"#, "again", minute),
        (Service::WeCom, "200 OK", r#"{"errcode":-1,"errmsg":"system busy"}"#, "again", None),
        (Service::WeCom, "200 OK", "<html>log in first</html>", "again", None),
        (Service::WeCom, "502 Bad Gateway", "", "again", None),
        (Service::DingTalk, "200 OK", r#"{"errcode":0,"errmsg":"ok"}"#, "done", None),
        (Service::DingTalk, "200 OK", r#"{"errcode":300001,"errmsg":"token is not exist"}"#, "dead", None),
        (Service::DingTalk, "200 OK", r#"{"errcode":310000,"errmsg":"sign not match"}"#, "dead", None),
        (Service::DingTalk, "200 OK", r#"{"errcode":130101,"errmsg":"send too fast"}"#, "again", Some(600)),
        (Service::Feishu, "200 OK", r#"{"code":0,"msg":"success","data":{}}"#, "done", None),
        (Service::Feishu, "200 OK", r#"{"StatusCode":0,"StatusMessage":"success"}"#, "done", None),
        (Service::Feishu, "200 OK", r#"{"code":19021,"msg":"sign match fail"}"#, "dead", None),
        (Service::Feishu, "400 Bad Request", r#"{"code":19001,"msg":"param invalid"}"#, "dead", None),
        (Service::Feishu, "200 OK", r#"{"code":9499,"msg":"Bad Request"}"#, "dead", None),
        (Service::Feishu, "200 OK", r#"{"code":9499,"msg":"too many request"}"#, "again", minute),
        (Service::Feishu, "429 Too Many Requests", r#"{"code":11232,"msg":"frequency limited"}"#, "again", minute),
        (Service::Slack, "200 OK", "ok", "done", None),
        (Service::Slack, "400 Bad Request", "invalid_payload", "dead", None),
        (Service::Slack, "403 Forbidden", "invalid_token", "dead", None),
        (Service::Slack, "404 Not Found", "no_service", "dead", None),
        (Service::Slack, "410 Gone", "channel_is_archived", "dead", None),
        (Service::Slack, "429 Too Many Requests", "rate_limited", "again", minute),
        (Service::Slack, "500 Server Error", "rollup_error", "again", None),
    ] {
        let server = Server::answering(answer(status, "", body));
        let (chat, _) = chat(&settings(service, &server));
        let (actual, waited, reason) = match deliver(&chat, &event(CUT)).await {
            Ok(()) => ("done", None, String::new()),
            Err(HandlerError::Transient { reason, retry_after }) => ("again", retry_after, reason),
            Err(HandlerError::Permanent { reason }) => ("dead", None, reason),
        };
        assert_eq!((actual, waited.map(|wait| wait.as_secs())), (outcome, wait), "{service:?} {status} {body}");
        assert!(outcome == "done" || reason.contains(body), "the service is quoted: {reason}");
    }
}

#[tokio::test]
async fn while_the_service_wants_no_more_nothing_is_posted() {
    let limited = answer("429 Too Many Requests", "retry-after: 30\r\n", "rate_limited");
    let server = Server::answering(limited);
    let (chat, clock) = chat(&settings(Service::Slack, &server));
    let wait = |outcome| match outcome {
        Err(HandlerError::Transient { retry_after, .. }) => retry_after.map(|wait| wait.as_secs()),
        other => panic!("{other:?}"),
    };
    let [first, second] = [1, 2].map(|id| Event { id: EventId::from_u128(id), ..event(CUT) });
    assert_eq!(wait(deliver(&chat, &first).await), Some(30));
    assert_eq!(wait(deliver(&chat, &second).await), Some(30));
    clock.advance(Duration::from_secs(31));
    assert_eq!(wait(deliver(&chat, &second).await), Some(30));
    assert_eq!(server.requests.try_iter().count(), 2, "the second was posted once, after its time");
}

#[tokio::test]
async fn more_than_the_rate_waits_for_a_turn() {
    let server = Server::answering(answer("200 OK", "", "ok"));
    let (chat, clock) = chat(&Settings { rate: 2, ..settings(Service::Slack, &server) });
    let events = [1, 2, 3].map(|id| Event { id: EventId::from_u128(id), ..event(CUT) });
    deliver(&chat, &events[0]).await.unwrap();
    deliver(&chat, &events[1]).await.unwrap();
    let Err(HandlerError::Transient { reason, retry_after }) = deliver(&chat, &events[2]).await else {
        panic!("it was posted");
    };
    assert_eq!(
        (reason.as_str(), retry_after),
        ("waits for its turn: 2 messages a minute", Some(Duration::from_mins(1)))
    );
    clock.advance(Duration::from_mins(1));
    deliver(&chat, &events[2]).await.unwrap();
    assert_eq!(server.requests.try_iter().count(), 3);
}

#[tokio::test]
async fn keys_stay_out_of_reasons_and_debug() {
    let said = "no hook at /hook?token=hunter22 signed with SECdemo99";
    let server = Server::answering(answer("404 Not Found", "", said));
    let secret = Some(Secret::new("SECdemo99"));
    let (chat, _) = chat(&Settings { secret, ..settings(Service::DingTalk, &server) });
    let reason = deliver(&chat, &event(CUT)).await.unwrap_err().to_string();
    let shown = format!("{chat:?} {:?}", chat.settings);
    for text in [&reason, &shown] {
        assert!(!text.contains("hunter22") && !text.contains("SECdemo99"), "{text}");
    }
    let nobody = Settings { url: Secret::new("http://127.0.0.1:1/hook/hunter22hunter22"), ..chat.settings.clone() };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(START));
    let reason = deliver(&Chat::new(&nobody, &clock).unwrap(), &event(CUT)).await.unwrap_err().to_string();
    assert!(reason.starts_with("no answer") && !reason.contains("hunter22"), "{reason}");
}

#[test]
fn people_are_told_what_has_happened() {
    let cut = |errcode: i64| message(&CUT.replace("\"errcode\":12", &format!("\"errcode\":{errcode}")));
    assert_eq!(
        cut(12),
        "Stream cut by error: room-7 (push.example.com/live)\nnetwork fault on the way in (errcode 12)\n2023-12-21T03:12:36Z"
    );
    assert!(cut(1).starts_with("Stream ended: room-7 (push.example.com/live)\nthe client deleted its stream"));
    for (body, first) in [
        (r#"{"event_type":1,"stream_id":"a"}"#, "Stream started: a"),
        (r#"{"event_type":317,"streamId":"a","label":"Porn","suggestion":"Block"}"#, "Porn detected: a"),
        (r#"{"event_type":317,"streamId":"a","label":"Normal","suggestion":"Pass"}"#, "Image passed: a"),
        (r#"{"event_type":317,"streamId":"a","label":"Terror","suggestion":"Block"}"#, "Image audit found Terror: a"),
        (r#"{"event_type":332,"stream_id":"a","record_event":"record_error"}"#, "Recording failed: a"),
        (r#"{"event_type":332,"stream_id":"a","record_event":"record_start_succeeded"}"#, "Recording status: a"),
        (r#"{"event_type":341,"stream_id":"a","exception_level":"error"}"#, "Recording failed: a"),
        (r#"{"event_type":341,"stream_id":"a","exception_level":"info"}"#, "Recording abnormal: a"),
        (r#"{"event_type":321,"stream_id":"a","abnormal_event":[]}"#, "Push in trouble: a"),
        (r#"{"event_type":999}"#, "unknown event: no stream named"),
    ] {
        let text = message(body);
        assert_eq!(text.lines().next(), Some(first), "{text}");
    }
}

#[test]
fn every_sample_makes_a_message_whatever_it_lacks() {
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples")).unwrap() {
        let path = file.unwrap().path();
        let body = std::fs::read_to_string(&path).unwrap();
        if crate::event::Incoming::read(body.as_bytes()).is_err() {
            continue;
        }
        let text = message(&body);
        assert!(!text.contains("failed: ") || text.starts_with("Recording failed: "), "{}: {text}", path.display());
        assert!(text.lines().count() >= 2 && !text.contains("\n\n"), "{}: {text}", path.display());
    }
}

#[test]
fn what_strangers_write_mentions_formats_and_hides_nothing() {
    let body = json!({
        "event_type": 1, "stream_id": "<!channel> <at user_id=\"all\">x</at> <@U1> @all\n\u{202e}[a](http://b) &amp;",
    })
    .to_string();
    for (service, expected) in [
        (
            Service::Slack,
            "&lt;!channel&gt; &lt;at user_id=\"all\"&gt;x&lt;/at&gt; &lt;＠U1&gt; ＠all  [a](http://b) &amp;amp;",
        ),
        (Service::Feishu, "＜!channel＞ ＜at user_id=\"all\"＞x＜/at＞ ＜＠U1＞ ＠all  [a](http://b) &amp;"),
    ] {
        for template in [
            "{{ event.stream }}",
            "{{ data.stream_id }}",
            "{{ data.stream_id|e }}",
            "{{ [data.stream_id]|first }}",
            "{{ '' ~ data.stream_id }}",
        ] {
            assert_eq!(filled(template, &body, service), expected, "{template}");
        }
        let printed = filled("{{ data }} {{ [data.stream_id]|join(',') }} {{ data.stream_id|upper }}", &body, service);
        assert!(!printed.contains(['<', '>', '@', '\n', '\u{202e}']), "{printed}");
    }
    assert_eq!(
        filled("<!here> {{ event.stream }}", &body.replace("<!channel>", ""), Service::Slack).find("<!here>"),
        Some(0)
    );
}

#[test]
fn long_texts_are_cut_to_what_a_service_takes() {
    let body = json!({ "event_type": 1, "stream_id": "房".repeat(300), "words": vec!["房间直播".repeat(60); 400] });
    let template = "{{ event.stream }}{% for word in data.words %}{{ word }}{% endfor %}";
    for (_, service) in Service::ALL {
        let text = filled(template, &body.to_string(), service);
        let max = service.text_bytes_max();
        assert!(text.len() <= max && text.len() > max - 4 && text.ends_with('…'), "{service:?} {}", text.len());
    }
    let one = filled("{{ data.one }}", &json!({"event_type": 1, "one": "x".repeat(1000)}).to_string(), Service::Slack);
    assert_eq!(one, format!("{}…", "x".repeat(300)), "one value never fills a message");
}

#[test]
fn faulty_templates_are_told_with_their_line() {
    for (template, expected) in [
        ("", "is empty"),
        ("{{ event.stream", "line 1: syntax error"),
        ("a\n{% if x %}", "syntax error"),
        ("{{ evnt.stream }}", "line 1: there is no variable `evnt`; there are event, data, title, place, cause"),
        ("a\n{{ event.strem }}", "line 2: `event` has no member `strem`; it has id, kind"),
        ("{{ cause.why }}", "`cause` has no member `why`; it has class, meaning, errcode"),
        ("a\n{{ data.x|shout }}", "line 2: unknown filter"),
        ("{% if event.kind == 'relay' %}{{ data.x|shout }}{% endif %}", "unknown filter"),
        ("{{ shout(data.x) }}", "there is no variable `shout`"),
    ] {
        let fault = Template::compile(template).unwrap_err().to_string();
        assert!(fault.contains(expected), "{template}: {fault}");
    }
    assert!(Template::compile(&"x".repeat(20_000)).is_err());
    let sound = "{% set who = event.stream or 'nobody' %}{% for i in range(2) %}{{ who }}{{ loop.index }} {% endfor %}";
    assert_eq!(filled(sound, CUT, Service::Slack), "room-71 room-72");
}

#[test]
fn a_template_that_fails_on_an_event_costs_no_message() {
    let list = format!("[{}0]", "0,".repeat(15_000));
    let body = format!(r#"{{"event_type":1,"stream_id":"a","x":[1],"list":{list}}}"#);
    for template in
        ["{{ data.x|round }}", "{% for a in data.list %}{% for b in data.list %}{{ b }}{% endfor %}{% endfor %}"]
    {
        let text = filled(template, &body, Service::WeCom);
        assert!(text.starts_with("Stream started: a\n") && text.contains("(the template failed: "), "{text}");
    }
    let deep = format!(r#"{{"event_type":1,"stream_id":"a","d":{}{}}}"#, "[".repeat(9999), "]".repeat(9999));
    assert_eq!(filled("{{ event.stream }} {{ data.d }}", &deep, Service::WeCom), "a", "it sees no body then");
    assert_eq!(filled("{{ data.nothing }}", CUT, Service::WeCom), "stream-interruption", "no message is empty");
    let big = r#"{"event_type":1,"n":123456789012345678901234567890,"f":1.50}"#;
    assert_eq!(filled("{{ data.n }} {{ data.f }}", big, Service::WeCom), "123456789012345678901234567890 1.5");
}

#[tokio::test]
async fn a_webhook_of_a_private_authority_is_trusted_through_its_file_and_not_without() {
    let dir = tempfile::tempdir().unwrap();
    let (ca_file, server) = tls_server(dir.path(), answer("200 OK", "", "ok"));
    let (trusting, _) = chat(&Settings { ca_file: Some(ca_file), ..settings(Service::Slack, &server) });
    deliver(&trusting, &event(CUT)).await.unwrap();
    assert!(server.requests.recv().unwrap().1.contains("room-7"));
    // The server takes one connection after the other.
    drop(trusting);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(START));
    // A machine without any certificates refuses to make such a client at all.
    if let Ok(doubting) = Chat::new(&settings(Service::Slack, &server), &clock) {
        let error = deliver(&doubting, &event(CUT)).await.unwrap_err();
        assert!(matches!(&error, HandlerError::Transient { reason, .. } if reason.contains("certificate")), "{error}");
    }
    let missing = Settings { ca_file: Some(dir.path().join("none.pem")), ..settings(Service::Slack, &server) };
    let fault = Chat::new(&missing, &clock).unwrap_err().to_string();
    assert!(fault.contains("none.pem") && !fault.contains("hunter22"), "{fault}");
}
