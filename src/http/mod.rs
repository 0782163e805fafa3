//! HTTP messages as the program sees them: the [`Response`] that it makes, and what it reads of a request.
//!
//! Besides this file only `dispatch`, `server.rs` and `ops/admin.rs` use `tiny_http`.

pub mod cors;
pub mod error;
pub mod json;
pub mod preconditions;
pub mod request_id;
pub mod router;
pub mod trace_context;

use std::borrow::Cow;
use std::io::{self, Cursor, Read};

use serde::Serialize;
use tiny_http::{Field, Request, StatusCode};
pub use tiny_http::{Limits, Method};

use error::{ApiError, ErrorBody};
use preconditions::Preconditions;

const JSON: &str = "application/json";
/// Room for most tasks and errors as JSON, in bytes.
const JSON_BYTES: usize = 512;

/// A response: status, headers and body.
pub struct Response {
    status: u16,
    headers: Vec<Field>,
    body: Body,
    /// The memory that the body takes at most while it waits for its client, in bytes.
    retained_bytes: usize,
}

/// The body of a response.
pub enum Body {
    /// In memory.
    Whole(Cursor<Cow<'static, [u8]>>),
    /// Read as the client takes it. Its length is not known, and reading may fail.
    Stream(Box<dyn Read + Send>),
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Body::Whole(bytes) => bytes.read(buffer),
            Body::Stream(reader) => reader.read(buffer),
        }
    }
}

impl Response {
    /// A response without a body.
    pub fn empty(status: u16) -> Self {
        let body = Body::Whole(Cursor::default());
        Self { status, headers: Vec::with_capacity(8), body, retained_bytes: 0 }
    }

    /// A response with a body of this type.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        let body = body.into();
        let retained_bytes = if let Cow::Owned(bytes) = &body { bytes.capacity() } else { 0 };
        let body = Body::Whole(Cursor::new(body));
        Self { body, retained_bytes, ..Self::empty(status) }.with_header("Content-Type", content_type)
    }

    /// A response whose body is `value` as JSON.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        let mut body = Vec::with_capacity(JSON_BYTES);
        serde_json::to_writer(&mut body, value).expect("our own types have string keys and serialise");
        Self::raw_json(status, body)
    }

    /// A response whose body is JSON already.
    pub fn raw_json(status: u16, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self::new(status, JSON, body)
    }

    /// A response whose body is JSON that is read as the client takes it. It takes `retained_bytes` of memory at most.
    pub fn json_stream(status: u16, body: impl Read + Send + 'static, retained_bytes: usize) -> Self {
        let body = Body::Stream(Box::new(body));
        Self { body, retained_bytes, ..Self::empty(status) }.with_header("Content-Type", JSON)
    }

    /// Adds a header.
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
            Body::Stream(_) => None,
        }
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
    }

    /// What every response carries: CORS for the page that asked, the request's id, no caching, no type sniffing.
    pub fn with_common_headers(self, allowed_origin: Option<&str>, request_id: &str) -> Self {
        let response = cors::with_headers(self, allowed_origin)
            .with_header(request_id::HEADER, request_id.to_owned())
            .with_header("X-Content-Type-Options", "nosniff");
        match response.header("Cache-Control") {
            None => response.with_header("Cache-Control", "no-store"),
            Some(_) => response,
        }
    }

    /// Converts it to the type that `tiny_http` sends.
    pub fn into_tiny_http(self) -> tiny_http::Response<Body> {
        let length = self.body().map(<[u8]>::len);
        tiny_http::Response::new(StatusCode(self.status), Vec::new(), self.body, length, None)
            .with_fields(self.headers)
            .with_retained_bytes(self.retained_bytes)
    }
}

impl From<ApiError> for Response {
    fn from(error: ApiError) -> Self {
        let (status, error_code, message) = error.description();
        let message = message.as_ref();
        let response = match &error {
            ApiError::Validation(detail) => Self::json(status, &ErrorBody { detail, error_code, message }),
            _ => Self::json(status, &ErrorBody { detail: message, error_code, message }),
        };
        match error.header() {
            Some((name, value)) => response.with_header(name, value),
            None => response,
        }
    }
}

