//! What stands around the pages: login, languages, themes, the keyboard, the connection.

use std::time::Duration;

use fantoccini::key::Key;
use livehook::secret::Secret;
use serde_json::json;

use crate::app::{Setup, eventually, push};
use crate::page::{start, visit};

const TOKEN: &str = "let me in";

fn locked() -> Setup {
    Setup::new().configured(|config| config.admin.token = Some(Secret::new(TOKEN)))
}

#[tokio::test]
async fn whoever_knows_the_token_gets_in_to_where_he_wanted_and_out_again() {
    visit(locked(), async |page, _| {
        page.forgive("status of 401");
        page.open("#/quarantine").await;
        page.sees("main", "Log in").await;
        assert_eq!(page.count("nav").await, 0, "there is nothing to see without a login");
        page.type_in("#token", "let me out").await;
        page.press("main", "Log in").await;
        page.sees(".trouble", "That is not the token").await;
        page.find("#token").await.clear().await.unwrap();
        page.type_in("#token", TOKEN).await;
        page.key(Key::Enter).await;
        page.sees("h1", "Quarantine").await;
        let kept = page.script("return document.cookie + JSON.stringify({...localStorage})", vec![]).await;
        assert_eq!(kept, json!("{}"), "no script can read the login, and the token is nowhere");
        page.press(".tools", "Log out").await;
        page.sees("main", "You are logged out").await;
        page.open("#/events").await;
        page.sees("main", "Log in").await;
    })
    .await;
}

#[tokio::test]
async fn a_login_that_ends_is_asked_for_again_and_leads_back() {
    visit(locked(), async |page, app| {
        page.forgive("status of 401");
        page.open("#/handlers").await;
        page.type_in("#token", TOKEN).await;
        page.key(Key::Enter).await;
        page.sees("h1", "Handlers").await;
        app.as_ref().unwrap().clock.advance(Duration::from_hours(12));
        page.sees("main", "The login has ended").await;
        page.type_in("#token", TOKEN).await;
        page.key(Key::Enter).await;
        page.sees("h1", "Handlers").await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_is_shown_and_recovers_by_itself() {
    visit(Setup::new(), async |page, app| {
        page.forgive("ERR_CONNECTION_REFUSED");
        page.forgive("ERR_EMPTY_RESPONSE");
        page.forgive("ERR_CONNECTION_RESET");
        page.open("#/events").await;
        page.sees("main", "No events.").await;
        let address = app.as_ref().unwrap().admin;
        let setup = app.take().unwrap().leave().await;
        page.sees("#offline", "does not answer").await;
        let again = start(setup.configured(|config| config.admin.listen = address)).await;
        eventually("the banner is gone", async || page.text("#offline").await.is_empty().then_some(())).await;
        again.accept_signed(&push("room-1", 1)).await;
        page.sees("main", "room-1").await;
        *app = Some(again);
    })
    .await;
}

#[tokio::test]
async fn language_and_theme_are_those_of_the_system_until_somebody_chooses() {
    visit(Setup::new(), async |page, _| {
        let back = async || page.script("return getComputedStyle(document.body).backgroundColor", vec![]).await;
        page.prefer_theme("light").await;
        page.open("#/").await;
        page.sees("h1", "Overview").await;
        let light = back().await;
        page.prefer_theme("dark").await;
        let dark = back().await;
        assert_ne!(light, dark);
        page.choose("select[name=theme]", "light").await;
        assert_eq!(back().await, light);
        page.choose("select[name=language]", "zh").await;
        page.sees("h1", "总览").await;
        page.sees("nav", "死信").await;
        assert_eq!(page.script("return document.documentElement.lang", vec![]).await, json!("zh-CN"));
        page.script("location.reload()", vec![]).await;
        page.sees("h1", "总览").await;
        assert_eq!(back().await, light, "a choice is kept");
        page.choose("select[name=theme]", "auto").await;
        assert_eq!(back().await, dark);
    })
    .await;
}

#[tokio::test]
async fn the_login_changes_its_language_too() {
    visit(locked(), async |page, _| {
        page.open("#/").await;
        page.sees("main h1", "Log in").await;
        page.choose("select[name=language]", "zh").await;
        page.sees("main h1", "登录").await;
        page.choose("select[name=language]", "en").await;
        page.sees("main h1", "Log in").await;
    })
    .await;
}

#[tokio::test]
async fn the_keyboard_reaches_everything() {
    visit(Setup::new(), async |page, app| {
        app.as_ref().unwrap().accept_signed(&push("room-1", 1)).await;
        page.open("#/events").await;
        page.sees("main", "room-1").await;
        assert_eq!(page.focus().await, "Events", "a new page begins at its heading");
        let first = "const first = document.querySelector('a, button, input, select, [tabindex]'); first.focus()";
        page.script(first, vec![]).await;
        assert_eq!(page.focus().await, "Skip to the page");
        page.key(Key::Enter).await;
        assert_eq!(page.script("return document.activeElement.id", vec![]).await, json!("main"));
        // From there on, every step leads to something that has a name.
        let script = "const e = document.activeElement, label = e.labels?.[0]?.innerText; return label || e.getAttribute('aria-label') || e.innerText.trim() || e.title || ''";
        let mut names = Vec::new();
        for _ in 0..26 {
            page.key(Key::Tab).await;
            let name = page.script(script, vec![]).await.as_str().unwrap().to_owned();
            assert!(!name.is_empty(), "nameless after {names:?}");
            names.push(name);
        }
        for wanted in ["Follow", "Kind", "Stream", "Push domain", "Received since", "Clear", "push started", "room-1"] {
            assert!(names.iter().any(|name| name == wanted), "{wanted} in {names:?}");
        }
        page.find(".quietlink").await.click().await.unwrap();
        page.sees("h1", "Event").await;
        assert_eq!(page.focus().await, "Event");
    })
    .await;
}
