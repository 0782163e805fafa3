//! The threads that read the rest of long answers.
//!
//! A body is the program's: reading it may ask a database, wait, or hang. So nobody reads one who polls, keeps the time or holds a
//! connection's lock; threads of its own do, as many as `max_body_threads`, started when there is something to read and ended
//! when there is nothing for a while. An answer comes here when the socket has taken all that was read of it, so a client that
//! takes nothing holds none of these threads. They take turns with the answers: a long one holds up the others for one turn.
//! Nor do they hold the lock while they send: who polls would have to wait for it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;
use std::time::Duration;

use crate::answer::{Answer, Progress};
use crate::engine::Engine;
use crate::lock;
use crate::slots::Token;

/// Pieces of one answer that are read and sent in a turn.
const FILLS_PER_TURN: usize = 4;
/// A thread that has had nothing to read for so long ends.
const IDLE: Duration = Duration::from_secs(1);

pub(crate) struct Streams {
    state: Mutex<State>,
    more: Condvar,
    max_threads: usize,
}

/// An answer of which more must be read, and the connection that it goes to.
pub(crate) struct Stream {
    pub(crate) token: Token,
    /// Not kept open for a read that hangs.
    pub(crate) socket: Weak<OwnedFd>,
    pub(crate) answer: Box<Answer>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Stream>,
    threads: usize,
    idle: usize,
}

impl Streams {
    pub(crate) fn new(max_threads: usize) -> Streams {
        Streams { state: Mutex::default(), more: Condvar::new(), max_threads: max_threads.max(1) }
    }

    fn push(&self, stream: Stream) {
        lock(&self.state).waiting.push_back(stream);
        self.more.notify_one();
    }

    /// The next answer to read for, or `None` when this thread is not needed any more.
    fn pop(&self) -> Option<Stream> {
        let mut state = lock(&self.state);
        loop {
            if let Some(next) = state.waiting.pop_front() {
                return Some(next);
            }
            state.idle += 1;
            let waited = self.more.wait_timeout(state, IDLE);
            let (woken, time) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
            state = woken;
            state.idle -= 1;
            if time.timed_out() && state.waiting.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }

    /// Counts one thread more if one is needed and allowed. Whether it is.
    fn count_thread(&self) -> bool {
        let mut state = lock(&self.state);
        let is_needed = state.waiting.len() > state.idle && state.threads < self.max_threads;
        state.threads += usize::from(is_needed);
        is_needed
    }
}

impl Engine {
    /// Has the next piece of an answer's body read and sent.
    pub(crate) fn stream(self: &Arc<Self>, stream: Stream) {
        self.streams.push(stream);
        self.start_body_thread();
    }

    /// Starts a thread if one is missing. The keeper calls this too, for a time when none can be started.
    pub(crate) fn start_body_thread(self: &Arc<Self>) {
        if !self.streams.count_thread() {
            return;
        }
        let engine = Arc::clone(self);
        let read_bodies = move || {
            while let Some(stream) = engine.streams.pop() {
                engine.stream_turn(stream);
            }
        };
        if thread::Builder::new().name("http-body".into()).spawn(read_bodies).is_err() {
            lock(&self.streams.state).threads -= 1;
        }
    }

    fn stream_turn(self: &Arc<Self>, mut stream: Stream) {
        for _ in 0..FILLS_PER_TURN {
            if stream.answer.fill().is_err() {
                return self.reset(stream.token);
            }
            let Some(socket) = stream.socket.upgrade() else {
                return;
            };
            let progress = stream.answer.write(socket.as_fd());
            drop(socket);
            if let Progress::Drained = progress {
                continue;
            }
            // Under the lock it is tried once more, so that no event is missed that says that the socket takes more.
            match self.continue_answer(stream.token, *stream.answer) {
                Some(drained) => stream.answer = drained,
                None => return,
            }
        }
        self.streams.push(stream);
    }
}
