//! Keys that the types have in common that speak to a server of their own.

use url::Url;

use super::Section;
use crate::handler::Format;
use crate::handler::naming::Template;
use crate::handler::server::ServerUrl;
use crate::secret::Secret;

/// `url`: where the server is. It may hold a password, and so may be given like a secret; what is shown of it is not
/// secret. `schemes` are those that the type knows.
pub(super) fn server(s: &mut Section<'_>, schemes: &[&str]) -> Option<ServerUrl> {
    let text = s.required_secret("url");
    if text == Secret::default() {
        // Its absence, or what was wrong with it, has been reported.
        return None;
    }
    let url = match Url::parse(text.expose()) {
        Ok(url) => url,
        Err(error) => {
            s.fault("url", format!("is no URL: {error}"));
            return None;
        }
    };
    let is_known = schemes.contains(&url.scheme());
    s.demand("url", is_known, || {
        let all = schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
        format!("must begin with {all}")
    });
    s.demand("url", !is_known || url.has_host(), || "names no host");
    Some(ServerUrl::new(s.settle("url", url)))
}

/// `format`: the form of what is sent.
pub(super) fn format(s: &mut Section<'_>) -> Format {
    s.word("format", Format::CloudEvents, &[("cloudevents", Format::CloudEvents), ("raw", Format::Raw)])
}

/// A name with places, such as `css.{kind}.{stream}`. `judge` says what is wrong with what surrounds the places, which it
/// gets filled with `_`.
pub(super) fn template(
    s: &mut Section<'_>,
    key: &str,
    default: &str,
    judge: impl FnOnce(&str) -> Option<&'static str>,
) -> Option<Template> {
    let text: String = s.read(key, default.to_owned());
    match Template::parse(&text) {
        Ok(template) => {
            let fault = judge(&template.bare());
            s.demand(key, fault.is_none(), || fault.unwrap_or_default());
            Some(template)
        }
        Err(fault) => {
            s.fault(key, fault.to_string());
            None
        }
    }
}
