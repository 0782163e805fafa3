//! The response writer: serializes the head of a response, and sends head and body as the socket accepts them.
//!
//! At most [`PIECE_BYTES`] of a long body are in memory at a time; a short body is sent with its head in one write.
//! Reading a body may block, so the body pump does it, separately from sending. The writer never sends a header that
//! could split the response, and never ends an incomplete body as if it were complete.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::clock::HttpDate;
use crate::header::{is_engine_header, is_field_value};
use crate::message::{HTTPVersion, StatusCode, is_token};
use crate::quota::{Quota, QuotaExceeded, Reservation};
use crate::response::Response;
use crate::response_body::{CHUNK_FRAMING_BYTES, PIECE_BYTES, ResponseBody, ResponseFraming};

/// A body of a known length up to this many bytes is read at once: it then needs no body thread, and all of those may
/// be waiting for a database.
const INLINE_BYTES: usize = 384 * 1024;
/// The properties of a request that determine the framing of its response.
pub(crate) struct RequestContext {
    pub(crate) version: HTTPVersion,
    pub(crate) is_head: bool,
    pub(crate) keep_alive: bool,
}

impl RequestContext {
    /// For a request whose head could not be parsed.
    pub(crate) const UNKNOWN: RequestContext =
        RequestContext { version: HTTPVersion(1, 1), is_head: false, keep_alive: false };
}

/// The result of [`ResponseWriter::write`].
pub(crate) enum Progress {
    /// The whole response is sent.
    Done,
    /// The socket accepts no more for now.
    WouldBlock,
    /// All that was read of the body is sent, and more must be read.
    NeedBody,
    /// The client has disconnected.
    Disconnected,
}

/// A response that is being sent.
pub(crate) struct ResponseWriter {
    buffer: Vec<u8>,
    sent: usize,
    body: Option<ResponseBody>,
    /// Bytes sent so far.
    pub(crate) total_bytes: u64,
    /// The tick since which there are bytes for the client to read.
    pub(crate) waiting_since: u64,
    /// Ticks that earlier bytes waited for the client.
    pub(crate) waited_ticks: u64,
    /// The connection closes after this response.
    pub(crate) close: bool,
    /// Only the end of the connection marks the end of the body.
    pub(crate) close_delimited: bool,
    /// The memory reserved for this response, once it has to wait for its client.
    reservation: Option<Reservation>,
}

impl ResponseWriter {
    /// Serializes the head and the first piece of the body.
    ///
    /// # Errors
    /// When a header cannot be sent, or the body fails or ends before its length.
    pub(crate) fn new<R>(response: Response<R>, request: &RequestContext, date: &HttpDate) -> io::Result<ResponseWriter>
    where
        R: Read + Send + 'static,
    {
        let forbids_body = response.status_code.forbids_body();
        let length = response.data_length.filter(|length| *length < response.chunked_threshold);
        let framing = match length {
            Some(length) => ResponseFraming::Length(length),
            None if request.version.1 == 0 => ResponseFraming::UntilClose,
            None => ResponseFraming::Chunked,
        };
        let close_delimited = framing == ResponseFraming::UntilClose && !forbids_body;
        let close = !request.keep_alive || close_delimited;
        let inline = length.filter(|length| *length <= INLINE_BYTES && !request.is_head && !forbids_body);

        let headers = response.headers.len() + response.fields.len();
        let mut buffer = Vec::with_capacity(256 + 64 * headers + inline.unwrap_or(0));
        write_head(&mut buffer, &response, framing, request, date)?;
        match (close, request.version.1) {
            (true, _) => buffer.extend_from_slice(b"Connection: close\r\n"),
            (false, 0) => buffer.extend_from_slice(b"Connection: keep-alive\r\n"),
            (false, _) => {}
        }
        buffer.extend_from_slice(b"\r\n");

        let (reader, retained_bytes) = (response.reader, response.retained_bytes);
        let mut body = None;
        if let Some(length) = inline {
            if reader.take(length as u64).read_to_end(&mut buffer)? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        } else if !request.is_head && !forbids_body {
            let mut first = ResponseBody::new(reader, framing, retained_bytes);
            buffer.reserve_exact(PIECE_BYTES + CHUNK_FRAMING_BYTES);
            if !first.read_piece(&mut buffer)? {
                body = Some(first);
            }
        }
        Ok(ResponseWriter {
            buffer,
            sent: 0,
            body,
            total_bytes: 0,
            waiting_since: 0,
            waited_ticks: 0,
            close,
            close_delimited,
            reservation: None,
        })
    }

