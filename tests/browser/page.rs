//! A visitor of the dashboard: looks, clicks and types as a person does, and notices what a person does not.

use std::panic::AssertUnwindSafe;
use std::path::Path;

use fantoccini::elements::Element;
use fantoccini::error::ErrorStatus;
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, Locator};
use futures_util::FutureExt as _;
use livehook::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::app::{Setup, TestApp, eventually};
use crate::driver::Driver;

/// Browsers at the same time: more only make each other slow.
static BROWSERS: Semaphore = Semaphore::const_new(2);
/// A wide window, and a telephone.
pub(crate) const WIDE: (u32, u32) = (1360, 900);
pub(crate) const NARROW: (u32, u32) = (390, 844);

/// One window on one server.
pub(crate) struct Page {
    client: Client,
    base: String,
    forgiven: Vec<&'static str>,
}

/// Lets somebody visit the dashboard of a server. It complains of nothing but what the visitor forgave, and asks nobody
/// but us.
pub(crate) async fn visit(setup: Setup, visitor: impl AsyncFnOnce(&mut Page, &mut Option<TestApp>)) {
    let _turn = BROWSERS.acquire().await.unwrap();
    let Some(driver) = Driver::start().await else { return };
    let app = start(setup).await;
    let mut page = Page { client: driver.client.clone(), base: format!("http://{}/", app.admin), forgiven: Vec::new() };
    let mut app = Some(app);
    let visited = AssertUnwindSafe(async {
        page.size(WIDE).await;
        visitor(&mut page, &mut app).await;
        page.assert_no_complaint().await;
    });
    let outcome = visited.catch_unwind().await;
    if outcome.is_err() {
        page.shoot("failed").await;
    }
    driver.close().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    app.unwrap().leave().await;
}

/// Pages tell ages, so the clock of the server shows our time; it stands still.
pub(crate) async fn start(setup: Setup) -> TestApp {
    let app = setup.start().await;
    app.clock.set(SystemClock.now());
    app
}

impl Page {
    /// Goes to a part of the dashboard, as `#/events`.
    pub(crate) async fn open(&self, part: &str) {
        self.client.goto(&format!("{}{part}", self.base)).await.unwrap();
    }

    /// Another server from now on.
    pub(crate) fn turn_to(&mut self, app: &TestApp) {
        self.base = format!("http://{}/", app.admin);
    }

    /// What stands there once there is something.
    pub(crate) async fn find(&self, css: &str) -> Element {
        eventually(css, async || self.client.find(Locator::Css(css)).await.ok()).await
    }

