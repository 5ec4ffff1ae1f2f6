//! `/session`: a browser shows the token once and keeps a cookie instead.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use utoipa::ToSchema;

use super::openapi;
use super::query::Told;
use super::{Admin, Problem};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// A working shift; then the token is asked for again.
const LIFETIME: Duration = Duration::from_hours(12);
/// Logouts remembered until their cookies expire by themselves.
const ENDED_MAX: usize = 10_000;
const COOKIE: &str = "livehook_session";

/// What a cookie says, once its seal was found intact: its number, and when it ends.
///
/// The cookie is `<expiry in seconds>.<number>.<seal>`, the seal an HMAC-SHA256 under the token over the two. So nothing
/// is kept of a login, it outlives a restart, and another token ends all of them: for good, if the process sees the token
/// change back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    number: u128,
    expires: Timestamp,
}

/// Logins that were ended before their time, until they would have ended by themselves or the process does.
#[derive(Debug, Default)]
pub(super) struct Ended(Mutex<BTreeMap<u128, Timestamp>>);

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    token: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct Status {
    /// Whether calls need a token or a login at all.
    token_required: bool,
    logged_in: bool,
    expires_at: Option<String>,
}

/// Says whether there is a login; open to everybody.
#[utoipa::path(
    get,
    path = "/session",
    tag = "session",
    operation_id = "session",
    security(()),
    responses((status = OK, description = "Whether there is one", body = Status)),
)]
pub(super) async fn show(State(admin): State<Admin>, headers: HeaderMap) -> Json<Status> {
    Json(Status::of(&admin, admin.session(&headers)))
}

/// Gives a cookie for the token.
#[utoipa::path(
    post,
    path = "/session",
    tag = "session",
    operation_id = "login",
    security(()),
    request_body = Login,
    responses((status = OK, description = "Logged in, with the cookie", body = Status)),
)]
pub(super) async fn login(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Told(login): Told<Login>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<Status>), Problem> {
    let Some(token) = admin.token() else {
        return Err(Problem::conflict("no `admin.token` is configured, so there is nothing to log in to"));
    };
    admin.check_token(&token, login.token.as_bytes())?;
    // Only the seal must be beyond guessing; the number tells logins apart.
    let session = Session::new(admin.now().max(admin.0.terms.load().token_since));
    tracing::info!("logged in to the dashboard");
    let cookie = set_cookie(&session.sealed(&token), LIFETIME, &headers);
    Ok((cookie, Json(Status::of(&admin, Some(session)))))
}

/// Ends the login of the cookie, if it has one.
#[utoipa::path(
    delete,
    path = "/session",
    tag = "session",
    operation_id = "logout",
    security(()),
    request_body = openapi::Empty,
    responses((status = OK, description = "Logged out", body = Status)),
)]
pub(super) async fn logout(
    State(admin): State<Admin>,
    headers: HeaderMap,
) -> ([(HeaderName, HeaderValue); 1], Json<Status>) {
    if let Some(session) = admin.session(&headers) {
        admin.0.ended.add(session, admin.now());
        tracing::info!("logged out of the dashboard");
    }
    (set_cookie("", Duration::ZERO, &headers), Json(Status::of(&admin, None)))
}

impl Admin {
    /// The login that the cookie of a request proves.
    pub(super) fn session(&self, headers: &HeaderMap) -> Option<Session> {
        let terms = self.0.terms.load();
        let token = terms.settings.token.as_ref()?;
        // Not of the same token as it was before another one.
        let (now, first) = (self.now(), Session::new(terms.token_since).expires);
        let mut found = cookies(headers).filter_map(|value| Session::unseal(value, token));
        found.find(|session| session.expires > now && session.expires >= first && !self.0.ended.has(session))
    }
}

impl Status {
    fn of(admin: &Admin, session: Option<Session>) -> Self {
        Self {
            token_required: admin.token().is_some(),
            logged_in: session.is_some(),
            expires_at: session.map(|session| session.expires.rfc3339()),
        }
    }
}

