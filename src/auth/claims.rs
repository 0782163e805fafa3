//! What a token says, once its signature holds: whether it may be used now and here, and who it speaks of.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::http::json::{Scalar, is_object};

use super::{Identity, MAX_USER_ID_CHARS, Refusal, UserId};

/// 9999-12-31T23:59:59Z, in seconds. A later expiry is one written in milliseconds.
const LATEST_EXPIRY_SECONDS: f64 = 253_402_300_799.0;
/// How far in the future `nbf` may lie, in seconds: the issuer's clock may be ahead of ours.
const NOT_BEFORE_LEEWAY_SECONDS: f64 = 60.0;

/// The claims that this server looks at, each as it was sent until it is judged. A claim that stands twice is refused
/// (by `serde`): it would mean what its reader likes.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Claims<'j> {
    exp: Scalar,
    nbf: Scalar,
    iss: Scalar,
    #[serde(borrow)]
    aud: Option<&'j RawValue>,
    sub: Scalar,
    user_id: Scalar,
    #[serde(rename = "userId")]
    user_id_camel: Scalar,
    id: Scalar,
    email: Scalar,
    /// Like `user` an object in a token of Better Auth's session cookie cache.
    session: Option<&'j RawValue>,
    user: Option<&'j RawValue>,
    #[serde(rename = "updateTo")]
    update_to: Scalar,
    #[serde(rename = "requestType")]
    request_type: Scalar,
}

/// From whom and for whom a token must be, as far as the operator says.
#[derive(Default)]
pub(super) struct Expected {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Nested {
    id: Scalar,
    #[serde(rename = "userId")]
    user_id: Scalar,
    #[serde(rename = "expiresAt")]
    expires_at: Scalar,
    email: Scalar,
}

impl Claims<'_> {
    /// Time, then issuer and audience, then purpose, then the identity. `may_be_mail` says that the token's signature and
    /// header are those of a mailed one; `json` is what these claims were read from.
    pub(super) fn judge(
        self,
        expected: &Expected,
        json: &[u8],
        may_be_mail: bool,
        now: f64,
    ) -> Result<Identity, Refusal> {
        self.judge_time(now)?;
        self.judge_origin(expected)?;
        if self.update_to != Scalar::Absent || self.request_type != Scalar::Absent {
            return Err(Refusal::Invalid("it is for a change of e-mail address"));
        }
        if may_be_mail
            && self.sub == Scalar::Absent
            && self.email != Scalar::Absent
            && is_of_verification_mail(json)
        {
            return Err(Refusal::Invalid("it is for the verification of an e-mail address"));
        }
        if let (Some(session), Some(user)) = (object(self.session), object(self.user)) {
            return session_identity(nested(session)?, nested(user)?, now);
        }
        let id = [self.sub, self.user_id, self.user_id_camel, self.id]
            .into_iter()
            .find(|claim| !matches!(claim, Scalar::Absent | Scalar::Null))
            .unwrap_or_default();
        Ok(Identity { user: user_id(id)?, email: text(self.email) })
    }

    /// What the operator expects must be there.
    fn judge_origin(&self, expected: &Expected) -> Result<(), Refusal> {
        if expected.issuer.as_ref().is_some_and(|issuer| !is_text(&self.iss, issuer)) {
            return Err(Refusal::Invalid("it is from another issuer"));
        }
        match &expected.audience {
            Some(audience) if !self.aud.is_some_and(|aud| has_audience(aud, audience)) => {
                Err(Refusal::Invalid("it is for another audience"))
            }
            _ => Ok(()),
        }
    }

