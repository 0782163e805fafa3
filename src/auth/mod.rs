//! From a bearer token to an [`Identity`]: the only door to a [`UserId`].
//!
//! The server signs nobody in. It trusts a token because the frontend's Better Auth signed it, and nothing else in a
//! request says who is asking. The order of judgement is that of `specs/api/auth.md`; what a token says is not looked at
//! before its signature holds, save the header, which names the algorithm.

mod claims;
mod jwks;
mod jwks_cache;
#[cfg(test)]
mod jwks_cache_tests;
mod jwks_source;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use crate::http::Unclear;
use crate::http::json::{Scalar, is_object};
use claims::{Claims, Expected};
use jwks::KeySet;
pub use jwks::MAX_KEYS;
use jwks_cache::Issuer;
pub use jwks_cache::KeyStatus;
pub use jwks_source::{JwksUrl, KeySource};

/// The longest token that is looked at, in bytes. A user's avatar can be a claim: 8 KB have been seen.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The longest user id, in characters.
pub const MAX_USER_ID_CHARS: usize = 255;

/// The id of somebody whose token was verified.
///
/// There is no other way to have one, so no query, path or body can name a user:
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

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whose tasks are meant.
    pub user: UserId,
    /// The e-mail address, where the token carries one. Never an identity.
    pub email: Option<String>,
}

/// Why a request has no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It shows no bearer token.
    Missing,
    /// Its token does not hold; says why.
    Invalid(&'static str),
    /// Its token has expired.
    Expired,
    /// Its token cannot be judged just now: the issuer's keys are not to be had.
    NotNow,
}

impl Refusal {
    /// The value of `WWW-Authenticate` (RFC 6750, section 3).
    pub fn challenge(&self) -> String {
        match self {
            Refusal::Missing => "Bearer".to_owned(),
            _ => format!("Bearer error=\"invalid_token\", error_description=\"{self}\""),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Missing => f.write_str("Not authenticated"),
            Refusal::Invalid(why) => write!(f, "The token is not valid: {why}"),
            Refusal::Expired => f.write_str("The token has expired"),
            Refusal::NotNow => f.write_str("The token cannot be checked just now"),
        }
    }
}

/// Whose tokens are accepted.
#[derive(Default)]
pub struct Trust {
    /// Each of these, taken as the bytes it is, may have signed a token.
    pub secrets: Vec<String>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must be, or have among others.
    pub audience: Option<String>,
}

/// Whether there is time to wait for the issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Patience {
    None,
    Some,
}

/// Verifies tokens.
pub struct Verifier {
    secrets: Vec<DecodingKey>,
    keys: Arc<Issuer>,
    expected: Expected,
}

/// The header of a token. An unknown member is ignored, as RFC 7515 has it: a key or the URL of one in a header is none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Header {
    alg: Scalar,
    kid: Scalar,
    typ: Scalar,
    crit: Scalar,
}

/// What a token is signed with, if its header is true.
enum Signer<'h> {
    Secret,
    Key(&'h str, jwks::Algorithm),
}

impl Header {
    /// Whether the token is one of ours to judge, as far as its header says, and then who signed it.
    fn judge(&self) -> Result<Signer<'_>, Refusal> {
        if self.crit != Scalar::Absent {
            return Err(Refusal::Invalid("its header has critical extensions"));
        }
        match &self.typ {
            Scalar::Absent => {}
            Scalar::Text(typ) if typ.eq_ignore_ascii_case("JWT") => {}
            _ => return Err(Refusal::Invalid("it is of another type")),
        }
        let alg = if let Scalar::Text(alg) = &self.alg { alg.as_str() } else { "" };
        if alg == "HS256" {
            return Ok(Signer::Secret);
        }
        let algorithm =
            jwks::Algorithm::from_name(alg).ok_or(Refusal::Invalid("its algorithm is not accepted"))?;
        match &self.kid {
            Scalar::Text(kid) if !kid.is_empty() => Ok(Signer::Key(kid, algorithm)),
            _ => Err(Refusal::Invalid("it does not say which key it is signed with")),
        }
    }
}

impl Verifier {
    /// A verifier of what was signed with one of the secrets, or with a key that `source` has. At most `max_waiting` requests
    /// wait for the source at the same time.
    pub fn new(trust: Trust, source: KeySource, max_waiting: usize) -> Self {
        let Trust { secrets, issuer, audience } = trust;
        Self {
            secrets: secrets.iter().map(|secret| DecodingKey::from_secret(secret.as_bytes())).collect(),
            keys: Arc::new(Issuer::new(source, max_waiting)),
            expected: Expected { issuer, audience },
        }
    }

