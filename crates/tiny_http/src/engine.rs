//! The one event loop that many threads share.
//!
//! Whoever calls `recv` polls: it waits for an event, moves that connection on, and returns with the request if one is
//! complete, so that the common request costs one wait, one read and one write, and no hand-over between threads. When no
//! caller polls, because all are busy in the program, the keeper (`keeper.rs`) does, so that deadlines, accepting and half-sent
//! answers never depend on the program. A thread here may wait for nothing but an event.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::{Errno, write};

use crate::acceptor::Acceptor;
use crate::answer::{Answer, Exchange};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::connection::{Connection, NO_MEMORY_FOR_IT, Outcome};
use crate::head::{Fault, Head};
use crate::header::Header;
use crate::limits::Limits;
use crate::lock;
use crate::queue::{Queue, Ready};
use crate::rejection::Rejection;
use crate::request::Request;
use crate::response::ResponseBox;
use crate::slots::{Occupied, Slots, Token};

/// Events taken in one wait. More would leave ready requests with a thread that is busy with the first.
const EVENTS_PER_WAIT: usize = 1;
/// How many things of the queue are done before the sockets are looked at.
const POPS_PER_POLL: usize = 8;

/// Connections take the tokens below these.
const WAKE: u64 = u64::MAX;
pub(crate) const LISTENER: u64 = u64::MAX - 1;

const OVERLOADED: Fault = Fault::new(503, "The server has too many requests to answer");

/// What makes an answer of a rejection.
pub(crate) type OnReject = Box<dyn Fn(&Rejection) -> ResponseBox + Send + Sync>;

/// How a wait for a request ended. A request is returned right away: there is never a heap of these.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Next {
    Request(Request),
    TimedOut,
    Unblocked,
    Ended,
}

/// How far the end of the server has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    Open = 0,
    /// Nothing new is accepted; what is there is served.
    Draining = 1,
    /// `recv` gives no more requests.
    Ended = 2,
}

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
    pub(crate) budget: Arc<Budget>,
    pub(crate) slots: Slots<Connection>,
    pub(crate) queue: Queue<Request, Token>,
    pub(crate) acceptor: Acceptor,
    pub(crate) counters: Counters,
    on_reject: OnReject,
    pub(crate) epoll: OwnedFd,
    wake: OwnedFd,
    /// Threads that wait for events, of the callers of `recv`.
    callers_waiting: AtomicUsize,
    keeper_waiting: AtomicBool,
    /// Polls by callers.
    polls: AtomicUsize,
    pops: AtomicUsize,
    stage: AtomicU8,
    /// Told when the last connection has closed, and when the stage changes.
    changed: (Mutex<()>, Condvar),
}

impl Engine {
    pub(crate) fn new(acceptor: Acceptor, limits: Limits, on_reject: OnReject) -> io::Result<Engine> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered, it reports each write once and need never be read.
        epoll::add(
            &epoll,
            &wake,
            epoll::EventData::new_u64(WAKE),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        acceptor.register(&epoll)?;
        Ok(Engine {
            clock: Clock::new(),
            budget: Budget::new(limits.max_buffered_bytes),
            slots: Slots::new(crate::acceptor::connection_cap(&limits)),
            queue: Queue::new(limits.max_pending_requests),
            acceptor,
            counters: Counters::default(),
            on_reject,
            epoll,
            wake,
            callers_waiting: AtomicUsize::new(0),
            keeper_waiting: AtomicBool::new(false),
            polls: AtomicUsize::new(0),
            pops: AtomicUsize::new(0),
            stage: AtomicU8::new(Stage::Open as u8),
            changed: (Mutex::new(()), Condvar::new()),
            limits,
        })
    }

    /// Waits for the next request, until `until` if given.
    pub(crate) fn next(self: &Arc<Self>, until: Option<Instant>) -> Next {
        loop {
            if self.pops.fetch_add(1, Ordering::Relaxed).is_multiple_of(POPS_PER_POLL)
                && !self.queue.is_empty()
            {
                self.poll_once(Some(Duration::ZERO), |request| self.enqueue(request));
            }
            match self.queue.pop() {
                Some((Ready::Request(request), more)) => {
                    self.wake_if(more);
                    return Next::Request(request);
                }
                Some((Ready::Unblock, more)) => {
                    self.wake_if(more);
                    return Next::Unblocked;
                }
                Some((Ready::Resume(token), more)) => {
                    self.wake_if(more);
                    match self.resume(token) {
                        Some(request) => return Next::Request(request),
                        None => continue,
                    }
                }
                None => {}
            }
            if self.stage() == Stage::Ended {
                self.wake_if(true);
                return Next::Ended;
            }
            let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
            if let Some(request) = self.poll_as_caller(timeout) {
                return Next::Request(request);
            }
            if timeout == Some(Duration::ZERO) && self.queue.is_empty() {
                return Next::TimedOut;
            }
        }
    }

