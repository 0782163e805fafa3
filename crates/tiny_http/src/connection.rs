//! One connection: a state machine between bytes on a socket and requests.
//!
//! No method blocks: what the socket cannot give or take now waits for the next event. One request is served at a
//! time. Meanwhile nothing is read, so a client that sends without reading fills its own buffers, not the server's.

mod linger;
mod receive;

use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::net::{Shutdown, shutdown, sockopt};

use crate::body_reader::BodyReader;
use crate::clock::ticks_in;
use crate::connection_table::Waiting;
use crate::engine::Engine;
use crate::head::{Head, HeadError, HeadReader, HttpError};
use crate::lifecycle::Stage;
use crate::quota::QuotaBuf;
use crate::response_writer::{Progress, ResponseWriter};

/// Bytes per read from a socket.
const READ_BYTES: usize = 16 * 1024;
/// Reads in one turn of a connection.
const READS_PER_TURN: usize = 4;

const TOO_SLOW: HttpError = HttpError::new(408, "The request took too long to arrive");
const STOPPING: HttpError = HttpError::new(503, "The server is stopping");
pub(crate) const OUT_OF_REQUEST_MEMORY: HttpError = HttpError::new(503, "The server holds too many request bytes");
pub(crate) const TOO_MANY_CONNECTIONS: HttpError = HttpError::new(503, "The server has too many connections");

/// A complete request.
pub(crate) struct Received {
    pub(crate) head: Head,
    pub(crate) body: QuotaBuf,
}

/// What the engine must do next for a connection.
pub(crate) enum Action {
    /// Wait for an event or the deadline.
    Wait,
    /// Let other connections take their turn, then proceed.
    Requeue,
    /// Give this request to the application.
    Request(Received),
    /// Read more of this response's body.
    PumpBody(Box<ResponseWriter>),
    /// Close the connection.
    Close,
}

enum Phase {
    Head(HeadReader),
    Body(Box<BodyReader>),
    /// The application has the request, or the body pump has the response.
    Serving,
    Sending(Box<ResponseWriter>),
    Lingering(linger::Linger),
}

pub(crate) struct Connection {
    /// Shared for moments with a thread that sends a response. Dropping the last reference closes the connection.
    socket: Arc<OwnedFd>,
    peer: SocketAddr,
    /// Bytes received that do not belong to a complete request yet.
    input: QuotaBuf,
    phase: Phase,
    /// There may be bytes, or the end of the stream, to read from the socket.
    readable: bool,
    /// The client has shut down its sending side.
    half_closed: bool,
    /// The body pump has a response whose body ends with the connection.
    pumps_close_delimited: bool,
    /// The response that is being sent rejects a body whose rest must be discarded.
    discards_body: bool,
    /// The connection is in the ready queue, so events need no action of their own.
    pub(crate) is_queued: bool,
    /// What the connection waits for, and the tick by which it must happen.
    pub(crate) deadline: Option<(Waiting, u64)>,
}

/// The client has closed or reset the connection.
struct Disconnected;

impl Connection {
    pub(crate) fn new(socket: OwnedFd, peer: SocketAddr, engine: &Engine) -> Connection {
        Connection {
            socket: Arc::new(socket),
            peer,
            input: QuotaBuf::default(),
            phase: Phase::Head(HeadReader::default()),
            readable: false,
            half_closed: false,
            pumps_close_delimited: false,
            discards_body: false,
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

    /// Bytes in memory of an incomplete request, or of requests behind a response that is being sent.
    pub(crate) fn unfinished_bytes(&self) -> usize {
        match &self.phase {
            Phase::Head(_) | Phase::Sending(_) => self.input.len(),
            Phase::Body(reader) => reader.body.len() + self.input.len(),
            Phase::Serving | Phase::Lingering(_) => 0,
        }
    }

    /// Frees those bytes.
    pub(crate) fn drop_unfinished(&mut self, engine: &Arc<Engine>) -> Action {
        match &self.phase {
            Phase::Head(_) | Phase::Body(_) => self.reject(OUT_OF_REQUEST_MEMORY.into(), engine),
            _ => Action::Close,
        }
    }

    /// Records what the socket reports, and proceeds.
    pub(crate) fn on_event(&mut self, flags: EventFlags, engine: &Arc<Engine>) -> Action {
        if flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            return Action::Close;
        }
        self.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP);
        self.half_closed |= flags.contains(EventFlags::RDHUP);
        if self.is_queued { Action::Wait } else { self.proceed(engine) }
    }

    /// Does what is possible now.
    pub(crate) fn proceed(&mut self, engine: &Arc<Engine>) -> Action {
        self.is_queued = false;
        match mem::replace(&mut self.phase, Phase::Serving) {
            Phase::Sending(response) => self.write(*response, engine),
            Phase::Serving => Action::Wait,
            phase @ (Phase::Head(_) | Phase::Body(_)) => {
                self.phase = phase;
                self.receive(engine)
            }
            Phase::Lingering(linger) => self.linger(linger, engine),
        }
    }

