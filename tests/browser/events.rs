//! The lists of events: following, filtering, paging; and one event in full.

use serde_json::json;

use crate::app::{Setup, eventually, push};
use crate::page::visit;
use crate::recorder::Recorder;

#[tokio::test]
async fn events_are_followed_filtered_and_paged() {
    visit(Setup::new(), async |page, app| {
        let app = app.as_ref().unwrap();
        for number in 0..120 {
            app.accept_signed(&push(&format!("room-{}", number % 3), number)).await;
        }
        page.open("#/events").await;
        page.sees(".count", "The first 50").await;
        page.press("main", "Show more").await;
        page.sees(".count", "The first 100").await;
        page.press("main", "Show more").await;
        page.sees(".count", "120 in all").await;
        assert_eq!(page.count("tbody tr").await, 120);
        let ids = "return new Set([...document.querySelectorAll('tbody a.id')].map(a => a.title)).size";
        assert_eq!(page.script(ids, vec![]).await, json!(120), "no event twice");
        app.accept_signed(&push("late-1", 500)).await;
        page.sees("tbody tr:first-child", "late-1").await;
        page.sees("[aria-live]", "A new event").await;

        page.press("main", "Follow").await;
        page.sees("body", "Events").await;
        page.type_in("input[name=stream]", "room-1").await;
        page.sees(".count", "40 in all").await;
        page.choose("select[name=kind]", "recording").await;
        page.sees("main", "No events.").await;
        page.choose("select[name=kind]", "stream-push").await;
        page.sees(".count", "40 in all").await;
        let address = page.script("return location.hash", vec![]).await;
        assert_eq!(address, json!("#/events?kind=stream-push&stream=room-1&follow=no"));
        page.script("location.reload()", vec![]).await;
        page.sees(".count", "40 in all").await;
        page.press("main", "Clear").await;
        page.sees(".count", "The first 50").await;
        app.accept_signed(&push("late-2", 501)).await;
        tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
        assert!(!page.text("main").await.contains("late-2"), "nobody follows");
        page.press("main", "Follow").await;
        page.sees("tbody tr:first-child", "late-2").await;
    })
    .await;
}

#[tokio::test]
async fn an_event_shows_all_there_is_to_know_and_secrets_when_asked() {
    let good = Recorder::new();
    visit(Setup::new().handler("rooms", &good), async |page, app| {
        let app = app.as_ref().unwrap();
        let body = push("room-1", 1).to_string();
        let body = body.replacen("\"stream_param\":\"\"", "\"stream_param\":\"txSecret=5f4dcc3b&txTime=66AA00FF\",\"huge\":123456789012345678901234567890.10,\"to\":\"rtmp://push.example.com/live/x?txSecret=cafebabe&txTime=66AA00FF\"", 1);
        let t = app.t();
        let signed = body.replacen('{', &format!("{{\"t\":{t},\"sign\":\"{}\",", crate::app::sign(t)), 1);
        app.accept(&signed).await;
        app.accept(&signed).await;
        let id = app.only_event().await["id"].as_str().unwrap().to_owned();
        page.open(&format!("#/events/{id}")).await;
        page.sees("main", "One more copy came").await;
        page.sees("main", "6000000000000000001").await;
        page.sees("main", "rooms").await;
        page.sees("main", "done").await;
        page.sees(".json", "123456789012345678901234567890.10").await;
        page.sees("main", "com.tencentcloud.css.stream-push").await;
        let secrets = ["5f4dcc3b", "cafebabe", "66AA00FF", &crate::app::sign(t)];
        let whole = async || page.script("return document.documentElement.outerHTML", vec![]).await.as_str().unwrap().to_owned();
        for secret in secrets {
            assert!(!whole().await.contains(secret), "{secret} is on the page");
        }
        page.press("section:nth-of-type(3)", "Show secrets").await;
        let payload = page.text("section:nth-of-type(3) pre").await;
        for secret in secrets {
            assert!(payload.contains(secret), "{secret} in {payload}");
        }
        page.press("section:nth-of-type(3)", "Hide secrets").await;
        eventually("covered again", async || (!whole().await.contains("5f4dcc3b")).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_said_in_words() {
    visit(Setup::new(), async |page, _| {
        page.forgive("status of 404");
        page.open("#/events/0198c700-0000-7000-8000-000000000001").await;
        page.sees("[role=alert]", "Not found").await;
        page.open("#/nothing").await;
        page.sees("main", "There is no such page").await;
        page.open("#/events/%").await;
        page.sees("[role=alert]", "Not found").await;
        page.open("#/events?since=2020-01-01T00:00:00.000Z&kind=nothing").await;
        page.forgive("status of 400");
        page.sees("main", "did not understand").await;
    })
    .await;
}
