//! The dashboard without a browser: its files, its login, and whom a login lets in.

use std::time::Duration;

use livehook::secret::Secret;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp};
use crate::http::{Response, ask, request};

const TOKEN: &str = "let me in";
const JSON: (&str, &str) = ("Content-Type", "application/json");

async fn locked() -> TestApp {
    Setup::new().configured(|config| config.admin.token = Some(Secret::new(TOKEN))).start().await
}

async fn send(app: &TestApp, method: &str, target: &str, headers: &[(&str, &str)], body: &Value) -> Response {
    ask(app.admin, &request(method, target, headers, body.to_string().as_bytes())).await
}

async fn log_in(app: &TestApp, token: &str) -> Response {
    send(app, "POST", "/api/v1/session", &[JSON], &json!({"token": token})).await
}

/// The cookie of an answer as a browser sends it back.
fn cookie(answer: &Response) -> String {
    answer.header("set-cookie").expect("a cookie").split(';').next().unwrap().to_owned()
}

async fn events(app: &TestApp, cookie: &str) -> u16 {
    ask(app.admin, &request("GET", "/api/v1/events", &[("Cookie", cookie)], b"")).await.status
}

#[tokio::test]
async fn its_pages_are_open_and_may_run_nothing_but_themselves() {
    let app = locked().await;
    let page = app.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let mut files = vec!["/".to_owned()];
    files.extend(page.text().split('"').filter(|text| text.starts_with("/dashboard/")).map(str::to_owned));
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        let answer = app.get(&file).await;
        assert_eq!(answer.status, 200, "{file}");
        let policy = answer.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self';",
            "style-src 'self';",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{file}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let tag = answer.header("etag").unwrap().to_owned();
        let again = ask(app.admin, &request("GET", &file, &[("If-None-Match", &tag)], b"")).await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{file}");
    }
    assert_eq!(app.get("/dashboard/../mod.rs").await.status, 404);
    app.leave().await;
}

#[tokio::test]
async fn the_token_is_shown_once_and_the_cookie_does_from_then_on() {
    let app = locked().await;
    assert_eq!(
        app.json("/api/v1/session").await,
        json!({"token_required": true, "logged_in": false, "expires_at": null})
    );
    let answer = log_in(&app, TOKEN).await;
    assert_eq!(
        answer.json(),
        json!({"token_required": true, "logged_in": true, "expires_at": "2023-12-21T15:12:37.000Z"})
    );
    let set = answer.header("set-cookie").unwrap().to_owned();
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=43200"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains(TOKEN) && !set.contains("Secure"), "{set}");
    let cookie = cookie(&answer);
    assert_eq!(events(&app, &cookie).await, 200);
    assert_eq!(events(&app, &format!("other=1; {cookie}")).await, 200);
    assert_eq!(events(&app, &cookie.replace('.', ".0")).await, 401);
    let https =
        send(&app, "POST", "/api/v1/session", &[JSON, ("X-Forwarded-Proto", "https")], &json!({"token": TOKEN})).await;
    assert!(https.header("set-cookie").unwrap().ends_with("; Secure"));
    app.leave().await;
}

#[tokio::test]
async fn a_login_ends_by_itself_by_hand_and_with_its_token() {
    let app = locked().await;
    let [first, second] = [cookie(&log_in(&app, TOKEN).await), cookie(&log_in(&app, TOKEN).await)];
    let own = app.admin.to_string();
    let origin = format!("http://{own}");
    let headers = [JSON, ("Cookie", first.as_str()), ("Host", own.as_str()), ("Origin", origin.as_str())];
    let out = send(&app, "DELETE", "/api/v1/session", &headers, &json!({})).await;
    assert_eq!(out.json()["logged_in"], false);
    assert!(out.header("set-cookie").unwrap().starts_with("livehook_session=; "));
    assert_eq!(events(&app, &first).await, 401, "logged out");
    assert_eq!(events(&app, &second).await, 200, "somebody else's login goes on");
    let app = app.leave().await.start().await;
    assert_eq!(events(&app, &second).await, 200, "a restart ends no login");
    app.clock.advance(Duration::from_hours(12));
    assert_eq!(events(&app, &second).await, 401, "expired");
    let third = cookie(&log_in(&app, TOKEN).await);
    let app = app.leave().await.configured(|config| config.admin.token = Some(Secret::new("another"))).start().await;
    assert_eq!(events(&app, &third).await, 401, "the token has changed");
    app.leave().await;
}