    /// `exp` is required and has no leeway; `nbf` has some.
    fn judge_time(&self, now: f64) -> Result<(), Refusal> {
        let expiry = seconds(&self.exp).ok_or(Refusal::Invalid("its expiry is missing or no number"))?;
        if expiry > LATEST_EXPIRY_SECONDS {
            return Err(Refusal::Invalid("its expiry is not in seconds"));
        }
        if now >= expiry {
            return Err(Refusal::Expired);
        }
        if self.nbf == Scalar::Absent {
            return Ok(());
        }
        match seconds(&self.nbf) {
            None => Err(Refusal::Invalid("its nbf is no number")),
            Some(from) if from > now + NOT_BEFORE_LEEWAY_SECONDS => {
                Err(Refusal::Invalid("it is not valid yet"))
            }
            Some(_) => Ok(()),
        }
    }
}

fn is_text(claim: &Scalar, expected: &str) -> bool {
    matches!(claim, Scalar::Text(text) if text == expected)
}

/// `aud` is a string, or a list of such (RFC 7519, section 4.1.3).
fn has_audience(aud: &RawValue, expected: &str) -> bool {
    let is_expected = |claim: Scalar| is_text(&claim, expected);
    serde_json::from_str(aud.get()).is_ok_and(is_expected)
        || serde_json::from_str::<Vec<Scalar>>(aud.get())
            .is_ok_and(|audiences| audiences.into_iter().any(is_expected))
}

/// Whether these are the claims of the token that Better Auth mails out to verify an address. It is signed with the same
/// secret, and whoever reads that mail would be let in.
fn is_of_verification_mail(json: &[u8]) -> bool {
    serde_json::from_slice::<HashMap<String, IgnoredAny>>(json).is_ok_and(|claims| {
        claims.keys().all(|name| matches!(name.as_str(), "email" | "userId" | "iat" | "exp"))
    })
}

fn object(claim: Option<&RawValue>) -> Option<&RawValue> {
    claim.filter(|claim| is_object(claim.get().as_bytes()))
}

fn nested(object: &RawValue) -> Result<Nested, Refusal> {
    serde_json::from_str(object.get()).map_err(|_| Refusal::Invalid("its session is no proper object"))
}

/// The identity in a token of the session cookie cache: both halves must speak of the same person, and the session
/// must still run.
fn session_identity(session: Nested, user: Nested, now: f64) -> Result<Identity, Refusal> {
    let id = user_id(user.id)?;
    if user_id(session.user_id)? != id {
        return Err(Refusal::Invalid("its session is another user's"));
    }
    let expires_at: jiff::Timestamp = text(session.expires_at)
        .and_then(|text| text.parse().ok())
        .ok_or(Refusal::Invalid("its session's expiry is missing or no timestamp"))?;
    if now >= expires_at.as_millisecond() as f64 / 1000.0 {
        return Err(Refusal::Expired);
    }
    Ok(Identity { user: id, email: text(user.email) })
}

/// A time in seconds since 1970.
fn seconds(claim: &Scalar) -> Option<f64> {
    match claim {
        Scalar::Integer(seconds) => Some(*seconds as f64),
        Scalar::Float(seconds) => Some(*seconds),
        _ => None,
    }
}

fn text(claim: Scalar) -> Option<String> {
    match claim {
        Scalar::Text(text) => Some(text),
        _ => None,
    }
}

fn user_id(claim: Scalar) -> Result<UserId, Refusal> {
    match claim {
        // PostgreSQL cannot store a NUL character.
        Scalar::Text(id) if id.is_empty() || id.contains('\0') => {
            Err(Refusal::Invalid("its user id is not usable"))
        }
        Scalar::Text(id) if id.chars().count() > MAX_USER_ID_CHARS => {
            Err(Refusal::Invalid("its user id is too long"))
        }
        Scalar::Text(id) => Ok(UserId(id)),
        Scalar::Integer(id) => Ok(UserId(id.to_string())),
        Scalar::Absent | Scalar::Null => Err(Refusal::Invalid("it names no user")),
        Scalar::Bool(_) | Scalar::Float(_) | Scalar::Compound => {
            Err(Refusal::Invalid("its user id is no string"))
        }
    }
}
