//! Payloads are text of strangers.

use serde_json::json;

use crate::app::{Setup, push};
use crate::page::{NARROW, WIDE, visit};
use crate::recorder::{Act, Recorder};

/// Would set `window.owned` if it ever became markup, a link or an attribute.
const EVIL: [&str; 9] = [
    "<script>window.owned=1</script>",
    "\"><img src=x onerror=window.owned=2>",
    "'><svg onload=window.owned=3>",
    "javascript:window.owned=4",
    "</code></pre><iframe srcdoc='<script>parent.owned=5</script>'>",
    "{{constructor.constructor('window.owned=6')()}}${window.owned=7}",
    "\u{202e}gnp.exe\u{2066} \u{200f}\u{0007}",
    "https://evil.example/\"onmouseover=\"window.owned=8",
    "$& $1 $' %s %n ../../..",
];

#[tokio::test]
async fn text_of_strangers_runs_nothing_and_breaks_no_layout() {
    let failing = Recorder::with(|_, _| Act::Permanent);
    visit(Setup::new().handler("rooms", &failing), async |page, app| {
        let app = app.as_ref().unwrap();
        for (number, evil) in (0..).zip(EVIL) {
            let mut body = push(evil, number);
            body["appname"] = evil.into();
            body["app"] = evil.into();
            body["errmsg"] = evil.into();
            body[evil] = json!({ evil: [evil] });
            app.accept_signed(&body).await;
            app.accept(format!("{{\"event_type\":1,\"app\":{},\"t\":{}}}", json!(evil), app.t())).await;
            app.accept(evil).await;
        }
        let long = "x".repeat(100_000);
        let mut body = push(&long, 100);
        body["errmsg"] = long.clone().into();
        app.accept_signed(&body).await;
        let deep = format!("{{\"event_type\":999,\"a\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
        app.accept(app.signed(&json!({"event_type": 999, "deep": "here"})).replace("\"here\"", &deep)).await;
        app.await_deliveries("dead", EVIL.len() + 2).await;

        let events = app.events().await;
        let mut parts: Vec<_> =
            ["#/", "#/events", "#/streams", "#/dead", "#/quarantine", "#/handlers"].map(str::to_owned).into();
        parts.extend(events.iter().map(|event| format!("#/events/{}", event["id"].as_str().unwrap())));
        for part in parts {
            page.open(&part).await;
            page.find("main h1").await;
            page.find("main .card, main .scroll, main .empty, main .notice").await;
            for size in [WIDE, NARROW] {
                page.size(size).await;
                page.assert_fits(&part).await;
            }
            page.size(WIDE).await;
            assert_eq!(page.script("return window.owned ?? null", vec![]).await, json!(null), "{part}");
            let links =
                "return [...document.querySelectorAll('a')].filter(a => !/^https?:/.test(a.href)).map(a => a.href)";
            assert_eq!(page.script(links, vec![]).await, json!([]), "{part}");
            assert_eq!(page.count("main img, iframe, script:not([src])").await, 0, "{part}");
            let raw = "return document.body.innerText.match(/[\\u202a-\\u202e\\u2066-\\u2069\\u200f]/) !== null";
            assert_eq!(page.script(raw, vec![]).await, json!(false), "{part} turns the direction of its text");
        }
        page.open("#/quarantine").await;
        for nth in 1..=EVIL.len() {
            page.sees("main", "Not JSON").await;
            page.press(&format!("tbody tr:nth-child({nth})"), "Look").await;
            page.sees("dialog", "Body as received").await;
            assert_eq!(page.script("return window.owned ?? null", vec![]).await, json!(null));
            page.press("dialog", "Close").await;
        }
    })
    .await;
}
