//! Authentication errors, in the words that a client reads.
//!
//! Depends on nothing else of the program, so that `http` can map each error to a response.

use std::fmt;

/// A request that cannot be authenticated. Its text never quotes the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthError {
    /// The request has no bearer token.
    Missing,
    /// The token is not acceptable. Holds the cause in the terms of RFC 7515 (JWS) and RFC 7519 (JWT).
    Invalid(&'static str),
    /// The token or its session has expired.
    Expired,
    /// The key set that could verify the token is not available. The token may be good: this is no 401.
    KeysUnavailable,
}

impl AuthError {
    /// The value of `WWW-Authenticate` (RFC 6750, section 3).
    pub fn www_authenticate(&self) -> String {
        match self {
            AuthError::Missing | AuthError::KeysUnavailable => "Bearer".to_owned(),
            AuthError::Invalid(_) | AuthError::Expired => {
                format!("Bearer error=\"invalid_token\", error_description=\"{self}\"")
            }
        }
    }
}

/// Frontends search for the first words of these sentences.
impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthError::Missing => "Not authenticated",
            AuthError::Invalid(cause) => return write!(f, "Invalid token: {cause}"),
            AuthError::Expired => "Token has expired",
            AuthError::KeysUnavailable => "The keys that verify this token are not available; please try again",
        })
    }
}

impl std::error::Error for AuthError {}
