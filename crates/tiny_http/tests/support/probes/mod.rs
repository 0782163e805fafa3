//! The table of framing probes: bytes that a client sends at once, and all that may come of them.
//!
//! Every probe says which requests the program must see, to the byte, and so also which it must not: whatever
//! follows a refused head or lies inside a body is `SMUGGLED`, a complete request that would be seen if any
//! of it were taken for one.

mod bodies;
mod connections;
mod heads;

/// A complete request that no probe wants to be seen.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// The limits that the probes aim at, as the engine documents them.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
pub const MAX_URL_BYTES: usize = 8 * 1024;
pub const MAX_HEADERS: usize = 100;

/// One request as the program sees it: method, target, body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub url: String,
    pub body: Vec<u8>,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It goes on: one more request is asked on it and must be answered.
    Open,
    /// The server closes it after the last answer.
    Closed,
    /// The client ends its side after the bytes; the server may refuse what is incomplete, and closes.
    Cut,
}

/// Bytes, and what must come of them.
#[derive(Clone)]
pub struct Probe {
    pub group: &'static str,
    pub name: String,
    pub bytes: Vec<u8>,
    /// The requests that the program sees, each answered with 200.
    pub seen: Vec<Seen>,
    /// The statuses allowed for the one answer of refusal after them, if any.
    pub refusal: &'static [u16],
    pub end: End,
}

// The refusals. Two statuses stand together only where RFC 9112 leaves both open.
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

/// Every probe, group by group.
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

// ---- how a probe is written down

type Request<'a> = (&'a str, &'a str, &'a str);

fn probe(
    name: &str,
    bytes: impl Into<Vec<u8>>,
    seen: &[Request],
    refusal: &'static [u16],
    end: End,
) -> Probe {
    let seen = seen
        .iter()
        .map(|(method, url, body)| Seen {
            method: (*method).into(),
            url: (*url).into(),
            body: (*body).into(),
        })
        .collect();
    Probe { group: "", name: name.into(), bytes: bytes.into(), seen, refusal, end }
}

/// Every request is seen and answered, and the connection goes on.
fn served(name: &str, bytes: impl Into<Vec<u8>>, seen: &[Request]) -> Probe {
    probe(name, bytes, seen, &[], End::Open)
}

/// Every request is seen and answered, and the connection closes: a request behind them is not served.
fn closes(name: &str, bytes: impl Into<Vec<u8>>, seen: &[Request]) -> Probe {
    probe(name, with_smuggled(bytes), seen, &[], End::Closed)
}

/// Nothing is seen; one refusal, then the connection closes, whatever stands behind.
fn refused(name: &str, bytes: impl Into<Vec<u8>>, refusal: &'static [u16]) -> Probe {
    probe(name, with_smuggled(bytes), &[], refusal, End::Closed)
}

/// Good requests first, then a refusal.
fn served_then_refused(
    name: &str,
    bytes: impl Into<Vec<u8>>,
    seen: &[Request],
    refusal: &'static [u16],
) -> Probe {
    probe(name, with_smuggled(bytes), seen, refusal, End::Closed)
}

/// The client ends inside a request: what was complete is answered, the rest is never seen and may be
/// refused.
fn cut(name: &str, bytes: impl Into<Vec<u8>>, seen: &[Request]) -> Probe {
    probe(name, bytes, seen, BAD, End::Cut)
}

/// The client ends between requests: each is answered, and not a word more.
fn ended(name: &str, bytes: impl Into<Vec<u8>>, seen: &[Request]) -> Probe {
    probe(name, bytes, seen, &[], End::Cut)
}

fn with_smuggled(bytes: impl Into<Vec<u8>>) -> Vec<u8> {
    let mut bytes = bytes.into();
    bytes.extend_from_slice(SMUGGLED.as_bytes());
    bytes
}

/// `GET /a` with further header lines, and an end of head.
fn get(headers: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n")
}

/// `POST /a` with further header lines, an end of head, and what follows.
fn post(headers: &str, rest: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n{rest}")
}

/// `POST /a` with a body in chunks.
fn chunked(rest: &str) -> String {
    post("Transfer-Encoding: chunked", rest)
}

/// A request line, a `Host`, an end of head.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: h\r\n\r\n")
}

const GET_A: Request = ("GET", "/a", "");
const POST_A: Request = ("POST", "/a", "");
const HELLO: Request = ("POST", "/a", "hello");