#[tokio::test]
async fn a_token_that_comes_back_brings_no_former_login_with_it() {
    let app = locked().await;
    let former = cookie(&log_in(&app, TOKEN).await);
    for token in ["another", TOKEN] {
        app.clock.advance(Duration::from_secs(1));
        app.reload(|config| config.admin.token = Some(Secret::new(token))).await.unwrap();
        assert_eq!(events(&app, &former).await, 401, "{token}");
    }
    let present = cookie(&log_in(&app, TOKEN).await);
    assert_eq!(events(&app, &present).await, 200);
    app.reload(|config| config.server.body_limit += 1).await.unwrap();
    assert_eq!(events(&app, &present).await, 200, "the token is the same");
    app.leave().await;
}

#[tokio::test]
async fn a_login_writes_only_for_our_own_pages() {
    let app = locked().await;
    let cookie = cookie(&log_in(&app, TOKEN).await);
    let own = app.admin.to_string();
    let write = async |headers: &[(&str, &str)]| {
        let mut all = vec![("Cookie", cookie.as_str()), ("Host", own.as_str())];
        all.extend(headers);
        send(&app, "POST", "/api/v1/deliveries/retry", &all, &json!({"dry_run": true})).await.status
    };
    let origin = format!("http://{own}");
    assert_eq!(write(&[JSON, ("Origin", &origin)]).await, 200);
    assert_eq!(write(&[JSON]).await, 403, "who sends it is not said");
    assert_eq!(write(&[JSON, ("Origin", "http://127.0.0.1:1")]).await, 403, "another port is another page");
    assert_eq!(write(&[JSON, ("Origin", "null")]).await, 403);
    assert_eq!(write(&[("Origin", &origin)]).await, 415);
    assert_eq!(write(&[("Origin", &origin), ("Content-Type", "text/plain")]).await, 415);
    let foreign =
        send(&app, "POST", "/api/v1/session", &[JSON, ("Origin", "http://evil.example")], &json!({"token": TOKEN}))
            .await;
    assert_eq!(foreign.status, 403, "nor does another page log in");
    app.leave().await;
}

#[tokio::test]
async fn whoever_guesses_tokens_must_wait_and_whoever_is_logged_in_need_not() {
    let app = locked().await;
    let cookie = cookie(&log_in(&app, TOKEN).await);
    for _ in 0..100 {
        assert_eq!(log_in(&app, "an old one").await.status, 401, "the same wrong token is no guess");
    }
    let mut wrong = 0;
    while log_in(&app, &format!("guess {wrong}")).await.status == 401 {
        wrong += 1;
        assert!(wrong < 100, "nobody stops it");
    }
    let answer = log_in(&app, TOKEN).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "not even the right one is looked at");
    let bearer = request("GET", "/api/v1/events", &[("Authorization", "Bearer let me in")], b"");
    assert_eq!(ask(app.admin, &bearer).await.status, 429);
    assert_eq!(events(&app, &cookie).await, 200);
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(ask(app.admin, &bearer).await.status, 200);
    assert_eq!(log_in(&app, TOKEN).await.status, 200);
    app.leave().await;
}

#[tokio::test]
async fn without_a_token_nobody_need_log_in() {
    let app = TestApp::start().await;
    assert_eq!(
        app.json("/api/v1/session").await,
        json!({"token_required": false, "logged_in": false, "expires_at": null})
    );
    assert_eq!(log_in(&app, "anything").await.status, 409);
    for body in [json!({}), json!({"token": 5}), json!({"token": "x", "more": 1})] {
        assert_eq!(send(&app, "POST", "/api/v1/session", &[JSON], &body).await.status, 400, "{body}");
    }
    let foreign = ask(app.admin, &request("GET", "/api/v1/session", &[("Host", "evil.example")], b"")).await;
    assert_eq!(foreign.status, 403);
    app.finish().await;
}