impl Session {
    fn new(now: Timestamp) -> Self {
        Self { number: fastrand::u128(..), expires: Timestamp::from_secs(now.plus(LIFETIME).secs()) }
    }

    fn sealed(&self, token: &Secret) -> String {
        let text = self.text();
        let seal = hex::encode(seal(&text, token).finalize().into_bytes());
        format!("{text}.{seal}")
    }

    fn unseal(value: &str, token: &Secret) -> Option<Self> {
        let (text, given) = value.rsplit_once('.')?;
        seal(text, token).verify_slice(&hex::decode(given).ok()?).ok()?;
        let (expires, number) = text.split_once('.')?;
        let number = u128::from_str_radix(number, 16).ok()?;
        Some(Self { number, expires: Timestamp::from_secs(expires.parse().ok()?) })
    }

    fn text(&self) -> String {
        format!("{}.{:032x}", self.expires.secs(), self.number)
    }
}

impl Ended {
    fn add(&self, session: Session, now: Timestamp) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|_, expires| *expires > now);
        if ended.len() < ENDED_MAX {
            ended.insert(session.number, session.expires);
        }
    }

    fn has(&self, session: &Session) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&session.number)
    }
}

fn seal(text: &str, token: &Secret) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(token.expose().as_bytes()).expect("HMAC takes keys of any length");
    // What is sealed here must not do for anything else that may be sealed with the token one day.
    mac.update(b"livehook dashboard session\n");
    mac.update(text.as_bytes());
    mac
}

/// The values of all cookies with our name: a browser may send one of a neighbour on the same host first.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// No script reads it, no page of others sends it, and where the request came over HTTPS it never leaves without.
fn set_cookie(value: &str, lifetime: Duration, headers: &HeaderMap) -> [(HeaderName, HeaderValue); 1] {
    let secure = if came_over_https(headers) { "; Secure" } else { "" };
    let age = lifetime.as_secs();
    let text = format!("{COOKIE}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}");
    [(header::SET_COOKIE, HeaderValue::from_str(&text).expect("digits, dots and our own words"))]
}

fn came_over_https(headers: &HeaderMap) -> bool {
    let proto = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok()).unwrap_or_default();
    proto.split(',').next().unwrap_or_default().trim().eq_ignore_ascii_case("https")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session { number: 7, expires: Timestamp::from_secs(1_700_000_000) }
    }

    #[test]
    fn only_the_token_that_sealed_a_cookie_opens_it() {
        let token = Secret::new("let me in");
        let value = session().sealed(&token);
        assert_eq!(Session::unseal(&value, &token), Some(session()));
        assert_eq!(Session::unseal(&value, &Secret::new("let me in!")), None);
        assert!(!value.contains("let me in"));
    }

    #[test]
    fn a_cookie_that_was_touched_is_none() {
        let token = Secret::new("let me in");
        let value = session().sealed(&token);
        let later = value.replacen("1700000000", "1800000000", 1);
        let cut = &value[..value.len() - 2];
        for touched in [later.as_str(), cut, "", ".", "..", "1.2.3", "1800000000.7."] {
            assert_eq!(Session::unseal(touched, &token), None, "{touched}");
        }
    }

    #[test]
    fn our_cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers
            .append(header::COOKIE, HeaderValue::from_static("theme=dark; livehook_session=a.b; x_livehook_session=c"));
        headers.append(header::COOKIE, HeaderValue::from_static("livehook_session=d"));
        assert_eq!(cookies(&headers).collect::<Vec<_>>(), ["a.b", "d"]);
    }

    #[test]
    fn a_cookie_is_secure_where_the_request_came_over_https() {
        let mut headers = HeaderMap::new();
        let text = |headers: &HeaderMap| set_cookie("x", LIFETIME, headers)[0].1.to_str().unwrap().to_owned();
        assert_eq!(text(&headers), "livehook_session=x; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https, http"));
        assert!(text(&headers).ends_with("; SameSite=Strict; Secure"));
    }
}
