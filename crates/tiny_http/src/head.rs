//! The parser of a request head: bytes in, a validated [`Head`] or a [`HeadError`] out.
//!
//! Pure: no socket, no clock. It accepts nothing that another HTTP implementation could read as a different request
//! (RFC 9112, section 11.2), and its cost per byte is constant, however the bytes arrive. `httparse` parses the
//! lines; what it tolerates is rejected here.

use std::mem::MaybeUninit;
use std::ops::Range;

use ascii::AsciiString;

use crate::head_validation::validate;
use crate::header::{Header, HeaderField};
use crate::limits::Limits;
use crate::line_scanner::LineScanner;
use crate::message::{HTTPVersion, Method};

/// The upper bound of [`Limits::max_headers`].
const MAX_HEADERS_CEILING: usize = 256;

/// How the length of a request body is determined (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Neither `Content-Length` nor `Transfer-Encoding`: there is no body.
    Absent,
    /// `Content-Length` in bytes. A number above 64 bits becomes `u64::MAX`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Why a request is rejected: the status of the response, and one sentence for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HttpError {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

impl HttpError {
    pub(crate) const fn new(status: u16, reason: &'static str) -> HttpError {
        HttpError { status, reason }
    }

    pub(crate) const fn bad(reason: &'static str) -> HttpError {
        HttpError::new(400, reason)
    }
}

/// An error, and the head if it could be parsed.
#[derive(Debug)]
pub(crate) struct HeadError {
    pub(crate) error: HttpError,
    pub(crate) head: Option<Box<Head>>,
}

impl From<HttpError> for HeadError {
    fn from(error: HttpError) -> HeadError {
        HeadError { error, head: None }
    }
}

/// The positions of a header's name and value in [`Head::bytes`].
#[derive(Debug, Clone)]
struct HeaderSpan {
    name: Range<u32>,
    value: Range<u32>,
}

/// A validated request head.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    target: Range<u32>,
    headers: Vec<HeaderSpan>,
    pub(crate) method: Method,
    pub(crate) version: HTTPVersion,
    pub(crate) framing: Framing,
    /// The connection may serve another request afterwards (RFC 9112, section 9.3).
    pub(crate) keep_alive: bool,
    /// The request has `Expect: 100-continue`. Other expectations are ignored, as RFC 9110, section 10.1.1 allows.
    pub(crate) expects_continue: bool,
}

impl Head {
    /// The request target as received.
    pub(crate) fn target(&self) -> &str {
        std::str::from_utf8(self.slice(&self.target)).expect("`check_target` accepts only ASCII")
    }

    /// The headers as the API returns them. A byte above ASCII in a value (obs-text) becomes `?`: such a value is
    /// legal and opaque (RFC 9110, section 5.5), but `AsciiString` cannot store it.
    pub(crate) fn headers(&self) -> Vec<Header> {
        let header = |field: &HeaderSpan| {
            let name = AsciiString::from_ascii(self.slice(&field.name)).ok()?;
            let value = AsciiString::from_ascii(self.slice(&field.value)).unwrap_or_else(|error| {
                error
                    .into_source()
                    .iter()
                    .map(|byte| ascii::AsciiChar::from_ascii(*byte).unwrap_or(ascii::AsciiChar::Question))
                    .collect()
            });
            Some(Header { field: HeaderField::from_ascii(name), value })
        };
        self.headers.iter().filter_map(header).collect()
    }

    /// The values of all headers with this name, ignoring case.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let of_name = |field: &&HeaderSpan| self.slice(&field.name).eq_ignore_ascii_case(name.as_bytes());
        self.headers.iter().filter(of_name).map(|field| self.slice(&field.value))
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }
}

/// Parses a head whose bytes arrive piece by piece. It scans no byte twice for the end of the head.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    tried: bool,
    lines: LineScanner,
}

impl HeadReader {
    /// Parses the head at the start of `bytes`: the bytes of the last call and those that arrived since. Returns the
    /// head and its length in bytes, or `None` if it is incomplete.
    pub(crate) fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, HeadError> {
        self.parse_once(bytes, limits).map_err(|HeadError { error, head }| HeadError {
            error,
            head: head.or_else(|| parse_leniently(error, bytes).map(Box::new)),
        })
    }

