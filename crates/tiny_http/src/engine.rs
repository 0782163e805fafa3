//! The engine: the state shared by all connections, and the actions that follow an event on one of them.
//!
//! Threads enter through `event_loop.rs`, responses through [`Engine::send`]. No method here waits for a client or
//! for the application.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};

use crate::acceptor::{Acceptor, connection_cap};
use crate::body_pump::{BodyPump, PendingBody};
use crate::clock::Clock;
use crate::connection::{Action, Connection};
use crate::connection_table::{ConnectionGuard, ConnectionId, ConnectionTable, Waiting};
use crate::head::{Head, HttpError};
use crate::lifecycle::{Lifecycle, Stage};
use crate::limits::Limits;
use crate::message::Method;
use crate::poll_leader::PollLeader;
use crate::quota::Quota;
use crate::ready_queue::ReadyQueue;
use crate::rejection::Rejection;
use crate::request::Request;
use crate::response::ResponseBox;
use crate::response_writer::{Progress, RequestContext, ResponseWriter};

/// Event data of what is not a connection. A connection has the smaller number [`ConnectionId::to_u64`].
pub(crate) const WAKE: u64 = u64::MAX;
pub(crate) const LISTENER: u64 = u64::MAX - 1;

pub(crate) const OVERLOADED: HttpError = HttpError::new(503, "The server has too many requests to answer");

/// The rejection hook, which makes a response for a rejected request.
pub(crate) type OnReject = Box<dyn Fn(&Rejection) -> ResponseBox + Send + Sync>;

/// Counters since the start.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) shed: AtomicU64,
    pub(crate) rejected: AtomicU64,
}

pub(crate) struct Engine {
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    /// Bytes of requests.
    pub(crate) request_quota: Arc<Quota>,
    /// Bytes of responses that wait for their clients.
    pub(crate) response_quota: Arc<Quota>,
    /// Connections that discard the rest of a rejected body.
    pub(crate) discard_quota: Arc<Quota>,
    pub(crate) connections: ConnectionTable<Connection>,
    pub(crate) ready_queue: ReadyQueue<Request, ConnectionId>,
    pub(crate) body_pump: BodyPump,
    pub(crate) acceptor: Acceptor,
    pub(crate) counters: Counters,
    on_reject: OnReject,
    pub(crate) epoll: OwnedFd,
    pub(crate) wake: OwnedFd,
    pub(crate) poll_leader: PollLeader,
    pub(crate) timer_thread_polls: AtomicBool,
    /// Items taken from the ready queue so far.
    pub(crate) pops: AtomicUsize,
    pub(crate) lifecycle: Lifecycle,
}

