//! Authentication: the user of a token that is signed with the secret.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::Service;
use crate::response::Error;

/// The user that a token names.
pub struct User {
    pub id: String,
}

/// The claims that our server reads of such a token; the library checks `exp` and `nbf` itself.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    user_id: Option<String>,
    #[serde(rename = "userId")]
    user_id_camel: Option<String>,
    id: Option<String>,
    #[serde(rename = "updateTo")]
    update_to: Option<serde::de::IgnoredAny>,
    #[serde(rename = "requestType")]
    request_type: Option<serde::de::IgnoredAny>,
}

/// Verifies tokens.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl Verifier {
    /// Verifies with this secret.
    pub fn new(secret: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.validate_aud = false;
        Self { key: DecodingKey::from_secret(secret), validation }
    }

    fn user(&self, token: &str) -> Option<User> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).ok()?.claims;
        let is_email_verification = claims.update_to.is_some() || claims.request_type.is_some();
        let id = claims.sub.or(claims.user_id).or(claims.user_id_camel).or(claims.id)?;
        (!is_email_verification && !id.is_empty()).then_some(User { id })
    }
}

impl FromRequestParts<Arc<Service>> for User {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Error> {
        let header = parts.headers.get(AUTHORIZATION).ok_or(Error::Unauthorized)?;
        let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).ok_or(Error::Unauthorized)?;
        service.verifier.user(token).ok_or(Error::Unauthorized)
    }
}
