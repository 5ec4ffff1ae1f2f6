//! A front for a broker of the mock cluster, which speaks neither TLS nor SASL itself. It does both with the client, passes
//! everything else on, and gives its own port out for the broker's, so that all connections come through it.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;
const AUTHENTICATION_FAILED: i16 = 58;

/// What a front asks of clients.
#[derive(Clone, Default)]
pub(crate) struct Rules {
    pub(crate) tls: Option<TlsAcceptor>,
    /// User and password, by PLAIN.
    pub(crate) login: Option<(&'static str, &'static str)>,
}

/// Speaks TLS with a certificate made for `name`, which is returned too.
pub(crate) fn tls(name: &str) -> (TlsAcceptor, String) {
    let made_up = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made_up.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![made_up.cert.der().clone()], key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), made_up.cert.pem())
}

/// It closes when dropped.
pub(crate) struct Gate {
    pub(crate) port: u16,
    _listener: JoinSet<()>,
}

impl Gate {
    /// Stands before the broker at this port of the machine.
    pub(crate) async fn before(broker: u16, rules: Rules) -> Self {
        Self::at(0, broker, rules).await
    }

    /// The same, at a port of the test's choice.
    pub(crate) async fn at(port: u16, broker: u16, rules: Rules) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (rules, ports) = (rules.clone(), (port, broker));
                connections.spawn(async move {
                    let _ = match &rules.tls {
                        // A client that trusts us not ends the handshake.
                        Some(tls) => match tls.accept(client).await {
                            Ok(client) => serve(client, ports, rules.login).await,
                            Err(error) => Err(error),
                        },
                        None => serve(client, ports, rules.login).await,
                    };
                });
            }
        });
        Self { port, _listener: tasks }
    }
}

/// Until either side closes.
async fn serve(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    (own, broker): (u16, u16),
    login: Option<(&'static str, &'static str)>,
) -> std::io::Result<()> {
    let mut upstream = TcpStream::connect(("127.0.0.1", broker)).await?;
    let mut is_known = login.is_none();
    loop {
        let request = frame(&mut client).await?;
        let (key, version) = (number(&request, 0), number(&request, 2));
        let answer = match (key, login) {
            (SASL_HANDSHAKE, Some(_)) => [&request[4..8], &[0, 0], &1_i32.to_be_bytes(), &[0, 5], b"PLAIN"].concat(),
            (SASL_AUTHENTICATE, Some((user, password))) => {
                is_known = request.ends_with(format!("\0{user}\0{password}").as_bytes());
                let error = if is_known { 0 } else { AUTHENTICATION_FAILED };
                // Without a text and without further tokens.
                [&request[4..8], &error.to_be_bytes(), &(-1_i16).to_be_bytes(), &0_i32.to_be_bytes()].concat()
            }
            _ if !is_known && key != API_VERSIONS => return Ok(()),
            _ => {
                send(&mut upstream, &request).await?;
                let answer = frame(&mut upstream).await?;
                let answer = if key == API_VERSIONS && login.is_some() { with_sasl(answer, version) } else { answer };
                renamed(answer, broker, own)
            }
        };
        send(&mut client, &answer).await?;
    }
}

/// Adds the requests of SASL to those that a broker says it knows.
fn with_sasl(mut answer: Vec<u8>, version: i16) -> Vec<u8> {
    let error = number(&answer, 4);
    if version > 2 || error != 0 {
        return answer;
    }
    let count = i32::from_be_bytes(answer[6..10].try_into().unwrap()) + 2;
    answer[6..10].copy_from_slice(&count.to_be_bytes());
    let ranges = [(SASL_HANDSHAKE, 1_i16), (SASL_AUTHENTICATE, 0)];
    let added = ranges.map(|(key, last)| [key.to_be_bytes(), [0, 0], last.to_be_bytes()].concat()).concat();
    answer.splice(10..10, added);
    answer
}

/// With another port behind the address.
fn renamed(mut answer: Vec<u8>, from: u16, to: u16) -> Vec<u8> {
    let address = |port: u16| [b"127.0.0.1".as_slice(), &u32::from(port).to_be_bytes()].concat();
    let (from, to) = (address(from), address(to));
    let places: Vec<_> =
        answer.windows(from.len()).enumerate().filter(|(_, part)| *part == from).map(|(at, _)| at).collect();
    for at in places {
        answer[at..at + to.len()].copy_from_slice(&to);
    }
    answer
}

fn number(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(bytes[at..at + 2].try_into().unwrap())
}

async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    stream.write_u32(u32::try_from(bytes.len()).unwrap()).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}
