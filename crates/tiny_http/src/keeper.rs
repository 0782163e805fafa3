//! The one thread of the engine's own: it keeps the time, and polls when nobody else does.
//!
//! It must never wait for the program. While callers sit in `recv` it costs a few microseconds forty times a second.

use std::sync::Arc;
use std::thread;

use crate::clock::{TICK, ticks_in};
use crate::engine::{Engine, Stage};
use crate::slots::Waiting;

/// Ticks between two looks at all deadlines.
const SWEEP_TICKS: u64 = 4;
/// A connection without a request is kept open for so long after the start of the end: a client that was about to send its
/// next request still gets it answered, with `Connection: close`.
const DRAIN_GRACE: std::time::Duration = std::time::Duration::from_millis(500);

/// Runs until the server has ended and its last connection closed.
pub(crate) fn run(engine: &Arc<Engine>) {
    let (mut seen_polls, _) = engine.caller_activity();
    let mut next_sweep = 0;
    while engine.stage() != Stage::Ended || engine.slots.used() > 0 {
        let (polls, caller_waits) = engine.caller_activity();
        if caller_waits || polls != seen_polls {
            thread::park_timeout(TICK);
        } else {
            engine.poll_as_keeper(TICK);
        }
        seen_polls = polls;
        engine.clock.advance();
        if engine.clock.now() >= next_sweep {
            next_sweep = engine.clock.now() + SWEEP_TICKS;
            engine.acceptor.resume(engine);
            sweep(engine);
        }
    }
}

/// Ends what waits for its client for too long.
fn sweep(engine: &Arc<Engine>) {
    let stage = engine.stage();
    let idle = ticks_in(engine.limits.idle_timeout);
    let grace = ticks_in(DRAIN_GRACE);
    let deadline = |waiting, tick: u64| match (stage, waiting) {
        (Stage::Draining, Waiting::Idle) => tick.min((tick + grace).saturating_sub(idle)),
        (Stage::Ended, Waiting::Idle | Waiting::Receiving) => 0,
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
