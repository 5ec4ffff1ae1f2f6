//! `chat`: messages through incoming webhooks, here of a server that answers as WeCom does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use livehook::handler::chat::{self, Service, Template};
use livehook::handler::{Policy, Settings, Target};
use livehook::secret::Secret;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::app::{Setup, TestApp, eventually, push};

/// A group robot. It ends when it is dropped.
struct Robot {
    messages: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Robot {
    /// Gives all messages this answer.
    fn answering(listener: TcpListener, answer: &'static str) -> Self {
        let messages: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&messages);
        let take = move |body: String| async move {
            let message: Value = serde_json::from_str(&body).unwrap();
            kept.lock().unwrap().push(message["text"]["content"].as_str().unwrap().to_owned());
            answer
        };
        let router = Router::new().route("/cgi-bin/webhook/send", post(take));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { messages, _serving: serving }
    }

    fn messages(&self) -> Vec<String> {
        self.messages.lock().unwrap().clone()
    }

    async fn await_messages(&self, count: usize) -> Vec<String> {
        let found = async || Some(self.messages()).filter(|messages| messages.len() == count);
        eventually(&format!("{count} messages"), found).await
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn settings(address: SocketAddr, rate: usize) -> Settings {
    let url = Secret::new(format!("http://{address}/cgi-bin/webhook/send?key=693axxx6"));
    let template = Template::compile("{{ event.kind }} {{ place }}").unwrap();
    let target = chat::Settings { service: Service::WeCom, url, secret: None, ca_file: None, template, rate };
    Settings { policy: Policy::new("duty"), target: Target::Chat(target) }
}

async fn app(address: SocketAddr, rate: usize) -> TestApp {
    Setup::new().configured(|config| config.handlers.push(settings(address, rate))).start().await
}

#[tokio::test]
async fn events_become_messages_no_more_than_the_rate_and_waiting_costs_one_attempt() {
    let (listener, address) = listener().await;
    let robot = Robot::answering(listener, r#"{"errcode":0,"errmsg":"ok"}"#);
    let app = app(address, 2).await;
    for number in 0..5 {
        app.accept_signed(&push(&format!("room-{number}"), number)).await;
    }
    robot.await_messages(2).await;
    app.await_deliveries("done", 2).await;
    eventually("the others have tried", async || {
        app.pending().await.iter().all(|row| row["attempts"] == 1).then_some(())
    })
    .await;
    app.clock.advance(Duration::from_secs(61));
    robot.await_messages(4).await;
    app.await_deliveries("done", 4).await;
    app.clock.advance(Duration::from_secs(61));
    let mut messages = robot.await_messages(5).await;
    messages.sort();
    assert_eq!(messages[4], "stream-push room-4 (push.example.com/live)");
    let done = app.await_deliveries("done", 5).await;
    assert!(done.iter().all(|row| row["attempts"].as_u64() <= Some(2)), "{done:?}");
    app.finish().await;
}

#[tokio::test]
async fn a_service_that_is_away_gets_its_messages_later_and_a_wrong_key_is_dead() {
    let address = SocketAddr::from(([127, 0, 0, 1], super::process::free_port()));
    let away = app(address, 20).await;
    away.accept_signed(&push("room", 1)).await;
    eventually("it has tried", async || away.pending().await.first().filter(|row| row["attempts"] == 1).map(|_| ()))
        .await;
    let robot = Robot::answering(TcpListener::bind(address).await.unwrap(), r#"{"errcode":0,"errmsg":"ok"}"#);
    away.clock.advance(Duration::from_mins(10));
    robot.await_messages(1).await;
    away.await_deliveries("done", 1).await;
    away.finish().await;

    let (listener, address) = listener().await;
    let robot = Robot::answering(listener, r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#);
    let refused = app(address, 20).await;
    refused.accept_signed(&push("room", 1)).await;
    let dead = refused.await_deliveries("dead", 1).await;
    let error = dead[0]["last_error"].as_str().unwrap();
    assert!(error.contains("invalid webhook url") && !error.contains("693axxx6"), "{error}");
    assert_eq!(robot.messages().len(), 1);
    refused.finish().await;
}
