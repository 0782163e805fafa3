//! API errors: every way in which a request can fail, and what the client reads.
//!
//! One table: status, code, message and header of an error are decided here and nowhere else (`specs/api/errors.md`).
//! What a client reads never carries text of the database. What an operator needs is logged where the error arises.

use std::borrow::Cow;

use serde::Serialize;

use crate::auth::AuthError;

/// Why a request was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// The body is not UTF-8, or a header that decides what is done cannot be read.
    BadRequest(&'static str),
    /// The HTTP engine rejected the request, with this status, code and message.
    Engine(u16, &'static str, &'static str),
    /// There is no valid token, or it cannot be verified now.
    Unauthenticated(AuthError),
    /// No such path.
    RouteNotFound,
    /// No task of this user has this id. The same if another user has it.
    TaskNotFound,
    /// `If-Match` or `If-None-Match` does not hold.
    PreconditionFailed,
    /// The path has no such method; holds the value of `Allow`.
    MethodNotAllowed(String),
    /// A file that is sent as gzip only, to a client that does not accept gzip.
    NotAcceptable,
    /// The body has a `Content-Encoding`.
    UnsupportedMediaType,
    /// The body or a parameter is invalid; at least one error.
    Validation(Vec<FieldError>),
    /// A defect of ours. Its cause is in the log.
    Internal,
    /// The database is down, or the server is full: worth another try soon.
    Unavailable,
}

/// One thing that is wrong with a body or a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where it is: `["body", "title"]`.
    pub loc: Vec<&'static str>,
    /// What a person can do about it.
    pub msg: String,
    /// What a program can tell it by.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

impl FieldError {
    /// An error at `loc`, with `kind` for programs and `msg` for people.
    pub fn new(loc: &[&'static str], kind: &'static str, msg: impl Into<String>) -> Self {
        Self { loc: loc.to_vec(), msg: msg.into(), kind }
    }
}

/// The body of every error. `detail` repeats `message`, except for a 422.
#[derive(Serialize)]
#[allow(missing_docs)] // specs/api/errors.md says what each is
pub struct ErrorBody<'a, D> {
    pub detail: D,
    pub error_code: &'a str,
    pub message: &'a str,
}

/// How long a client should wait before it tries again after a 503, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

impl ApiError {
    /// Status, code, and the sentence that a person reads.
    pub fn description(&self) -> (u16, &'static str, Cow<'static, str>) {
        match self {
            Self::BadRequest(why) => (400, "BAD_REQUEST", (*why).into()),
            Self::Engine(status, code, why) => (*status, code, (*why).into()),
            Self::Unauthenticated(error) => {
                let (status, code) = match error {
                    AuthError::Missing => (401, "AUTHENTICATION_REQUIRED"),
                    AuthError::Invalid(_) => (401, "INVALID_TOKEN"),
                    AuthError::Expired => (401, "TOKEN_EXPIRED"),
                    AuthError::KeysUnavailable => (503, "SERVICE_UNAVAILABLE"),
                };
                (status, code, error.to_string().into())
            }
            Self::RouteNotFound => (404, "RESOURCE_NOT_FOUND", "Not Found".into()),
            Self::TaskNotFound => (404, "RESOURCE_NOT_FOUND", "Task not found".into()),
            Self::MethodNotAllowed(allow) => {
                (405, "METHOD_NOT_ALLOWED", format!("Method not allowed; allowed: {allow}").into())
            }
            Self::NotAcceptable => (406, "NOT_ACCEPTABLE", "This file is sent with Content-Encoding: gzip only".into()),
            Self::PreconditionFailed => {
                (412, "PRECONDITION_FAILED", "The task is not in the state that the request expects".into())
            }
            Self::UnsupportedMediaType => {
                let message = "The body is compressed (Content-Encoding); send it uncompressed";
                (415, "UNSUPPORTED_MEDIA_TYPE", message.into())
            }
            Self::Validation(errors) => {
                let lines = errors.iter().map(|error| format!("{}: {}", error.loc.join("."), error.msg));
                (422, "VALIDATION_ERROR", lines.collect::<Vec<_>>().join("; ").into())
            }
            Self::Internal => (500, "INTERNAL_ERROR", "Internal server error".into()),
            Self::Unavailable => (503, "SERVICE_UNAVAILABLE", "The service is unavailable; please try again".into()),
        }
    }

    /// The header that some errors have.
    pub fn header(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Unavailable | Self::Unauthenticated(AuthError::KeysUnavailable) | Self::Engine(503, ..) => {
                Some(("Retry-After", RETRY_AFTER_SECONDS.to_owned()))
            }
            Self::Unauthenticated(error) => Some(("WWW-Authenticate", error.www_authenticate())),
            Self::MethodNotAllowed(allow) => Some(("Allow", allow.clone())),
            Self::UnsupportedMediaType => Some(("Accept-Encoding", "identity".to_owned())),
            _ => None,
        }
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        ApiError::Validation(vec![error])
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        ApiError::Unauthenticated(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_when_its_status_asks_for_a_header_has_it() {
        for (error, header) in [
            (ApiError::Unavailable, Some(("Retry-After", "1"))),
            (ApiError::Engine(503, "SERVICE_UNAVAILABLE", "full"), Some(("Retry-After", "1"))),
            // Without a challenge, so that no page logs its user out.
            (AuthError::KeysUnavailable.into(), Some(("Retry-After", "1"))),
            (ApiError::MethodNotAllowed("GET, HEAD".to_owned()), Some(("Allow", "GET, HEAD"))),
            (AuthError::Missing.into(), Some(("WWW-Authenticate", "Bearer"))),
            (ApiError::UnsupportedMediaType, Some(("Accept-Encoding", "identity"))),
            (ApiError::Internal, None),
        ] {
            let found = error.header();
            assert_eq!(found.as_ref().map(|(name, value)| (*name, value.as_str())), header, "{error:?}");
        }
    }
}
