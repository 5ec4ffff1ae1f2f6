//! `livehook healthcheck`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use url::Url;

use super::{ConfigFlag, http, output};
use crate::config::{self, Sources};

#[derive(Debug, clap::Args)]
pub(super) struct Healthcheck {
    /// Admin address, or the full URL to ask; otherwise the admin address of the configuration
    #[arg(long, value_name = "URL", value_parser = http::parse_url)]
    url: Option<Url>,
    #[command(flatten)]
    config: ConfigFlag,
}

/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(3);

impl Healthcheck {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut url = match self.url {
            Some(url) => url,
            None => configured(config::load(&Sources::from_process(self.config.config))?.config.admin.listen)?,
        };
        if url.path() == "/" {
            url.set_path("/readyz");
        }
        output::line(&http::block_on(ask(url))?)
    }
}

fn configured(listen: SocketAddr) -> anyhow::Result<Url> {
    if listen.port() == 0 {
        bail!("`admin.listen` takes any free port; say with --url where the service is");
    }
    Url::parse(&format!("http://{}", reachable(listen))).context("`admin.listen` makes no URL")
}

/// An address that means all of the machine's is reached on its loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(url: Url) -> anyhow::Result<String> {
    let shown = http::shown(&url);
    let unanswered = |error| anyhow::anyhow!("not ready: no answer from {shown}: {}", http::reason(error));
    let answer = http::client(&url, Some(TIMEOUT))?.get(url).send().await.map_err(unanswered)?;
    let status = answer.status();
    let text = answer.text().await.map_err(unanswered)?;
    let text = output::plain(text.trim()).into_owned();
    if status == reqwest::StatusCode::OK { Ok(text) } else { bail!("not ready: {shown} answered {status}: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_means_all_is_reached_on_loopback() {
        for (listen, url) in [
            ("0.0.0.0:9090", "http://127.0.0.1:9090/"),
            ("[::]:9090", "http://[::1]:9090/"),
            ("10.1.2.3:1", "http://10.1.2.3:1/"),
        ] {
            assert_eq!(configured(listen.parse().unwrap()).unwrap().as_str(), url);
        }
        assert!(configured("127.0.0.1:0".parse().unwrap()).is_err());
    }
}