/// The value of a header that may occur once; `Err` when it occurs more often, or is not ASCII.
pub fn single_value<'h>(mut values: impl Iterator<Item = &'h [u8]>) -> Result<Option<&'h str>, AmbiguousHeader> {
    match (values.next(), values.next()) {
        (Some(value), None) if value.is_ascii() => str::from_utf8(value).map(Some).map_err(|_| AmbiguousHeader),
        (None, _) => Ok(None),
        _ => Err(AmbiguousHeader),
    }
}

/// The value of a request's header; `None` when it is missing or ambiguous.
pub fn header<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    single_value(request.header_values(name)).unwrap_or_default()
}

/// A header occurs more than once, or is not ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmbiguousHeader;

/// Whether this is a CORS preflight: `OPTIONS` with `Access-Control-Request-Method` (Fetch standard, "CORS-preflight
/// request").
pub fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::Options && request.header_values("Access-Control-Request-Method").next().is_some()
}

/// The preconditions of a request. Each header is a list and may occur more than once.
///
/// # Errors
/// See [`Preconditions::parse`].
pub fn preconditions(request: &Request) -> Result<Preconditions, ApiError> {
    let list = |name| {
        let values = request.header_values(name).map(|value| String::from_utf8_lossy(value).into_owned());
        values.reduce(|all, more| format!("{all},{more}"))
    };
    Preconditions::parse(list("If-Match").as_deref(), list("If-None-Match").as_deref())
}

/// Path and query of a request target. A client behind a proxy may send the absolute form, with scheme and host
/// (RFC 9112, section 3.2.2); the scheme's case does not matter (RFC 9110, section 4.2.3).
pub fn path_and_query(target: &str) -> (&str, &str) {
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
/// [`ApiError::UnsupportedMediaType`] when it is compressed, [`ApiError::BadRequest`] when it is not UTF-8.
pub fn read_body(request: &mut Request) -> Result<String, ApiError> {
    let is_identity = |value: &[u8]| value.trim_ascii().eq_ignore_ascii_case(b"identity") || value.is_empty();
    if !request.header_values("Content-Encoding").all(is_identity) {
        return Err(ApiError::UnsupportedMediaType);
    }
    let mut body = String::with_capacity(request.body_length().unwrap_or(0));
    match request.as_reader().read_to_string(&mut body) {
        Ok(_) => Ok(body),
        Err(_) => Err(ApiError::BadRequest("The body is not valid UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::error::FieldError;

    #[test]
    fn detail_when_not_a_422_repeats_the_message() {
        let body = |error: ApiError| -> serde_json::Value {
            serde_json::from_slice(Response::from(error).body().unwrap()).unwrap()
        };
        let json = body(ApiError::TaskNotFound);
        assert_eq!(json["detail"], json["message"]);
        assert_eq!(json["error_code"], "RESOURCE_NOT_FOUND");

        let json = body(ApiError::Validation(vec![FieldError::new(&["body", "title"], "missing", "Field required")]));
        assert_eq!(
            json["detail"],
            serde_json::json!([{"loc": ["body", "title"], "msg": "Field required", "type": "missing"}])
        );
        assert_eq!(json["message"], "body.title: Field required");
    }

    #[test]
    fn header_when_single_and_ascii_is_accepted() {
        let single_value = |values: &[&'static [u8]]| single_value(values.iter().copied());
        assert_eq!(
            (single_value(&[]), single_value(&[b""]), single_value(&[b"a b"])),
            (Ok(None), Ok(Some("")), Ok(Some("a b")))
        );
        for ambiguous in [[b"a".as_slice(), b"a"].as_slice(), &["a\u{a0}b".as_bytes()], &[b"a\xff"]] {
            assert_eq!(single_value(ambiguous), Err(AmbiguousHeader), "{ambiguous:?}");
        }
    }

    #[test]
    fn target_when_split_gives_path_and_query() {
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
            assert_eq!(path_and_query(target), (path, query), "{target}");
        }
    }
}
