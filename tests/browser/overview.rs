//! The first page: what happened, and what no longer happens.

use std::time::Duration;

use fantoccini::key::Key;
use serde_json::json;

use crate::app::{Setup, push};
use crate::page::visit;

#[tokio::test]
async fn the_plot_is_read_by_keys_and_as_a_table() {
    visit(Setup::new(), async |page, app| {
        let app = app.as_ref().unwrap();
        for number in 0..3 {
            app.accept_signed(&push("room", number)).await;
        }
        page.open("#/").await;
        page.find(".plot .bar").await;
        page.script("document.querySelector('.plot').focus()", vec![]).await;
        page.key(Key::End).await;
        page.sees("#readout", "push started 3").await;
        page.key(Key::Left).await;
        let before = page.text("#readout").await;
        assert_eq!(before.lines().nth(1), Some("0"), "{before}");
        page.script("document.activeElement.blur()", vec![]).await;
        page.press("main", "As a table").await;
        page.sees("details table", "3").await;
        page.press(".segments", "1 h").await;
        page.sees("main", "push started").await;
        page.press(".legend", "push started").await;
        page.sees("h1", "Events").await;
        page.sees(".count", "3 in all").await;
        assert_eq!(
            page.script("return document.querySelector('select[name=kind]').value", vec![]).await,
            json!("stream-push")
        );
    })
    .await;
}

#[tokio::test]
async fn a_kind_that_falls_silent_is_noticed() {
    visit(Setup::new(), async |page, app| {
        let app = app.as_ref().unwrap();
        for number in 0..12 {
            app.accept_signed(&push("room", number)).await;
            app.clock.advance(Duration::from_mins(30));
        }
        page.open("#/").await;
        page.sees("main", "All is well").await;
        app.clock.advance(Duration::from_hours(6));
        page.sees("main", "Unusually quiet: no “push started” for 6h").await;
        page.sees("td", "quiet").await;
    })
    .await;
}

#[tokio::test]
async fn what_comes_meanwhile_is_shown_without_a_reload() {
    visit(Setup::new(), async |page, app| {
        let app = app.as_ref().unwrap();
        page.open("#/").await;
        page.sees("main", "No events in this span").await;
        page.sees("#health", "Store ready").await;
        app.accept_signed(&push("room", 1)).await;
        app.accept("no json").await;
        page.sees("main", "A callback was refused and is in quarantine").await;
        page.sees("main .columns", "push started").await;
        page.sees("nav", "Quarantine\n1").await;
    })
    .await;
}
