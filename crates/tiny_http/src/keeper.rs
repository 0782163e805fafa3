//! The thread that keeps the time, and polls when nobody else does.
//!
//! It waits for nothing but time and events, and runs nothing of the program but the hook for rejections. While callers sit in
//! `recv` it costs a few microseconds forty times a second.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock::{TICK, ticks_in};
use crate::engine::{Engine, Stage};
use crate::slots::Waiting;

/// How often it looks whether somebody polls while callers do not wake each other.
const WATCH: Duration = Duration::from_millis(1);
/// For so many ticks after the last poll that is worth it.
const BUSY_TICKS: u64 = 2;
/// Ticks between two looks at all deadlines.
const SWEEP_TICKS: u64 = 4;

/// Runs until the server has ended and its last connection closed.
pub(crate) fn run(engine: &Arc<Engine>) {
    let (mut seen, mut next_sweep, mut busy_until) = (0, 0, 0);
    while engine.stage() != Stage::Ended || engine.slots.used() > 0 {
        let (entries, taken) = engine.seat.activity();
        if entries != seen {
            busy_until = engine.clock.now() + BUSY_TICKS;
        }
        let period = if engine.seat.watch(engine.clock.now() < busy_until) { WATCH } else { TICK };
        // When nobody has polled since the last look, a parked caller is woken to do so; without one it is done here.
        if taken || entries != seen || engine.seat.wake_one() {
            thread::park_timeout(period);
        } else {
            engine.poll_as_keeper(period);
        }
        seen = entries;
        engine.clock.advance();
        if !engine.queue.is_empty() {
            engine.wake();
        }
        if engine.stage() == Stage::Ended {
            engine.tell_of_stage();
        }
        if engine.clock.now() >= next_sweep {
            next_sweep = engine.clock.now() + SWEEP_TICKS;
            engine.acceptor.resume(engine);
            engine.start_body_thread();
            sweep(engine);
            if engine.stage() == Stage::Ended {
                // One may have been on its way into the queue when the end came.
                engine.refuse_pending();
            }
        }
    }
    engine.tell_of_stage();
}

/// Ends what waits for its client for too long.
fn sweep(engine: &Arc<Engine>) {
    let stage = engine.stage();
    let idle = ticks_in(engine.limits.idle_timeout);
    let draining = ticks_in(engine.limits.drain_idle_timeout);
    let deadline = |waiting, tick: u64| match (stage, waiting) {
        (Stage::Draining, Waiting::Silent | Waiting::Idle) => {
            tick.min((tick + draining).saturating_sub(idle))
        }
        (Stage::Ended, Waiting::Silent | Waiting::Idle | Waiting::Head | Waiting::Body) => 0,
        _ => tick,
    };
    let now = engine.clock.now();
    for index in engine.slots.expired(now, deadline) {
        let Some((token, mut connection)) = engine.slots.try_lock(index) else {
            continue;
        };
        if connection.deadline().is_some_and(|(waiting, tick)| deadline(waiting, tick) <= now) {
            let outcome = connection.expire(engine);
            engine.settle(token, connection, outcome);
        }
    }
}
