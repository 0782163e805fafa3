//! The table of framing probes: bytes that a client sends at once, and the expected result.
//!
//! Every probe lists exactly the requests that the application must receive. What follows a rejected head or is
//! inside a body is `SMUGGLED`, a complete request that the application would receive if the end of the request were
//! misjudged.

mod bodies;
mod connections;
mod heads;

/// A complete request that the application must never receive.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// The limits that the probes test.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
pub const MAX_URL_BYTES: usize = 8 * 1024;
pub const MAX_HEADERS: usize = 100;

/// One request as the application receives it: method, target, body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub url: String,
    pub body: Vec<u8>,
}

/// The expected state of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It stays open: another request on it must be answered.
    Open,
    /// The server closes it after the last response.
    Closed,
    /// The client shuts down its sending side. The server may reject an incomplete request, and closes.
    Cut,
}

/// Bytes and the expected result.
#[derive(Clone)]
pub struct Probe {
    pub group: &'static str,
    pub name: String,
    pub bytes: Vec<u8>,
    /// The requests that the application receives, each answered with 200.
    pub seen: Vec<Seen>,
    /// The statuses allowed for the rejection after them, if any.
    pub rejection: &'static [u16],
    pub end: End,
}

// The rejections. There are several statuses only where RFC 9112 allows them.
const BAD: &[u16] = &[400];
const TOO_LARGE: &[u16] = &[413];
const BAD_OR_TOO_LARGE: &[u16] = &[400, 413];
const URL_TOO_LONG: &[u16] = &[414];
const HEADERS_TOO_LARGE: &[u16] = &[431];
const LINE_TOO_LONG: &[u16] = &[400, 414, 431];
const ENDLESS_CHUNKS: &[u16] = &[400, 413, 431];
const CODING: &[u16] = &[501];
const BAD_OR_CODING: &[u16] = &[400, 501];
const VERSION: &[u16] = &[505];
const BAD_OR_VERSION: &[u16] = &[400, 505];

/// All probes, by group.
pub fn all() -> Vec<Probe> {
    let groups: [(&str, Vec<Probe>); 13] = [
        ("smuggling", bodies::smuggling()),
        ("transfer coding", bodies::transfer_codings()),
        ("content length", bodies::content_lengths()),
        ("chunks", bodies::chunks()),
        ("line ends", heads::line_ends()),
        ("control bytes", heads::control_bytes()),
        ("headers", heads::headers()),
        ("host", heads::hosts()),
        ("request line", heads::request_lines()),
        ("limits", connections::limits()),
        ("persistence", connections::persistence()),
        ("pipelines", connections::pipelines()),
        ("half-close", connections::half_closes()),
    ];
    groups
        .into_iter()
        .flat_map(|(group, probes)| probes.into_iter().map(move |probe| Probe { group, ..probe }))
        .collect()
}

// ---- constructors of probes

type Request<'a> = (&'a str, &'a str, &'a str);

fn probe(name: &str, bytes: impl Into<Vec<u8>>, seen: &[Request], rejection: &'static [u16], end: End) -> Probe {
    let seen = seen
        .iter()
        .map(|(method, url, body)| Seen { method: (*method).into(), url: (*url).into(), body: (*body).into() })
        .collect();
    Probe { group: "", name: name.into(), bytes: bytes.into(), seen, rejection, end }
}

/// Every request is received and answered, and the connection stays open.
fn served(name: &str, bytes: impl Into<Vec<u8>>, seen: &[Request]) -> Probe {
    probe(name, bytes, seen, &[], End::Open)
}

/// Every request is received and answered, and the connection closes: a request after them is not served.
fn closes(name: &str, bytes: impl Into<Vec<u8>>, seen: &[Request]) -> Probe {
    probe(name, with_smuggled(bytes), seen, &[], End::Closed)
}

/// No request is received. One rejection, then the connection closes, whatever follows.
fn rejected(name: &str, bytes: impl Into<Vec<u8>>, rejection: &'static [u16]) -> Probe {
    probe(name, with_smuggled(bytes), &[], rejection, End::Closed)
}

/// Valid requests, then a rejection.
fn served_then_rejected(name: &str, bytes: impl Into<Vec<u8>>, seen: &[Request], rejection: &'static [u16]) -> Probe {
    probe(name, with_smuggled(bytes), seen, rejection, End::Closed)
}

/// The client shuts down inside a request: complete requests are answered, the rest may be rejected.
fn cut(name: &str, bytes: impl Into<Vec<u8>>, seen: &[Request]) -> Probe {
    probe(name, bytes, seen, BAD, End::Cut)
}

/// The client shuts down between requests: each is answered, and nothing else is sent.
fn ended(name: &str, bytes: impl Into<Vec<u8>>, seen: &[Request]) -> Probe {
    probe(name, bytes, seen, &[], End::Cut)
}

fn with_smuggled(bytes: impl Into<Vec<u8>>) -> Vec<u8> {
    let mut bytes = bytes.into();
    bytes.extend_from_slice(SMUGGLED.as_bytes());
    bytes
}

/// `GET /a` with further header lines.
fn get(headers: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n")
}

/// `POST /a` with further header lines and a body.
fn post(headers: &str, rest: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n{rest}")
}

/// `POST /a` with a body in chunks.
fn chunked(rest: &str) -> String {
    post("Transfer-Encoding: chunked", rest)
}

/// A request line with a `Host` header.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: h\r\n\r\n")
}

const GET_A: Request = ("GET", "/a", "");
const POST_A: Request = ("POST", "/a", "");
const HELLO: Request = ("POST", "/a", "hello");
