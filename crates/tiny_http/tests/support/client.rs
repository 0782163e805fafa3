//! A small HTTP/1.1 client for tests that must see every byte.
//!
//! It sends exactly what it is given and reads answers strictly: an answer that no careful client would
//! accept (two lengths, a body where none may be, a bare line feed, a reset before the end) is an error with
//! words, never a guess.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a test waits for a byte that must come. Longer than any deadline that the tests configure.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// One answer as it came over the wire.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// All values of a header, by its lower-case name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Does the server say that it closes after this answer?
    pub fn says_close(&self) -> bool {
        self.all("connection").iter().any(|value| value.eq_ignore_ascii_case("close"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that remembers what it has read past the last answer.
pub struct Client {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// Connects with Nagle's algorithm off, so that each `send` is a segment of its own.
    pub fn connect(addr: SocketAddr) -> io::Result<Client> {
        Client::on(TcpStream::connect_timeout(&addr, PATIENCE)?)
    }

    /// Takes over a connected stream.
    pub fn on(stream: TcpStream) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, unread: Vec::new() })
    }

    pub fn addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// Sends bytes. A server may refuse a request and close before it has read all of it, so that a failed
    /// write is for the caller to judge; the answer decides.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Says that nothing more will be sent; answers can still be read.
    pub fn end_sending(&mut self) {
        // Fails only where the server has closed already, which the next read shows.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads one answer to a request with `method`; `None` where the server closed cleanly between answers.
    pub fn answer(&mut self, method: &str) -> Result<Option<Answer>, String> {
        let Some(head_len) = self.fill_until(b"\r\n\r\n")? else {
            return Ok(None);
        };
        let head: Vec<u8> = self.unread.drain(..head_len).collect();
        let (status, headers) = parse_head(&head)?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        answer.body = self.body(&answer, method)?;
        Ok(Some(answer))
    }

    /// Sends a whole request and reads its one answer.
    pub fn ask(&mut self, method: &str, request: impl AsRef<[u8]>) -> Result<Answer, String> {
        self.send(request).map_err(|e| format!("sending the request failed: {e}"))?;
        self.answer(method)?.ok_or_else(|| "closed without an answer".to_owned())
    }

    /// Requires that the server closes now, cleanly and without another byte.
    pub fn at_end(&mut self) -> Result<(), String> {
        if !self.unread.is_empty() || self.fill()? {
            return Err(format!("expected the end, got {:?}", brief(&self.unread)));
        }
        Ok(())
    }

    /// Reads more; `false` at the end of the stream.
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

    /// Reads until `mark` is in the buffer and returns the length up to its end; `None` at an end before any
    /// byte.
    fn fill_until(&mut self, mark: &[u8]) -> Result<Option<usize>, String> {
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|w| w == mark) {
                return Ok(Some(at + mark.len()));
            }
            if !self.fill()? {
                return match self.unread.is_empty() {
                    true => Ok(None),
                    false => Err(format!("ended inside an answer: {:?}", brief(&self.unread))),
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

    /// The body by RFC 9112 section 6.3, with everything ambiguous an error.
    fn body(&mut self, answer: &Answer, method: &str) -> Result<Vec<u8>, String> {
        let (lengths, codings) = (answer.all("content-length"), answer.all("transfer-encoding"));
        let bodiless = matches!(answer.status, 100..=199 | 204);
        if bodiless && !(lengths.is_empty() && codings.is_empty()) {
            return Err(format!("a {} with body headers: {lengths:?} {codings:?}", answer.status));
        }
        if bodiless || answer.status == 304 || method == "HEAD" {
            return Ok(Vec::new());
        }
        match (lengths.as_slice(), codings.as_slice()) {
            ([length], []) => {
                let length = length.parse().map_err(|e| format!("Content-Length {length:?}: {e}"))?;
                self.take(length)
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => self.chunked(),
            ([], []) if answer.says_close() => {
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
            let size =
                usize::from_str_radix(&digits, 16).map_err(|e| format!("chunk size {digits:?}: {e}"))?;
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

/// The beginning of some bytes, as text for a failure message.
pub fn brief(bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(160)]).into_owned();
    match bytes.len() > 160 {
        true => format!("{shown}… ({} bytes)", bytes.len()),
        false => shown,
    }
}
