//! Lists that are open while what they show changes.

use serde_json::json;

use crate::app::{Setup, TestApp, eventually, push};
use crate::page::{Page, visit};
use crate::recorder::{Act, Recorder};
use crate::streams::{begun, ended};

/// Lets the answers to requests whose address holds a text wait until `release`.
pub(crate) const HOLD: &str = "const [text] = arguments, ask = window.fetch.bind(window);
    window.asked = 0;
    const released = new Promise(release => window.release = release);
    window.fetch = async (url, ...rest) => {
        const answer = await ask(url, ...rest);
        if (!String(url).includes(text)) return answer;
        window.asked++;
        await released;
        return answer;
    };";

/// Lets them go, and returns when the page has had them.
pub(crate) const RELEASE: &str =
    "const done = arguments[arguments.length - 1]; window.release(); setTimeout(() => done(true), 250)";

fn refusing() -> Recorder {
    Recorder::with(|_, _| Act::Permanent)
}

/// Nobody follows where the focus is.
async fn look_away(page: &Page) {
    page.script("document.activeElement.blur()", vec![]).await;
}

/// Shows the events of two streams, and none that come later.
async fn two_rooms(page: &Page, app: &TestApp) {
    app.accept_signed(&push("room-1", 1)).await;
    app.accept_signed(&push("room-2", 2)).await;
    page.open("#/events?follow=no").await;
    page.sees(".count", "2 in all").await;
}

async fn names(page: &Page) -> String {
    page.text("tbody td:nth-child(2)").await.replace('\n', " ")
}

async fn decide(app: &TestApp, event: &serde_json::Value, verdict: &str) {
    let target = format!("/api/v1/deliveries/{}/rooms/{verdict}", event["event_id"].as_str().unwrap());
    assert_eq!(app.call(&target, &json!({})).await.status, 200);
}

#[tokio::test]
async fn who_ends_leaves_the_list_of_the_live_and_who_begins_takes_his_place_in_it() {
    visit(Setup::new(), async |page, app| {
        let app = app.as_ref().unwrap();
        let [first, second] = [begun("room-1", 1, 600), begun("room-3", 2, 500)];
        app.accept_signed(&first).await;
        app.accept_signed(&second).await;
        page.open("#/streams?state=live").await;
        page.sees(".count", "2 in all").await;
        look_away(page).await;
        app.accept_signed(&begun("room-2", 3, 400)).await;
        page.sees(".count", "3 in all").await;
        assert_eq!(names(page).await, "room-1 room-2 room-3");
        app.accept_signed(&ended(&first, 300, 2)).await;
        page.sees(".count", "2 in all").await;
        assert_eq!(names(page).await, "room-2 room-3");
        let lasted = page.text("tbody tr:first-child time[data-lasting]").await;
        eventually("a live stream lasts on", async || {
            (page.text("tbody tr:first-child time[data-lasting]").await != lasted).then_some(())
        })
        .await;
        app.accept_signed(&ended(&second, 300, 2)).await;
        app.accept_signed(&ended(&begun("room-2", 3, 400), 300, 2)).await;
        page.sees("main", "No streams.").await;
    })
    .await;
}

#[tokio::test]
async fn what_somebody_else_has_decided_leaves_the_list_and_what_is_further_down_stays() {
    visit(Setup::new().handler("rooms", &refusing()), async |page, app| {
        let app = app.as_ref().unwrap();
        for number in 0..120 {
            app.accept_signed(&push("room", number)).await;
        }
        let all = app.await_deliveries("dead", 120).await;
        page.open("#/dead").await;
        page.sees(".count", "The first 50").await;
        page.press(".foot", "Show more").await;
        page.sees(".count", "The first 100").await;
        look_away(page).await;
        for event in &all[60..90] {
            decide(app, event, "drop").await;
        }
        page.sees(".count", "90 in all").await;
        let ids = "return new Set([...document.querySelectorAll('tbody a.id')].map(a => a.title)).size";
        assert_eq!(page.script(ids, vec![]).await, json!(90), "and what came up from below is shown once");
        let rest = json!({"state": "dead"});
        assert_eq!(app.call("/api/v1/deliveries/drop", &rest).await.json()["changed"], 90);
        page.sees("main", "Nothing is dead").await;
    })
    .await;
}

#[tokio::test]
async fn a_late_answer_to_an_old_question_shows_nothing() {
    visit(Setup::new(), async |page, app| {
        two_rooms(page, app.as_ref().unwrap()).await;
        page.script(HOLD, vec![json!("stream=room-1")]).await;
        page.type_in("input[name=stream]", "room-1").await;
        eventually("it was asked", async || (page.script("return window.asked", vec![]).await == 1).then_some(()))
            .await;
        page.find("input[name=stream]").await.clear().await.unwrap();
        page.type_in("input[name=stream]", "room-2").await;
        page.sees(".count", "One in all").await;
        page.script_async(RELEASE, vec![]).await;
        assert_eq!(page.text("tbody td:nth-child(3)").await, "room-2");
    })
    .await;
}

#[tokio::test]
async fn two_filters_changed_at_once_both_count() {
    visit(Setup::new(), async |page, app| {
        two_rooms(page, app.as_ref().unwrap()).await;
        let both = "const [stream, kind] = ['stream', 'kind'].map(name => document.querySelector(`[name=${name}]`));
            stream.value = 'room-1';
            stream.dispatchEvent(new Event('input'));
            kind.value = 'stream-push';
            kind.dispatchEvent(new Event('change'));";
        page.script(both, vec![]).await;
        page.sees(".count", "One in all").await;
        let address = page.script("return location.hash", vec![]).await;
        assert_eq!(address, json!("#/events?kind=stream-push&stream=room-1&follow=no"));
    })
    .await;
}

#[tokio::test]
async fn an_empty_page_that_is_not_the_last_is_not_the_end() {
    visit(Setup::new(), async |page, app| {
        let app = app.as_ref().unwrap();
        app.accept_signed(&push("room-1", 1)).await;
        page.open("#/streams").await;
        page.sees(".count", "One in all").await;
        // The first page of events is empty, and says where to go on.
        let empty = "const ask = window.fetch.bind(window);
            window.fetch = (url, ...rest) => String(url).includes('/events?') && !String(url).includes('cursor=')
                ? Promise.resolve(new Response('{\"events\":[],\"next\":\"1000000\"}')) : ask(url, ...rest);
            location.hash = '#/events?follow=no'";
        page.script(empty, vec![]).await;
        page.sees("h1", "Events").await;
        page.sees("tbody", "room-1").await;
    })
    .await;
}