impl Engine {
    pub(crate) fn new(acceptor: Acceptor, limits: Limits, on_reject: OnReject) -> io::Result<Engine> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered: every write is reported once, so the counter need not be read.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), flags)?;
        acceptor.add_to(&epoll)?;
        Ok(Engine {
            clock: Clock::new(),
            request_quota: Quota::new(limits.max_buffered_bytes),
            response_quota: Quota::new(limits.max_unsent_bytes),
            discard_quota: Quota::new(limits.max_discarding_connections),
            connections: ConnectionTable::new(connection_cap(&limits)),
            ready_queue: ReadyQueue::new(limits.max_pending_requests),
            body_pump: BodyPump::new(limits.max_body_threads),
            acceptor,
            counters: Counters::default(),
            on_reject,
            epoll,
            wake,
            poll_leader: PollLeader::new(),
            timer_thread_polls: AtomicBool::new(false),
            pops: AtomicUsize::new(0),
            lifecycle: Lifecycle::default(),
            limits,
        })
    }

    /// Carries out the action that a connection asks for, and unlocks it.
    pub(crate) fn apply(
        self: &Arc<Self>,
        id: ConnectionId,
        mut connection: ConnectionGuard<'_, Connection>,
        action: Action,
    ) -> Option<Request> {
        connection.publish(connection.deadline, connection.unfinished_bytes());
        match action {
            Action::Wait => {}
            Action::Requeue => {
                let was_queued = std::mem::replace(&mut connection.is_queued, true);
                drop(connection);
                if !was_queued {
                    self.ready_queue.push_resume(id);
                    self.wake();
                }
            }
            Action::Request(received) => {
                let peer = connection.peer();
                drop(connection);
                return Some(Request::new(received, peer, Arc::clone(self), id));
            }
            Action::PumpBody(response) => {
                let socket = Arc::downgrade(connection.socket());
                drop(connection);
                self.pump(PendingBody { id, socket, response });
            }
            Action::Close => self.close(connection),
        }
        None
    }

    pub(crate) fn close(&self, connection: ConnectionGuard<'_, Connection>) {
        if connection.would_truncate_silently() {
            connection.reset_on_close();
        }
        // Closing the descriptor also removes it from the epoll set.
        drop(connection.remove());
        if self.connections.len() == 0 && self.stage() != Stage::Open {
            self.notify_changed();
        }
    }

    /// Adds a complete request to the ready queue, or rejects it if the queue is full.
    pub(crate) fn enqueue(&self, request: Request) {
        let pushed = if self.stage() == Stage::Ended { Err(request) } else { self.ready_queue.push_request(request) };
        match pushed {
            Ok(()) => self.wake(),
            Err(request) => request.reject(OVERLOADED),
        }
    }

    /// The deadline of a wait that begins now.
    pub(crate) fn deadline(&self, waiting: Waiting) -> (Waiting, u64) {
        (waiting, self.clock.after(self.timeout(waiting)))
    }

    pub(crate) fn timeout(&self, waiting: Waiting) -> Duration {
        match waiting {
            Waiting::Closing => self.limits.linger_timeout,
            Waiting::Silent | Waiting::Idle => self.limits.idle_timeout,
            Waiting::Head => self.limits.head_timeout,
            Waiting::Body => self.limits.body_timeout,
            Waiting::Sending => self.limits.write_timeout,
        }
    }

    /// Sends the response to the request of this connection. No other thread writes to it meanwhile, so the first
    /// attempt takes no lock: with the lock held, the polling thread would often wait for it, because the client
    /// sends its next request at once. What is left is tried again under the lock, so that no event is missed.
    pub(crate) fn send(self: &Arc<Self>, id: ConnectionId, mut response: ResponseWriter) -> io::Result<()> {
        let disconnected = io::ErrorKind::NotConnected;
        let socket = Arc::clone(self.connections.lock(id).ok_or(disconnected)?.socket());
        let progress = response.write(socket.as_fd());
        drop(socket);
        let mut connection = self.connections.lock(id).ok_or(disconnected)?;
        let action = match progress {
            Progress::Done => connection.after_response(response.close, self),
            _ => connection.send(response, self),
        };
        let is_disconnected = matches!(action, Action::Close);
        self.apply(id, connection, action);
        if is_disconnected { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    /// Sends the piece that was read of a body. Returns the response if the socket has accepted all of it.
    pub(crate) fn continue_response(
        self: &Arc<Self>,
        id: ConnectionId,
        response: ResponseWriter,
    ) -> Option<Box<ResponseWriter>> {
        let mut connection = self.connections.lock(id)?;
        match connection.send(response, self) {
            Action::PumpBody(response) => Some(response),
            action => {
                self.apply(id, connection, action);
                None
            }
        }
    }

    /// Resets a connection whose response failed midway, so that the client does not take it for complete.
    pub(crate) fn reset(&self, id: ConnectionId) {
        if let Some(connection) = self.connections.lock(id) {
            connection.reset_on_close();
            self.close(connection);
        }
    }

    pub(crate) fn request_context(&self, head: &Head) -> RequestContext {
        RequestContext {
            version: head.version.clone(),
            is_head: head.method == Method::Head,
            keep_alive: head.keep_alive && self.stage() == Stage::Open,
        }
    }

    /// The response to a request that is rejected.
    pub(crate) fn error_response(&self, error: HttpError, head: Option<&Head>) -> ResponseWriter {
        let context = match head {
            Some(head) => RequestContext { keep_alive: false, ..self.request_context(head) },
            None => RequestContext::UNKNOWN,
        };
        let counter = if error.status == 503 { &self.counters.shed } else { &self.counters.rejected };
        counter.fetch_add(1, Ordering::Relaxed);
        let rejection = Rejection::new(error, head.cloned());
        let date = self.clock.date();
        // The hook is application code: it may panic, or return a response that cannot be sent.
        let hook = || ResponseWriter::new((self.on_reject)(&rejection), &context, &date);
        match catch_unwind(AssertUnwindSafe(hook)) {
            Ok(Ok(response)) => response,
            Ok(Err(_)) | Err(_) => ResponseWriter::new(rejection.to_response(), &context, &date)
                .expect("the default response has a final status, valid headers and a body in memory"),
        }
    }
}
