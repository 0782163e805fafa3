//! Validation of the claims of a verified token (RFC 7519), and the user that they name.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::error::AuthError;
use super::identity::{Identity, MAX_USER_ID_CHARS, UserId};
use crate::http::json::{JsonValue, is_object};

/// 9999-12-31T23:59:59Z, in seconds. A later `exp` was written in milliseconds.
const MAX_EXP_SECONDS: f64 = 253_402_300_799.0;
/// How far `nbf` may lie in the future, in seconds: the issuer's clock may be ahead of ours.
const NBF_LEEWAY_SECONDS: f64 = 60.0;

/// The `iss` and `aud` that the operator requires.
pub(super) struct ExpectedClaims {
    pub(super) issuer: Option<JsonValue>,
    pub(super) audience: Option<JsonValue>,
}

/// The claims that this server reads. `serde` refuses a repeated one: readers would disagree on its value.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Claims<'j> {
    exp: JsonValue,
    nbf: JsonValue,
    iss: JsonValue,
    #[serde(borrow)]
    aud: Option<&'j RawValue>,
    sub: JsonValue,
    user_id: JsonValue,
    #[serde(rename = "userId")]
    user_id_camel: JsonValue,
    id: JsonValue,
    email: JsonValue,
    /// `session` and `user` are objects in a token of Better Auth's session cookie cache.
    session: Option<&'j RawValue>,
    user: Option<&'j RawValue>,
    #[serde(rename = "updateTo")]
    update_to: JsonValue,
    #[serde(rename = "requestType")]
    request_type: JsonValue,
}

/// The fields of `session` and `user` that this server reads.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SessionClaims {
    id: JsonValue,
    #[serde(rename = "userId")]
    user_id: JsonValue,
    #[serde(rename = "expiresAt")]
    expires_at: JsonValue,
    email: JsonValue,
}

impl Claims<'_> {
    /// Checks time, issuer, audience and purpose, in this order, and then reads the identity. `payload` is what these
    /// claims were read from, `is_untyped_hs256` whether the token is HS256 without `typ`.
    pub(super) fn validate(
        self,
        expected: &ExpectedClaims,
        payload: &[u8],
        is_untyped_hs256: bool,
        now: f64,
    ) -> Result<Identity, AuthError> {
        self.validate_time(now)?;
        if expected.issuer.as_ref().is_some_and(|issuer| self.iss != *issuer) {
            return Err(AuthError::Invalid("`iss` is not the expected issuer"));
        }
        if expected.audience.as_ref().is_some_and(|audience| !has_audience(self.aud, audience)) {
            return Err(AuthError::Invalid("`aud` does not contain the expected audience"));
        }
        if self.update_to != JsonValue::Absent || self.request_type != JsonValue::Absent {
            return Err(AuthError::Invalid("a token to change an e-mail address is not a login"));
        }
        if is_untyped_hs256 && self.sub == JsonValue::Absent && is_email_verification(payload) {
            return Err(AuthError::Invalid("a token to verify an e-mail address is not a login"));
        }
        if let (Some(session), Some(user)) = (object(self.session), object(self.user)) {
            return session_identity(session, user, now);
        }
        let id = [self.sub, self.user_id, self.user_id_camel, self.id]
            .into_iter()
            .find(|claim| !matches!(claim, JsonValue::Absent | JsonValue::Null))
            .unwrap_or_default();
        Ok(Identity { user: user_id(id)?, email: text(self.email) })
    }

    /// `exp` is required and has no leeway; `nbf` is optional and has some.
    fn validate_time(&self, now: f64) -> Result<(), AuthError> {
        let exp = seconds(&self.exp).ok_or(AuthError::Invalid("`exp` is missing or not a number"))?;
        if exp > MAX_EXP_SECONDS {
            return Err(AuthError::Invalid("`exp` is not in seconds"));
        }
        if now >= exp {
            return Err(AuthError::Expired);
        }
        match seconds(&self.nbf) {
            Some(nbf) if nbf > now + NBF_LEEWAY_SECONDS => Err(AuthError::Invalid("`nbf` is in the future")),
            None if self.nbf != JsonValue::Absent => Err(AuthError::Invalid("`nbf` is not a number")),
            _ => Ok(()),
        }
    }
}

/// `aud` is a string or a list of strings (RFC 7519, section 4.1.3).
fn has_audience(aud: Option<&RawValue>, expected: &JsonValue) -> bool {
    let json = aud.map_or("null", RawValue::get);
    serde_json::from_str::<JsonValue>(json).is_ok_and(|aud| aud == *expected)
        || serde_json::from_str::<Vec<JsonValue>>(json).is_ok_and(|aud| aud.contains(expected))
}

/// Whether these are the claims of the token that Better Auth mails to verify an address. It is signed with the same
/// secret: whoever reads that mail could log in with it.
fn is_email_verification(payload: &[u8]) -> bool {
    serde_json::from_slice::<HashMap<String, IgnoredAny>>(payload).is_ok_and(|claims| {
        claims.contains_key("email")
            && claims.keys().all(|name| matches!(name.as_str(), "email" | "userId" | "iat" | "exp"))
    })
}

fn object(claim: Option<&RawValue>) -> Option<&RawValue> {
    claim.filter(|claim| is_object(claim.get().as_bytes()))
}

/// The identity of a session cookie cache token. Both objects must name the same user, and the session must not have
/// expired.
fn session_identity(session: &RawValue, user: &RawValue, now: f64) -> Result<Identity, AuthError> {
    let claims = |object: &RawValue| serde_json::from_str::<SessionClaims>(object.get());
    let (Ok(session), Ok(user)) = (claims(session), claims(user)) else {
        return Err(AuthError::Invalid("`session` or `user` repeats a field"));
    };
    let id = user_id(user.id)?;
    if user_id(session.user_id)? != id {
        return Err(AuthError::Invalid("`session.userId` is not `user.id`"));
    }
    let expires_at: jiff::Timestamp = text(session.expires_at)
        .and_then(|text| text.parse().ok())
        .ok_or(AuthError::Invalid("`session.expiresAt` is missing or not an RFC 3339 timestamp"))?;
    if now >= expires_at.as_millisecond() as f64 / 1000.0 {
        return Err(AuthError::Expired);
    }
    Ok(Identity { user: id, email: text(user.email) })
}

/// A NumericDate: seconds since 1970 (RFC 7519, section 2).
fn seconds(claim: &JsonValue) -> Option<f64> {
    match claim {
        JsonValue::Integer(seconds) => Some(*seconds as f64),
        JsonValue::Float(seconds) => Some(*seconds),
        _ => None,
    }
}

fn text(claim: JsonValue) -> Option<String> {
    if let JsonValue::Text(text) = claim { Some(text) } else { None }
}

fn user_id(claim: JsonValue) -> Result<UserId, AuthError> {
    match claim {
        // PostgreSQL cannot store U+0000.
        JsonValue::Text(id) if id.contains('\0') || !(1..=MAX_USER_ID_CHARS).contains(&id.chars().count()) => {
            Err(AuthError::Invalid("the user id is empty, longer than 255 characters or contains U+0000"))
        }
        JsonValue::Text(id) => Ok(UserId(id)),
        JsonValue::Integer(id) => Ok(UserId(id.to_string())),
        JsonValue::Absent | JsonValue::Null => Err(AuthError::Invalid("no user id: `sub` is missing")),
        _ => Err(AuthError::Invalid("the user id is not a string")),
    }
}
