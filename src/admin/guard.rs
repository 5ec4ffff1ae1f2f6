//! Keeps strangers and their web pages away from the API.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::{Admin, Problem};

/// Content types that no web page can send across origins without asking first.
const WRITE_TYPES: [&str; 3] = ["application/json", "application/x-ndjson", "application/jsonl"];

/// Lets a call of the API through when it carries the token, comes from nobody else's page, and, if it writes, says that
/// it brings JSON.
pub(super) async fn api(State(admin): State<Admin>, request: Request, next: Next) -> Result<Response, Problem> {
    let headers = request.headers();
    let authorized = authorize(&admin, headers)?;
    check_host(request.uri(), headers, authorized)?;
    check_origin(headers)?;
    if request.method() != Method::GET && request.method() != Method::HEAD {
        check_write(headers)?;
    }
    Ok(next.run(request).await)
}

/// What every answer carries: nothing of ours is to be guessed at, framed or kept.
pub(super) async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Returns whether the caller proved to know the token.
fn authorize(admin: &Admin, headers: &HeaderMap) -> Result<bool, Problem> {
    let terms = admin.0.terms.load();
    let Some(token) = &terms.settings.token else {
        return Ok(false);
    };
    let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer).unwrap_or_default();
    if token.matches(given) { Ok(true) } else { Err(Problem::unauthorized()) }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// A page that has its own name point at us sends that name. Addresses and `localhost` are no names it could use, and
/// whoever knows the token is no page.
fn check_host(uri: &Uri, headers: &HeaderMap, authorized: bool) -> Result<(), Problem> {
    let named = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut hosts = named.chain(uri.authority().map(Authority::as_str)).peekable();
    if authorized || hosts.peek().is_some() && hosts.all(is_own_name) {
        return Ok(());
    }
    Err(Problem::foreign("call this by its address or as localhost, or configure `admin.token`"))
}

fn is_own_name(host: &str) -> bool {
    let name = host_name(host);
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

/// A host without its port and brackets.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// A browser names the page that sends; it must be one of ours.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let own = [&b"http://"[..], b"https://"].iter().any(|scheme| origin.as_bytes().strip_prefix(*scheme) == Some(host));
    if own { Ok(()) } else { Err(Problem::foreign("another web page must not call this")) }
}

fn check_write(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if WRITE_TYPES.iter().any(|known| essence.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    Err(Problem::unsupported_media_type("writes need `Content-Type: application/json`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_our_own_names() {
        for own in ["127.0.0.1", "127.0.0.1:9090", "[::1]:9090", "[::1]", "localhost:9090", "LOCALHOST", "10.1.2.3:80"]
        {
            assert!(is_own_name(own), "{own}");
        }
        for foreign in ["", "evil.example", "evil.example:9090", "localhost.evil.example", "127.0.0.1.evil.example:1"] {
            assert!(!is_own_name(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_bearer_token_is_cut_out_of_its_header() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b""), None);
    }
}
