//! What the engine answers by itself, and the program's say in how it looks.

use std::io::Cursor;

use crate::head::{Fault, Head};
use crate::header::Header;
use crate::message::StatusCode;
use crate::response::{Response, ResponseBox};

/// Why the engine refuses a request without asking the program: what the hook of
/// [`Server::with_limits`](crate::Server::with_limits) makes an answer of. Afterwards the connection closes.
#[derive(Debug)]
pub struct Rejection {
    fault: Fault,
    head: Option<Head>,
}

impl Rejection {
    pub(crate) fn new(fault: Fault, head: Option<Head>) -> Rejection {
        Rejection { fault, head }
    }

    /// 400, 408, 413, 414, 431, 500, 501, 503 or 505.
    pub fn status_code(&self) -> StatusCode {
        StatusCode(self.fault.status)
    }

    /// One sentence for people. It never holds a byte of the client's, and nothing to escape in JSON.
    pub fn reason(&self) -> &'static str {
        self.fault.reason
    }

    /// The word for programs, such as `PAYLOAD_TOO_LARGE`.
    pub fn error_code(&self) -> &'static str {
        match self.fault.status {
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

    /// The values of the request's headers with this name, as [`Request::header_values`](crate::Request::header_values) gives
    /// them; none when its head could not be read.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.head.iter().flat_map(move |head| head.values(name))
    }

    /// The answer where the program has no other: `{"detail": …, "error_code": …, "message": …}`.
    pub fn to_response(&self) -> ResponseBox {
        let (reason, code) = (self.reason(), self.error_code());
        let body = format!(r#"{{"detail":"{reason}","error_code":"{code}","message":"{reason}"}}"#);
        let length = body.len();
        let header =
            |name, value| Header::from_bytes(name, value).expect("a token and visible ASCII make a header");
        let mut headers = vec![header("Content-Type", "application/json")];
        if self.fault.status == 503 {
            headers.push(header("Retry-After", "1"));
        }
        Response::new(self.status_code(), headers, Cursor::new(body.into_bytes()), Some(length), None).boxed()
    }
}
