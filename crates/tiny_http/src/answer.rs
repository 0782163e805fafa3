//! A response on its way out: its head and as much of its body as the socket takes.
//!
//! At most [`FILL_BYTES`] of a streamed body are in memory at a time; a short one goes out with its head in one write. A body
//! is the program's and may take its time, so it is read apart from sending, by threads of its own (`streams.rs`).
//! It must never send a header that could split the response, nor end a body early as if it were whole.

use std::io::{self, Read};
use std::mem;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::budget::{Budget, OverBudget, Share};
use crate::clock::HttpDate;
use crate::header::{is_field_value, is_the_engines};
use crate::message::{HTTPVersion, is_token};
use crate::response::Response;

/// A body of a known length up to this many bytes is read at once: then no thread has to be free for it, and the threads that read
/// long ones may all be waiting for a database.
const INLINE_BYTES: usize = 384 * 1024;
/// Bytes pulled from a longer one at a time: four hexadecimal digits name them.
const FILL_BYTES: usize = 16 * 1024;
/// What frames a chunk, and ends the last: `4000\r\n`, `\r\n` and `0\r\n\r\n`.
const CHUNK_EXTRA_BYTES: usize = 13;

/// What of a request decides how its answer is framed.
pub(crate) struct Exchange {
    pub(crate) version: HTTPVersion,
    pub(crate) is_head: bool,
    pub(crate) keep_alive: bool,
}

impl Exchange {
    /// For a request whose head could not be read.
    pub(crate) const UNKNOWN: Exchange =
        Exchange { version: HTTPVersion(1, 1), is_head: false, keep_alive: false };
}

/// How far writing came.
pub(crate) enum Progress {
    /// All is sent.
    Done,
    /// The socket takes no more for now.
    Blocked,
    /// The socket has all that there is, and more of the body must be read.
    Drained,
    /// The client is gone.
    Broken,
}

/// A response being sent.
pub(crate) struct Answer {
    buffer: Vec<u8>,
    sent: usize,
    body: Option<Body>,
    /// Bytes sent in all.
    pub(crate) total_bytes: u64,
    /// The tick since when it is the client's turn to take of it.
    pub(crate) since: u64,
    /// Ticks that the client had for it before that.
    pub(crate) spent: u64,
    /// The connection ends with this answer.
    pub(crate) close: bool,
    /// Nothing but that end says that the answer is whole.
    pub(crate) ends_by_close: bool,
    /// What this takes of all answers' memory, once it has to wait for its client.
    share: Option<Share>,
}

impl Answer {
    /// Writes the head, and the start of the body.
    ///
    /// # Errors
    /// When a header cannot be sent, or the body fails or ends before its length.
    pub(crate) fn new<R>(response: Response<R>, exchange: &Exchange, date: &HttpDate) -> io::Result<Answer>
    where
        R: Read + Send + 'static,
    {
        let forbids_body = response.status_code.forbids_body();
        let length = response.data_length.filter(|length| *length < response.chunked_threshold);
        let framing = match length {
            Some(length) => Framing::Length(length),
            None if exchange.version.1 == 0 => Framing::UntilClose,
            None => Framing::Chunked,
        };
        let ends_by_close = framing == Framing::UntilClose && !forbids_body;
        let close = !exchange.keep_alive || ends_by_close;
        let inline = length.filter(|length| *length <= INLINE_BYTES && !exchange.is_head && !forbids_body);

        let headers = response.headers.len() + response.fields.len();
        let mut buffer = Vec::with_capacity(256 + 64 * headers + inline.unwrap_or(0));
        write_status_line(&mut buffer, response.status_code.0)?;
        buffer.extend_from_slice(b"Date: ");
        buffer.extend_from_slice(date);
        buffer.extend_from_slice(b"\r\n");
        let late = response.additional_headers.iter().flat_map(|headers| headers.try_iter());
        for (name, value) in &response.fields {
            write_header(&mut buffer, name, value, forbids_body)?;
        }
        for header in response.headers.iter() {
            write_header(&mut buffer, header.field.as_str().as_str(), header.value.as_str(), forbids_body)?;
        }
        for header in late {
            write_header(&mut buffer, header.field.as_str().as_str(), header.value.as_str(), forbids_body)?;
        }
        if !forbids_body {
            framing.write(&mut buffer, exchange.is_head);
        }
        match (close, exchange.version.1) {
            (true, _) => buffer.extend_from_slice(b"Connection: close\r\n"),
            (false, 0) => buffer.extend_from_slice(b"Connection: keep-alive\r\n"),
            (false, _) => {}
        }
        buffer.extend_from_slice(b"\r\n");

        let mut answer = Answer {
            buffer,
            sent: 0,
            body: None,
            total_bytes: 0,
            since: 0,
            spent: 0,
            close,
            ends_by_close,
            share: None,
        };
        let (mut reader, held_bytes) = (response.reader, response.held_bytes);
        if let Some(length) = inline {
            let head = answer.buffer.len();
            answer.buffer.resize(head + length, 0);
            reader.read_exact(&mut answer.buffer[head..])?;
        } else if !exchange.is_head && !forbids_body {
            let mut body = Body { reader: Box::new(reader), framing, held_bytes };
            answer.buffer.reserve_exact(FILL_BYTES + CHUNK_EXTRA_BYTES);
            if !body.fill(&mut answer.buffer)? {
                answer.body = Some(body);
            }
        }
        Ok(answer)
    }

