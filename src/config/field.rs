//! How a single value is read and shown. Text from the environment or the command line takes the type that is wanted;
//! in the file a number is a number and text is text.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::reader::Misfit;
use super::tree::{Node, Origin, What};
use super::units;
use crate::event::Kind;
use crate::store;

/// A type of value.
pub(super) trait Field: Sized {
    /// The value of a node. The misfit may show it: no secret is read this way.
    fn read(node: Node) -> Result<Self, Misfit>;
    /// As a TOML literal.
    fn show(&self) -> String;
}

/// Bytes.
pub(super) struct Size(pub(super) u64);

/// Where a store is, with a password perhaps.
pub(super) struct StoreUrl(pub(super) String);

/// What is shown of a secret.
pub(super) const MASK: &str = "\"…\"";

/// Text as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

impl Field for bool {
    fn read(node: Node) -> Result<Self, Misfit> {
        match (&node.what, &node.origin) {
            (What::Bool(value), _) => Ok(*value),
            (What::Text(text), Origin::Text(_)) => {
                text.parse().map_err(|_| format!("{text:?} is neither true nor false").into())
            }
            _ => Err(format!("is {}; true or false is wanted, without quotes", node.noun()).into()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Field for u64 {
    fn read(node: Node) -> Result<Self, Misfit> {
        let unfit = |shown: String| Misfit::from(format!("{shown} is no whole number from 0 upwards"));
        match (&node.what, &node.origin) {
            (What::Integer(number), _) => u64::try_from(*number).map_err(|_| unfit(number.to_string())),
            (What::Text(text), Origin::Text(_)) => text.parse().map_err(|_| unfit(format!("{text:?}"))),
            _ => Err(format!("is {}; a whole number is wanted, without quotes", node.noun()).into()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Field for Size {
    fn read(node: Node) -> Result<Self, Misfit> {
        if let What::Integer(number) = node.what {
            let hint = u64::try_from(number).map_or_else(|_| "64KiB".to_owned(), units::show_size);
            return Err(format!("{number} has no unit; a size is text with a unit, such as {hint:?}").into());
        }
        Ok(Self(units::size(&text(node)?)?))
    }

    fn show(&self) -> String {
        quoted(&units::show_size(self.0))
    }
}

impl Field for Duration {
    fn read(node: Node) -> Result<Self, Misfit> {
        if let What::Integer(number) = node.what {
            return Err(format!("{number} has no unit; a duration is text with a unit, such as \"10s\"").into());
        }
        Ok(units::span(&text(node)?)?)
    }

    fn show(&self) -> String {
        quoted(&units::show_span(*self))
    }
}

impl Field for String {
    fn read(node: Node) -> Result<Self, Misfit> {
        text(node)
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl Field for StoreUrl {
    fn read(node: Node) -> Result<Self, Misfit> {
        text(node).map(Self)
    }

    fn show(&self) -> String {
        quoted(&store::shown_url(&self.0))
    }
}

impl Field for PathBuf {
    fn read(node: Node) -> Result<Self, Misfit> {
        let text = text(node)?;
        if text.is_empty() { Err("is empty; a path is wanted".to_owned().into()) } else { Ok(text.into()) }
    }

    fn show(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Field for SocketAddr {
    fn read(node: Node) -> Result<Self, Misfit> {
        let text = text(node)?;
        text.parse()
            .map_err(|_| format!("{text:?} is not IP:port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080").into())
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Field for Kind {
    fn read(node: Node) -> Result<Self, Misfit> {
        Kind::from_str(&text(node)?).map_err(|e| e.to_string().into())
    }

    fn show(&self) -> String {
        quoted(self.slug())
    }
}

/// May hold a password, which is neither shown nor said.
impl Field for Url {
    fn read(node: Node) -> Result<Self, Misfit> {
        Url::parse(&text(node)?).map_err(|e| format!("is no URL: {e}").into())
    }

    fn show(&self) -> String {
        // Passwords, user names and queries are where sinks have their tokens.
        let mut url = self.clone();
        let hidden = !url.username().is_empty() || url.password().is_some();
        // Neither can fail: a URL with a user has a host.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        let query = url.query().is_some();
        url.set_query(None);
        let shown = url.as_str().replacen("://", if hidden { "://…@" } else { "://" }, 1);
        quoted(&format!("{shown}{}", if query { "?…" } else { "" }))
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(node: Node) -> Result<Self, Misfit> {
        let node = node.unfolded()?;
        match node.what {
            What::List(items) => {
                let read = |(index, item)| T::read(item).map_err(|misfit| misfit.inside(index));
                items.into_iter().enumerate().map(read).collect()
            }
            _ => Err(format!("is {}; a list is wanted, in brackets", node.noun()).into()),
        }
    }

    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }
}

fn text(node: Node) -> Result<String, Misfit> {
    match node.what {
        What::Text(text) => Ok(text),
        _ => Err(format!("is {}; text is wanted, in quotes", node.noun()).into()),
    }
}