    /// Who sent this `Authorization` header. `now` is in seconds since 1970. Without patience it is [`Refusal::NotNow`] wherever the
    /// issuer might have to be waited for.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn identify(
        &self,
        authorization: Result<Option<&str>, Unclear>,
        now: f64,
        patience: Patience,
    ) -> Result<Identity, Refusal> {
        let authorization = authorization
            .map_err(|Unclear| Refusal::Invalid("more than one Authorization header, or not ASCII"))?;
        self.verify(bearer_token(authorization.unwrap_or_default())?, now, patience)
    }

    /// What is known of the issuer's keys. Asks nobody.
    pub fn key_status(&self) -> KeyStatus {
        self.keys.status(Instant::now())
    }

    /// How many requests wait for a key set.
    pub fn waiting_for_keys(&self) -> usize {
        self.keys.waiting()
    }

    /// The same after asking the source, for at most a few seconds.
    pub fn refresh_keys(&self) -> KeyStatus {
        self.keys.refresh(Instant::now());
        self.key_status()
    }

    /// The order of judgement: form, header, algorithm, signature, then what the claims say.
    fn verify(&self, token: &str, now: f64, patience: Patience) -> Result<Identity, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Invalid("too long"));
        }
        let [header, claims, signature] = three_parts(token)?;
        let header_json = decode(header)?;
        let claims_json = decode(claims)?;
        let signature_bytes = decode(signature)?;

        let header_says: Header =
            parse(&header_json).ok_or(Refusal::Invalid("its header is no proper JSON object"))?;
        let signer = header_says.judge()?;
        let signed = &token[..header.len() + 1 + claims.len()];
        let holds = match signer {
            Signer::Secret => self.is_signed_with_secret(signed, signature),
            Signer::Key(kid, algorithm) => {
                let keys = self.keys.keys_for(kid, Instant::now(), patience)?;
                is_signed_with_key(&keys, kid, algorithm, signed, &signature_bytes)?
            }
        };
        if !holds {
            return Err(Refusal::Invalid("its signature does not hold"));
        }
        let claims: Claims =
            parse(&claims_json).ok_or(Refusal::Invalid("its claims are no proper JSON object"))?;
        let may_be_mail = matches!(signer, Signer::Secret) && header_says.typ == Scalar::Absent;
        claims.judge(&self.expected, &claims_json, may_be_mail, now)
    }

    /// Compared in constant time by the library.
    fn is_signed_with_secret(&self, signed: &str, signature: &str) -> bool {
        self.secrets.iter().any(|secret| {
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), secret, Algorithm::HS256)
                .unwrap_or(false)
        })
    }
}

fn is_signed_with_key(
    keys: &KeySet,
    kid: &str,
    algorithm: jwks::Algorithm,
    signed: &str,
    signature: &[u8],
) -> Result<bool, Refusal> {
    match keys.find(kid, algorithm) {
        Some(key) => Ok(key.verify_sig(signed.as_bytes(), signature).is_ok()),
        None if keys.is_absent => {
            Err(Refusal::Invalid("it is signed with a key, and this server knows no issuer's keys"))
        }
        None if keys.knows(kid) => Err(Refusal::Invalid("its key is for another algorithm")),
        None => Err(Refusal::Invalid("its key is none of the issuer's")),
    }
}

/// The token of an `Authorization` header; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer_token(authorization: &str) -> Result<&str, Refusal> {
    let (scheme, token) = authorization.trim().split_once(' ').ok_or(Refusal::Missing)?;
    if scheme.eq_ignore_ascii_case("Bearer") { Ok(token.trim_start()) } else { Err(Refusal::Missing) }
}

/// A signed token has three parts; an opaque session token has one or two, an encrypted one five.
fn three_parts(token: &str) -> Result<[&str; 3], Refusal> {
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(claims), Some(signature), None)
            if !header.is_empty() && !claims.is_empty() && !signature.is_empty() =>
        {
            Ok([header, claims, signature])
        }
        _ => Err(Refusal::Invalid("it has not the three parts of a signed token")),
    }
}

/// Strict: no padding, no blanks, no set bits behind the end.
fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Invalid("it is not proper base64url"))
}

/// A JSON object with the members that `T` knows.
fn parse<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Option<T> {
    if is_object(json) { serde_json::from_slice(json).ok() } else { None }
}

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod key_tests;
#[cfg(test)]
#[path = "../../tests/support/random.rs"]
mod random;
#[cfg(test)]
#[path = "../../tests/support/signer.rs"]
mod signer;
#[cfg(test)]
mod tests;
