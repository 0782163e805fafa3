//! What all connections share, and what is done with one after it has moved: the middle of the crate.
//!
//! Threads come in by `poll.rs`, answers by [`Engine::send`]. No method here waits for a client or for the program.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, epoll, eventfd};

use crate::acceptor::Acceptor;
use crate::answer::{Answer, Exchange, Progress};
use crate::budget::Budget;
use crate::clock::{Clock, ticks_in};
use crate::connection::{Connection, Outcome, Received};
use crate::head::{Fault, Head};
use crate::limits::Limits;
use crate::lock;
use crate::queue::Queue;
use crate::rejection::Rejection;
use crate::request::Request;
use crate::response::ResponseBox;
use crate::seat::Seat;
use crate::slots::{Occupied, Slots, Token, Waiting};
use crate::streams::{Stream, Streams};

/// Tokens of what is no connection; connections have smaller ones.
pub(crate) const WAKE: u64 = u64::MAX;
pub(crate) const LISTENER: u64 = u64::MAX - 1;

const OVERLOADED: Fault = Fault::new(503, "The server has too many requests to answer");

/// What makes an answer of a rejection.
pub(crate) type OnReject = Box<dyn Fn(&Rejection) -> ResponseBox + Send + Sync>;

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
    /// For bytes of requests.
    pub(crate) budget: Arc<Budget>,
    /// For bytes of answers that wait for their clients.
    pub(crate) unsent: Arc<Budget>,
    pub(crate) slots: Slots<Connection>,
    pub(crate) queue: Queue<Request, Token>,
    pub(crate) streams: Streams,
    pub(crate) acceptor: Acceptor,
    pub(crate) counters: Counters,
    on_reject: OnReject,
    pub(crate) epoll: OwnedFd,
    pub(crate) wake: OwnedFd,
    pub(crate) seat: Seat,
    pub(crate) keeper_waits: AtomicBool,
    /// Things taken out of the queue so far.
    pub(crate) pops: AtomicUsize,
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
            unsent: Budget::new(limits.max_unsent_bytes),
            slots: Slots::new(crate::acceptor::connection_cap(&limits)),
            queue: Queue::new(limits.max_pending_requests),
            streams: Streams::new(limits.max_body_threads),
            acceptor,
            counters: Counters::default(),
            on_reject,
            epoll,
            wake,
            seat: Seat::new(),
            keeper_waits: AtomicBool::new(false),
            pops: AtomicUsize::new(0),
            stage: AtomicU8::new(Stage::Open as u8),
            changed: (Mutex::new(()), Condvar::new()),
            limits,
        })
    }

    /// Does what a connection asks for, and lets it go.
    pub(crate) fn settle(
        self: &Arc<Self>,
        token: Token,
        connection: Occupied<'_, Connection>,
        outcome: Outcome,
    ) -> Option<Request> {
        let peer = connection.peer();
        let received = self.let_go(token, connection, outcome)?;
        Some(Request::new(received, peer, Arc::clone(self), token))
    }

    fn let_go(
        self: &Arc<Self>,
        token: Token,
        mut connection: Occupied<'_, Connection>,
        outcome: Outcome,
    ) -> Option<Received> {
        connection.publish(connection.deadline, connection.unfinished_bytes());
        match outcome {
            Outcome::Wait => None,
            Outcome::Again => {
                let was_queued = std::mem::replace(&mut connection.is_queued, true);
                drop(connection);
                if !was_queued {
                    self.queue.push_resume(token);
                    self.wake();
                }
                None
            }
            Outcome::Request(received) => Some(received),
            Outcome::Stream(answer) => {
                let socket = Arc::downgrade(connection.socket());
                drop(connection);
                self.stream(Stream { token, socket, answer });
                None
            }
            Outcome::Close => {
                self.close(connection);
                None
            }
        }
    }

    pub(crate) fn close(&self, connection: Occupied<'_, Connection>) {
        if connection.would_look_whole() {
            connection.reset_on_close();
        }
        // Its descriptor closes here, which takes it out of the epoll set.
        drop(connection.remove());
        if self.slots.used() == 0 && self.stage() != Stage::Open {
            self.notify();
        }
    }

    /// Ends the answers that would look whole if the process ended now.
    pub(crate) fn cut_off(&self) {
        self.slots.lock_each().filter(|found| found.would_look_whole()).for_each(|found| self.close(found));
    }

    /// Lets a complete request wait for a caller, or refuses it when too many do.
    pub(crate) fn enqueue(&self, request: Request) {
        let pushed =
            if self.stage() == Stage::Ended { Err(request) } else { self.queue.push_request(request) };
        match pushed {
            Ok(()) => self.wake(),
            Err(request) => {
                request.reject(OVERLOADED);
            }
        }
    }

    /// By when a connection must have what it waits for from now on.
    pub(crate) fn deadline(&self, waiting: Waiting) -> (Waiting, u64) {
        (waiting, self.clock.after(self.timeout(waiting)))
    }

    fn timeout(&self, waiting: Waiting) -> Duration {
        match waiting {
            Waiting::Closing => self.limits.linger_timeout,
            Waiting::Silent | Waiting::Idle => self.limits.idle_timeout,
            Waiting::Head => self.limits.head_timeout,
            Waiting::Body => self.limits.body_timeout,
            Waiting::Sending => self.limits.write_timeout,
        }
    }

    /// Sends the answer to the request that this connection waits with. Nobody else writes to it meanwhile, so the first try
    /// needs no lock; and with one, whoever polls would often wait for this thread: the client is awake before it goes on,
    /// and asks for the next thing. What is left is tried again under the lock, so that no event is missed.
    pub(crate) fn send(self: &Arc<Self>, token: Token, mut answer: Answer) -> io::Result<()> {
        let gone = io::ErrorKind::NotConnected;
        let socket = Arc::clone(self.slots.lock(token).ok_or(gone)?.socket());
        let progress = answer.write(socket.as_fd());
        drop(socket);
        let mut connection = self.slots.lock(token).ok_or(gone)?;
        let outcome = match progress {
            Progress::Done => connection.after_answer(answer.close, self),
            _ => connection.send(answer, self),
        };
        let is_gone = matches!(outcome, Outcome::Close);
        self.settle(token, connection, outcome);
        if is_gone { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    /// Sends what was read of an answer since, and gives it back when the socket has taken that already.
    pub(crate) fn continue_answer(self: &Arc<Self>, token: Token, answer: Answer) -> Option<Box<Answer>> {
        let mut connection = self.slots.lock(token)?;
        match connection.send(answer, self) {
            Outcome::Stream(answer) => Some(answer),
            outcome => {
                self.settle(token, connection, outcome);
                None
            }
        }
    }

    /// Ends a connection whose answer has failed midway, so that no client takes what it has for the whole.
    pub(crate) fn reset(&self, token: Token) {
        if let Some(connection) = self.slots.lock(token) {
            connection.reset_on_close();
            self.close(connection);
        }
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
        let exchange = match head {
            Some(head) => Exchange { keep_alive: false, ..self.exchange(head) },
            None => Exchange::UNKNOWN,
        };
        let counter = if fault.status == 503 { &self.counters.shed } else { &self.counters.rejected };
        counter.fetch_add(1, Ordering::Relaxed);
        let rejection = Rejection::new(fault, head.cloned());
        let date = self.clock.date();
        // The hook is the program's: it may panic, or give what cannot be sent.
        let hooked =
            catch_unwind(AssertUnwindSafe(|| Answer::new((self.on_reject)(&rejection), &exchange, &date)));
        match hooked {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Answer::new(rejection.to_response(), &exchange, &date)
                .expect("the default answer has a final status, plain headers and a body in memory"),
        }
    }

    /// Lets go of the largest unfinished request, if it is larger than `own_bytes`. Does not wait for a connection that is busy.
    pub(crate) fn drop_larger_request(self: &Arc<Self>, own_bytes: usize) -> bool {
        let largest = self.slots.lock_largest(own_bytes);
        // It may have moved on before it was locked.
        let Some((token, mut connection)) = largest.filter(|(_, found)| found.unfinished_bytes() > own_bytes)
        else {
            return false;
        };
        let outcome = connection.drop_unfinished(self);
        self.let_go(token, connection, outcome);
        true
    }

    /// Counts what an answer holds that has to wait. When all of them hold too much, whoever has taken nothing for the longest
    /// time goes. Whether there is room now.
    pub(crate) fn count_unsent(&self, answer: &mut Answer) -> bool {
        while answer.count(&self.unsent).is_err() {
            if !self.close_first(|waiting, _| waiting == Waiting::Sending, |_| {}) {
                return false;
            }
        }
        true
    }

    /// Makes a place for a new connection, if one that was there has waited for its client for long enough.
    pub(crate) fn evict_one(self: &Arc<Self>) {
        let now = self.clock.now();
        let at_least = ticks_in(self.limits.evictable_after);
        let may_go = |waiting, deadline: u64| {
            let since = deadline.saturating_sub(ticks_in(self.timeout(waiting)));
            waiting != Waiting::Sending && now >= since + at_least
        };
        self.close_first(may_go, |connection| connection.evict(self));
    }

    /// Closes the connection that goes first of those that `may_go`. Whether there was one.
    fn close_first(
        &self,
        may_go: impl Fn(Waiting, u64) -> bool,
        last_words: impl Fn(&mut Connection),
    ) -> bool {
        let first = self.slots.lock_first(&may_go);
        // It may have moved on before it was locked.
        let first =
            first.filter(|(_, found)| found.deadline().is_some_and(|(what, tick)| may_go(what, tick)));
        let Some((_, mut connection)) = first else {
            return false;
        };
        last_words(&mut connection);
        self.close(connection);
        true
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
            self.refuse_pending();
        }
        self.tell_of_stage();
        self.notify();
    }

    /// Wakes whoever waits for a request, to see how far the end has come. Of several that poll one gets the event, and has to
    /// tell the next.
    pub(crate) fn tell_of_stage(&self) {
        self.seat.wake_all();
        self.wake_poller();
    }

    /// Answers what waits in the queue, for nobody will ask for it any more.
    pub(crate) fn refuse_pending(&self) {
        for request in self.queue.take_requests() {
            request.reject(OVERLOADED);
        }
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

    /// Takes a new connection in; gives it back when there is no place.
    pub(crate) fn admit(&self, connection: Box<Connection>) -> Result<(), Box<Connection>> {
        use epoll::EventFlags as Flags;
        let (token, connection) = self.slots.insert(connection)?;
        connection.publish(connection.deadline, 0);
        let data = epoll::EventData::new_u64(token.to_u64());
        let flags = Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET;
        if epoll::add(&self.epoll, connection.socket(), data, flags).is_err() {
            self.close(connection);
        }
        Ok(())
    }
}
