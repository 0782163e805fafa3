//! Verifies bearer tokens: the only way to get a [`UserId`].
//!
//! The server signs nobody in. It accepts a token because the frontend's Better Auth signed it; nothing else in a
//! request says who the user is. The order of the checks is that of `specs/api/auth.md`: no claim is read before the
//! signature is verified. Nothing here waits: a token that needs a key is told apart first, and [`JwksCache`] parks
//! its request.

mod claims;
mod error;
mod jwks;
mod jwks_cache;
mod jwks_source;
pub mod jwks_table;
mod jws;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jsonwebtoken::DecodingKey;
use log::warn;

use claims::{Claims, ExpectedClaims};
pub use error::AuthError;
pub use jwks::{KeySet, MAX_KEYS};
pub use jwks_cache::{JwksCache, JwksStatus, Lookup};
pub use jwks_source::{JwksUrl, KeySource};
pub use jws::MAX_TOKEN_BYTES;
use jws::{Jws, SignatureScheme, parse_object};

/// The longest user id, in characters.
pub const MAX_USER_ID_CHARS: usize = 255;
/// After this many bad HS256 signatures, and none good since the start, a warning says that the secret is suspect.
const SUSPICIOUS_BAD_SIGNATURES: u64 = 10;

/// The id of a user whose token was verified.
///
/// There is no other way to make one, so no query, path or body can name a user:
///
/// ```compile_fail
/// let forged = todo_backend::auth::UserId("somebody".to_owned());
/// ```
/// ```compile_fail
/// let forged: todo_backend::auth::UserId = "somebody".to_owned().into();
/// ```
/// ```compile_fail
/// let forged: todo_backend::auth::UserId = serde_json::from_str("\"somebody\"").unwrap();
/// ```
/// ```compile_fail
/// let forged = todo_backend::auth::UserId::default();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserId(String);

impl UserId {
    /// The id as Better Auth made it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The user of a verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The owner of the tasks.
    pub user: UserId,
    /// The e-mail address, if the token has one. Never an identity.
    pub email: Option<String>,
}

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
    expected: ExpectedClaims,
    /// HS256 signatures that failed, counted until the first one holds.
    bad_signatures: AtomicU64,
    has_good_signature: AtomicBool,
}

impl Verifier {
    /// A verifier for these secrets and expected claims.
    pub fn new(config: AuthConfig) -> Self {
        let AuthConfig { secrets, issuer, audience } = config;
        let key = |secret: &String| DecodingKey::from_secret(secret.as_bytes());
        Self {
            secrets: secrets.iter().map(key).collect(),
            expected: ExpectedClaims { issuer, audience },
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
            SignatureScheme::Secret => {
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
            SignatureScheme::Secret => self.verify_with_secret(&jws)?,
            SignatureScheme::Key { kid, algorithm } => {
                keys.verify(kid, *algorithm, jws.signing_input, &jws.signature)?;
            }
        }
        self.identity(&jws, now)
    }

    /// The library compares in constant time.
    fn verify_with_secret(&self, jws: &Jws) -> Result<(), AuthError> {
        let holds = |secret| {
            let Jws { signing_input, encoded_signature, .. } = jws;
            jsonwebtoken::crypto::verify(encoded_signature, signing_input, secret, jsonwebtoken::Algorithm::HS256)
                .unwrap_or(false)
        };
        if self.secrets.iter().any(holds) {
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

    /// What the claims say, once the signature is verified.
    fn identity(&self, jws: &Jws, now: f64) -> Result<Identity, AuthError> {
        let claims: Claims = parse_object(&jws.payload)
            .ok_or(AuthError::Invalid("the claims set is not a valid JSON object, or repeats a claim"))?;
        claims.validate(&self.expected, jws, now)
    }
}

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod key_tests;
#[cfg(test)]
#[path = "../../tests/support/signer.rs"]
mod signer;
#[cfg(test)]
mod tests;
