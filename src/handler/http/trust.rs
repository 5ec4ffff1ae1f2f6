//! Which servers are believed to be who they say they are.

use std::path::Path;

use reqwest::{Certificate, ClientBuilder};

use crate::handler::BuildError;

/// Trusts the system's certificates and those of `ca_file`. A client that never speaks TLS reads none: a container
/// without certificates is enough for it.
pub(crate) fn settle(
    client: ClientBuilder,
    url: &url::Url,
    ca_file: Option<&Path>,
) -> Result<ClientBuilder, BuildError> {
    provide();
    let extra = ca_file.map(certificates).transpose()?.unwrap_or_default();
    Ok(if url.scheme() == "https" { client.tls_certs_merge(extra) } else { client.tls_certs_only(extra) })
}

/// Gives this process the cryptography of TLS, unless the program has chosen its own, which serves as well.
pub(crate) fn provide() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, BuildError> {
    let fault = |what: String| BuildError(format!("ca_file {}: {what}", file.display()));
    let pem = std::fs::read(file).map_err(|e| fault(e.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| fault("it is no PEM file".to_owned()))?;
    if certificates.is_empty() {
        return Err(fault("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}