    fn poll_as_caller(self: &Arc<Self>, timeout: Option<Duration>) -> Option<Request> {
        let mut first = None;
        self.callers_waiting.fetch_add(1, Ordering::SeqCst);
        // Who pushes looks at `callers_waiting` afterwards, so that one of the two sees the other.
        let timeout = if self.queue.is_empty() && self.stage() != Stage::Ended {
            timeout
        } else {
            Some(Duration::ZERO)
        };
        let mut events = [const { std::mem::MaybeUninit::uninit() }; EVENTS_PER_WAIT];
        let found = self.wait(&mut events, timeout);
        self.callers_waiting.fetch_sub(1, Ordering::SeqCst);
        self.polls.fetch_add(1, Ordering::Relaxed);
        for event in found {
            if let Some(request) = self.on_event(event) {
                match first {
                    None => first = Some(request),
                    Some(_) => self.enqueue(request),
                }
            }
        }
        first
    }

    /// Polls on behalf of callers that are busy: what becomes complete waits for them.
    pub(crate) fn poll_as_keeper(self: &Arc<Self>, timeout: Duration) {
        while let Some(token) = self.queue.pop_resume() {
            if let Some(request) = self.resume(token) {
                self.enqueue(request);
            }
        }
        self.keeper_waiting.store(true, Ordering::SeqCst);
        self.poll_once(Some(timeout), |request| self.enqueue(request));
        self.keeper_waiting.store(false, Ordering::SeqCst);
    }

