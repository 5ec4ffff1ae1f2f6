//! Who is live, who was, and why no longer.

use livehook::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::app::{Setup, push};
use crate::page::visit;

/// A push of a stream that began so many seconds ago.
pub(crate) fn begun(stream: &str, number: u64, ago: i64) -> Value {
    let mut body = push(stream, number);
    body["event_time"] = (SystemClock.now().secs() - ago).into();
    body
}

pub(crate) fn ended(push: &Value, seconds: i64, errcode: i64) -> Value {
    let mut body = push.clone();
    body["event_type"] = 0.into();
    body["event_time"] = (push["event_time"].as_i64().unwrap() + seconds).into();
    body["push_duration"] = (seconds * 1000).to_string().into();
    body["errcode"] = errcode.into();
    body
}

#[tokio::test]
async fn who_is_live_is_listed_and_followed() {
    visit(Setup::new(), async |page, app| {
        let app = app.as_ref().unwrap();
        let [first, second] = [begun("room-1", 1, 600), begun("room-2", 2, 500)];
        app.accept_signed(&first).await;
        app.accept_signed(&second).await;
        app.accept_signed(&ended(&second, 60, 12)).await;
        page.open("#/streams").await;
        page.sees(".count", "2 in all").await;
        page.sees("tbody", "network fault on the way in").await;
        page.choose("select[name=state]", "live").await;
        page.sees(".count", "One in all").await;
        page.sees("tbody", "room-1").await;
        page.sees("tbody", "10m").await;
        page.choose("select[name=state]", "").await;
        page.sees(".count", "2 in all").await;
        page.script("document.activeElement.blur()", vec![]).await;
        app.accept_signed(&ended(&first, 300, 2)).await;
        page.sees("tbody", "the client closed its stream").await;
        page.type_in("input[name=app]", "another").await;
        page.sees("main", "No streams.").await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_shows_its_pushes_and_what_belongs_to_them() {
    visit(Setup::new(), async |page, app| {
        let app = app.as_ref().unwrap();
        // Names that must be written with care in an address.
        let name = "room/7 #?%&直播";
        let [old, new] = [begun(name, 1, 3000), begun(name, 2, 600)];
        let at = old["event_time"].as_i64().unwrap();
        app.accept_signed(&old).await;
        app.accept_signed(&json!({
            "event_type": 100, "app": "push.example.com", "appname": "live", "stream_id": name, "channel_id": name, "file_id": "52858907",
            "file_format": "flv", "start_time": at + 5, "end_time": at + 900, "duration": 890, "video_url": "https://vod.example.com/a.flv?sign=abcdef",
        }))
        .await;
        app.accept_signed(&json!({
            "event_type": 200, "app": "push.example.com", "appname": "live", "stream_id": name, "channel_id": name,
            "create_time": at + 60, "pic_url": "/a.jpg", "pic_full_url": "javascript:window.owned=1",
        }))
        .await;
        app.accept_signed(&ended(&old, 1000, 18)).await;
        app.accept_signed(&new).await;
        page.open("#/streams").await;
        page.press("tbody", name).await;
        page.sees("h1", name).await;
        page.sees("main", "6000000000000000002").await;
        page.sees(".pushes", "account, domain, push URL or quota did not allow it").await;
        page.sees(".pushes", "One recording").await;
        assert_eq!(page.count(".timeline .push").await, 2);
        page.script("document.querySelector('.pushes li:last-child summary').click()", vec![]).await;
        page.sees(".pushes", "https://vod.example.com/a.flv?sign=••••••").await;
        page.sees(".pushes", "javascript:window.owned=1").await;
        let links = "return [...document.querySelectorAll('.pushes a')].map(a => a.protocol).sort().join()";
        assert_eq!(page.script(links, vec![]).await, json!("http:,https:"), "to our event and to the file");
        page.press("main", "All events of this stream").await;
        page.sees(".count", "5 in all").await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_without_domain_and_app_is_found_too() {
    visit(Setup::new(), async |page, app| {
        let app = app.as_ref().unwrap();
        let mut body = begun("room-1", 1, 60);
        body["app"] = Value::Null;
        body["appname"] = Value::Null;
        app.accept_signed(&body).await;
        page.open("#/streams").await;
        page.press("tbody", "room-1").await;
        page.sees("h1", "room-1").await;
        page.sees("main", "live").await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_whose_name_is_a_place_in_a_path_is_found_too() {
    visit(Setup::new(), async |page, app| {
        let app = app.as_ref().unwrap();
        for (number, name) in ["..", ".", "-", ".-"].into_iter().enumerate() {
            let mut body = begun(name, number as u64, 60);
            body["appname"] = "..".into();
            app.accept_signed(&body).await;
            page.open("#/streams").await;
            page.press("tbody", name).await;
            page.sees("h1", name).await;
            page.sees("main", &format!("600000000000000000{number}")).await;
        }
    })
    .await;
}
