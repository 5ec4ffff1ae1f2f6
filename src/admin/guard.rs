//! Keeps strangers and their web pages away from the API.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::connections::Line;
use super::strangers::Stranger;
use super::{Admin, Problem};
use crate::secret::Secret;

/// Content types that no web page can send across origins without asking first.
const WRITE_TYPES: [&str; 3] = ["application/json", "application/x-ndjson", "application/jsonl"];

/// How a caller proved to be one of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Token,
    Cookie,
    /// None is asked for.
    None,
}

/// Lets a call of the API through when it carries the token or a login, comes from nobody else's page, and, if it writes,
/// says that it brings JSON.
pub(super) async fn api(State(admin): State<Admin>, request: Request, next: Next) -> Result<Response, Problem> {
    let proof = admin.authorize(request.headers())?;
    check(&request, proof)?;
    if let Some(line) = request.extensions().get::<Line>() {
        line.keep();
    }
    Ok(next.run(request).await)
}

/// The same for a call that needs no proof because it asks for one.
pub(super) async fn door(State(admin): State<Admin>, request: Request, next: Next) -> Result<Response, Problem> {
    // Where a token is asked for, a page that has its own name point at us gets nothing without it.
    let proof = if admin.token().is_some() { Proof::Token } else { Proof::None };
    check(&request, proof)?;
    Ok(next.run(request).await)
}

fn check(request: &Request, proof: Proof) -> Result<(), Problem> {
    let headers = request.headers();
    check_host(request.uri(), headers, proof != Proof::None)?;
    check_origin(headers)?;
    if request.method() == Method::GET || request.method() == Method::HEAD {
        return Ok(());
    }
    // A cookie comes along by itself, also from pages of other ports of this host, which count as the same site.
    if proof == Proof::Cookie && !headers.contains_key(header::ORIGIN) {
        return Err(Problem::foreign("a write with a login needs the header `Origin`; scripts use the token"));
    }
    check_write(headers)
}

/// What every answer carries: nothing of ours is to be guessed at, framed or kept.
pub(super) async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

impl Admin {
    fn authorize(&self, headers: &HeaderMap) -> Result<Proof, Problem> {
        let Some(token) = self.token() else {
            return Ok(Proof::None);
        };
        match headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer) {
            Some(given) => self.check_token(&token, given).map(|()| Proof::Token),
            None if self.session(headers).is_some() => Ok(Proof::Cookie),
            None => {
                self.0.strangers.count(Stranger::Nameless);
                Err(Problem::unauthorized())
            }
        }
    }

    /// Refuses a wrong token, and any while too many wrong ones come.
    pub(super) fn check_token(&self, token: &Secret, given: &[u8]) -> Result<(), Problem> {
        let now = self.now();
        if !self.0.guesses.allowed(now) {
            self.0.strangers.count(Stranger::Unheard);
            return Err(Problem::too_many_guesses());
        }
        if token.matches(given) {
            return Ok(());
        }
        self.0.guesses.count(given, now);
        self.0.strangers.count(Stranger::Wrong);
        Err(Problem::unauthorized())
    }
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
