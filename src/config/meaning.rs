//! What no table can judge alone: the listeners, and who may reach them.

use std::net::SocketAddr;

use super::Config;
use super::reader::Book;

/// Reports what is wrong with the configuration as a whole.
pub(super) fn judge(config: &Config, book: &mut Book) {
    let (callbacks, admin) = (config.server.listen, config.admin.listen);
    if config.signature.keys.is_empty() && config.signature.required && !is_loopback(callbacks) {
        book.fault(
            "server.listen",
            format!(
                "{callbacks} is no loopback address, and no callback key is configured: set signature.key, or \
                 signature.required = false to take unsigned callbacks from anybody"
            ),
        );
    }
    if config.admin.token.is_none() && !is_loopback(admin) {
        book.fault(
            "admin.listen",
            format!("{admin} is no loopback address, and no admin token is configured: set admin.token"),
        );
    }
    if collide(callbacks, admin) {
        book.fault("admin.listen", format!("{admin} is taken by server.listen; the two listeners must differ"));
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let anywhere = |address: SocketAddr| address.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (one.ip() == other.ip() || anywhere(one) || anywhere(other))
}
