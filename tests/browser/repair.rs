//! Something is wrong at night, and somebody repairs it from the dashboard alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use livehook::secret::Secret;

use crate::app::{Setup, eventually, push};
use crate::lists::{HOLD, RELEASE};
use crate::page::{start, visit};
use crate::recorder::{Act, Recorder};

/// A handler that refuses for good until it is repaired.
fn sink() -> (Recorder, Arc<AtomicBool>) {
    let works = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&works);
    (Recorder::with(move |_, _| if works.load(Ordering::Relaxed) { Act::Done } else { Act::Permanent }), switch)
}

#[tokio::test]
async fn a_dead_sink_is_noticed_understood_and_repaired() {
    let (recorder, works) = sink();
    visit(Setup::new().handler("rooms", &recorder), async |page, app| {
        let app = app.as_ref().unwrap();
        for number in 0..5 {
            app.accept_signed(&push(&format!("room-{number}"), number)).await;
        }
        app.await_deliveries("dead", 5).await;
        page.open("#/").await;
        page.press("main", "5 deliveries to rooms are dead and wait for a decision").await;
        page.sees("h1", "Dead letters").await;
        page.sees(".why", "5 ×").await;
        page.sees(".why", "told to give up").await;
        assert_eq!(page.count("tbody tr").await, 5);
        works.store(true, Ordering::Relaxed);
        page.press("tbody tr:first-child", "Retry").await;
        page.sees("#toasts", "Due now: delivery to rooms").await;
        app.await_deliveries("done", 1).await;
        page.press("main", "Retry all").await;
        page.sees("dialog", "4 deliveries will be due at once").await;
        page.press("dialog", "Cancel").await;
        assert_eq!(app.deliveries("dead").await.len(), 4, "nothing happens before somebody agrees");
        page.press("main", "Retry all").await;
        page.press("dialog", "Retry").await;
        page.sees("#toasts", "4 deliveries are due now").await;
        app.await_deliveries("done", 5).await;
        page.sees("main", "Nothing is dead").await;
        page.open("#/").await;
        page.sees("main", "All is well").await;
    })
    .await;
}

#[tokio::test]
async fn what_nobody_wants_is_dropped_one_by_one_or_all() {
    let (recorder, _) = sink();
    visit(Setup::new().handler("rooms", &recorder), async |page, app| {
        let app = app.as_ref().unwrap();
        for number in 0..4 {
            app.accept_signed(&push("room", number)).await;
        }
        app.await_deliveries("dead", 4).await;
        page.open("#/dead?handler=rooms").await;
        page.press("tbody tr:first-child", "Drop").await;
        page.sees("dialog", "will not get this event").await;
        page.press("dialog", "Drop").await;
        app.await_deliveries("dropped", 1).await;
        page.press(".filters", "Drop all").await;
        page.sees("dialog", "3 deliveries will never be made").await;
        page.press("dialog", "Drop").await;
        app.await_deliveries("dropped", 4).await;
        page.choose("select[name=state]", "dropped").await;
        page.sees(".count", "4 in all").await;
        let id = app.events().await[0]["id"].as_str().unwrap().to_owned();
        page.open(&format!("#/events/{id}")).await;
        page.press("main", "Retry").await;
        app.await_deliveries("dead", 1).await;
        page.sees("main", "dead").await;
    })
    .await;
}

#[tokio::test]
async fn callbacks_refused_for_a_wrong_key_are_explained_and_come_back() {
    let wrong = Setup::new().configured(|config| config.signature.keys[0].key = Secret::new("another"));
    visit(wrong, async |page, app| {
        let first = app.as_ref().unwrap();
        for number in 0..3 {
            first.accept_signed(&push("room-1", number)).await;
        }
        first.accept("<b>no json</b> sign=0123456789abcdef").await;
        page.open("#/quarantine?reason=signature-mismatch").await;
        page.sees("main", "Compare signature.key with the callback key").await;
        assert_eq!(page.count("tbody tr").await, 3);
        page.press("tbody tr:first-child", "Look").await;
        page.sees("dialog", "room-1").await;
        assert!(!page.text("dialog").await.contains(&crate::app::sign(first.t())), "the signature is covered");
        page.press("dialog", "Close").await;
        page.press("tbody tr:first-child", "Readmit").await;
        page.sees("#alarms", "One is still refused").await;
        page.press("tbody tr:first-child", "Force").await;
        page.sees("dialog", "Anybody may have sent this").await;
        page.press("dialog", "Force").await;
        page.sees("#toasts", "One readmitted").await;
        page.sees(".count", "2 in all").await;

        let setup = app.take().unwrap().leave().await;
        let right = setup.configured(|config| config.signature.keys[0].key = Secret::new(crate::app::KEY));
        let second = start(right).await;
        page.turn_to(&second);
        page.forgive("ERR_CONNECTION_REFUSED");
        page.open("#/quarantine?reason=signature-mismatch").await;
        page.press("main", "Readmit all").await;
        page.press("dialog", "Readmit").await;
        page.sees("#toasts", "2 readmitted").await;
        page.choose("select[name=reason]", "malformed-json").await;
        page.press("tbody tr:first-child", "Look").await;
        page.sees("dialog", "<b>no json</b> sign=••••••").await;
        assert_eq!(second.events().await.len(), 3);
        *app = Some(second);
    })
    .await;
}

