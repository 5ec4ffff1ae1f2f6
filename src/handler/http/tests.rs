use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::handler::cloudevent::tests::event;

const PUSH: &str = r#"{ "event_type":1,"app":"a.b","stream_id":"房 7","sign":"x","t":1 }"#;
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"ok\": true}";

/// A server that gives each request the same answer, whatever it asks.
pub(crate) struct Server {
    pub(crate) url: url::Url,
    /// Heads, in lower case, and bodies.
    pub(crate) requests: mpsc::Receiver<(String, String)>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> Self {
        Self::start("http", answer.into(), |stream| stream)
    }

    /// `wrap` makes a connection of what was accepted: itself, or TLS over it. Threads end with the test's process.
    fn start<S: Read + Write>(scheme: &str, answer: Vec<u8>, wrap: impl Fn(TcpStream) -> S + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, requests) = mpsc::channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut stream = wrap(stream.unwrap());
                while let Some(request) = read_request(&mut stream) {
                    seen.send(request).unwrap();
                    if stream.write_all(&answer).and_then(|()| stream.flush()).is_err() {
                        break;
                    }
                }
            }
        });
        let url = format!("{scheme}://localhost:{}/hook?token=hunter22", address.port()).parse().unwrap();
        Self { url, requests, connections }
    }

    fn http(&self) -> Http {
        http(&settings(&self.url)).unwrap()
    }
}

/// Head, in lower case, and body of one request.
fn read_request(stream: &mut impl Read) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse::<usize>();
            if body.len() == length.unwrap() {
                return Some((head, body.to_owned()));
            }
        }
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
}

fn settings(url: &url::Url) -> Settings {
    Settings { url: url.clone(), format: Format::CloudEvents, secret: None, headers: Vec::new(), ca_file: None }
}

fn http(settings: &Settings) -> Result<Http, BuildError> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_secs(1_614_265_330)));
    Http::new(settings, &clock)
}

async fn deliver(http: &Http) -> Result<(), HandlerError> {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, http.deliver(&event(PUSH))).await.expect("it hangs")
}

