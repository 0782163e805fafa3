//! The timer thread: advances the clock, enforces deadlines, and polls when no caller does.
//!
//! It runs no application code except the rejection hook. While callers wait in `recv`, it wakes up forty times a
//! second for a few microseconds.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock::{TICK, ticks_in};
use crate::connection_table::Waiting;
use crate::engine::Engine;
use crate::lifecycle::Stage;

/// Period of the checks while callers do not wake each other.
const WATCH_PERIOD: Duration = Duration::from_millis(1);
/// How many ticks after the last poll those checks go on.
const BUSY_TICKS: u64 = 2;
/// Ticks between two checks of all deadlines.
const DEADLINE_CHECK_TICKS: u64 = 4;

/// Runs until the server has ended and its last connection is closed.
pub(crate) fn run(engine: &Arc<Engine>) {
    let (mut seen_polls, mut next_check, mut busy_until) = (0, 0, 0);
    while engine.stage() != Stage::Ended || engine.connections.len() > 0 {
        let (polls, has_leader) = engine.poll_leader.activity();
        if polls != seen_polls {
            busy_until = engine.clock.now() + BUSY_TICKS;
        }
        let is_watched = engine.poll_leader.watch(engine.clock.now() < busy_until);
        let period = if is_watched { WATCH_PERIOD } else { TICK };
        // If no thread has polled since the last round, a parked caller is woken to do so. Without one, this thread
        // polls.
        if has_leader || polls != seen_polls || engine.poll_leader.wake_one() {
            thread::park_timeout(period);
        } else {
            engine.poll_from_timer_thread(period);
        }
        seen_polls = polls;
        engine.clock.advance();
        if !engine.ready_queue.is_empty() {
            engine.wake();
        }
        if engine.stage() == Stage::Ended {
            engine.wake_receivers();
        }
        if engine.clock.now() >= next_check {
            next_check = engine.clock.now() + DEADLINE_CHECK_TICKS;
            engine.acceptor.resume(engine);
            engine.start_body_thread();
            expire_deadlines(engine);
            if engine.stage() == Stage::Ended {
                // A request may have been on its way into the queue when the server ended.
                engine.reject_pending();
            }
        }
    }
    engine.wake_receivers();
}

/// Ends every wait for a client that is past its deadline.
fn expire_deadlines(engine: &Arc<Engine>) {
    let stage = engine.stage();
    let idle = ticks_in(engine.limits.idle_timeout);
    let draining = ticks_in(engine.limits.drain_idle_timeout);
    let deadline = |waiting, tick: u64| match (stage, waiting) {
        (Stage::Draining, Waiting::Silent | Waiting::Idle) => tick.min((tick + draining).saturating_sub(idle)),
        (Stage::Ended, Waiting::Silent | Waiting::Idle | Waiting::Head | Waiting::Body) => 0,
        _ => tick,
    };
    let now = engine.clock.now();
    for index in engine.connections.expired(now, deadline) {
        let Some((id, mut connection)) = engine.connections.try_lock(index) else {
            continue;
        };
        if connection.deadline().is_some_and(|(waiting, tick)| deadline(waiting, tick) <= now) {
            let action = connection.expire(engine);
            engine.apply(id, connection, action);
        }
    }
}