    fn parse_once(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, HeadError> {
        if !self.tried {
            // In the common case the head arrives complete, and one pass suffices.
            self.tried = true;
            if let Some(parsed) = parse(bytes, limits)? {
                return Ok(Some(parsed));
            }
        }
        match self.lines.scan(bytes, limits)? {
            Some(length) => parse(&bytes[..length], limits),
            None => Ok(None),
        }
    }
}

const TOO_MANY_HEADERS: HttpError = HttpError::new(431, "The request has too many headers");
pub(crate) const BAD_REQUEST_LINE: HttpError = HttpError::bad("The request line is malformed");

/// Parses the head at the start of `bytes`. `None` means that it is incomplete.
fn parse(bytes: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, HeadError> {
    let mut storage = [const { MaybeUninit::uninit() }; MAX_HEADERS_CEILING];
    let storage = &mut storage[..limits.max_headers.min(MAX_HEADERS_CEILING)];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, storage) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(classify_error(error, bytes, limits).into()),
    };
    let bytes = &bytes[..length];
    let target = request.path.unwrap_or_default();
    // `httparse` accepts LF alone as a line end, and CR only before LF. So every line ends with CRLF if the counts
    // are equal.
    let count = |wanted| -> usize { bytes.chunks(255).map(|chunk| count_in_chunk(chunk, wanted)).sum() };
    let too_large = length > limits.max_head_bytes || target.len() > limits.max_url_bytes;
    if too_large || count(b'\n') != count(b'\r') {
        return Err(classify_error(httparse::Error::NewLine, bytes, limits).into());
    }

    let mut head = build_head(&request, bytes)?;
    match validate(&mut head, request.headers) {
        Ok(()) => Ok(Some((head, length))),
        Err(error) => Err(HeadError { error, head: Some(Box::new(head)) }),
    }
}

/// The head that `httparse` found in `bytes`, not yet validated.
fn build_head(request: &httparse::Request, bytes: &[u8]) -> Result<Head, HttpError> {
    let span = |part: &[u8]| {
        let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
        start as u32..(start + part.len()) as u32
    };
    let header =
        |header: &httparse::Header| HeaderSpan { name: span(header.name.as_bytes()), value: span(header.value) };
    Ok(Head {
        bytes: bytes.to_vec(),
        target: span(request.path.unwrap_or_default().as_bytes()),
        headers: request.headers.iter().map(header).collect(),
        method: request.method.unwrap_or_default().parse().map_err(|()| BAD_REQUEST_LINE)?,
        version: HTTPVersion(1, request.version.unwrap_or_default()),
        framing: Framing::Absent,
        keep_alive: false,
        expects_continue: false,
    })
}

/// The head of a request that is rejected for its size or version, if it is complete. The rejection hook needs its
/// `Origin`.
fn parse_leniently(error: HttpError, bytes: &[u8]) -> Option<Head> {
    if !matches!(error.status, 414 | 431 | 505) {
        return None;
    }
    let mut bytes = bytes.to_vec();
    if let Some(version) = other_version(&bytes) {
        // The meaning of that version is unknown, but headers have the same syntax.
        bytes[version].copy_from_slice(b"HTTP/1.1");
    }
    let mut storage = [httparse::EMPTY_HEADER; MAX_HEADERS_CEILING];
    let mut request = httparse::Request::new(&mut storage);
    let is_complete = request.parse(&bytes).is_ok_and(|status| status.is_complete());
    if is_complete { build_head(&request, &bytes).ok() } else { None }
}

/// Counts `wanted` in at most 255 bytes. A `u8` sum compiles to a tenth of the instructions.
fn count_in_chunk(bytes: &[u8], wanted: u8) -> usize {
    bytes.iter().map(|byte| u8::from(*byte == wanted)).sum::<u8>().into()
}

/// The error for bytes that `httparse` or the checks after it rejected. Errors of sizes and line ends are more
/// specific, so they come first.
fn classify_error(error: httparse::Error, bytes: &[u8], limits: &Limits) -> HttpError {
    if let Err(error) = LineScanner::default().scan(bytes, limits) {
        return error;
    }
    match error {
        httparse::Error::TooManyHeaders => TOO_MANY_HEADERS,
        httparse::Error::Version if other_version(bytes).is_some() => {
            HttpError::new(505, "Only HTTP/1.0 and HTTP/1.1 are supported")
        }
        httparse::Error::Version | httparse::Error::Token => BAD_REQUEST_LINE,
        httparse::Error::HeaderName => HttpError::bad("A header name is malformed"),
        httparse::Error::HeaderValue => HttpError::bad("A header value is malformed"),
        _ => HttpError::bad("The request head is malformed"),
    }
}

/// The position of a well-formed version (RFC 9112, section 2.3), such as `HTTP/2.0`, at the end of the request line.
fn other_version(bytes: &[u8]) -> Option<Range<usize>> {
    let start = bytes.len() - bytes.trim_ascii_start().len();
    let line = bytes[start..].split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.splitn(4, |byte| *byte == b' ').collect();
    let [_, _, version] = words[..] else { return None };
    let is_version = matches!(version.strip_prefix(b"HTTP/"), Some([major, b'.', minor])
        if major.is_ascii_digit() && minor.is_ascii_digit());
    let end = start + line.len();
    is_version.then(|| end - version.len()..end)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
