//! The threads that read the rest of long answers.
//!
//! A body is the program's: reading it may ask a database, wait, or hang. So nobody reads one who polls, keeps the time or holds a
//! connection's lock; threads of its own do, as many as `max_body_threads`, started when there is something to read and ended
//! when there is nothing for a while. An answer comes here when the socket has taken all that was read of it, so a client that
//! takes nothing holds none of these threads. They take turns with the answers: a long one holds up the others for one turn.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crate::answer::Answer;
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

#[derive(Default)]
struct State {
    waiting: VecDeque<(Token, Box<Answer>)>,
    threads: usize,
    idle: usize,
}

impl Streams {
    pub(crate) fn new(max_threads: usize) -> Streams {
        Streams { state: Mutex::default(), more: Condvar::new(), max_threads: max_threads.max(1) }
    }

    fn push(&self, token: Token, answer: Box<Answer>) {
        lock(&self.state).waiting.push_back((token, answer));
        self.more.notify_one();
    }

    /// The next answer to read for, or `None` when this thread is not needed any more.
    fn pop(&self) -> Option<(Token, Box<Answer>)> {
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
    /// Has the next piece of this answer's body read, and sent on this connection.
    pub(crate) fn stream(self: &Arc<Self>, token: Token, answer: Box<Answer>) {
        self.streams.push(token, answer);
        self.start_body_thread();
    }

    /// Starts a thread if one is missing. The keeper calls this too, for a time when none can be started.
    pub(crate) fn start_body_thread(self: &Arc<Self>) {
        if !self.streams.count_thread() {
            return;
        }
        let engine = Arc::clone(self);
        let read_bodies = move || {
            while let Some((token, answer)) = engine.streams.pop() {
                engine.stream_turn(token, answer);
            }
        };
        if thread::Builder::new().name("http-body".into()).spawn(read_bodies).is_err() {
            lock(&self.streams.state).threads -= 1;
        }
    }

    fn stream_turn(self: &Arc<Self>, token: Token, mut answer: Box<Answer>) {
        for _ in 0..FILLS_PER_TURN {
            if answer.fill().is_err() {
                return self.reset(token);
            }
            match self.continue_answer(token, *answer) {
                Some(drained) => answer = drained,
                None => return,
            }
        }
        self.streams.push(token, answer);
    }
}
