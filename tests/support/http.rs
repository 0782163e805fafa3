//! HTTP over a socket: a request on a connection of its own, and its response unchanged.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::MAX_WAIT;

/// Sends one request to this port of the loopback address, on a connection of its own.
pub fn request_on(port: u16, method: &str, target: &str, token: Option<&str>, body: Option<&str>) -> Response {
    try_request_on(port, method, target, token, body).unwrap()
}

/// The same where the server may die meanwhile.
pub fn try_request_on(
    port: u16,
    method: &str,
    target: &str,
    token: Option<&str>,
    body: Option<&str>,
) -> io::Result<Response> {
    Response::try_read(try_send_on(port, method, target, token, body)?)
}

/// Sends the request only; [`Response::try_read`] reads the response.
pub fn try_send_on(
    port: u16,
    method: &str,
    target: &str,
    token: Option<&str>,
    body: Option<&str>,
) -> io::Result<TcpStream> {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    if let Some(token) = token {
        request.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    if let Some(body) = body {
        request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(body.unwrap_or_default());

    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

/// A response, unchanged but for chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// Reads until the connection is closed.
    pub fn read(stream: TcpStream) -> Self {
        Self::try_read(stream).unwrap()
    }

    /// The same where the server may die meanwhile.
    pub fn try_read(mut stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(MAX_WAIT))?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response)?;
        Self::parse(&response).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// `None` if it is incomplete.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, body) = (str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 4..]);
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let mut response = Self { status, headers, body: String::new() };
        let is_chunked = response.header("transfer-encoding") == Some("chunked");
        let body = if is_chunked { unchunk(body)? } else { body.to_vec() };
        let length = response.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        response.body = String::from_utf8(body).ok().filter(|body| body.len() >= length)?;
        Some(response)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

/// Joins chunks (RFC 9112, section 7.1). `None` without the last one, which alone says that the body is complete.
fn unchunk(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(chunks.len());
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(str::from_utf8(&chunks[..end]).ok()?, 16).ok()?;
        content.extend_from_slice(chunks.get(end + 2..end + 2 + size)?);
        chunks = chunks[end + 2 + size..].strip_prefix(b"\r\n")?;
        if size == 0 {
            return chunks.is_empty().then_some(content);
        }
    }
}
