//! Reads a request head: bytes in, a validated [`Head`] or a [`Fault`] out.
//!
//! Pure: no socket, no clock. It must never let pass what another HTTP implementation could read as a different
//! request (RFC 9112, section 11.2), and never cost more than a constant a byte, however the bytes arrive.
//! `httparse` knows the grammar of a line; what it forgives is refused here.

use std::mem::MaybeUninit;
use std::ops::Range;

use ascii::AsciiString;

use crate::header::{Header, HeaderField};
use crate::limits::Limits;
use crate::message::{HTTPVersion, Method};
use crate::rules;

/// No more headers than this are ever parsed, whatever the limits say.
const MAX_HEADERS_CEILING: usize = 256;

/// How a request's body is delimited (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Neither `Content-Length` nor `Transfer-Encoding`: there is none.
    Absent,
    /// `Content-Length`, in bytes; a number past 64 bits reads as the largest.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Why a request is not served: the status to answer, and one sentence for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

impl Fault {
    pub(crate) const fn new(status: u16, reason: &'static str) -> Fault {
        Fault { status, reason }
    }

    pub(crate) const fn bad(reason: &'static str) -> Fault {
        Fault::new(400, reason)
    }
}

/// A fault, and the head if it was understood that far.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) fault: Fault,
    pub(crate) head: Option<Box<Head>>,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Refused {
        Refused { fault, head: None }
    }
}

/// Where a name and its value stand in [`Head::bytes`].
#[derive(Debug, Clone)]
struct Field {
    name: Range<u32>,
    value: Range<u32>,
}

/// A validated request head.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    target: Range<u32>,
    fields: Vec<Field>,
    pub(crate) method: Method,
    pub(crate) version: HTTPVersion,
    pub(crate) framing: Framing,
    /// The connection may serve another request after this one (RFC 9112, section 9.3).
    pub(crate) keep_alive: bool,
    /// `Expect: 100-continue` was asked for. Any other expectation is passed over (RFC 9110, section 10.1.1 allows it).
    pub(crate) expects_continue: bool,
}

impl Head {
    /// The request target as it was sent.
    pub(crate) fn target(&self) -> &str {
        std::str::from_utf8(self.slice(&self.target)).expect("`check_target` lets only ASCII pass")
    }

    /// The headers as the API gives them. A byte past ASCII in a value (obs-text) becomes `?`: such a value is legal, and
    /// opaque (RFC 9110, section 5.5), but `AsciiString` cannot hold it.
    pub(crate) fn headers(&self) -> Vec<Header> {
        let header = |field: &Field| {
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
        self.fields.iter().filter_map(header).collect()
    }

    /// The values of the headers with this name, whatever its case.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let of_name = |field: &&Field| self.slice(&field.name).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(of_name).map(|field| self.slice(&field.value))
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }
}

/// Finds the end of a head in bytes that arrive piece by piece, without looking at any of them twice.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    tried: bool,
    lines: LineScanner,
}

impl HeadReader {
    /// Reads the head at the start of `bytes`, which are all that arrived so far: the same bytes as last time and perhaps
    /// more. Gives the head and its length in bytes, or `None` as long as it is not whole.
    pub(crate) fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, Refused> {
        self.read_once(bytes, limits).map_err(|Refused { fault, head }| Refused {
            fault,
            head: head.or_else(|| understood(fault, bytes).map(Box::new)),
        })
    }