#[tokio::test]
async fn a_handler_is_paused_and_goes_on() {
    let good = Recorder::new();
    visit(Setup::new().handler("rooms", &good), async |page, app| {
        let app = app.as_ref().unwrap();
        page.open("#/handlers").await;
        page.press("main", "Pause").await;
        page.sees("dialog", "rooms gets nothing until it is resumed").await;
        page.press("dialog", "Pause").await;
        page.sees("main", "paused").await;
        app.accept_signed(&push("room", 1)).await;
        page.sees("tbody tr", "1").await;
        assert_eq!(good.done().len(), 0);
        page.press("main", "Resume").await;
        page.sees("main", "running").await;
        app.await_deliveries("done", 1).await;
    })
    .await;
}

#[tokio::test]
async fn secrets_of_a_body_that_is_broken_json_are_covered_until_somebody_asks() {
    visit(Setup::new(), async |page, app| {
        let app = app.as_ref().unwrap();
        app.accept(r#"{"t":1,"sign" : "0123456789abcdef","stream_param":"a=1&txSecret=5f4dcc3b\"","inner":"{\"token\":\"feedface\"}","sign":"cutcut"#)
            .await;
        page.open("#/quarantine").await;
        page.press("tbody tr:first-child", "Look").await;
        page.sees("dialog pre", "\"t\":1").await;
        let shown = page.text("dialog pre").await;
        let secrets = ["0123456789abcdef", "5f4dcc3b", "feedface", "cutcut"];
        for secret in secrets {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        page.press("dialog", "Show secrets").await;
        for secret in secrets {
            page.sees("dialog pre", secret).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_becomes_of_a_delivery_while_somebody_is_at_its_buttons_is_shown_afterwards() {
    let (recorder, _) = sink();
    visit(Setup::new().handler("rooms", &recorder), async |page, app| {
        let app = app.as_ref().unwrap();
        app.accept_signed(&push("room", 1)).await;
        let dead = app.await_deliveries("dead", 1).await;
        let id = dead[0]["event_id"].as_str().unwrap();
        page.open(&format!("#/events/{id}")).await;
        page.sees("tbody", "dead").await;
        page.script("document.querySelector('tbody button').focus()", vec![]).await;
        app.call(&format!("/api/v1/deliveries/{id}/rooms/drop"), &serde_json::json!({})).await;
        let asked =
            "return performance.getEntriesByType('resource').filter(asked => asked.name.endsWith(arguments[0])).length";
        let asked = async || page.script(asked, vec![id.into()]).await.as_u64().unwrap();
        let before = asked().await;
        eventually("it was asked again twice", async || (asked().await > before + 1).then_some(())).await;
        page.script("document.activeElement.blur()", vec![]).await;
        page.sees("tbody", "dropped").await;
    })
    .await;
}

#[tokio::test]
async fn hundreds_of_refused_callbacks_come_back_in_steps_that_are_shown() {
    visit(Setup::new(), async |page, app| {
        let app = app.as_ref().unwrap();
        for number in 0..250 {
            let forged = app.signed(&push("room", number)).replace(&crate::app::sign(app.t()), &"0".repeat(32));
            app.accept(forged).await;
        }
        page.open("#/quarantine").await;
        page.sees(".count", "The first 50").await;
        page.script(HOLD, vec!["/quarantine/readmit".into()]).await;
        page.press(".filters", "Force all").await;
        page.sees("dialog", "250 callbacks are checked again").await;
        page.press("dialog", "Force").await;
        page.sees("main", "0 of 250").await;
        assert_eq!(page.count("main progress").await, 1);
        page.script_async(RELEASE, vec![]).await;
        page.sees("#toasts", "250 readmitted").await;
        page.sees("main", "Nothing was refused").await;
        assert_eq!(page.count("main progress").await, 0);
        assert_eq!(app.metric("livehook_events_received_total{kind=\"stream-push\"}").await, Some(250.0));
    })
    .await;
}
