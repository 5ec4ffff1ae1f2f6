//! `when`: which events a handler gets, and what a stranger cannot make of it.

use livehook::handler::when::When;
use livehook::handler::{Filter, Policy};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, push};
use crate::recorder::Recorder;

fn policy(name: &str, when: &str) -> Policy {
    let filter = Filter { when: Some(When::compile(when).unwrap()), ..Filter::default() };
    Policy { filter, ..Policy::new(name) }
}

async fn errors(app: &TestApp, handler: &str) -> Option<f64> {
    app.metric(&format!("livehook_filter_errors_total{{handler=\"{handler}\"}}")).await
}

fn streams(recorder: &Recorder) -> Vec<String> {
    let mut streams: Vec<_> = recorder.done().into_iter().filter_map(|call| call.stream).collect();
    streams.sort();
    streams
}

#[tokio::test]
async fn a_handler_gets_the_events_for_which_its_expression_holds_and_those_for_which_it_fails() {
    let (rooms, codes, all) = (Recorder::new(), Recorder::new(), Recorder::new());
    let app = Setup::new()
        .policy(policy("rooms", r#"event.kind == "stream-push" && event.stream.startsWith("room-")"#), &rooms)
        .policy(policy("codes", "data.code > 3"), &codes)
        .handler("all", &all)
        .start()
        .await;
    for (stream, code) in [("room-1", json!(4)), ("room-2", json!("four")), ("hall", json!(3))] {
        let mut body = push(stream, 1);
        body["code"] = code;
        app.accept_signed(&body).await;
    }
    app.await_deliveries("done", 2 + 2 + 3).await;
    assert_eq!(streams(&rooms), ["room-1", "room-2"]);
    assert_eq!(streams(&codes), ["room-1", "room-2"], "text compares with no number, and what fails is delivered");
    for (handler, count) in [("rooms", 0.0), ("codes", 1.0), ("all", 0.0)] {
        assert_eq!(errors(&app, handler).await, Some(count), "{handler}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_body_made_to_keep_an_expression_busy_is_delivered_and_costs_little() {
    let (nested, last, all) = (Recorder::new(), Recorder::new(), Recorder::new());
    let app = Setup::new()
        .policy(policy("nested", "data.list.all(a, data.list.exists(b, data.list.exists(c, c == a + b)))"), &nested)
        .policy(policy("last", "data.list.exists(a, a == 14999)"), &last)
        .handler("all", &all)
        .start()
        .await;
    let bodies = [
        format!("[{}]", (0..15_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",")),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("[{}0]", "{},".repeat(100_000)),
    ];
    for (number, list) in bodies.iter().enumerate() {
        let mut body: Value = push("room", number as u64);
        body["list"] = json!([]);
        let text = app.signed(&body).replace("\"list\":[]", &format!("\"list\":{list}"));
        app.accept(text).await;
    }
    app.await_deliveries("done", 9).await;
    assert_eq!(errors(&app, "nested").await, Some(3.0));
    assert_eq!(errors(&app, "last").await, Some(2.0), "one loop over the first is granted");
    app.finish().await;
}

crate::place::also_on_postgres! {
    a_handler_gets_the_events_for_which_its_expression_holds_and_those_for_which_it_fails,
    a_body_made_to_keep_an_expression_busy_is_delivered_and_costs_little,
}
