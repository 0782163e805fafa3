//! Verifies bearer tokens: the only way to get a [`UserId`].
//!
//! The server signs nobody in. It accepts a token because the frontend's Better Auth signed it; nothing else in a
//! request says who the user is. The order of the checks is that of `specs/api/auth.md`: no claim is read before the
//! signature is verified. Nothing here waits: if a token needs a key that is not in memory, [`JwksCache`] parks its
//! request.

mod claims;
mod error;
mod identity;
mod jwks;
mod jwks_cache;
mod jwks_source;
pub mod jwks_table;
mod jws;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jsonwebtoken::crypto::verify;
use jsonwebtoken::{Algorithm, DecodingKey};
use log::warn;

use claims::{Claims, ExpectedClaims};
pub use error::AuthError;
pub use identity::{Identity, MAX_USER_ID_CHARS, UserId};
pub use jwks::{KeySet, MAX_KEYS};
pub use jwks_cache::{JwksCache, JwksStatus};
pub use jwks_source::KeySource;
pub use jws::MAX_TOKEN_BYTES;
use jws::{Jws, SignatureScheme, decode, parse_object};

use crate::http::json::JsonValue;

/// After this many bad HS256 signatures, and none good since the start, a warning says that the secret is suspect.
const SUSPICIOUS_BAD_SIGNATURES: u64 = 10;

/// Which tokens are accepted.
#[derive(Default)]
pub struct AuthConfig {
    /// HS256 secrets, used as raw bytes. Each of them may have signed a token.
    pub secrets: Vec<String>,
    /// The required value of `iss`.
    pub issuer: Option<String>,
    /// The required value of `aud`, or one of its values.
    pub audience: Option<String>,
}

/// The result of [`Verifier::authenticate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Signature and claims hold.
    Verified(Identity),
    /// The token is well-formed, and can be verified only with the issuer's key of this `kid`.
    NeedsKey {
        /// As the header of the token names it; not yet verified.
        kid: String,
    },
}

/// Verifies tokens. Never waits and never performs I/O.
pub struct Verifier {
    secrets: Vec<DecodingKey>,
    /// The required values of `iss` and `aud`.
    expected: ExpectedClaims,
    /// HS256 signatures that failed, counted until the first one holds.
    bad_signatures: AtomicU64,
    has_good_signature: AtomicBool,
}

impl Verifier {
    /// A verifier for these secrets and expected claims.
    pub fn new(config: AuthConfig) -> Self {
        let key = |secret: &String| DecodingKey::from_secret(secret.as_bytes());
        Self {
            secrets: config.secrets.iter().map(key).collect(),
            expected: ExpectedClaims {
                issuer: config.issuer.map(JsonValue::Text),
                audience: config.audience.map(JsonValue::Text),
            },
            bad_signatures: AtomicU64::new(0),
            has_good_signature: AtomicBool::new(false),
        }
    }

    /// Verifies the token in the value of the one `Authorization` header. `keys` is the set that [`JwksCache::find`]
    /// gave for its `kid`; without one, a token that needs a key is not verified. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Any [`AuthError`] but `KeysUnavailable`.
    pub fn authenticate(
        &self,
        authorization: Option<&str>,
        keys: Option<&KeySet>,
        now: f64,
    ) -> Result<Verdict, AuthError> {
        let Jws { signing_input, scheme, payload, signature } = Jws::from_authorization(authorization)?;
        let is_untyped_hs256 = matches!(scheme, SignatureScheme::Secret { has_typ: false });
        match (scheme, keys) {
            (SignatureScheme::Secret { .. }, _) => self.verify_with_secret(signing_input, signature)?,
            (SignatureScheme::Key { kid, algorithm }, Some(keys)) => {
                keys.verify(&kid, algorithm, signing_input, &decode(signature)?)?;
            }
            (SignatureScheme::Key { kid, .. }, None) => return Ok(Verdict::NeedsKey { kid }),
        }
        let claims: Claims = parse_object(&payload)
            .ok_or(AuthError::Invalid("the claims set is not a valid JSON object, or repeats a claim"))?;
        claims.validate(&self.expected, &payload, is_untyped_hs256, now).map(Verdict::Verified)
    }

    /// Verifies an HS256 signature with each secret. The library compares in constant time.
    fn verify_with_secret(&self, signing_input: &[u8], signature: &str) -> Result<(), AuthError> {
        let verify = |secret| verify(signature, signing_input, secret, Algorithm::HS256);
        if self.secrets.iter().any(|secret| verify(secret).unwrap_or(false)) {
            self.has_good_signature.store(true, Ordering::Relaxed);
            return Ok(());
        }
        if self.count_bad_signature() {
            warn!(
                "{SUSPICIOUS_BAD_SIGNATURES} tokens in a row have a bad HS256 signature, and none was good since the \
                 start: BETTER_AUTH_SECRET is probably not the frontend's"
            );
        }
        Err(AuthError::Invalid("signature verification failed"))
    }

    /// Whether this bad HS256 signature makes the secret itself suspect. True at most once.
    fn count_bad_signature(&self) -> bool {
        !self.has_good_signature.load(Ordering::Relaxed)
            && self.bad_signatures.fetch_add(1, Ordering::Relaxed) + 1 == SUSPICIOUS_BAD_SIGNATURES
    }
}

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz_tests;
#[cfg(test)]
mod key_tests;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../../tests/support/signer.rs"]
mod signer;
#[cfg(test)]
mod tests;
