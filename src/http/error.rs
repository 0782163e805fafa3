//! API errors: every way in which a request can fail, and what the client reads.
//!
//! One table: status, code, message and header of an error are decided here and nowhere else (`specs/api/errors.md`).
//! What a client reads never carries text of the database. What an operator needs is logged where the error arises.

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
    MethodNotAllowed(&'static str),
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
pub struct ErrorBody<'a> {
    detail: Detail<'a>,
    error_code: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'a> {
    Text(&'a str),
    Fields(&'a [FieldError]),
}

/// How long a client should wait before it tries again after a 503, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

impl ApiError {
    /// Status and code.
    pub fn status_and_code(&self) -> (u16, &'static str) {
        match self {
            ApiError::BadRequest(_) => (400, "BAD_REQUEST"),
            ApiError::Engine(status, code, _) => (*status, code),
            ApiError::Unauthenticated(AuthError::Missing) => (401, "AUTHENTICATION_REQUIRED"),
            ApiError::Unauthenticated(AuthError::Invalid(_)) => (401, "INVALID_TOKEN"),
            ApiError::Unauthenticated(AuthError::Expired) => (401, "TOKEN_EXPIRED"),
            ApiError::RouteNotFound | ApiError::TaskNotFound => (404, "RESOURCE_NOT_FOUND"),
            ApiError::MethodNotAllowed(_) => (405, "METHOD_NOT_ALLOWED"),
            ApiError::NotAcceptable => (406, "NOT_ACCEPTABLE"),
            ApiError::PreconditionFailed => (412, "PRECONDITION_FAILED"),
            ApiError::UnsupportedMediaType => (415, "UNSUPPORTED_MEDIA_TYPE"),
            ApiError::Validation(_) => (422, "VALIDATION_ERROR"),
            ApiError::Internal => (500, "INTERNAL_ERROR"),
            ApiError::Unavailable | ApiError::Unauthenticated(AuthError::KeysUnavailable) => {
                (503, "SERVICE_UNAVAILABLE")
            }
        }
    }

    /// The sentence that a person reads.
    pub fn message(&self) -> String {
        match self {
            ApiError::BadRequest(why) | ApiError::Engine(_, _, why) => (*why).to_owned(),
            ApiError::Unauthenticated(error) => error.to_string(),
            ApiError::RouteNotFound => "Not Found".to_owned(),
            ApiError::TaskNotFound => "Task not found".to_owned(),
            ApiError::PreconditionFailed => "The task is not in the state that the request expects".to_owned(),
            ApiError::MethodNotAllowed(allow) => format!("Method not allowed; allowed: {allow}"),
            ApiError::NotAcceptable => "This file is sent with Content-Encoding: gzip only".to_owned(),
            ApiError::UnsupportedMediaType => {
                "The body is compressed (Content-Encoding); send it uncompressed".to_owned()
            }
            ApiError::Validation(errors) => {
                let lines = errors.iter().map(|error| format!("{}: {}", error.loc.join("."), error.msg));
                lines.collect::<Vec<_>>().join("; ")
            }
            ApiError::Internal => "Internal server error".to_owned(),
            ApiError::Unavailable => "The service is unavailable; please try again".to_owned(),
        }
    }

    /// The header that some errors have.
    pub fn header(&self) -> Option<(&'static str, String)> {
        match self {
            _ if self.status_and_code().0 == 503 => Some(("Retry-After", RETRY_AFTER_SECONDS.to_owned())),
            ApiError::Unauthenticated(error) => Some(("WWW-Authenticate", error.www_authenticate())),
            ApiError::MethodNotAllowed(allow) => Some(("Allow", (*allow).to_owned())),
            ApiError::UnsupportedMediaType => Some(("Accept-Encoding", "identity".to_owned())),
            _ => None,
        }
    }

    /// The body. `message` is [`ApiError::message`].
    pub fn body<'a>(&'a self, message: &'a str) -> ErrorBody<'a> {
        let detail = match self {
            ApiError::Validation(errors) => Detail::Fields(errors),
            _ => Detail::Text(message),
        };
        ErrorBody { detail, error_code: self.status_and_code().1, message }
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

    fn body(error: &ApiError) -> serde_json::Value {
        serde_json::to_value(error.body(&error.message())).unwrap()
    }

    #[test]
    fn detail_when_not_a_422_repeats_the_message() {
        let json = body(&ApiError::TaskNotFound);
        assert_eq!(json["detail"], json["message"]);
        assert_eq!(json["error_code"], "RESOURCE_NOT_FOUND");

        let json = body(&ApiError::Validation(vec![FieldError::new(&["body", "title"], "missing", "Field required")]));
        assert_eq!(
            json["detail"],
            serde_json::json!([{"loc": ["body", "title"], "msg": "Field required", "type": "missing"}])
        );
        assert_eq!(json["message"], "body.title: Field required");
    }

    #[test]
    fn error_when_its_status_asks_for_a_header_has_it() {
        for (error, header) in [
            (ApiError::Unavailable, Some(("Retry-After", "1"))),
            // Without a challenge, so that no page logs its user out.
            (AuthError::KeysUnavailable.into(), Some(("Retry-After", "1"))),
            (ApiError::MethodNotAllowed("GET, HEAD"), Some(("Allow", "GET, HEAD"))),
            (AuthError::Missing.into(), Some(("WWW-Authenticate", "Bearer"))),
            (ApiError::UnsupportedMediaType, Some(("Accept-Encoding", "identity"))),
            (ApiError::Internal, None),
        ] {
            let found = error.header();
            assert_eq!(found.as_ref().map(|(name, value)| (*name, value.as_str())), header, "{error:?}");
        }
    }
}