    fn poll_once(self: &Arc<Self>, timeout: Option<Duration>, mut handle: impl FnMut(Request)) {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 64];
        for event in self.wait(&mut events, timeout) {
            if let Some(request) = self.on_event(event) {
                handle(request);
            }
        }
    }

    fn wait<'e>(
        &self,
        events: &'e mut [std::mem::MaybeUninit<epoll::Event>],
        timeout: Option<Duration>,
    ) -> &'e [epoll::Event] {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().min(i32::MAX as u64) as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        match epoll::wait(&self.epoll, events, timeout.as_ref()) {
            Ok((found, _)) => found,
            // Interrupted by a signal: the same as nothing. No other error can come of our own descriptors.
            Err(_) => &[],
        }
    }

    /// How often callers polled so far, and whether one waits right now.
    pub(crate) fn caller_activity(&self) -> (usize, bool) {
        (self.polls.load(Ordering::Relaxed), self.callers_waiting.load(Ordering::SeqCst) > 0)
    }

    fn on_event(self: &Arc<Self>, event: &epoll::Event) -> Option<Request> {
        match event.data.u64() {
            WAKE => None,
            LISTENER => {
                self.acceptor.accept(self);
                None
            }
            bits => {
                let token = Token::from_u64(bits);
                let mut connection = self.slots.lock(token)?;
                let outcome = connection.on_event(event.flags, self);
                self.settle(token, connection, outcome)
            }
        }
    }

    /// Goes on with a connection whose turn was cut short.
    fn resume(self: &Arc<Self>, token: Token) -> Option<Request> {
        let mut connection = self.slots.lock(token)?;
        let outcome = connection.proceed(self);
        self.settle(token, connection, outcome)
    }

    /// Does what a connection asks for, and lets it go.
    pub(crate) fn settle(
        self: &Arc<Self>,
        token: Token,
        connection: Occupied<'_, Connection>,
        outcome: Outcome,
    ) -> Option<Request> {
        connection.set_deadline(connection.deadline);
        match outcome {
            Outcome::Wait => None,
            Outcome::Again => {
                drop(connection);
                self.queue.push_resume(token);
                self.wake_one();
                None
            }
            Outcome::Request(received) => {
                let peer = connection.peer();
                drop(connection);
                Some(Request::new(received, peer, Arc::clone(self), token))
            }
            Outcome::Close => {
                self.close(connection);
                None
            }
        }
    }

    pub(crate) fn close(&self, connection: Occupied<'_, Connection>) {
        // Its descriptor closes here, which takes it out of the epoll set.
        drop(connection.remove());
        if self.slots.used() == 0 && self.stage() != Stage::Open {
            self.notify();
        }
    }

    /// Lets a complete request wait for a caller, or refuses it when too many do.
    fn enqueue(&self, request: Request) {
        let pushed =
            if self.stage() == Stage::Ended { Err(request) } else { self.queue.push_request(request) };
        match pushed {
            Ok(()) => self.wake_one(),
            Err(request) => {
                request.reject(OVERLOADED);
            }
        }
    }

    /// Sends the answer to the request that this connection waits with.
    pub(crate) fn send(self: &Arc<Self>, token: Token, answer: Answer) -> io::Result<()> {
        let mut connection = self.slots.lock(token).ok_or(io::ErrorKind::NotConnected)?;
        let outcome = connection.send(answer, self);
        let is_gone = matches!(outcome, Outcome::Close);
        self.settle(token, connection, outcome);
        if is_gone { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    /// What of a request decides how its answer is framed.
    pub(crate) fn exchange(&self, head: &Head) -> Exchange {
        Exchange {
            version: head.version.clone(),
            is_head: head.method == crate::message::Method::Head,
            keep_alive: head.keep_alive && self.stage() == Stage::Open,
        }
    }

    /// The answer to a request that is not served.
    pub(crate) fn refuse(&self, fault: Fault, head: Option<&Head>) -> Answer {
        let headers = head.map(Head::headers).unwrap_or_default();
        let exchange = match head {
            Some(head) => Exchange { keep_alive: false, ..self.exchange(head) },
            None => Exchange::UNKNOWN,
        };
        self.render(fault, headers, &exchange)
    }

    pub(crate) fn render(&self, fault: Fault, headers: Vec<Header>, exchange: &Exchange) -> Answer {
        let counter = if fault.status == 503 { &self.counters.shed } else { &self.counters.rejected };
        counter.fetch_add(1, Ordering::Relaxed);
        let rejection = Rejection::new(fault.status, fault.reason, headers);
        let date = self.clock.date();
        // The hook is the program's: it may panic, or give what cannot be sent.
        let hooked =
            catch_unwind(AssertUnwindSafe(|| Answer::new((self.on_reject)(&rejection), exchange, &date)));
        match hooked {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Answer::new(rejection.to_response(), exchange, &date)
                .expect("the default answer has a final status, plain headers and a body in memory"),
        }
    }

    /// Refuses the largest unfinished body, if it is larger than `own_bytes`. Does not wait for a connection that is busy.
    pub(crate) fn drop_larger_body(&self, own_bytes: usize) -> bool {
        let size_of =
            |index| self.slots.try_lock(index).map_or(0, |(_, connection)| connection.unfinished_bytes());
        let largest = self.slots.indices().map(|index| (size_of(index), index)).max();
        let Some((_, index)) = largest.filter(|(size, _)| *size > own_bytes) else {
            return false;
        };
        let Some((_, mut connection)) = self.slots.try_lock(index) else {
            return false;
        };
        if connection.unfinished_bytes() <= own_bytes {
            return false;
        }
        match connection.reject(NO_MEMORY_FOR_IT.into(), self) {
            Outcome::Close => self.close(connection),
            _ => connection.set_deadline(connection.deadline),
        }
        true
    }

    /// Closes the connection that waits the longest for its client, to make a place.
    pub(crate) fn evict_one(&self) {
        let first = self.slots.first_to_go().and_then(|index| self.slots.try_lock(index));
        if let Some((_, mut connection)) = first {
            connection.evict(self);
            self.close(connection);
        }
    }

    /// Wakes a thread if there is more to do and one waits.
    fn wake_if(&self, more: bool) {
        if more {
            self.wake_one();
        }
    }

    pub(crate) fn wake_one(&self) {
        if self.callers_waiting.load(Ordering::SeqCst) > 0 || self.keeper_waiting.load(Ordering::SeqCst) {
            // It fails only when the counter is full, and then the event is there already.
            if write(&self.wake, &1u64.to_ne_bytes()) == Err(Errno::AGAIN) {
                let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                let _ = write(&self.wake, &1u64.to_ne_bytes());
            }
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::SeqCst) {
            0 => Stage::Open,
            1 => Stage::Draining,
            _ => Stage::Ended,
        }
    }

    /// Moves on to `stage`, never back.
    pub(crate) fn advance_to(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::SeqCst);
        if stage == Stage::Ended {
            for request in self.queue.take_requests() {
                request.reject(OVERLOADED);
            }
        }
        self.wake_one();
        self.notify();
    }

    fn notify(&self) {
        let _held = lock(&self.changed.0);
        self.changed.1.notify_all();
    }

    /// Waits until no connection is open; whether that came before `deadline`.
    pub(crate) fn wait_until_empty(&self, deadline: Instant) -> bool {
        let mut held = lock(&self.changed.0);
        while self.slots.used() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            held = match self.changed.1.wait_timeout(held, left) {
                Ok((held, _)) => held,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }

    /// Takes a new connection in; gives the socket back when there is no place.
    pub(crate) fn admit(self: &Arc<Self>, socket: OwnedFd, peer: SocketAddr) -> Result<(), Box<Connection>> {
        use epoll::EventFlags as Flags;
        let (token, connection) = self.slots.insert(Box::new(Connection::new(socket, peer, self)))?;
        connection.set_deadline(connection.deadline);
        let data = epoll::EventData::new_u64(token.to_u64());
        let flags = Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET;
        if epoll::add(&self.epoll, connection.socket(), data, flags).is_err() {
            self.close(connection);
        }
        Ok(())
    }
}
