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
pub use jwks_cache::{JwksCache, JwksStatus, Lookup};
pub use jwks_source::{JwksUrl, KeySource};
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
    /// The token is well-formed and needs the issuer's key of this `kid`: see [`Verifier::authenticate_with_keys`].
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

    /// Verifies the token in the value of the one `Authorization` header, as far as that is possible without the
    /// issuer's keys. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Any [`AuthError`] but `KeysUnavailable`.
    pub fn authenticate(&self, authorization: Option<&str>, now: f64) -> Result<Verdict, AuthError> {
        let jws = Jws::from_authorization(authorization)?;
        match jws.scheme {
            SignatureScheme::Secret { .. } => {
                self.verify_with_secret(&jws)?;
                self.identity(&jws, now).map(Verdict::Verified)
            }
            SignatureScheme::Key { kid, .. } => Ok(Verdict::NeedsKey { kid }),
        }
    }

    /// Verifies a token that [`Verifier::authenticate`] said needs a key. `keys` is the set that [`JwksCache::find`]
    /// gave.
    ///
    /// # Errors
    /// Any [`AuthError`] but `KeysUnavailable`.
    pub fn authenticate_with_keys(
        &self,
        authorization: Option<&str>,
        keys: &KeySet,
        now: f64,
    ) -> Result<Identity, AuthError> {
        let jws = Jws::from_authorization(authorization)?;
        match &jws.scheme {
            SignatureScheme::Secret { .. } => self.verify_with_secret(&jws)?,
            SignatureScheme::Key { kid, algorithm } => {
                keys.verify(kid, *algorithm, jws.signing_input, &decode(jws.signature)?)?;
            }
        }
        self.identity(&jws, now)
    }

    /// Verifies an HS256 signature with each secret. The library compares in constant time.
    fn verify_with_secret(&self, jws: &Jws) -> Result<(), AuthError> {
        let verify = |secret| verify(jws.signature, jws.signing_input, secret, Algorithm::HS256);
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

    /// The identity in the claims, whose signature must be verified before.
    fn identity(&self, jws: &Jws, now: f64) -> Result<Identity, AuthError> {
        let claims: Claims = parse_object(&jws.payload)
            .ok_or(AuthError::Invalid("the claims set is not a valid JSON object, or repeats a claim"))?;
        claims.validate(&self.expected, jws, now)
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
