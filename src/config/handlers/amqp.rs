//! The keys of `amqp`.

use super::{Section, Target, ca_file, outside};
use crate::handler::amqp::Settings;

/// For a topic exchange, with every part that bindings choose by.
const ROUTING_KEY: &str = "css.{kind}.{domain}.{app}.{stream}";
/// Bytes of a name in this protocol.
const NAME_BYTES_MAX: usize = 255;

pub(super) fn amqp(s: &mut Section<'_>) -> Option<Target> {
    let server = outside::server(s, &["amqp", "amqps"]);
    let ca_file = ca_file(s);
    let exchange: Option<String> = s.required("exchange");
    let fits = exchange.as_ref().is_none_or(|name| name.len() <= NAME_BYTES_MAX);
    s.demand("exchange", fits, || format!("is longer than {NAME_BYTES_MAX} bytes"));
    let routing_key = outside::template(s, "routing_key", ROUTING_KEY, |key| {
        (key.len() > NAME_BYTES_MAX).then_some("is longer than 255 bytes")
    });
    let format = outside::format(s);
    Some(Target::Amqp(Settings { server: server?, ca_file, exchange: exchange?, routing_key: routing_key?, format }))
}
