//! One connection: a state machine between bytes and requests.
//!
//! Every method returns at once: what the socket does not give or take now waits for its next event. One request is served
//! at a time; while it is, nothing is read, so that a client which sends and never reads fills its own buffers, not ours.

use std::mem::{self, MaybeUninit};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use crate::answer::{Answer, Progress};
use crate::body::ChunkedDecoder;
use crate::budget::Counted;
use crate::clock::ticks_in;
use crate::engine::{Engine, Stage};
use crate::head::{Fault, Framing, Head, HeadReader, Refused};
use crate::receiving::{BODY_TOO_LARGE, Receiving, hold};
use crate::slots::Waiting;

/// Bytes taken from a socket at a time.
const READ_BYTES: usize = 16 * 1024;
/// Reads in one turn of a connection.
const READS_PER_TURN: usize = 4;

const TOO_SLOW: Fault = Fault::new(408, "The request took too long to arrive");
const STOPPING: Fault = Fault::new(503, "The server is stopping");
pub(crate) const NO_MEMORY_FOR_IT: Fault = Fault::new(503, "The server holds too many request bytes");
pub(crate) const TOO_MANY_CONNECTIONS: Fault = Fault::new(503, "The server has too many connections");

/// A complete request, for the program.
pub(crate) struct Received {
    pub(crate) head: Head,
    pub(crate) body: Counted,
}

/// What is to be done with a connection after it did what it could.
pub(crate) enum Outcome {
    /// Wait for an event or the deadline.
    Wait,
    /// Let others take their turn, then go on.
    Again,
    /// Hand this to the program.
    Request(Received),
    /// Have more of this answer's body read.
    Stream(Box<Answer>),
    /// Close it.
    Close,
}

enum Phase {
    Head(HeadReader),
    Body(Box<Receiving>),
    /// The program has the request, or more of the answer's body is being read.
    Serving,
    Sending(Box<Answer>),
    /// We are done; bytes are read over so that the last answer is not lost to a reset (RFC 9112, section 9.6).
    Lingering {
        left: usize,
    },
}

