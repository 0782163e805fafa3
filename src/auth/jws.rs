//! Parses a bearer token as a signed JWT, without verifying it.
//!
//! Only the header is interpreted: it names the signature scheme. The payload stays bytes until the signature is
//! verified.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::error::AuthError;
use super::jwks::Algorithm;
use crate::http::json::{JsonValue, is_object};

/// The longest token that is parsed, in bytes. Claims can contain a user's avatar: 8 KB have been seen.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// An unverified JWS in compact serialization (RFC 7515, section 7.1).
pub(super) struct Jws<'t> {
    /// What the signature covers: header and payload as they were sent, with the dot between them.
    pub(super) signing_input: &'t [u8],
    pub(super) scheme: SignatureScheme,
    pub(super) payload: Vec<u8>,
    /// Base64url, not yet decoded.
    pub(super) signature: &'t str,
}

/// What the token must be verified with, according to its header.
pub(super) enum SignatureScheme {
    /// HS256 with one of the secrets. Better Auth's e-mail verification tokens have no `typ`.
    Secret { has_typ: bool },
    /// An asymmetric algorithm, with the key of this `kid`.
    Key { kid: String, algorithm: Algorithm },
}

/// The JOSE header. Other parameters are ignored: a token cannot bring its own key (`jwk`, `jku`, `x5c`, `x5u`).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Header {
    alg: JsonValue,
    kid: JsonValue,
    typ: JsonValue,
    crit: JsonValue,
}

impl<'t> Jws<'t> {
    /// Parses the token of an `Authorization` header. The scheme is case-insensitive (RFC 9110, section 11.1).
    pub(super) fn from_authorization(authorization: Option<&'t str>) -> Result<Self, AuthError> {
        match authorization.unwrap_or_default().trim().split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => Self::parse(token.trim_start()),
            _ => Err(AuthError::Missing),
        }
    }

    /// Checks size, form and header, in this order.
    fn parse(token: &'t str) -> Result<Self, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid("longer than 16384 bytes"));
        }
        let [header, payload, signature] = split_jws(token)?;
        let signing_input = &token.as_bytes()[..header.len() + 1 + payload.len()];
        let (header, payload) = (decode(header)?, decode(payload)?);
        let header: Header =
            parse_object(&header).ok_or(AuthError::Invalid("the JOSE header is not a valid JSON object"))?;
        Ok(Self { signing_input, scheme: header.scheme()?, payload, signature })
    }
}

impl Header {
    fn scheme(self) -> Result<SignatureScheme, AuthError> {
        if self.crit != JsonValue::Absent {
            return Err(AuthError::Invalid("`crit` is not supported"));
        }
        let has_typ = match self.typ {
            JsonValue::Absent => false,
            JsonValue::Text(typ) if typ.eq_ignore_ascii_case("JWT") => true,
            _ => return Err(AuthError::Invalid("`typ` is not JWT")),
        };
        let JsonValue::Text(alg) = self.alg else {
            return Err(AuthError::Invalid("`alg` is missing or not a string"));
        };
        if alg == "HS256" {
            return Ok(SignatureScheme::Secret { has_typ });
        }
        let algorithm = Algorithm::from_name(&alg).ok_or(AuthError::Invalid("`alg` is not accepted"))?;
        match self.kid {
            JsonValue::Text(kid) if !kid.is_empty() => Ok(SignatureScheme::Key { kid, algorithm }),
            _ => Err(AuthError::Invalid("`kid` is missing or not a string")),
        }
    }
}

/// The three parts of a JWS. An opaque session token has one part, a signed session cookie two, a JWE five.
pub(super) fn split_jws(token: &str) -> Result<[&str; 3], AuthError> {
    let parts: Vec<&str> = token.splitn(4, '.').collect();
    match parts[..] {
        [header, payload, signature] if parts.iter().all(|part| !part.is_empty()) => Ok([header, payload, signature]),
        [_] => Err(AuthError::Invalid(
            "an opaque session token is not accepted: expected a JWT, which Better Auth issues at /api/auth/token",
        )),
        _ => Err(AuthError::Invalid("not a JWS: expected three parts")),
    }
}

/// Strict base64url: no padding, no white space, no stray bits at the end.
pub(super) fn decode(part: &str) -> Result<Vec<u8>, AuthError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthError::Invalid("a part is not valid base64url"))
}

/// Reads a JSON object into the fields that `T` has. `None` for other JSON, and when such a field is repeated.
pub(super) fn parse_object<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Option<T> {
    if is_object(json) { serde_json::from_slice(json).ok() } else { None }
}
