//! How threads wait for requests.
//!
//! Whoever calls `recv` polls, one thread at a time (`seat.rs`): it waits for events, moves their connections on, and returns with
//! the first request that is complete, so that the common request costs a part of a wait, one read and one write, and no
//! hand-over between threads; what else is complete goes into the queue for the others. When no caller polls, because all are
//! busy in the program, the keeper (`keeper.rs`) does, so that deadlines, accepting and half-sent answers never depend on the
//! program. A thread here waits for nothing but an event or its turn.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, write};

use crate::engine::{Engine, LISTENER, Stage, WAKE};
use crate::queue::Ready;
use crate::request::Request;
use crate::seat::Entry;
use crate::slots::Token;

/// Events taken in one wait by a caller, who has its own request to answer soon.
const EVENTS_FOR_CALLER: usize = 8;
/// Events taken in one wait for others.
const EVENTS_FOR_OTHERS: usize = 64;
/// How many things of the queue are done before the sockets are looked at.
const POPS_PER_POLL: usize = 8;
/// With how many connections the keeper goes on before it looks at sockets and clock.
const RESUMES_PER_POLL: usize = 8;
/// So many things in the queue are too many for the threads that are awake.
const BACKLOG: usize = 64;

/// How a wait for a request ended.
pub(crate) enum Next {
    Request(Request),
    TimedOut,
    Unblocked,
    Ended,
}

impl Engine {
    /// Waits for the next request, until `until` if given.
    pub(crate) fn next(self: &Arc<Self>, until: Option<Instant>) -> Next {
        loop {
            match self.next_in_queue() {
                Some(Ready::Request(request)) => return Next::Request(request.handed_out()),
                Some(Ready::Unblock) => return Next::Unblocked,
                Some(Ready::Resume(token)) => match self.resume(token) {
                    Some(request) => return Next::Request(request.handed_out()),
                    None if until.is_some_and(|until| until <= Instant::now()) => return Next::TimedOut,
                    None => continue,
                },
                None => {}
            }
            if self.stage() == Stage::Ended {
                self.tell_of_stage();
                return Next::Ended;
            }
            let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
            if let Entry::Taken = self.seat.enter(timeout, || self.has_work())
                && let Some(request) = self.poll_in_seat(until)
            {
                return Next::Request(request.handed_out());
            }
            if timeout == Some(Duration::ZERO) && self.queue.is_empty() {
                return Next::TimedOut;
            }
        }
    }

    fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.stage() == Stage::Ended
    }

    fn next_in_queue(self: &Arc<Self>) -> Option<Ready<Request, Token>> {
        // The queue must not keep everybody from the sockets.
        let is_turn = self.pops.fetch_add(1, Ordering::Relaxed).is_multiple_of(POPS_PER_POLL);
        if is_turn && !self.queue.is_empty() {
            self.seat.count_entry();
            self.poll_for_others(Duration::ZERO);
        }
        let (ready, left) = self.queue.pop()?;
        if left >= BACKLOG {
            self.seat.wake_one();
        } else if left > 0 {
            self.seat.wake_parked();
        }
        Some(ready)
    }

    /// Polls until there is a request, something in the queue, or `until` is past; then leaves the seat.
    fn poll_in_seat(self: &Arc<Self>, until: Option<Instant>) -> Option<Request> {
        let mut events = [const { MaybeUninit::uninit() }; EVENTS_FOR_CALLER];
        loop {
            // Who pushes looks whether the seat waits afterwards, so that one of the two sees the other.
            let timeout = match until {
                _ if self.has_work() => Some(Duration::ZERO),
                until => until.map(|until| until.saturating_duration_since(Instant::now())),
            };
            let found = self.wait(&mut events, timeout);
            self.seat.stop_waiting();
            let mut first = None;
            for event in found {
                match self.on_event(event) {
                    Some(request) if first.is_none() => first = Some(request),
                    Some(request) => self.enqueue(request),
                    None => {}
                }
            }
            if first.is_some() || timeout == Some(Duration::ZERO) || self.has_work() {
                self.seat.leave();
                return first;
            }
            self.seat.wait_again();
        }
    }

    /// Polls on behalf of callers that are busy, once, and goes on with some of the connections whose turn was cut short: not
    /// with all, for a stream that is read at full speed never runs out of turns.
    pub(crate) fn poll_as_keeper(self: &Arc<Self>, timeout: Duration) {
        self.keeper_waits.store(true, Ordering::SeqCst);
        let mut resumed = 0;
        while resumed < RESUMES_PER_POLL
            && let Some(token) = self.queue.pop_resume()
        {
            resumed += 1;
            if let Some(request) = self.resume(token) {
                self.enqueue(request);
            }
        }
        self.poll_for_others(if resumed == 0 { timeout } else { Duration::ZERO });
        self.keeper_waits.store(false, Ordering::SeqCst);
    }

    /// Polls once; what becomes complete goes into the queue.
    fn poll_for_others(self: &Arc<Self>, timeout: Duration) {
        let mut events = [const { MaybeUninit::uninit() }; EVENTS_FOR_OTHERS];
        for event in self.wait(&mut events, Some(timeout)) {
            if let Some(request) = self.on_event(event) {
                self.enqueue(request);
            }
        }
    }

    fn wait<'e>(
        &self,
        events: &'e mut [MaybeUninit<epoll::Event>],
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

    /// Sees to it that somebody will look at the queue.
    pub(crate) fn wake(&self) {
        if !self.seat.wake_parked() {
            self.wake_poller();
        }
    }

    /// The same, now: also when a thread that is awake would come by soon.
    pub(crate) fn wake_now(&self) {
        if !self.seat.wake_one() {
            self.wake_poller();
        }
    }

    /// Sends an event to whoever waits for one.
    pub(crate) fn wake_poller(&self) {
        if !self.seat.is_waiting() && !self.keeper_waits.load(Ordering::SeqCst) {
            return;
        }
        // It fails only when the counter is full, and then the event is there already.
        if write(&self.wake, &1u64.to_ne_bytes()) == Err(Errno::AGAIN) {
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            let _ = write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}
