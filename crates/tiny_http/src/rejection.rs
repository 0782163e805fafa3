//! Rejections: requests that the engine answers itself, and the value that the rejection hook receives.

use std::io::Cursor;

use crate::head::{Head, HttpError};
use crate::header::Header;
use crate::message::StatusCode;
use crate::response::{Response, ResponseBox};

/// A request that the engine rejects without passing it to the application. The hook of
/// [`Server::with_limits`](crate::Server::with_limits) makes the response. Afterwards the connection closes.
#[derive(Debug)]
pub struct Rejection {
    error: HttpError,
    head: Option<Head>,
}

impl Rejection {
    pub(crate) fn new(error: HttpError, head: Option<Head>) -> Rejection {
        Rejection { error, head }
    }

    /// 400, 408, 413, 414, 431, 500, 501, 503 or 505.
    pub fn status_code(&self) -> StatusCode {
        StatusCode(self.error.status)
    }

    /// One sentence for people. It contains nothing that the client sent, and nothing that JSON must escape.
    pub fn reason(&self) -> &'static str {
        self.error.reason
    }

    /// A code for programs, such as `PAYLOAD_TOO_LARGE`.
    pub fn error_code(&self) -> &'static str {
        match self.error.status {
            408 => "REQUEST_TIMEOUT",
            413 => "PAYLOAD_TOO_LARGE",
            414 => "URI_TOO_LONG",
            431 => "HEADERS_TOO_LARGE",
            500 => "INTERNAL_ERROR",
            501 => "NOT_IMPLEMENTED",
            503 => "SERVICE_UNAVAILABLE",
            505 => "VERSION_NOT_SUPPORTED",
            _ => "BAD_REQUEST",
        }
    }

    /// As [`Request::header_values`](crate::Request::header_values); none if the head could not be parsed.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.head.iter().flat_map(move |head| head.values(name))
    }

    /// The default response: `{"detail": …, "error_code": …, "message": …}`.
    pub fn to_response(&self) -> ResponseBox {
        let (reason, code) = (self.reason(), self.error_code());
        let body = format!(r#"{{"detail":"{reason}","error_code":"{code}","message":"{reason}"}}"#);
        let length = body.len();
        let header = |name, value| Header::from_bytes(name, value).expect("a token and visible ASCII make a header");
        let mut headers = vec![header("Content-Type", "application/json")];
        if self.error.status == 503 {
            headers.push(header("Retry-After", "1"));
        }
        Response::new(self.status_code(), headers, Cursor::new(body.into_bytes()), Some(length), None).boxed()
    }
}
