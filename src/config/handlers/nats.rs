//! The keys of `nats`.

use super::{Section, Target, ca_file, outside};
use crate::handler::nats::Settings;

/// Subjects of streams that take `css.>`, with every part that consumers filter by.
const SUBJECT: &str = "css.{kind}.{domain}.{app}.{stream}";

pub(super) fn nats(s: &mut Section<'_>) -> Option<Target> {
    let server = outside::server(s, &["nats", "tls"]);
    let nkey = s.secret("nkey");
    let credentials = s.secret("credentials");
    let has_user = server.as_ref().is_some_and(|server| !server.expose().username().is_empty());
    let ways = [has_user, nkey.is_some(), credentials.is_some()];
    s.demand(
        "url",
        ways.into_iter().filter(|way| *way).count() < 2,
        || "there may be one of a user in the URL, nkey and credentials: a server takes only one of them",
    );
    let ca_file = ca_file(s);
    let subject = outside::template(s, "subject", SUBJECT, misfit);
    let format = outside::format(s);
    Some(Target::Nats(Settings { server: server?, nkey, credentials, ca_file, subject: subject?, format }))
}

/// What NATS would not take, or would take for its own.
fn misfit(subject: &str) -> Option<&'static str> {
    if subject.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Some("has a blank, which no subject may have");
    }
    if subject.split('.').any(str::is_empty) {
        return Some("has an empty part between its dots");
    }
    if subject.contains(['*', '>']) {
        return Some("has * or >, to which nothing can be published");
    }
    subject.starts_with('$').then_some("begins with $, which is the server's own")
}