    /// Reserves the memory of this response, the first time that it has to wait.
    pub(crate) fn reserve_memory(&mut self, quota: &Arc<Quota>) -> Result<(), QuotaExceeded> {
        if self.reservation.is_none() {
            let retained_bytes = self.body.as_ref().map_or(0, |body| body.retained_bytes);
            let bytes = self.buffer.capacity().saturating_add(retained_bytes);
            self.reservation = Some(Reservation::new(quota, bytes)?);
        }
        Ok(())
    }

    /// Sends as much of the buffer as the socket accepts.
    pub(crate) fn write(&mut self, socket: BorrowedFd<'_>) -> Progress {
        while self.sent < self.buffer.len() {
            match send(socket, &self.buffer[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.sent += count;
                    self.total_bytes += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Progress::WouldBlock,
                Err(_) => return Progress::Disconnected,
            }
        }
        if self.body.is_some() { Progress::NeedBody } else { Progress::Done }
    }

    /// Reads the next piece of the body into the buffer, once the buffer is sent. May block.
    ///
    /// # Errors
    /// When the body fails or panics.
    pub(crate) fn read_body(&mut self) -> io::Result<()> {
        self.sent = 0;
        self.buffer.clear();
        let Some(body) = &mut self.body else {
            return Ok(());
        };
        let read = catch_unwind(AssertUnwindSafe(|| body.read_piece(&mut self.buffer)));
        if read.unwrap_or_else(|_| Err(io::Error::other("the body panicked")))? {
            self.body = None;
        }
        Ok(())
    }
}

/// Writes the status line and all headers but `Connection`.
fn write_head<R>(
    buffer: &mut Vec<u8>,
    response: &Response<R>,
    framing: ResponseFraming,
    request: &RequestContext,
    date: &HttpDate,
) -> io::Result<()> {
    let forbids_body = response.status_code.forbids_body();
    write_status_line(buffer, response.status_code)?;
    buffer.extend_from_slice(b"Date: ");
    buffer.extend_from_slice(date);
    buffer.extend_from_slice(b"\r\n");
    for (name, value) in &response.fields {
        write_header(buffer, name, value, forbids_body)?;
    }
    for header in &response.headers {
        write_header(buffer, header.field.as_str().as_str(), header.value.as_str(), forbids_body)?;
    }
    for header in response.additional_headers.iter().flat_map(|headers| headers.try_iter()) {
        write_header(buffer, header.field.as_str().as_str(), header.value.as_str(), forbids_body)?;
    }
    if !forbids_body {
        write_framing(buffer, framing, request.is_head);
    }
    Ok(())
}

fn write_status_line(buffer: &mut Vec<u8>, code: StatusCode) -> io::Result<()> {
    if !(200..=999).contains(&code.0) {
        let reason = "the status code is not that of a final response";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    buffer.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(buffer, code.0.into());
    buffer.push(b' ');
    buffer.extend_from_slice(code.default_reason_phrase().as_bytes());
    buffer.extend_from_slice(b"\r\n");
    Ok(())
}

/// Checks the header again, because the fields of `Header` are public.
fn write_header(buffer: &mut Vec<u8>, name: &str, value: &str, forbids_body: bool) -> io::Result<()> {
    if !is_token(name.as_bytes()) || !is_field_value(value.as_bytes()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a header contains a byte that is not allowed"));
    }
    let describes_body = name.eq_ignore_ascii_case("content-type");
    if !(is_engine_header(name) || forbids_body && describes_body) {
        for part in [name, ": ", value, "\r\n"] {
            buffer.extend_from_slice(part.as_bytes());
        }
    }
    Ok(())
}

fn write_framing(buffer: &mut Vec<u8>, framing: ResponseFraming, is_head: bool) {
    match framing {
        ResponseFraming::Length(length) => {
            buffer.extend_from_slice(b"Content-Length: ");
            write_decimal(buffer, length as u64);
            buffer.extend_from_slice(b"\r\n");
        }
        ResponseFraming::Chunked if !is_head => {
            buffer.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        ResponseFraming::Chunked | ResponseFraming::UntilClose => {}
    }
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

#[cfg(test)]
#[path = "response_writer_tests.rs"]
mod tests;
