//! The signature of the Standard Webhooks specification (version 1, symmetric).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::clock::Timestamp;
use crate::handler::BuildError;
use crate::secret::Secret;

/// A key ready to sign.
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    /// `whsec_` and the key in Base64, or else the key itself.
    pub(super) fn read(secret: &Secret) -> Result<Self, BuildError> {
        let fault = |what: &str| BuildError(format!("the secret {what}"));
        let key = match secret.expose().strip_prefix("whsec_") {
            Some(encoded) => {
                STANDARD.decode(encoded).map_err(|_| fault("begins with `whsec_`, but what follows is no Base64"))?
            }
            None => secret.expose().as_bytes().to_vec(),
        };
        if key.is_empty() {
            return Err(fault("is empty"));
        }
        Hmac::new_from_slice(&key).map(Self).map_err(|_| fault("cannot be used as a key"))
    }

    /// The headers that sign `body`.
    pub(super) fn headers(&self, id: &str, now: Timestamp, body: &[u8]) -> [(String, String); 3] {
        let timestamp = now.secs().to_string();
        let signature = self.sign(id, &timestamp, body);
        [("webhook-id", id.to_owned()), ("webhook-timestamp", timestamp), ("webhook-signature", signature)]
            .map(|(name, value)| (name.to_owned(), value))
    }

    fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> Result<Key, BuildError> {
        Key::read(&Secret::new(secret))
    }

    /// The example of the Svix documentation, "Verifying webhooks manually".
    #[test]
    fn the_published_example_signs_as_published() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let now = Timestamp::from_secs(1_614_265_330);
        let headers = key.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", now, br#"{"test": 2432232314}"#);
        let expected = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_plain_secret_is_its_bytes() {
        let plain = key("test").unwrap().sign("i", "1", b"{}");
        assert_eq!(plain, key("whsec_dGVzdA==").unwrap().sign("i", "1", b"{}"));
        assert_ne!(plain, key("tess").unwrap().sign("i", "1", b"{}"));
    }

    #[test]
    fn useless_secrets_are_refused_without_being_shown() {
        for bad in ["", "whsec_", "whsec_hunter2!"] {
            assert!(!key(bad).err().unwrap().to_string().contains("hunter2"), "{bad}");
        }
    }
}