    /// Acts on the deadline, which has passed.
    pub(crate) fn expire(&mut self, engine: &Arc<Engine>) -> Action {
        match self.deadline {
            Some((Waiting::Head | Waiting::Body, _)) => {
                let error = if engine.stage() == Stage::Ended { STOPPING } else { TOO_SLOW };
                self.reject(error.into(), engine)
            }
            _ => Action::Close,
        }
    }

    /// Sends 503 for an unfinished request, as far as the socket accepts it. The caller closes the connection.
    pub(crate) fn evict(&mut self, engine: &Arc<Engine>) {
        if matches!(self.deadline, Some((Waiting::Head | Waiting::Body, _))) {
            self.reject(TOO_MANY_CONNECTIONS.into(), engine);
        }
    }

    /// Sends a response, or the next piece of one.
    pub(crate) fn send(&mut self, mut response: ResponseWriter, engine: &Arc<Engine>) -> Action {
        response.waiting_since = engine.clock.now();
        self.write(response, engine)
    }

    /// Makes the close a reset, so that the client sees a failure whatever it has received.
    pub(crate) fn reset_on_close(&self) {
        // Fails if the client has disconnected.
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Whether a close now would make an incomplete response look complete.
    pub(crate) fn would_truncate_silently(&self) -> bool {
        match &self.phase {
            Phase::Sending(response) => response.close_delimited,
            Phase::Serving => self.pumps_close_delimited,
            _ => false,
        }
    }

    /// Sends an error response. The rest of the request is not parsed, and the connection closes afterwards.
    pub(crate) fn reject(&mut self, HeadError { error, head }: HeadError, engine: &Arc<Engine>) -> Action {
        self.input = QuotaBuf::default();
        let head = match mem::replace(&mut self.phase, Phase::Serving) {
            Phase::Body(reader) if head.is_none() => Some(reader.head),
            _ => head.map(|head| *head),
        };
        self.discards_body = linger::discards_body(error, head.as_ref(), &engine.limits);
        self.send(engine.error_response(error, head.as_ref()), engine)
    }

    fn write(&mut self, mut response: ResponseWriter, engine: &Arc<Engine>) -> Action {
        let before = response.total_bytes;
        match response.write(self.socket.as_fd()) {
            Progress::Disconnected => Action::Close,
            Progress::Done => self.after_response(response.close, engine),
            Progress::WouldBlock | Progress::NeedBody if !engine.reserve_unsent(&mut response) => {
                self.phase = Phase::Sending(Box::new(response));
                Action::Close
            }
            Progress::NeedBody => {
                response.waited_ticks += engine.clock.now().saturating_sub(response.waiting_since);
                // Until the next piece is read, the client does not delay the response.
                self.deadline = None;
                self.phase = Phase::Serving;
                self.pumps_close_delimited = response.close_delimited;
                Action::PumpBody(Box::new(response))
            }
            Progress::WouldBlock => {
                // An event without progress extends no deadline: a client could send bytes instead of reading.
                if response.total_bytes > before || !matches!(self.deadline, Some((Waiting::Sending, _))) {
                    self.deadline = Some((Waiting::Sending, write_deadline(&response, engine)));
                }
                self.phase = Phase::Sending(Box::new(response));
                Action::Wait
            }
        }
    }

    /// Continues after a response is sent: waits for the next request, or ends the connection.
    pub(crate) fn after_response(&mut self, close: bool, engine: &Arc<Engine>) -> Action {
        if close {
            // Fails if the client has disconnected, which the next read reports.
            let _ = shutdown(&self.socket, Shutdown::Write);
            self.input = QuotaBuf::default();
            self.begin_linger(engine);
        } else {
            self.phase = Phase::Head(HeadReader::default());
            self.deadline = Some(engine.deadline(Waiting::Idle));
        }
        if self.readable || !self.input.is_empty() { Action::Requeue } else { Action::Wait }
    }
}

/// A client that reads nothing has `write_timeout`. One that reads slowly has, on top of that, the time that the
/// lowest rate allows for the bytes sent.
fn write_deadline(response: &ResponseWriter, engine: &Engine) -> u64 {
    let limits = &engine.limits;
    let seconds = response.total_bytes / u64::from(limits.min_write_bytes_per_second.max(1));
    let allowed = ticks_in(limits.write_timeout) + ticks_in(Duration::from_secs(seconds));
    let latest = (response.waiting_since + allowed).saturating_sub(response.waited_ticks);
    engine.clock.after(limits.write_timeout).min(latest)
}
