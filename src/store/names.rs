//! Numbers that stand for names in indexes, where a name itself may be too long.

use sha2::{Digest as _, Sha256};

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Of {
    Stream,
    Domain,
    App,
}

/// Names that have the same digest share a list; whoever reads it looks at the events themselves. It takes 2⁴⁸ tries to
/// find a name that gets into the list of a given one.
pub(in crate::store) fn digest(of: Of, name: &str) -> i64 {
    let tag: &[u8] = match of {
        Of::Stream => b"s",
        Of::Domain => b"d",
        Of::App => b"a",
    };
    let hash = Sha256::new().chain_update(tag).chain_update(name).finalize();
    hash[..6].iter().fold(0, |number, byte| number << 8 | i64::from(*byte))
}
