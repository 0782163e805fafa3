//! Our side of HTTP: the [`Response`] that the rest of the program makes, and the few things it reads of a request.
//!
//! With `app.rs`, `server.rs` and `admin.rs` the only file that knows `tiny_http`.

pub mod cors;
pub mod error;
pub mod json;
pub mod preconditions;
pub mod request_id;
pub mod router;

use std::borrow::Cow;
use std::io::{self, Cursor, Read};

use serde::Serialize;
use tiny_http::{Field, Request, StatusCode};
pub use tiny_http::{Limits, Method};

use crate::http::error::Error;
use crate::http::preconditions::Conditions;
use crate::tasks::seal::Seal;

/// Room for most tasks and errors as JSON, in bytes.
const JSON_BYTES: usize = 512;

/// An answer: status, headers, and a body: JSON, a page, or none.
pub struct Response {
    status: u16,
    headers: Vec<Field>,
    body: Body,
}

/// The body of an answer.
pub enum Body {
    /// In memory: its own, or the program's.
    Whole(Cursor<Cow<'static, [u8]>>),
    /// Read as the client takes it. Its length is not known, and reading it may fail.
    Stream {
        /// What is read.
        reader: Box<dyn Read + Send>,
        /// How much of it is in memory at most, in bytes.
        held_bytes: usize,
    },
}

impl Body {
    fn whole(bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        Body::Whole(Cursor::new(bytes.into()))
    }

    /// The memory that it takes while it waits for its client, in bytes.
    fn held_bytes(&self) -> usize {
        match self {
            Body::Whole(bytes) => match bytes.get_ref() {
                Cow::Owned(bytes) => bytes.capacity(),
                Cow::Borrowed(_) => 0,
            },
            Body::Stream { held_bytes, .. } => *held_bytes,
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Body::Whole(bytes) => bytes.read(buffer),
            Body::Stream { reader, .. } => reader.read(buffer),
        }
    }
}

impl Response {
    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::with_capacity(8), body: Body::whole(Vec::new()) }
    }

    /// An answer whose body is `value` as JSON.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        Self::json_by(status, |body| json::write(body, value))
    }

    /// An answer whose body is the JSON that `write` adds to it.
    pub fn json_by(status: u16, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut body = Vec::with_capacity(JSON_BYTES);
        write(&mut body);
        Self::json_text(status, body)
    }

    /// An answer whose body is JSON already.
    pub fn json_text(status: u16, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { body: Body::whole(body), ..Self::empty(status) }
            .with_header("Content-Type", "application/json")
    }

    /// An answer whose body is JSON that is read as the client takes it, and of which `held_bytes` are in memory at most.
    pub fn json_stream(status: u16, body: impl Read + Send + 'static, held_bytes: usize) -> Self {
        Self { body: Body::Stream { reader: Box::new(body), held_bytes }, ..Self::empty(status) }
            .with_header("Content-Type", "application/json")
    }

    /// A page for people.
    pub fn page(html: &'static str) -> Self {
        Self { body: Body::whole(html.as_bytes()), ..Self::empty(200) }
            .with_header("Content-Type", "text/html; charset=utf-8")
    }

    /// The same with one header more.
    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body, empty where there is none; `None` where it is still to be read.
    pub fn body(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Whole(bytes) => Some(bytes.get_ref()),
            Body::Stream { .. } => None,
        }
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
    }

    /// The same as `tiny_http` sends it.
    pub fn into_tiny_http(self) -> tiny_http::Response<Body> {
        let length = self.body().map(<[u8]>::len);
        let held_bytes = self.body.held_bytes();
        tiny_http::Response::new(StatusCode(self.status), Vec::new(), self.body, length, None)
            .with_fields(self.headers)
            .with_retained_bytes(held_bytes)
    }
}

/// The only one of a header's values; `Err` when there are several, or it is not ASCII.
pub fn sole<'h>(mut values: impl Iterator<Item = &'h [u8]>) -> Result<Option<&'h str>, Unclear> {
    match (values.next(), values.next()) {
        (Some(value), None) if value.is_ascii() => str::from_utf8(value).map(Some).map_err(|_| Unclear),
        (None, _) => Ok(None),
        _ => Err(Unclear),
    }
}

/// A header stands more than once where one was expected, or is not ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unclear;

/// The conditions under which the request is to be carried out. Each header is a list and may stand more than once.
///
/// # Errors
/// See [`Conditions::parse`].
pub fn conditions(request: &Request, seal: &Seal) -> Result<Conditions, Error> {
    let list = |name| {
        let values = request.header_values(name).map(|value| String::from_utf8_lossy(value).into_owned());
        values.reduce(|all, more| format!("{all},{more}"))
    };
    Conditions::parse(list("If-Match").as_deref(), list("If-None-Match").as_deref(), seal)
}

/// Path and query of a request target. A client behind a proxy may send the absolute form, with scheme and host
/// (RFC 9112, section 3.2.2); the scheme's case does not matter (RFC 9110, section 4.2.3).
pub fn split_target(target: &str) -> (&str, &str) {
    let absolute_form = if target.starts_with('/') { None } else { target.split_once("://") };
    let origin_form = match absolute_form {
        Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            rest.find(['/', '?']).map_or("/", |start| &rest[start..])
        }
        _ => target,
    };
    origin_form.split_once('?').unwrap_or((origin_form, ""))
}

/// The body, which the engine holds whole and within its limit.
///
/// # Errors
/// [`Error::BadRequest`] when it is no UTF-8.
pub fn read_body(request: &mut Request) -> Result<String, Error> {
    let mut body = String::with_capacity(request.body_length().unwrap_or(0));
    match request.as_reader().read_to_string(&mut body) {
        Ok(_) => Ok(body),
        Err(_) => Err(Error::BadRequest("The body is not valid UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_clear_when_it_stands_once_and_in_ascii() {
        let sole = |values: &[&'static [u8]]| sole(values.iter().copied());
        assert_eq!((sole(&[]), sole(&[b""]), sole(&[b"a b"])), (Ok(None), Ok(Some("")), Ok(Some("a b"))));
        for unclear in [[b"a".as_slice(), b"a"].as_slice(), &["a\u{a0}b".as_bytes()], &[b"a\xff"]] {
            assert_eq!(sole(unclear), Err(Unclear), "{unclear:?}");
        }
    }

    #[test]
    fn a_target_is_split_into_path_and_query() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/api/tasks", "/api/tasks", ""),
            ("/api/tasks?limit=2", "/api/tasks", "limit=2"),
            ("/api/tasks?a?b", "/api/tasks", "a?b"),
            ("http://example.com/api/tasks?limit=2", "/api/tasks", "limit=2"),
            ("HttpS://example.com/api/tasks", "/api/tasks", ""),
            ("ftp://example.com/api/tasks", "ftp://example.com/api/tasks", ""),
            ("http://example.com", "/", ""),
            ("http://example.com?x", "", "x"),
            ("/a://b", "/a://b", ""),
        ] {
            assert_eq!(split_target(target), (path, query), "{target}");
        }
    }
}