pub(crate) struct Connection {
    /// Shared for moments only, with a thread that sends more of an answer: whoever drops the connection closes it.
    socket: Arc<OwnedFd>,
    peer: SocketAddr,
    /// Bytes that came and belong to no complete request yet.
    input: Counted,
    phase: Phase,
    /// The socket may have bytes or an end that were not read.
    readable: bool,
    /// The client has sent its last byte.
    half_closed: bool,
    /// More of an answer is being read that only its end says to be whole.
    reads_until_close: bool,
    /// It is about to be asked to proceed, and need not be told of events.
    pub(crate) is_queued: bool,
    /// The tick by which something must have happened, and what.
    pub(crate) deadline: Option<(Waiting, u64)>,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd, peer: SocketAddr, engine: &Engine) -> Connection {
        Connection {
            socket: Arc::new(socket),
            peer,
            input: Counted::default(),
            phase: Phase::Head(HeadReader::default()),
            readable: false,
            half_closed: false,
            reads_until_close: false,
            is_queued: false,
            deadline: Some(engine.deadline(Waiting::Silent)),
        }
    }

    pub(crate) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Bytes held of a request that is not whole yet, or of those behind an answer that is being sent.
    pub(crate) fn unfinished_bytes(&self) -> usize {
        match &self.phase {
            Phase::Head(_) | Phase::Sending(_) => self.input.len(),
            Phase::Body(receiving) => receiving.body.len() + self.input.len(),
            Phase::Serving | Phase::Lingering { .. } => 0,
        }
    }

    /// Lets go of those bytes.
    pub(crate) fn drop_unfinished(&mut self, engine: &Arc<Engine>) -> Outcome {
        match &self.phase {
            Phase::Head(_) | Phase::Body(_) => self.reject(NO_MEMORY_FOR_IT.into(), engine),
            _ => Outcome::Close,
        }
    }

    /// Takes note of what the socket reports and does what can be done.
    pub(crate) fn on_event(&mut self, flags: EventFlags, engine: &Arc<Engine>) -> Outcome {
        if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            return Outcome::Close;
        }
        self.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP);
        self.half_closed |= flags.contains(EventFlags::RDHUP);
        if self.is_queued { Outcome::Wait } else { self.proceed(engine) }
    }

    /// Does what can be done now.
    pub(crate) fn proceed(&mut self, engine: &Arc<Engine>) -> Outcome {
        self.is_queued = false;
        match mem::replace(&mut self.phase, Phase::Serving) {
            Phase::Sending(answer) => self.write(*answer, engine),
            Phase::Serving => Outcome::Wait,
            phase @ (Phase::Head(_) | Phase::Body(_)) => {
                self.phase = phase;
                self.receive(engine)
            }
            phase @ Phase::Lingering { .. } => {
                self.phase = phase;
                self.linger()
            }
        }
    }

    /// The deadline has passed.
    pub(crate) fn expire(&mut self, engine: &Arc<Engine>) -> Outcome {
        match self.deadline {
            Some((Waiting::Head | Waiting::Body, _)) => {
                let fault = if engine.stage() == Stage::Ended { STOPPING } else { TOO_SLOW };
                self.reject(fault.into(), engine)
            }
            _ => Outcome::Close,
        }
    }

    /// Its place is needed: an unfinished request is told so, as far as that goes without waiting.
    pub(crate) fn evict(&mut self, engine: &Arc<Engine>) {
        if matches!(self.deadline, Some((Waiting::Head | Waiting::Body, _))) {
            self.reject(TOO_MANY_CONNECTIONS.into(), engine);
        }
    }

    /// Sends an answer, or what was read of one since.
    pub(crate) fn send(&mut self, mut answer: Answer, engine: &Arc<Engine>) -> Outcome {
        answer.since = engine.clock.now();
        self.write(answer, engine)
    }

    /// Sees to it that closing tells the client of a failure, whatever it was sent.
    pub(crate) fn reset_on_close(&self) {
        // It fails when the connection is gone already.
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Whether closing now would end an answer early that only its end says to be whole.
    pub(crate) fn would_look_whole(&self) -> bool {
        match &self.phase {
            Phase::Sending(answer) => answer.ends_by_close,
            Phase::Serving => self.reads_until_close,
            _ => false,
        }
    }

    /// Answers a request that will not be served. Nothing more is read of it.
    pub(crate) fn reject(&mut self, refused: Refused, engine: &Arc<Engine>) -> Outcome {
        self.input = Counted::default();
        self.phase = match mem::replace(&mut self.phase, Phase::Serving) {
            Phase::Body(receiving) if refused.head.is_none() => {
                let answer = engine.refuse(refused.fault, Some(&receiving.head));
                return self.send(answer, engine);
            }
            _ => Phase::Serving,
        };
        self.send(engine.refuse(refused.fault, refused.head.as_deref()), engine)
    }

    fn write(&mut self, mut answer: Answer, engine: &Arc<Engine>) -> Outcome {
        let before = answer.total_bytes;
        match answer.write(self.socket.as_fd()) {
            Progress::Broken => Outcome::Close,
            Progress::Done => self.after_answer(answer.close, engine),
            Progress::Blocked | Progress::Drained if !engine.count_unsent(&mut answer) => {
                self.phase = Phase::Sending(Box::new(answer));
                Outcome::Close
            }
            Progress::Drained => {
                answer.spent += engine.clock.now().saturating_sub(answer.since);
                // From here to the next piece it is not the client that keeps us waiting.
                self.deadline = None;
                self.phase = Phase::Serving;
                self.reads_until_close = answer.ends_by_close;
                Outcome::Stream(Box::new(answer))
            }
            Progress::Blocked => {
                // An event without progress moves no deadline, or a client could send bytes instead of reading any.
                if answer.total_bytes > before || !matches!(self.deadline, Some((Waiting::Sending, _))) {
                    self.deadline = Some((Waiting::Sending, write_deadline(&answer, engine)));
                }
                self.phase = Phase::Sending(Box::new(answer));
                Outcome::Wait
            }
        }
    }

    /// An answer is sent.
    pub(crate) fn after_answer(&mut self, close: bool, engine: &Arc<Engine>) -> Outcome {
        if close {
            // It fails when the client is gone, which the next read finds out.
            let _ = shutdown(&self.socket, Shutdown::Write);
            self.input = Counted::default();
            self.phase = Phase::Lingering { left: engine.limits.max_linger_bytes };
            self.deadline = Some(engine.deadline(Waiting::Closing));
        } else {
            self.phase = Phase::Head(HeadReader::default());
            self.deadline = Some(engine.deadline(Waiting::Idle));
        }
        if self.readable || !self.input.is_empty() { Outcome::Again } else { Outcome::Wait }
    }

    /// Reads until there is a request or nothing more to read.
    fn receive(&mut self, engine: &Arc<Engine>) -> Outcome {
        if !self.input.is_empty() {
            match self.take(&[], engine) {
                Ok(Some(request)) => return Outcome::Request(request),
                Ok(None) => {}
                Err(refused) => return self.reject(refused, engine),
            }
        }
        let mut buffer = [const { MaybeUninit::uninit() }; READ_BYTES];
        for _ in 0..READS_PER_TURN {
            if !self.readable {
                return Outcome::Wait;
            }
            let bytes = match self.read(&mut buffer) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Outcome::Wait,
                Err(Gone) => return Outcome::Close,
            };
            match self.take(bytes, engine) {
                Ok(Some(request)) => return Outcome::Request(request),
                Ok(None) => {}
                Err(refused) => return self.reject(refused, engine),
            }
        }
        Outcome::Again
    }

    /// Reads once. Fewer bytes than asked for means that the socket is empty, and its next event will say when it is not
    /// (epoll(7)); except after the last byte, when no event will come.
    fn read<'b>(&mut self, buffer: &'b mut [MaybeUninit<u8>; READ_BYTES]) -> Result<Option<&'b [u8]>, Gone> {
        match recv(&self.socket, buffer, RecvFlags::empty()) {
            Ok((_, 0)) => Err(Gone),
            Ok(((bytes, _), count)) => {
                self.readable = count == READ_BYTES || self.half_closed;
                Ok(Some(bytes))
            }
            Err(Errno::INTR) => Ok(Some(&[])),
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(None)
            }
            Err(_) => Err(Gone),
        }
    }

    /// Takes `bytes` after those that are here already. What follows a complete request is kept for the next.
    fn take(&mut self, bytes: &[u8], engine: &Arc<Engine>) -> Result<Option<Received>, Refused> {
        let most = engine.limits.max_head_bytes + READ_BYTES;
        if self.input.is_empty() {
            let (used, received) = self.advance(bytes, engine)?;
            hold(&mut self.input, &bytes[used..], most, engine)?;
            return Ok(received);
        }
        let mut input = mem::take(&mut self.input);
        hold(&mut input, bytes, most, engine)?;
        let (used, received) = self.advance(&input, engine)?;
        input.consume(used);
        self.input = input;
        Ok(received)
    }

    /// Moves on by as much of `bytes` as this request takes; gives how many bytes that were.
    fn advance(&mut self, bytes: &[u8], engine: &Arc<Engine>) -> Result<(usize, Option<Received>), Refused> {
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
        let Phase::Body(receiving) = &mut self.phase else {
            return Ok((used, None));
        };
        let (taken, is_whole) = receiving.take(&bytes[used..], engine)?;
        used += taken;
        if !is_whole {
            return Ok((used, None));
        }
        match mem::replace(&mut self.phase, Phase::Serving) {
            Phase::Body(receiving) => Ok((used, Some(self.hand_out(receiving.head, receiving.body)))),
            _ => Ok((used, None)),
        }
    }

    /// Gets ready for the body of `head`; gives the request if it has none.
    fn begin_body(
        &mut self,
        head: Head,
        rest: &[u8],
        engine: &Arc<Engine>,
    ) -> Result<Option<Received>, Refused> {
        let limits = &engine.limits;
        let chunked = match head.framing {
            Framing::Absent | Framing::Length(0) => return Ok(Some(self.hand_out(head, Counted::default()))),
            Framing::Length(length) if length > limits.max_body_bytes as u64 => {
                return Err(Refused { fault: BODY_TOO_LARGE, head: Some(Box::new(head)) });
            }
            Framing::Length(_) => None,
            Framing::Chunked => Some(ChunkedDecoder::new(limits.max_chunk_extra_bytes)),
        };
        if head.expects_continue && rest.is_empty() {
            // Nothing else is being sent, so the socket takes these few bytes; a client that is gone is found out later.
            let _ = send(&self.socket, b"HTTP/1.1 100 Continue\r\n\r\n", SendFlags::NOSIGNAL);
        }
        self.deadline = Some(engine.deadline(Waiting::Body));
        self.phase = Phase::Body(Box::new(Receiving { head, body: Counted::default(), chunked }));
        Ok(None)
    }

    fn hand_out(&mut self, head: Head, body: Counted) -> Received {
        self.phase = Phase::Serving;
        self.deadline = None;
        Received { head, body }
    }

    fn linger(&mut self) -> Outcome {
        let mut buffer = [const { MaybeUninit::uninit() }; READ_BYTES];
        while self.readable {
            let count = match self.read(&mut buffer) {
                Ok(Some(bytes)) => bytes.len(),
                Ok(None) => return Outcome::Wait,
                Err(Gone) => return Outcome::Close,
            };
            match &mut self.phase {
                Phase::Lingering { left } if *left > count => *left -= count,
                _ => return Outcome::Close,
            }
        }
        Outcome::Wait
    }
}

/// A client that stalls is given `write_timeout`; one that takes a little now and then, no more than that on top of what the
/// lowest rate allows.
fn write_deadline(answer: &Answer, engine: &Engine) -> u64 {
    let limits = &engine.limits;
    let seconds = answer.total_bytes / u64::from(limits.min_write_bytes_per_second.max(1));
    let allowed = ticks_in(limits.write_timeout) + ticks_in(Duration::from_secs(seconds));
    engine.clock.after(limits.write_timeout).min((answer.since + allowed).saturating_sub(answer.spent))
}

/// The client has closed, or reset, the connection.
struct Gone;
