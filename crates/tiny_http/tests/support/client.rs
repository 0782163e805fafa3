//! A strict HTTP/1.1 client for tests.
//!
//! It sends exactly the bytes it is given. An ambiguous response (two lengths, a body where none is allowed, a bare
//! line feed, a reset before the end) is an error.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// The longest wait for a byte. Longer than any deadline that the tests configure.
pub const MAX_WAIT: Duration = Duration::from_secs(8);

/// One response as received.
#[derive(Debug)]
pub struct ReceivedResponse {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl ReceivedResponse {
    /// All values of a header. The name is in lower case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    /// The first value of a header. The name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Whether the response has `Connection: close`.
    pub fn says_close(&self) -> bool {
        self.all("connection").iter().any(|value| value.eq_ignore_ascii_case("close"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection with a buffer of what was read past the last response.
pub struct Client {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// Connects without Nagle's algorithm, so that each `send` is a segment of its own.
    pub fn connect(addr: SocketAddr) -> io::Result<Client> {
        Client::on(TcpStream::connect_timeout(&addr, MAX_WAIT)?)
    }

    /// Wraps a connected stream.
    pub fn on(stream: TcpStream) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(MAX_WAIT))?;
        stream.set_write_timeout(Some(MAX_WAIT))?;
        Ok(Client { stream, unread: Vec::new() })
    }

    pub fn addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// Sends bytes. A server may reject a request and close before it has read all of it, so the caller decides
    /// whether a failed write is an error.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Shuts down the sending side. Responses can still be read.
    pub fn end_sending(&mut self) {
        // Fails only if the server has closed the connection, which the next read reports.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads one response to a request with `method`. `None` if the server closed the connection between responses.
    pub fn read_response(&mut self, method: &str) -> Result<Option<ReceivedResponse>, String> {
        let Some(head_len) = self.fill_until(b"\r\n\r\n")? else {
            return Ok(None);
        };
        let head: Vec<u8> = self.unread.drain(..head_len).collect();
        let (status, headers) = parse_head(&head)?;
        let mut response = ReceivedResponse { status, headers, body: Vec::new() };
        response.body = self.body(&response, method)?;
        Ok(Some(response))
    }

    /// Sends a complete request and reads its response.
    pub fn ask(&mut self, method: &str, request: impl AsRef<[u8]>) -> Result<ReceivedResponse, String> {
        self.send(request).map_err(|e| format!("sending the request failed: {e}"))?;
        self.read_response(method)?.ok_or_else(|| "closed without a response".to_owned())
    }

    /// Requires that the server closes the connection now, without another byte.
    pub fn at_end(&mut self) -> Result<(), String> {
        if !self.unread.is_empty() || self.fill()? {
            return Err(format!("expected the end, got {:?}", brief(&self.unread)));
        }
        Ok(())
    }

    /// Reads more. `false` at the end of the stream.
    fn fill(&mut self) -> Result<bool, String> {
        let mut chunk = [0; 65536];
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.unread.extend_from_slice(&chunk[..n]);
                Ok(true)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(format!("nothing more within the time allowed, after {:?}", brief(&self.unread)))
            }
            Err(e) => Err(format!("reading failed: {e}, after {:?}", brief(&self.unread))),
        }
    }

    /// Reads until `mark` is in the buffer. Returns the length up to its end, or `None` at the end of the stream.
    fn fill_until(&mut self, mark: &[u8]) -> Result<Option<usize>, String> {
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|w| w == mark) {
                return Ok(Some(at + mark.len()));
            }
            if !self.fill()? {
                return match self.unread.is_empty() {
                    true => Ok(None),
                    false => Err(format!("ended inside a response: {:?}", brief(&self.unread))),
                };
            }
        }
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, String> {
        while self.unread.len() < len {
            if !self.fill()? {
                return Err(format!("body ended at {} of {len} bytes", self.unread.len()));
            }
        }
        Ok(self.unread.drain(..len).collect())
    }

    /// Reads the body (RFC 9112, section 6.3). Ambiguous framing is an error.
    fn body(&mut self, response: &ReceivedResponse, method: &str) -> Result<Vec<u8>, String> {
        let (lengths, codings) = (response.all("content-length"), response.all("transfer-encoding"));
        let bodiless = matches!(response.status, 100..=199 | 204);
        if bodiless && !(lengths.is_empty() && codings.is_empty()) {
            return Err(format!("a {} with body headers: {lengths:?} {codings:?}", response.status));
        }
        if bodiless || response.status == 304 || method == "HEAD" {
            return Ok(Vec::new());
        }
        match (lengths.as_slice(), codings.as_slice()) {
            ([length], []) => {
                let length = length.parse().map_err(|e| format!("Content-Length {length:?}: {e}"))?;
                self.take(length)
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => self.chunked(),
            ([], []) if response.says_close() => {
                while self.fill()? {}
                Ok(std::mem::take(&mut self.unread))
            }
            _ => Err(format!("no single framing: {lengths:?} {codings:?}")),
        }
    }

    fn chunked(&mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let end = self.fill_until(b"\r\n")?.ok_or("ended before a chunk")?;
            let line: Vec<u8> = self.unread.drain(..end).collect();
            let digits = String::from_utf8_lossy(&line[..end - 2]).into_owned();
            let size = usize::from_str_radix(&digits, 16).map_err(|e| format!("chunk size {digits:?}: {e}"))?;
            body.extend(self.take(size)?);
            if self.take(2)? != b"\r\n" {
                return Err("a chunk without its CRLF".to_owned());
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

fn parse_head(head: &[u8]) -> Result<(u16, Vec<(String, String)>), String> {
    let head = std::str::from_utf8(head).map_err(|e| format!("head is no text: {e}"))?;
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .filter(|_| first.as_bytes().get(12) == Some(&b' '))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("status line {first:?}"))?;
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("header line {line:?}"))?;
        let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !token || value.bytes().any(|b| b < b' ' && b != b'\t') {
            return Err(format!("header line {line:?}"));
        }
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok((status, headers))
}

/// The start of some bytes, as text for a failure message.
pub fn brief(bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(160)]).into_owned();
    match bytes.len() > 160 {
        true => format!("{shown}… ({} bytes)", bytes.len()),
        false => shown,
    }
}