#[tokio::test]
async fn statuses_decide_between_success_again_and_never() {
    for (status, outcome) in [
        ("200 OK", "done"),
        ("204 No Content", "done"),
        ("299 Odd", "done"),
        ("301 Moved", "dead"),
        ("304 Not Modified", "dead"),
        ("400 Bad", "dead"),
        ("404 Not Found", "dead"),
        ("408 Timeout", "again"),
        ("410 Gone", "dead"),
        ("429 Too Many", "again"),
        ("500 Broken", "again"),
        ("503 Away", "again"),
        ("599 Odd", "again"),
    ] {
        let length = if status.starts_with("204") { "" } else { "content-length: 0\r\n" };
        let server = Server::answering(format!("HTTP/1.1 {status}\r\n{length}\r\n"));
        let actual = match deliver(&server.http()).await {
            Ok(()) => "done",
            Err(HandlerError::Transient { .. }) => "again",
            Err(HandlerError::Permanent { .. }) => "dead",
        };
        assert_eq!(actual, outcome, "{status}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_the_other_side_said_and_keeps_secrets() {
    let body = format!("token=hunter22 Bearer abcd\nhunter22 abcd {}", "z".repeat(5000));
    let answer = format!(
        "HTTP/1.1 503 Away\r\nretry-after: Thu, 25 Feb 2021 15:02:20 GMT\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let server = Server::answering(answer);
    let headers = vec![("authorization".to_owned(), Secret::new("Bearer abcd"))];
    let http = http(&Settings { headers, ..settings(&server.url) }).unwrap();
    let Err(HandlerError::Transient { reason, retry_after }) = deliver(&http).await else { panic!("it passed") };
    assert_eq!(retry_after, Some(Duration::from_secs(10)), "the clock stands at 15:02:10");
    assert!(reason.starts_with("answered 503 Service Unavailable: … … … … zzz"), "{reason}");
    assert!(reason.chars().count() < 250);
    assert!(server.requests.recv().unwrap().0.contains("authorization: bearer abcd"));
}

#[tokio::test]
async fn cloudevents_are_posted_signed_over_one_connection() {
    let server = Server::answering(OK);
    let headers = ["content-type", "webhook-id", "x-more"].map(|name| (name.to_owned(), Secret::new("mine")));
    let secret = Some(Secret::new("test"));
    let http = http(&Settings { headers: headers.to_vec(), secret, ..settings(&server.url) }).unwrap();
    for _ in 0..3 {
        deliver(&http).await.unwrap();
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    let (head, body) = server.requests.recv().unwrap();
    assert_eq!(body, cloudevent::json(&event(PUSH)));
    assert!(head.starts_with("post /hook?token=hunter22 http/1.1"), "{head}");
    for line in [
        "content-type: application/cloudevents+json",
        "webhook-id: 0198c700-0000-7000-8000-000000000001",
        "webhook-timestamp: 1614265330",
        "x-more: mine",
        concat!("user-agent: livehook/", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(head.lines().any(|l| l == line), "{line} is not in {head}");
    }
    assert!(head.contains("webhook-signature: v1,") && head.matches("mine").count() == 1, "{head}");
}

#[tokio::test]
async fn raw_bodies_are_posted_as_received_beside_their_attributes() {
    let server = Server::answering(OK);
    deliver(&http(&Settings { format: Format::Raw, ..settings(&server.url) }).unwrap()).await.unwrap();
    let (head, body) = server.requests.recv().unwrap();
    assert_eq!(body, PUSH);
    for line in ["content-type: application/json", "ce-subject: %e6%88%bf%207", "ce-specversion: 1.0"] {
        assert!(head.lines().any(|l| l == line), "{line} is not in {head}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let there = Server::answering(OK);
    let here = Server::answering(format!("HTTP/1.1 307 Go\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", there.url));
    assert!(matches!(deliver(&here.http()).await, Err(HandlerError::Permanent { .. })));
    assert_eq!(there.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn endless_and_unfinished_answers_end_by_their_status() {
    let endless = format!("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n{}", "y".repeat(1 << 20));
    deliver(&Server::answering(endless).http()).await.unwrap();
    deliver(&Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").http()).await.unwrap();
    let refusal = "HTTP/1.1 400 Bad\r\ncontent-length: 9\r\n\r\nabc";
    assert!(matches!(deliver(&Server::answering(refusal).http()).await, Err(HandlerError::Permanent { .. })));
}

#[tokio::test]
async fn no_answer_is_tried_again_and_the_reason_names_no_url() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let refusing = format!("http://u:hunter22@localhost:{}/?token=hunter22", closed.port()).parse().unwrap();
    let garbling = Server::answering("SSH-2.0-hello\r\n").url;
    for url in [refusing, garbling] {
        let error = deliver(&http(&settings(&url)).unwrap()).await.unwrap_err();
        let HandlerError::Transient { reason, .. } = &error else { panic!("{error:?}") };
        assert!(reason.starts_with("no answer: ") && !reason.contains("hunter22"), "{reason}");
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_through_its_file_and_not_without() {
    let dir = tempfile::tempdir().unwrap();
    let (ca_file, server) = tls_server(dir.path(), OK);
    let trusting = http(&Settings { ca_file: Some(ca_file), ..settings(&server.url) }).unwrap();
    deliver(&trusting).await.unwrap();
    // The server takes one connection after the other.
    drop(trusting);
    // A machine without any certificates refuses to make such a client at all.
    if let Ok(doubting) = http(&settings(&server.url)) {
        let error = deliver(&doubting).await.unwrap_err();
        assert!(matches!(&error, HandlerError::Transient { reason, .. } if reason.contains("certificate")), "{error}");
    }
}

/// A server on `localhost` whose certificate an authority of its own has signed, and the authority's file.
pub(crate) fn tls_server(dir: &std::path::Path, answer: impl Into<Vec<u8>>) -> (PathBuf, Server) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = leaf.signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key)).unwrap();
    let ca_file = dir.join("ca.pem");
    std::fs::write(&ca_file, ca_certificate.pem()).unwrap();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let config = Arc::new(config);
    let wrap =
        move |stream| rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
    (ca_file, Server::start("https", answer.into(), wrap))
}

#[test]
fn what_cannot_work_is_a_fault_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "no certificate here\n").unwrap();
    let url: url::Url = "https://u:hunter22@localhost/".parse().unwrap();
    let good = settings(&url);
    let header = |name: &str, value: &str| vec![(name.to_owned(), Secret::new(value))];
    for (bad, expected) in [
        (Settings { ca_file: Some(dir.path().join("none.pem")), ..good.clone() }, "none.pem"),
        (Settings { ca_file: Some(empty), ..good.clone() }, "holds no certificate"),
        (Settings { secret: Some(Secret::new("whsec_hunter22!")), ..settings(&plain()) }, "Base64"),
        (Settings { headers: header("a b", "hunter22"), ..settings(&plain()) }, "`a b`"),
        (Settings { headers: header("x", "hunter22\n"), ..settings(&plain()) }, "`x`"),
        (Settings { headers: header("Content-Length", "1"), ..settings(&plain()) }, "belongs to the connection"),
        (settings(&"ftp://u:hunter22@localhost/".parse().unwrap()), "neither http nor https"),
    ] {
        let fault = http(&bad).unwrap_err().to_string();
        assert!(fault.contains(expected) && !fault.contains("hunter22"), "{fault}");
    }
    assert!(!format!("{:?}", http(&settings(&plain())).unwrap()).contains("hunter22"));
}

fn plain() -> url::Url {
    "http://u:hunter22@localhost/?hunter22".parse().unwrap()
}
