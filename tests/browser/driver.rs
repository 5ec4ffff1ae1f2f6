//! Chromium and the program that drives it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tempfile::TempDir;

const DRIVER: &str = "chromedriver";
const HOW: &str = "apt-get install --no-install-recommends chromium chromium-driver";
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--hide-scrollbars",
    "--lang=en-GB",
];

/// A browser with a profile of its own. Ends with [`close`](Self::close); the driver ends with it in any case.
pub(crate) struct Driver {
    pub(crate) client: Client,
    child: Child,
    _profile: TempDir,
}

impl Driver {
    /// None, said aloud, where no browser is installed.
    pub(crate) async fn start() -> Option<Self> {
        let Ok(mut child) = Command::new(DRIVER).arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
        else {
            assert!(!is_ci(), "{DRIVER} is not installed; .ci/run does that");
            eprintln!("skipped: {DRIVER} is not installed: {HOW}");
            return None;
        };
        let port = port(&mut child);
        let profile = tempfile::tempdir().unwrap();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities(&profile));
        let client = builder.connect(&format!("http://127.0.0.1:{port}")).await.unwrap();
        Some(Self { client, child, _profile: profile })
    }

    pub(crate) async fn close(self) {
        // `close` of a clone ends the session, and the browser with it.
        let _ = self.client.clone().close().await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn is_ci() -> bool {
    #[expect(clippy::disallowed_methods, reason = "how strict a test is has nothing to do with the configuration")]
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// It says on standard output where it listens.
fn port(child: &mut Child) -> u16 {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said =
        lines.find_map(|line| line.unwrap().split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok());
    // Whoever does not read on makes it wait.
    std::thread::spawn(move || lines.for_each(drop));
    said.expect("the driver says its port")
}

fn capabilities(profile: &TempDir) -> Capabilities {
    let folder = format!("--user-data-dir={}", profile.path().display());
    let flags: Vec<_> = FLAGS.into_iter().chain([folder.as_str()]).collect();
    let wanted = json!({
        "goog:chromeOptions": { "args": flags, "prefs": { "intl.accept_languages": "en-GB,en" } },
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
    });
    wanted.as_object().unwrap().clone()
}
