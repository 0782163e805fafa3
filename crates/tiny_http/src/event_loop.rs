//! The event loop: how threads wait for requests.
//!
//! The threads in `recv` poll, one at a time (`poll_leader.rs`). The leader waits for events, advances their
//! connections and returns with the first complete request, so the common request costs part of one wait, one read
//! and one write, without a hand-over between threads. Other complete requests go into the ready queue. When no
//! caller polls, because all are busy in the application, the timer thread does, so deadlines, accepting and partly
//! sent responses never depend on the application.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::{Errno, write};

use crate::connection_table::ConnectionId;
use crate::engine::{Engine, LISTENER, WAKE};
use crate::lifecycle::Stage;
use crate::poll_leader::Election;
use crate::ready_queue::Ready;
use crate::request::Request;

/// Events per wait of a caller, which soon has a request of its own to answer.
const EVENTS_FOR_CALLER: usize = 8;
/// Events per wait on behalf of other threads.
const EVENTS_FOR_OTHERS: usize = 64;
/// Items taken from the ready queue per poll.
const POPS_PER_POLL: usize = 8;
/// Connections that the timer thread resumes per poll.
const RESUMES_PER_POLL: usize = 8;
/// From this queue length on, another thread is woken even if requests are fast.
const BACKLOG: usize = 64;

/// The result of a wait for a request.
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
            match self.next_ready() {
                Some(Ready::Request(request)) => return Next::Request(request.dispatched()),
                Some(Ready::Unblock) => return Next::Unblocked,
                Some(Ready::Resume(id)) => match self.resume(id) {
                    Some(request) => return Next::Request(request.dispatched()),
                    None if until.is_some_and(|until| until <= Instant::now()) => return Next::TimedOut,
                    None => continue,
                },
                None => {}
            }
            if self.stage() == Stage::Ended {
                self.wake_receivers();
                return Next::Ended;
            }
            let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
            if let Election::Leader = self.poll_leader.become_leader(timeout, || self.has_work())
                && let Some(request) = self.poll_as_leader(until)
            {
                return Next::Request(request.dispatched());
            }
            if timeout == Some(Duration::ZERO) && self.ready_queue.is_empty() {
                return Next::TimedOut;
            }
        }
    }

    fn has_work(&self) -> bool {
        !self.ready_queue.is_empty() || self.stage() == Stage::Ended
    }

    fn next_ready(self: &Arc<Self>) -> Option<Ready<Request, ConnectionId>> {
        // The queue must not keep every thread from polling.
        let must_poll = self.pops.fetch_add(1, Ordering::Relaxed).is_multiple_of(POPS_PER_POLL);
        if must_poll && !self.ready_queue.is_empty() {
            self.poll_leader.count_poll();
            self.poll_for_others(Duration::ZERO);
        }
        let (ready, left) = self.ready_queue.pop()?;
        if left >= BACKLOG {
            self.poll_leader.wake_one();
        } else if left > 0 {
            self.poll_leader.wake_parked();
        }
        Some(ready)
    }

    /// Polls until there is a request, an item in the ready queue, or `until` has passed. Then steps down.
    fn poll_as_leader(self: &Arc<Self>, until: Option<Instant>) -> Option<Request> {
        let mut events = [const { MaybeUninit::uninit() }; EVENTS_FOR_CALLER];
        loop {
            // Checked after `begin_wait`; threads that push work check `is_waiting` afterwards. So one sees the
            // other.
            let timeout = match until {
                _ if self.has_work() => Some(Duration::ZERO),
                until => until.map(|until| until.saturating_duration_since(Instant::now())),
            };
            let found = self.wait(&mut events, timeout);
            self.poll_leader.end_wait();
            let mut first = None;
            for event in found {
                match self.on_event(event) {
                    Some(request) if first.is_none() => first = Some(request),
                    Some(request) => self.enqueue(request),
                    None => {}
                }
            }
            if first.is_some() || timeout == Some(Duration::ZERO) || self.has_work() {
                self.poll_leader.step_down();
                return first;
            }
            self.poll_leader.begin_wait();
        }
    }

    /// Polls once on behalf of busy callers, and resumes some connections whose turn was cut short. Not all of them:
    /// a response that is read at full speed is always ready.
    pub(crate) fn poll_from_timer_thread(self: &Arc<Self>, timeout: Duration) {
        self.timer_thread_polls.store(true, Ordering::SeqCst);
        let mut resumed = 0;
        while resumed < RESUMES_PER_POLL
            && let Some(id) = self.ready_queue.pop_resume()
        {
            resumed += 1;
            if let Some(request) = self.resume(id) {
                self.enqueue(request);
            }
        }
        self.poll_for_others(if resumed == 0 { timeout } else { Duration::ZERO });
        self.timer_thread_polls.store(false, Ordering::SeqCst);
    }

    /// Polls once. Complete requests go into the ready queue.
    fn poll_for_others(self: &Arc<Self>, timeout: Duration) {
        let mut events = [const { MaybeUninit::uninit() }; EVENTS_FOR_OTHERS];
        for event in self.wait(&mut events, Some(timeout)) {
            if let Some(request) = self.on_event(event) {
                self.enqueue(request);
            }
        }
    }

    fn wait<'e>(&self, events: &'e mut [MaybeUninit<epoll::Event>], timeout: Option<Duration>) -> &'e [epoll::Event] {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().min(i32::MAX as u64) as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        match epoll::wait(&self.epoll, events, timeout.as_ref()) {
            Ok((found, _)) => found,
            // Interrupted by a signal. Our own descriptors cause no other error.
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
                let id = ConnectionId::from_u64(bits);
                let mut connection = self.connections.lock(id)?;
                let action = connection.on_event(event.flags, self);
                self.apply(id, connection, action)
            }
        }
    }

    /// Continues with a connection whose turn was cut short.
    fn resume(self: &Arc<Self>, id: ConnectionId) -> Option<Request> {
        let mut connection = self.connections.lock(id)?;
        let action = connection.proceed(self);
        self.apply(id, connection, action)
    }

    /// Makes sure that a thread will look at the ready queue.
    pub(crate) fn wake(&self) {
        if !self.poll_leader.wake_parked() {
            self.wake_poller();
        }
    }

    /// As [`Engine::wake`], even if a running thread would look at the queue soon.
    pub(crate) fn wake_now(&self) {
        if !self.poll_leader.wake_one() {
            self.wake_poller();
        }
    }

    /// Sends an event to the thread that polls.
    pub(crate) fn wake_poller(&self) {
        if !self.poll_leader.is_waiting() && !self.timer_thread_polls.load(Ordering::SeqCst) {
            return;
        }
        // Writing fails only if the counter is full. It is emptied then, and written once more.
        if write(&self.wake, &1u64.to_ne_bytes()) == Err(Errno::AGAIN) {
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            let _ = write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}
