//! The body pump: threads that read long response bodies and send them piece by piece.
//!
//! A body is application code: reading it may query a database, wait or hang. So it is never read by a thread that
//! polls, keeps the time or holds the lock of a connection. The pump starts up to `max_body_threads` threads on
//! demand and ends them when idle. A body is queued here when the socket has taken everything read so far, so a
//! client that does not read holds no thread. The threads serve the bodies round-robin, and send without holding the
//! lock of the connection.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;
use std::time::Duration;

use crate::connection_table::ConnectionId;
use crate::engine::Engine;
use crate::lock;
use crate::response_writer::{Progress, ResponseWriter};

/// Pieces of one body that are read and sent per turn.
const PIECES_PER_TURN: usize = 4;
/// A thread that has been idle for this long ends.
const MAX_IDLE: Duration = Duration::from_secs(1);

pub(crate) struct BodyPump {
    state: Mutex<PumpState>,
    pushed: Condvar,
    max_threads: usize,
}

/// A response with more body to read.
pub(crate) struct PendingBody {
    pub(crate) id: ConnectionId,
    /// Weak, so that a read that hangs does not keep the socket open.
    pub(crate) socket: Weak<OwnedFd>,
    pub(crate) response: Box<ResponseWriter>,
}

#[derive(Default)]
struct PumpState {
    pending: VecDeque<PendingBody>,
    threads: usize,
    idle_threads: usize,
}

impl BodyPump {
    pub(crate) fn new(max_threads: usize) -> BodyPump {
        BodyPump { state: Mutex::default(), pushed: Condvar::new(), max_threads: max_threads.max(1) }
    }

    fn push(&self, body: PendingBody) {
        lock(&self.state).pending.push_back(body);
        self.pushed.notify_one();
    }

    /// Waits for the next body. `None` means that this thread must end.
    fn pop(&self) -> Option<PendingBody> {
        let mut state = lock(&self.state);
        loop {
            if let Some(next) = state.pending.pop_front() {
                return Some(next);
            }
            state.idle_threads += 1;
            let waited = self.pushed.wait_timeout(state, MAX_IDLE);
            let (woken, timeout) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
            state = woken;
            state.idle_threads -= 1;
            if timeout.timed_out() && state.pending.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }

    /// Counts another thread if one is needed and allowed. Returns whether it is.
    fn reserve_thread(&self) -> bool {
        let mut state = lock(&self.state);
        let is_needed = state.pending.len() > state.idle_threads && state.threads < self.max_threads;
        state.threads += usize::from(is_needed);
        is_needed
    }
}

impl Engine {
    /// Queues a body for the pump.
    pub(crate) fn pump(self: &Arc<Self>, body: PendingBody) {
        self.body_pump.push(body);
        self.start_body_thread();
    }

    /// Starts a thread if one is needed. The timer thread calls this too, in case an earlier start failed.
    pub(crate) fn start_body_thread(self: &Arc<Self>) {
        if !self.body_pump.reserve_thread() {
            return;
        }
        let engine = Arc::clone(self);
        let run = move || {
            while let Some(body) = engine.body_pump.pop() {
                engine.pump_turn(body);
            }
        };
        if thread::Builder::new().name("http-body".into()).spawn(run).is_err() {
            lock(&self.body_pump.state).threads -= 1;
        }
    }

    fn pump_turn(self: &Arc<Self>, mut body: PendingBody) {
        for _ in 0..PIECES_PER_TURN {
            if body.response.read_body().is_err() {
                return self.reset(body.id);
            }
            let Some(socket) = body.socket.upgrade() else {
                return;
            };
            let progress = body.response.write(socket.as_fd());
            drop(socket);
            if let Progress::NeedBody = progress {
                continue;
            }
            // Tried once more under the lock, so that the event that the socket is writable again is not missed.
            match self.continue_response(body.id, *body.response) {
                Some(response) => body.response = response,
                None => return,
            }
        }
        self.body_pump.push(body);
    }
}
