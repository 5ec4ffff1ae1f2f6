//! Why a callback goes to quarantine instead of the inbox.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Kind;

/// A check that a callback failed, with the facts. Its text is for operators: the sender never learns it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Refusal {
    #[error("the URL carries no or a wrong token")]
    Token,
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body is empty")]
    Empty,
    #[error("the body is no JSON object: {detail}")]
    MalformedJson { detail: String },
    #[error("the body has no usable `event_type`")]
    NoEventType,
    #[error("{detail}")]
    SignatureMalformed { detail: String },
    #[error("{missing}, and events of kind {kind} must be signed")]
    SignatureMissing { missing: &'static str, kind: Kind },
    #[error("`sign` {} for {domain}", no_match(*keys))]
    SignatureMismatch { keys: usize, domain: String },
    #[error("`t` expired {past:?} ago, the grace is {grace:?}")]
    SignatureExpired { past: Duration, grace: Duration },
    #[error("`t` lies {ahead:?} ahead of our clock, the limit is {limit:?}")]
    SignatureFuture { ahead: Duration, limit: Duration },
}

fn no_match(keys: usize) -> String {
    if keys == 1 { "does not match the key".to_owned() } else { format!("matches none of the {keys} keys") }
}

/// The name of a refusal, without its facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named like the refusals")]
pub enum Reason {
    Token,
    TooLarge,
    Empty,
    MalformedJson,
    NoEventType,
    SignatureMalformed,
    SignatureMissing,
    SignatureMismatch,
    SignatureExpired,
    SignatureFuture,
}

impl Reason {
    /// All reasons in the order in which the checks run.
    pub const ALL: [Self; 10] = [
        Self::Token,
        Self::TooLarge,
        Self::Empty,
        Self::MalformedJson,
        Self::NoEventType,
        Self::SignatureMalformed,
        Self::SignatureMissing,
        Self::SignatureMismatch,
        Self::SignatureExpired,
        Self::SignatureFuture,
    ];

    /// The name in API, metrics and spill lines.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::TooLarge => "too-large",
            Self::Empty => "empty",
            Self::MalformedJson => "malformed-json",
            Self::NoEventType => "no-event-type",
            Self::SignatureMalformed => "signature-malformed",
            Self::SignatureMissing => "signature-missing",
            Self::SignatureMismatch => "signature-mismatch",
            Self::SignatureExpired => "signature-expired",
            Self::SignatureFuture => "signature-future",
        }
    }
}

impl Refusal {
    /// The name of the check that failed.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Token => Reason::Token,
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::Empty => Reason::Empty,
            Self::MalformedJson { .. } => Reason::MalformedJson,
            Self::NoEventType => Reason::NoEventType,
            Self::SignatureMalformed { .. } => Reason::SignatureMalformed,
            Self::SignatureMissing { .. } => Reason::SignatureMissing,
            Self::SignatureMismatch { .. } => Reason::SignatureMismatch,
            Self::SignatureExpired { .. } => Reason::SignatureExpired,
            Self::SignatureFuture { .. } => Reason::SignatureFuture,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.slug())
    }
}

/// The text names no reason.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no quarantine reason; the reasons are {all}", all = Reason::ALL.map(Reason::slug).join(", "))]
pub struct NoSuchReason(String);

impl FromStr for Reason {
    type Err = NoSuchReason;

    fn from_str(text: &str) -> Result<Self, NoSuchReason> {
        Self::ALL.into_iter().find(|reason| reason.slug() == text).ok_or_else(|| NoSuchReason(text.to_owned()))
    }
}
