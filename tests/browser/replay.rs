//! What was delivered is delivered again.

use crate::app::{Setup, eventually, push};
use crate::page::visit;
use crate::recorder::Recorder;

#[tokio::test]
async fn events_are_counted_before_they_are_delivered_again() {
    let [rooms, archive] = [Recorder::new(), Recorder::new()];
    visit(Setup::new().handler("rooms", &rooms).handler("archive", &archive), async |page, app| {
        let app = app.as_ref().unwrap();
        for number in 0..3 {
            app.accept_signed(&push("room", number)).await;
        }
        app.await_deliveries("done", 6).await;
        page.open("#/handlers").await;
        page.press("main", "Count only").await;
        page.sees("main", "3 events match. Nothing was queued.").await;
        page.choose("form select[name=kind]", "recording").await;
        page.press("main", "Count only").await;
        page.sees("main", "0 events match").await;
        page.choose("form select[name=kind]", "stream-push").await;
        page.press(".checks", "rooms").await;
        page.press("form", "Replay").await;
        page.sees("dialog", "3 events match and will be delivered again").await;
        page.press("dialog", "Cancel").await;
        assert_eq!(rooms.done().len(), 3, "nothing happens before somebody agrees");
        page.press("form", "Replay").await;
        page.press("dialog", "Replay").await;
        page.sees("main", "The replay has begun").await;
        eventually("three more", async || (rooms.done().len() == 6).then_some(())).await;
        page.sees("main", "3 of 3").await;
        assert_eq!(archive.done().len(), 3, "it was not chosen");
    })
    .await;
}

#[tokio::test]
async fn a_replay_under_way_is_stopped() {
    let rooms = Recorder::new();
    visit(Setup::new().handler("rooms", &rooms), async |page, app| {
        let app = app.as_ref().unwrap();
        for number in 0..5 {
            app.accept_signed(&push("room", number)).await;
        }
        app.await_deliveries("done", 5).await;
        page.open("#/handlers").await;
        page.type_in("input[name=rate]", "1").await;
        page.press("form", "Replay").await;
        page.press("dialog", "Replay").await;
        // The clock stands still, and with it whoever keeps to a rate.
        page.press("main", "Stop").await;
        page.sees("main", "cancelled").await;
        assert!(rooms.done().len() < 10, "it was stopped");
    })
    .await;
}

#[tokio::test]
async fn one_event_is_delivered_again_from_its_page() {
    let rooms = Recorder::new();
    visit(Setup::new().handler("rooms", &rooms), async |page, app| {
        let app = app.as_ref().unwrap();
        app.accept_signed(&push("room", 1)).await;
        app.await_deliveries("done", 1).await;
        let id = app.only_event().await["id"].as_str().unwrap().to_owned();
        page.open(&format!("#/events/{id}")).await;
        page.press("main", "Replay").await;
        page.sees("dialog", "rooms has had this event and will get it again").await;
        page.press("dialog", "Replay").await;
        page.sees("#toasts", "queued").await;
        eventually("once more", async || (rooms.done().len() == 2).then_some(())).await;
        page.sees("main", "replay").await;
    })
    .await;
}
