//! The keys of `chat`.

use url::Url;

use super::{Section, Target, ca_file};
use crate::handler::chat::{Service, Settings, Template};
use crate::secret::Secret;

/// Messages in a minute: what WeCom and DingTalk take.
const RATE: usize = 20;
/// More than any of the services takes.
const RATE_MAX: usize = 1000;

pub(super) fn chat(s: &mut Section<'_>) -> Option<Target> {
    let service = service(s);
    let url = url(s);
    let secret = s.secret("secret");
    if let Some(service) = service {
        s.demand("secret", secret.is_none() || service.signs(), || {
            format!("webhooks of {} know no signatures; leave it out", service.slug())
        });
    }
    let ca_file = ca_file(s);
    let template = template(s);
    let rate = s.count("rate", RATE);
    s.demand("rate", (1..=RATE_MAX).contains(&rate), || format!("must lie between 1 and {RATE_MAX}"));
    Some(Target::Chat(Settings { service: service?, url, secret, ca_file, template: template?, rate }))
}

/// The path or the query of the URL is the key, so nothing but the host is shown, and nothing is said.
fn url(s: &mut Section<'_>) -> Secret {
    let secret = s.required_secret("url");
    if secret == Secret::default() {
        // Its absence, or what was wrong with it, has been reported.
        return secret;
    }
    match Url::parse(secret.expose()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => {
            s.settle("url", format!("{}/…", url.origin().ascii_serialization()));
        }
        _ => s.fault("url", "is no URL that begins with https:// or http://"),
    }
    secret
}

fn service(s: &mut Section<'_>) -> Option<Service> {
    let word: String = s.required("service")?;
    let service = Service::from_slug(&word);
    s.demand("service", service.is_some(), || {
        format!("{word:?} is none of {}", Service::ALL.map(|(slug, _)| slug).join(", "))
    });
    service
}

fn template(s: &mut Section<'_>) -> Option<Template> {
    let Some(source) = s.optional::<String>("template") else { return Some(Template::default()) };
    match Template::compile(&source) {
        Ok(template) => Some(template),
        Err(fault) => {
            s.fault("template", fault.to_string());
            None
        }
    }
}
