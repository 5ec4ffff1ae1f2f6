//! Every page, as everybody may see it.

use std::path::Path;

use livehook::clock::{Clock as _, SystemClock};
use livehook::handler::Policy;
use livehook::secret::Secret;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, push, signed_at};
use crate::driver::is_ci;
use crate::page::{NARROW, Page, WIDE, visit};
use crate::recorder::{Act, Recorder};

/// A well-kept set of rules about accessibility, fetched by `.ci/run`.
const AXE: &str = "target/axe/node_modules/axe-core/axe.min.js";

/// What there is to see: addresses, and their headings in both languages.
const PAGES: [(&str, &str, [&str; 2]); 8] = [
    ("overview", "#/", ["Overview", "总览"]),
    ("events", "#/events", ["Events", "事件"]),
    ("event", "#/events/{id}", ["Event", "事件"]),
    ("streams", "#/streams", ["Streams", "直播流"]),
    ("stream", "#/streams/push.example.com/live/room-2", ["room-2", "room-2"]),
    ("dead", "#/dead", ["Dead letters", "死信"]),
    ("quarantine", "#/quarantine?reason=signature-mismatch", ["Quarantine", "隔离区"]),
    ("handlers", "#/handlers", ["Handlers", "处理器"]),
];

#[tokio::test]
async fn every_page_fits_every_window_in_both_languages_and_themes() {
    visit(busy(), async |page, app| {
        let id = fill(app.as_ref().unwrap()).await;
        for (language, at) in [("en", 0), ("zh", 1)] {
            page.open("#/events").await;
            page.choose("select[name=language]", language).await;
            for (name, part, headings) in PAGES {
                page.open(&part.replace("{id}", &id)).await;
                page.sees("h1", headings[at]).await;
                settle(page).await;
                for (theme, size, width) in [
                    ("light", WIDE, "wide"),
                    ("dark", WIDE, "wide"),
                    ("light", NARROW, "narrow"),
                    ("dark", NARROW, "narrow"),
                ] {
                    page.prefer_theme(theme).await;
                    page.size(size).await;
                    page.assert_fits(&format!("{name} {language} {width}")).await;
                    page.shoot(&format!("{name}-{theme}-{language}-{width}")).await;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn no_rule_of_accessibility_is_broken() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join(AXE);
    let Ok(rules) = std::fs::read_to_string(rules) else {
        assert!(!is_ci(), "{AXE} is not there; .ci/run fetches it");
        eprintln!("skipped: {AXE} is not there: npm install --prefix target/axe axe-core");
        return;
    };
    visit(busy(), async |page, app| {
        let id = fill(app.as_ref().unwrap()).await;
        for theme in ["light", "dark"] {
            page.prefer_theme(theme).await;
            for (name, part, headings) in PAGES {
                page.open(&part.replace("{id}", &id)).await;
                page.sees("h1", headings[0]).await;
                settle(page).await;
                assert_eq!(violations(page, &rules).await, json!([]), "{name} {theme}");
            }
            page.open("#/dead").await;
            page.press(".filters", "Drop all").await;
            page.find("dialog").await;
            assert_eq!(violations(page, &rules).await, json!([]), "a dialog, {theme}");
            page.press("dialog", "Cancel").await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_login_breaks_no_rule_of_accessibility_either() {
    let Ok(rules) = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(AXE)) else {
        return;
    };
    visit(Setup::new().configured(|config| config.admin.token = Some(Secret::new("x"))), async |page, _| {
        page.open("#/").await;
        page.sees("h1", "Log in").await;
        page.shoot("login-light-en-wide").await;
        assert_eq!(violations(page, &rules).await, json!([]));
    })
    .await;
}

/// What the rules say against the page, in short.
async fn violations(page: &Page, rules: &str) -> Value {
    page.script(rules, vec![]).await;
    let run = "const done = arguments[arguments.length - 1];
        axe.run(document, { resultTypes: ['violations'] }).then(
            found => done(found.violations.map(v => [v.id, ...v.nodes.slice(0, 3).map(n => n.html.slice(0, 200) + ' ' + n.failureSummary)])),
            error => done(String(error)));";
    page.script_async(run, vec![]).await
}

/// Waits until what a page asks for has come.
async fn settle(page: &Page) {
    page.find("main .card, main .scroll, main .empty, main .notice").await;
    let quiet = "const done = arguments[arguments.length - 1]; setTimeout(() => done(true), 250)";
    page.script_async(quiet, vec![]).await;
}

/// One handler does its work, one never does.
fn busy() -> Setup {
    let (good, bad) = (Recorder::new(), Recorder::with(|_, _| Act::Permanent));
    Setup::new().handler("archive", &good).policy(Policy::new("rooms"), &bad)
}

/// An evening of a small team. Returns the id of an event.
async fn fill(app: &TestApp) -> String {
    let now = SystemClock.now().secs();
    for number in 0..6_u64 {
        let begun = now - 7000 + 1000 * i64::try_from(number).unwrap();
        let mut body = push(&format!("room-{}", number % 3), number);
        body["event_time"] = begun.into();
        body["stream_param"] = "txSecret=5f4dcc3b5aa765d61d8327deb882cf99&txTime=66AA00FF".into();
        app.accept_signed(&body).await;
        if number < 5 {
            let mut end = body.clone();
            end["event_type"] = 0.into();
            end["event_time"] = (begun + 700).into();
            end["push_duration"] = "700000".into();
            end["errcode"] = [2, 12, 21, 35, 8][usize::try_from(number).unwrap()].into();
            app.accept_signed(&end).await;
            app.accept_signed(&recording(&body, begun)).await;
        }
        app.accept_signed(&json!({
            "event_type": 200, "app": "push.example.com", "appname": "live", "stream_id": body["stream_id"], "channel_id": body["stream_id"],
            "create_time": begun + 60, "file_size": 7520, "width": 640, "height": 352, "pic_url": "/2026/shot.jpg",
            "pic_full_url": "https://shots.example.com/2026/shot.jpg",
        }))
        .await;
    }
    app.accept(signed_at(&json!({"event_type": 9999, "appname": "live", "stream_id": "room-2"}), app.t())).await;
    let id = app.events().await.last().unwrap()["id"].as_str().unwrap().to_owned();
    for number in 0..3 {
        let forged = app.signed(&push("room-1", 100 + number)).replace(&crate::app::sign(app.t()), &"0".repeat(32));
        app.accept(forged).await;
    }
    app.accept("").await;
    app.accept("no json").await;
    app.await_deliveries("dead", app.events().await.len()).await;
    id
}

fn recording(push: &Value, begun: i64) -> Value {
    json!({
        "event_type": 100, "app": "push.example.com", "appname": "live", "stream_id": push["stream_id"], "channel_id": push["stream_id"],
        "file_id": format!("5285890784{begun}"), "record_file_id": format!("5285890784{begun}"), "file_format": "flv", "task_id": "1",
        "start_time": begun + 5, "end_time": begun + 695, "duration": 690, "file_size": 176_270, "stream_param": "",
        "video_url": format!("https://vod.example.com/{begun}.flv"),
    })
}
