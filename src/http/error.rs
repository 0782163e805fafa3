//! Every way in which a request can fail, and what the client reads of it.
//!
//! One enum, one table: status, code and headers of an error are decided here and nowhere else
//! (`specs/api/errors.md`). What a client reads never carries text of the database or of another user's data; what an
//! operator needs is logged where the error arises.

use serde::Serialize;

use crate::auth::AuthError;
use crate::http::Response;

/// A request that could not be answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The body is no proper UTF-8, or a header that decides what is done cannot be read.
    BadRequest(&'static str),
    /// The HTTP engine refused the request, with this status, code and sentence.
    Http(u16, &'static str, &'static str),
    /// No identity, or none that can be checked now: see [`AuthError`].
    Unauthenticated(AuthError),
    /// No such path.
    UnknownPath,
    /// No task of this user has this id. Says the same whether another user has one or nobody.
    UnknownTask,
    /// The task is not as the conditions of the request demand.
    PreconditionFailed,
    /// The path exists, the method does not; holds the value of `Allow`.
    MethodNotAllowed(&'static str),
    /// The body or a parameter does not hold; at least one violation.
    Invalid(Vec<Violation>),
    /// A defect of ours. Its cause is in the log.
    Internal,
    /// The database is away, or the server is full; worth another try soon.
    Unavailable,
}

/// One thing that is wrong with a body or a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Where it stands: `["body", "title"]`.
    pub loc: Vec<&'static str>,
    /// What a person can do about it.
    pub msg: String,
    /// What a program can tell it by.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

impl Violation {
    /// A violation at `loc`, told as `msg` to people and as `kind` to programs.
    pub fn new(loc: &[&'static str], kind: &'static str, msg: impl Into<String>) -> Self {
        Self { loc: loc.to_vec(), msg: msg.into(), kind }
    }
}

/// How long a client should wait before it asks again after a 503, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// The body of every error. `detail` repeats `message`, except for a 422.
#[derive(Serialize)]
struct Body<'a> {
    detail: Detail<'a>,
    error_code: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'a> {
    Text(&'a str),
    Violations(&'a [Violation]),
}

impl Error {
    /// Status and code of each error.
    fn kind(&self) -> (u16, &'static str) {
        match self {
            Error::BadRequest(_) => (400, "BAD_REQUEST"),
            Error::Http(status, error_code, _) => (*status, error_code),
            Error::Unauthenticated(AuthError::Missing) => (401, "AUTHENTICATION_REQUIRED"),
            Error::Unauthenticated(AuthError::Invalid(_)) => (401, "INVALID_TOKEN"),
            Error::Unauthenticated(AuthError::Expired) => (401, "TOKEN_EXPIRED"),
            Error::Unauthenticated(AuthError::KeysUnavailable) => (503, "SERVICE_UNAVAILABLE"),
            Error::UnknownPath | Error::UnknownTask => (404, "RESOURCE_NOT_FOUND"),
            Error::MethodNotAllowed(_) => (405, "METHOD_NOT_ALLOWED"),
            Error::PreconditionFailed => (412, "PRECONDITION_FAILED"),
            Error::Invalid(_) => (422, "VALIDATION_ERROR"),
            Error::Internal => (500, "INTERNAL_ERROR"),
            Error::Unavailable => (503, "SERVICE_UNAVAILABLE"),
        }
    }

    /// The sentence that a person reads.
    fn message(&self) -> String {
        match self {
            Error::BadRequest(why) | Error::Http(_, _, why) => (*why).to_owned(),
            Error::Unauthenticated(refusal) => refusal.to_string(),
            Error::UnknownPath => "Not Found".to_owned(),
            Error::UnknownTask => "Task not found".to_owned(),
            Error::PreconditionFailed => "The task is no longer as this request expects it".to_owned(),
            Error::MethodNotAllowed(allow) => format!("Method not allowed here; allowed: {allow}"),
            Error::Invalid(violations) => violations
                .iter()
                .map(|violation| format!("{}: {}", violation.loc.join("."), violation.msg))
                .collect::<Vec<_>>()
                .join("; "),
            Error::Internal => "Something went wrong on our side".to_owned(),
            Error::Unavailable => "The service cannot answer just now; please try again".to_owned(),
        }
    }

    /// The header that belongs to some of the errors.
    fn header(&self) -> Option<(&'static str, String)> {
        match self {
            _ if self.kind().0 == 503 => Some(("Retry-After", RETRY_AFTER_SECONDS.to_owned())),
            Error::Unauthenticated(refusal) => Some(("WWW-Authenticate", refusal.www_authenticate())),
            Error::MethodNotAllowed(allow) => Some(("Allow", (*allow).to_owned())),
            _ => None,
        }
    }
}

impl From<AuthError> for Error {
    fn from(refusal: AuthError) -> Self {
        Error::Unauthenticated(refusal)
    }
}

impl From<Error> for Response {
    fn from(error: Error) -> Self {
        let (status, error_code) = error.kind();
        let message = error.message();
        let detail = match &error {
            Error::Invalid(violations) => Detail::Violations(violations),
            _ => Detail::Text(&message),
        };
        let mut response = Response::json(status, &Body { detail, error_code, message: &message });
        if let Some((name, value)) = error.header() {
            response = response.with_header(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(error: Error) -> (u16, serde_json::Value) {
        let response = Response::from(error);
        (response.status(), serde_json::from_slice(response.body().unwrap()).unwrap())
    }

    #[test]
    fn detail_repeats_the_message_except_for_a_422() {
        let (status, json) = body(Error::UnknownTask);
        assert_eq!(status, 404);
        assert_eq!(json["detail"], json["message"]);
        assert_eq!(json["error_code"], "RESOURCE_NOT_FOUND");

        let (status, json) =
            body(Error::Invalid(vec![Violation::new(&["body", "title"], "missing", "Field required")]));
        assert_eq!(status, 422);
        assert_eq!(
            json["detail"],
            serde_json::json!([{"loc": ["body", "title"], "msg": "Field required", "type": "missing"}])
        );
        assert_eq!(json["message"], "body.title: Field required");
    }

    #[test]
    fn each_error_has_the_header_that_its_status_asks_for() {
        let header = |error: Error, name| Response::from(error).header(name).map(str::to_owned);
        assert_eq!(header(Error::Unavailable, "Retry-After").as_deref(), Some("1"));
        assert_eq!(header(AuthError::KeysUnavailable.into(), "Retry-After").as_deref(), Some("1"));
        assert_eq!(
            header(AuthError::KeysUnavailable.into(), "WWW-Authenticate"),
            None,
            "or a page would log its user out"
        );
        assert_eq!(header(Error::MethodNotAllowed("GET, HEAD"), "Allow").as_deref(), Some("GET, HEAD"));
        assert_eq!(header(AuthError::Missing.into(), "WWW-Authenticate").as_deref(), Some("Bearer"));
        assert_eq!(header(Error::Internal, "Retry-After"), None);
    }
}