    pub(crate) async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.unwrap().len()
    }

    /// All text of the page's main part and what stands above it.
    pub(crate) async fn text(&self, css: &str) -> String {
        let script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText).join('\\n')";
        self.script(script, vec![json!(css)]).await.as_str().unwrap().to_owned()
    }

    /// Waits for words to appear.
    pub(crate) async fn sees(&self, css: &str, text: &str) {
        let what = format!("`{text}` in {css}");
        let seen = eventually(&what, async || self.text(css).await.contains(text).then_some(()));
        if let Err(panic) = AssertUnwindSafe(seen).catch_unwind().await {
            eprintln!("there is:\n{}", self.text("body").await);
            std::panic::resume_unwind(panic);
        }
    }

    /// Presses what is called so, within a part of the page.
    pub(crate) async fn press(&self, within: &str, name: &str) {
        let script = "const all = [...document.querySelectorAll(arguments[0])].flatMap(e => [...e.querySelectorAll('button, a, summary, label')]);
            return all.find(e => e.innerText.trim() === arguments[1] && e.getClientRects().length > 0)";
        let arguments = vec![json!(within), json!(name)];
        eventually(&format!("`{name}` to press in {within}"), async || {
            let found = self.client.execute(script, arguments.clone()).await.ok()?;
            let id = found.as_object()?.values().next()?.as_str()?.to_owned();
            let element = Element::from_element_id(self.client.clone(), id.into());
            match element.click().await {
                Ok(()) => Some(()),
                // It was painted anew just now, or something is passing before it.
                Err(error) if error.is_stale_element_reference() => None,
                Err(fantoccini::error::CmdError::Standard(error))
                    if error.error == ErrorStatus::ElementClickIntercepted =>
                {
                    None
                }
                Err(error) => panic!("{name}: {error}"),
            }
        })
        .await;
    }

    /// Chooses an option by its value.
    pub(crate) async fn choose(&self, css: &str, value: &str) {
        self.find(css).await.select_by_value(value).await.unwrap();
    }

    pub(crate) async fn type_in(&self, css: &str, text: &str) {
        self.find(css).await.send_keys(text).await.unwrap();
    }

    /// Presses a key where the focus is.
    pub(crate) async fn key(&self, key: Key) {
        self.client.active_element().await.unwrap().send_keys(&char::from(key).to_string()).await.unwrap();
    }

    /// The words of what has the focus.
    pub(crate) async fn focus(&self) -> String {
        self.script("return document.activeElement.innerText.trim()", vec![]).await.as_str().unwrap().to_owned()
    }

    pub(crate) async fn script(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client.execute(script, arguments).await.unwrap()
    }

    pub(crate) async fn script_async(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client.execute_async(script, arguments).await.unwrap()
    }

    /// From now on the console may say this.
    pub(crate) fn forgive(&mut self, words: &'static str) {
        self.forgiven.push(words);
    }

    pub(crate) async fn size(&self, (width, height): (u32, u32)) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// What the system of the visitor prefers.
    pub(crate) async fn prefer_theme(&self, theme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Nothing is wider than the window.
    pub(crate) async fn assert_fits(&self, what: &str) {
        let script = "const w = document.documentElement; if (w.scrollWidth <= w.clientWidth) return null;
            return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > w.clientWidth + 1 && !e.closest('.scroll, nav, pre'))
                .slice(0, 5).map(e => e.tagName + '.' + e.className).join(' ')";
        let wide = self.script(script, vec![]).await;
        assert_eq!(wide, Value::Null, "{what} is wider than its window");
    }

    /// Keeps a picture of the window, where pictures are wanted.
    pub(crate) async fn shoot(&self, name: &str) {
        #[expect(clippy::disallowed_methods, reason = "where pictures go has nothing to do with the configuration")]
        let Ok(folder) = std::env::var("LIVEHOOK_SCREENSHOTS") else { return };
        let Ok(picture) = self.client.screenshot().await else { return };
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), picture).unwrap();
    }

    /// The console is silent, nothing was held back by the policy, and no request went anywhere else.
    pub(crate) async fn assert_no_complaint(&self) {
        let console = self.log("browser").await;
        let complaints = console.iter().filter_map(|entry| entry["message"].as_str());
        let complaints: Vec<_> =
            complaints.filter(|said| !self.forgiven.iter().any(|words| said.contains(words))).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
        let sent = self.requests().await;
        assert!(!sent.is_empty());
        // The browser draws its own start page and controls of this and that.
        let own = ["http://127.0.0.1:", "data:", "chrome:"];
        let foreign: Vec<_> = sent.iter().filter(|url| !own.iter().any(|start| url.starts_with(start))).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
    }

    async fn requests(&self) -> Vec<String> {
        let entries = self.log("performance").await;
        let messages =
            entries.iter().filter_map(|entry| serde_json::from_str::<Value>(entry["message"].as_str()?).ok());
        let sent = messages.filter(|message| message["message"]["method"] == "Network.requestWillBeSent");
        sent.filter_map(|message| Some(message["message"]["params"]["request"]["url"].as_str()?.to_owned())).collect()
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.client.issue_cmd(Vendor("se/log", json!({ "type": kind }))).await.unwrap();
        serde_json::from_value(entries).unwrap()
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.client.issue_cmd(Vendor("goog/cdp/execute", body)).await.unwrap();
    }
}

/// A command that only this driver knows.
#[derive(Debug)]
struct Vendor(&'static str, Value);

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &url::Url) -> (axum::http::Method, Option<String>) {
        (axum::http::Method::POST, Some(self.1.to_string()))
    }
}