    /// Counts the memory that this holds, from the first time that it has to wait.
    pub(crate) fn count(&mut self, budget: &Arc<Budget>) -> Result<(), OverBudget> {
        if self.share.is_none() {
            let held_bytes = self.body.as_ref().map_or(0, |body| body.held_bytes);
            self.share = Some(Share::take(budget, self.buffer.capacity().saturating_add(held_bytes))?);
        }
        Ok(())
    }

    /// Sends what the socket takes of what was read.
    pub(crate) fn write(&mut self, socket: BorrowedFd<'_>) -> Progress {
        while self.sent < self.buffer.len() {
            match send(socket, &self.buffer[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.sent += count;
                    self.total_bytes += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Progress::Blocked,
                Err(_) => return Progress::Broken,
            }
        }
        if self.body.is_some() { Progress::Drained } else { Progress::Done }
    }

    /// Reads the next piece of the body, once all before is sent. This takes whatever time the program takes.
    ///
    /// # Errors
    /// When the body fails, or panics.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        self.sent = 0;
        self.buffer.clear();
        let Some(body) = &mut self.body else {
            return Ok(());
        };
        let filled = catch_unwind(AssertUnwindSafe(|| body.fill(&mut self.buffer)));
        if filled.unwrap_or_else(|_| Err(io::Error::other("the body panicked")))? {
            self.body = None;
        }
        Ok(())
    }
}

fn write_status_line(buffer: &mut Vec<u8>, code: u16) -> io::Result<()> {
    if !(200..=999).contains(&code) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the status code is not one of a final answer",
        ));
    }
    buffer.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(buffer, code.into());
    buffer.push(b' ');
    buffer.extend_from_slice(crate::message::StatusCode(code).default_reason_phrase().as_bytes());
    buffer.extend_from_slice(b"\r\n");
    Ok(())
}

/// Headers are made of public parts, so they are checked once more where they leave.
fn write_header(buffer: &mut Vec<u8>, name: &str, value: &str, forbids_body: bool) -> io::Result<()> {
    if !is_token(name.as_bytes()) || !is_field_value(value.as_bytes()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a header has a byte that cannot be sent"));
    }
    let is_about_the_body = name.eq_ignore_ascii_case("content-type");
    if !(is_the_engines(name) || forbids_body && is_about_the_body) {
        for part in [name, ": ", value, "\r\n"] {
            buffer.extend_from_slice(part.as_bytes());
        }
    }
    Ok(())
}

fn write_decimal(buffer: &mut Vec<u8>, mut number: u64) {
    let start = buffer.len();
    loop {
        buffer.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    buffer[start..].reverse();
}

/// How the end of the body is told (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Bytes that are left.
    Length(usize),
    Chunked,
    UntilClose,
}

impl Framing {
    fn write(self, buffer: &mut Vec<u8>, is_head: bool) {
        match self {
            Framing::Length(length) => {
                buffer.extend_from_slice(b"Content-Length: ");
                write_decimal(buffer, length as u64);
                buffer.extend_from_slice(b"\r\n");
            }
            Framing::Chunked if !is_head => buffer.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::Chunked | Framing::UntilClose => {}
        }
    }
}

/// A body that is pulled piece by piece.
struct Body {
    reader: Box<dyn Read + Send>,
    framing: Framing,
    /// As the program says.
    held_bytes: usize,
}

impl Drop for Body {
    /// It is the program's: its panic must not end a thread that serves others.
    fn drop(&mut self) {
        let reader = mem::replace(&mut self.reader, Box::new(io::empty()));
        // What it panics with was told by the panic hook.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(reader)));
    }
}

impl Body {
    /// Appends the next piece to `buffer`; whether it was the last.
    fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        match &mut self.framing {
            Framing::Length(left) => {
                let count = pull(&mut self.reader, buffer, FILL_BYTES.min(*left))?;
                *left -= count;
                if count == 0 && *left > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(*left == 0)
            }
            Framing::UntilClose => Ok(pull(&mut self.reader, buffer, FILL_BYTES)? < FILL_BYTES),
            Framing::Chunked => {
                let start = buffer.len();
                buffer.extend_from_slice(b"0000\r\n");
                let count = pull(&mut self.reader, buffer, FILL_BYTES)?;
                if count == 0 {
                    buffer.truncate(start);
                } else {
                    write_hexadecimal(&mut buffer[start..start + 4], count);
                    buffer.extend_from_slice(b"\r\n");
                }
                let is_last = count < FILL_BYTES;
                if is_last {
                    buffer.extend_from_slice(b"0\r\n\r\n");
                }
                Ok(is_last)
            }
        }
    }
}

/// Reads until there are `most` bytes or the end; gives how many there were.
fn pull(reader: &mut impl Read, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
    reader.take(most as u64).read_to_end(buffer)
}

fn write_hexadecimal(place: &mut [u8], mut number: usize) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[number % 16];
        number /= 16;
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
