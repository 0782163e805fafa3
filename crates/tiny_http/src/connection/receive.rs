//! The receiving side of a connection: reads bytes and turns them into requests.

use std::mem::{self, MaybeUninit};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{Action, Connection, Disconnected, Phase, READ_BYTES, READS_PER_TURN, Received};
use crate::body_reader::{BODY_TOO_LARGE, BodyReader, append};
use crate::chunked::ChunkedDecoder;
use crate::connection_table::Waiting;
use crate::engine::Engine;
use crate::head::{Framing, Head, HeadError};
use crate::quota::QuotaBuf;

/// Storage for one read.
pub(super) type ReadBuffer = [MaybeUninit<u8>; READ_BYTES];

impl Connection {
    /// Reads until there is a complete request or nothing more to read.
    pub(super) fn receive(&mut self, engine: &Arc<Engine>) -> Action {
        if !self.input.is_empty() {
            match self.take(&[], engine) {
                Ok(Some(request)) => return Action::Request(request),
                Ok(None) => {}
                Err(error) => return self.reject(error, engine),
            }
        }
        let mut buffer: ReadBuffer = [const { MaybeUninit::uninit() }; READ_BYTES];
        for _ in 0..READS_PER_TURN {
            if !self.readable {
                return Action::Wait;
            }
            let bytes = match self.read(&mut buffer) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Action::Wait,
                Err(Disconnected) => return Action::Close,
            };
            match self.take(bytes, engine) {
                Ok(Some(request)) => return Action::Request(request),
                Ok(None) => {}
                Err(error) => return self.reject(error, engine),
            }
        }
        Action::Requeue
    }

    /// Reads once. A short read means that the socket is empty and the next bytes cause an event (epoll(7)), unless
    /// the client has shut down its sending side: then there is no further event.
    pub(super) fn read<'b>(&mut self, buffer: &'b mut ReadBuffer) -> Result<Option<&'b [u8]>, Disconnected> {
        match recv(&self.socket, buffer, RecvFlags::empty()) {
            Ok((_, 0)) => Err(Disconnected),
            Ok(((bytes, _), count)) => {
                self.readable = count == READ_BYTES || self.half_closed;
                Ok(Some(bytes))
            }
            Err(Errno::INTR) => Ok(Some(&[])),
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(None)
            }
            Err(_) => Err(Disconnected),
        }
    }

    /// Parses the pending input followed by `bytes`. Keeps what follows a complete request for the next one.
    fn take(&mut self, bytes: &[u8], engine: &Arc<Engine>) -> Result<Option<Received>, HeadError> {
        let max_capacity = engine.limits.max_head_bytes + READ_BYTES;
        if self.input.is_empty() {
            let (used, received) = self.parse(bytes, engine)?;
            append(&mut self.input, &bytes[used..], max_capacity, engine)?;
            return Ok(received);
        }
        let mut input = mem::take(&mut self.input);
        append(&mut input, bytes, max_capacity, engine)?;
        let (used, received) = self.parse(&input, engine)?;
        input.consume(used);
        self.input = input;
        Ok(received)
    }

    /// Parses what belongs to the current request from the start of `bytes`. Returns how many bytes that were, and
    /// the request once it is complete.
    fn parse(&mut self, bytes: &[u8], engine: &Arc<Engine>) -> Result<(usize, Option<Received>), HeadError> {
        let mut used = 0;
        if let Phase::Head(reader) = &mut self.phase {
            let Some((head, length)) = reader.read(bytes, &engine.limits)? else {
                if !matches!(self.deadline, Some((Waiting::Head, _))) && !bytes.is_empty() {
                    self.deadline = Some(engine.deadline(Waiting::Head));
                }
                return Ok((0, None));
            };
            used = length;
            if let Some(received) = self.begin_body(head, &bytes[used..], engine)? {
                return Ok((used, Some(received)));
            }
        }
        let Phase::Body(reader) = &mut self.phase else {
            return Ok((used, None));
        };
        let (taken, is_complete) = reader.read(&bytes[used..], engine)?;
        used += taken;
        if !is_complete {
            return Ok((used, None));
        }
        match mem::replace(&mut self.phase, Phase::Serving) {
            Phase::Body(reader) => Ok((used, Some(self.complete(reader.head, reader.body)))),
            _ => Ok((used, None)),
        }
    }

    /// Prepares for the body of `head`. Returns the request if it has no body.
    fn begin_body(&mut self, head: Head, rest: &[u8], engine: &Arc<Engine>) -> Result<Option<Received>, HeadError> {
        let limits = &engine.limits;
        let chunked = match head.framing {
            Framing::Absent | Framing::Length(0) => {
                return Ok(Some(self.complete(head, QuotaBuf::default())));
            }
            Framing::Length(length) if length > limits.max_body_bytes as u64 => {
                return Err(HeadError { error: BODY_TOO_LARGE, head: Some(Box::new(head)) });
            }
            Framing::Length(_) => None,
            Framing::Chunked => Some(ChunkedDecoder::new(limits.max_chunk_extra_bytes)),
        };
        if head.expects_continue && rest.is_empty() {
            // Nothing else is being sent, so the socket accepts these bytes. If the client has disconnected, a read
            // says so.
            let _ = send(&self.socket, b"HTTP/1.1 100 Continue\r\n\r\n", SendFlags::NOSIGNAL);
        }
        self.deadline = Some(engine.deadline(Waiting::Body));
        self.phase = Phase::Body(Box::new(BodyReader { head, body: QuotaBuf::default(), chunked }));
        Ok(None)
    }

    fn complete(&mut self, head: Head, body: QuotaBuf) -> Received {
        self.phase = Phase::Serving;
        self.deadline = None;
        Received { head, body }
    }
}
