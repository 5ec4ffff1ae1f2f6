//! `sign` = MD5(key + t).

use std::time::Duration;

use crate::event::Kind;
use crate::secret::Secret;

/// What is demanded of callbacks before they are believed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The callback keys; none: nothing is checked.
    pub keys: Vec<Key>,
    /// Whether events without `t` and `sign` are refused while keys are configured.
    pub required: bool,
    /// Kinds that are not checked, whatever they carry.
    pub unsigned_kinds: Vec<Kind>,
    /// How long past `t` a callback is accepted.
    pub expiry_grace: Duration,
    /// How far `t` may lie ahead of our clock.
    pub future_limit: Duration,
    /// Image audits of before August 2020, signed by headers; none: they are refused.
    pub legacy_porn: Option<LegacyPorn>,
    /// What callback URLs must carry as `?token=…`; none: nothing.
    pub url_token: Option<Secret>,
}

/// A callback key.
#[derive(Clone, Debug)]
pub struct Key {
    /// What it is called in logs and metrics.
    pub name: String,
    /// The key itself.
    pub key: Secret,
    /// The push domains it signs for, compared without case; none: any.
    pub domains: Vec<String>,
}

/// The account whose key signs image audits of before August 2020.
#[derive(Clone, Debug)]
pub struct LegacyPorn {
    /// `TPD-SecretID`
    pub secret_id: String,
    /// The key of `TPD-CallBack-Auth`.
    pub secret_key: Secret,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            required: true,
            unsigned_kinds: vec![Kind::Relay, Kind::Monitor],
            expiry_grace: Duration::from_secs(600),
            future_limit: Duration::from_secs(1200),
            legacy_porn: None,
            url_token: None,
        }
    }
}