    fn read_once(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, Refused> {
        if !self.tried {
            // The common case: the head came whole, and one pass is enough.
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

/// Splits a head into lines, byte by byte. It is the judge of line ends and sizes.
#[derive(Debug, Default)]
struct LineScanner {
    scanned: usize,
    /// Bytes of the current line, without its end.
    line: usize,
    after_cr: bool,
    /// Lines seen, not counting empty ones before the request line (RFC 9112, section 2.2).
    lines: usize,
    spaces: usize,
    target: usize,
}

impl LineScanner {
    /// The length of the head once its empty line has come.
    fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Fault> {
        while let Some(&byte) = bytes.get(self.scanned) {
            if self.scanned >= limits.max_head_bytes {
                return Err(HEAD_TOO_LARGE);
            }
            self.scanned += 1;
            if self.take(byte, limits)? {
                return Ok(Some(self.scanned));
            }
        }
        Ok(None)
    }

    /// Whether `byte` ends the head.
    fn take(&mut self, byte: u8, limits: &Limits) -> Result<bool, Fault> {
        match (self.after_cr, byte) {
            (true, b'\n') => return Ok(self.end_line()),
            (true, _) => return Err(Fault::bad("A line has a CR that no LF follows")),
            (false, b'\n') => return Err(Fault::bad("A line ends with LF alone")),
            (false, b'\r') => {
                self.after_cr = true;
                return Ok(false);
            }
            (false, b'\t' | b' ') if self.line == 0 => {
                return Err(Fault::bad("A line starts with white space"));
            }
            (false, 0..=8 | 10..=31 | 127) => return Err(Fault::bad("The head has a control character")),
            (false, _) => self.line += 1,
        }
        if self.lines == 0 {
            self.take_of_request_line(byte, limits)?;
        }
        Ok(false)
    }

    fn take_of_request_line(&mut self, byte: u8, limits: &Limits) -> Result<(), Fault> {
        match byte {
            b' ' => self.spaces += 1,
            b'\t' | 128.. => return Err(BAD_REQUEST_LINE),
            _ if self.spaces == 1 => self.target += 1,
            _ => {}
        }
        if self.target > limits.max_url_bytes { Err(URL_TOO_LONG) } else { Ok(()) }
    }

    fn end_line(&mut self) -> bool {
        self.after_cr = false;
        let empty = self.line == 0;
        self.line = 0;
        if !empty {
            self.lines += 1;
        }
        empty && self.lines > 0
    }
}

const HEAD_TOO_LARGE: Fault = Fault::new(431, "The request head is too large");
const TOO_MANY_HEADERS: Fault = Fault::new(431, "The request has too many headers");
const URL_TOO_LONG: Fault = Fault::new(414, "The request target is too long");
const BAD_REQUEST_LINE: Fault = Fault::bad("The request line is malformed");

/// Parses the head at the start of `bytes`; `None` when it is not whole.
fn parse(bytes: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, Refused> {
    let mut storage = [const { MaybeUninit::uninit() }; MAX_HEADERS_CEILING];
    let storage = &mut storage[..limits.max_headers.min(MAX_HEADERS_CEILING)];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, storage) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(explain(error, bytes, limits).into()),
    };
    let bytes = &bytes[..length];
    let target = request.path.unwrap_or_default();
    // `httparse` takes LF for a line end, and CR nowhere but before LF: as many of one as of the other, and each is CRLF.
    let count = |wanted| -> usize { bytes.chunks(255).map(|some| count_few(some, wanted)).sum() };
    let too_large = length > limits.max_head_bytes || target.len() > limits.max_url_bytes;
    if too_large || count(b'\n') != count(b'\r') {
        return Err(explain(httparse::Error::NewLine, bytes, limits).into());
    }

    let mut head = head_of(&request, bytes)?;
    match rules::judge(&mut head, request.headers) {
        Ok(()) => Ok(Some((head, length))),
        Err(fault) => Err(Refused { fault, head: Some(Box::new(head)) }),
    }
}

/// The head that `httparse` found in `bytes`, before it is judged.
fn head_of(request: &httparse::Request, bytes: &[u8]) -> Result<Head, Fault> {
    let span = |part: &[u8]| {
        let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
        start as u32..(start + part.len()) as u32
    };
    let field =
        |field: &httparse::Header| Field { name: span(field.name.as_bytes()), value: span(field.value) };
    Ok(Head {
        bytes: bytes.to_vec(),
        target: span(request.path.unwrap_or_default().as_bytes()),
        fields: request.headers.iter().map(field).collect(),
        method: request.method.unwrap_or_default().parse().map_err(|()| BAD_REQUEST_LINE)?,
        version: HTTPVersion(1, request.version.unwrap_or_default()),
        framing: Framing::Absent,
        keep_alive: false,
        expects_continue: false,
    })
}

/// The head of a request that is refused for its size or its version, if it is whole: only to tell which page asks.
fn understood(fault: Fault, bytes: &[u8]) -> Option<Head> {
    if !matches!(fault.status, 414 | 431 | 505) {
        return None;
    }
    let mut bytes = bytes.to_vec();
    if let Some(version) = other_version(&bytes) {
        // It is not known to mean the same there, but how a header looks has not changed.
        bytes[version].copy_from_slice(b"HTTP/1.1");
    }
    let mut storage = [httparse::EMPTY_HEADER; MAX_HEADERS_CEILING];
    let mut request = httparse::Request::new(&mut storage);
    let is_whole = request.parse(&bytes).is_ok_and(|status| status.is_complete());
    if is_whole { head_of(&request, &bytes).ok() } else { None }
}

/// How often `wanted` stands in at most 255 bytes: counted in bytes, which the compiler turns into a tenth of the instructions.
fn count_few(bytes: &[u8], wanted: u8) -> usize {
    bytes.iter().map(|byte| u8::from(*byte == wanted)).sum::<u8>().into()
}

/// Why `httparse` or the checks beside it refused these bytes. Sizes and line ends come first: they say more.
fn explain(error: httparse::Error, bytes: &[u8], limits: &Limits) -> Fault {
    if let Err(fault) = LineScanner::default().scan(bytes, limits) {
        return fault;
    }
    match error {
        httparse::Error::TooManyHeaders => TOO_MANY_HEADERS,
        httparse::Error::Version if other_version(bytes).is_some() => {
            Fault::new(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here")
        }
        httparse::Error::Version | httparse::Error::Token => BAD_REQUEST_LINE,
        httparse::Error::HeaderName => Fault::bad("A header name is malformed"),
        httparse::Error::HeaderValue => Fault::bad("A header value is malformed"),
        _ => Fault::bad("The request head is malformed"),
    }
}

/// Where the request line ends with a well-formed version (RFC 9112, section 2.3), such as `HTTP/2.0`.
fn other_version(bytes: &[u8]) -> Option<Range<usize>> {
    let start = bytes.len() - bytes.trim_ascii_start().len();
    let line = bytes[start..].split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.splitn(4, |byte| *byte == b' ').collect();
    let [_, _, version] = words[..] else { return None };
    let is_one = matches!(version.strip_prefix(b"HTTP/"), Some([major, b'.', minor])
        if major.is_ascii_digit() && minor.is_ascii_digit());
    let end = start + line.len();
    is_one.then(|| end - version.len()..end)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
