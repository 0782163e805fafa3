//! Who of the callers polls: one at a time has the seat, the others are parked.
//!
//! While a program answers in microseconds, the thread that has just left the seat is back before another would be awake, so
//! nobody is woken for it, and events gather meanwhile: that saves a context switch a request. As soon as one request
//! takes longer, every thread that leaves wakes the next. The keeper looks every millisecond while nobody is woken, so a
//! wrong guess costs a client that millisecond once. Nothing may be pushed into the queue without telling the seat.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::lock;

/// A request answered within this time is quick.
const QUICK: Duration = Duration::from_micros(100);
/// So many quick ones in a row make the program a quick one.
const QUICK_REQUESTS: u32 = 64;

/// How a try to take the seat ended.
pub(crate) enum Entry {
    /// The seat is the caller's until [`Seat::leave`].
    Taken,
    /// It was parked; there may be something to do now.
    Woken,
}

struct State {
    taken: bool,
    parked: usize,
}

pub(crate) struct Seat {
    state: Mutex<State>,
    woken: Condvar,
    /// Whoever has the seat is waiting for events, or about to.
    waits: AtomicBool,
    /// How often it was taken.
    entries: AtomicUsize,
    /// Quick requests that are missing until the program is a quick one.
    missing: AtomicU32,
    /// The keeper looks often enough for nobody to be woken.
    watched: AtomicBool,
}

impl Seat {
    pub(crate) fn new() -> Seat {
        Seat {
            state: Mutex::new(State { taken: false, parked: 0 }),
            woken: Condvar::new(),
            waits: AtomicBool::new(false),
            entries: AtomicUsize::new(0),
            missing: AtomicU32::new(QUICK_REQUESTS),
            watched: AtomicBool::new(false),
        }
    }

    /// Takes the seat, or is parked until woken or until `timeout`, unless `has_work`.
    pub(crate) fn enter(&self, timeout: Option<Duration>, has_work: impl Fn() -> bool) -> Entry {
        let mut state = lock(&self.state);
        if !state.taken {
            state.taken = true;
            self.entries.fetch_add(1, Ordering::Relaxed);
            self.waits.store(true, Ordering::SeqCst);
            return Entry::Taken;
        }
        // Whoever pushes work locks this state afterwards, so it finds either this thread parked, or this thread the work.
        if has_work() {
            return Entry::Woken;
        }
        state.parked += 1;
        let mut state = match timeout {
            None => self.woken.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner()),
            Some(timeout) => match self.woken.wait_timeout(state, timeout) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            },
        };
        state.parked -= 1;
        Entry::Woken
    }

    /// Counts a poll by a caller without the seat.
    pub(crate) fn count_entry(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// Another wait for events begins.
    pub(crate) fn wait_again(&self) {
        self.waits.store(true, Ordering::SeqCst);
    }

    /// The wait for events is over.
    pub(crate) fn stop_waiting(&self) {
        self.waits.store(false, Ordering::SeqCst);
    }

    /// Gives the seat up, and wakes the next for it unless this thread will be back soon enough.
    pub(crate) fn leave(&self) {
        let mut state = lock(&self.state);
        state.taken = false;
        if state.parked > 0 && !self.is_quick() {
            self.woken.notify_one();
        }
    }

    /// Whether the thread in the seat waits for events, so that only an event reaches it.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::SeqCst)
    }

    /// Wakes a parked thread for new work, unless one that is awake will be there soon enough. Whether it did.
    pub(crate) fn wake_parked(&self) -> bool {
        !self.is_quick() && self.wake_one()
    }

    /// Wakes a parked thread. Whether there was one.
    pub(crate) fn wake_one(&self) -> bool {
        let state = lock(&self.state);
        if state.parked > 0 {
            self.woken.notify_one();
        }
        state.parked > 0
    }

    /// Wakes all.
    pub(crate) fn wake_all(&self) {
        let _held = lock(&self.state);
        self.woken.notify_all();
    }

    /// Takes note of how long the program had a request.
    pub(crate) fn note(&self, took: Duration) {
        let missing = self.missing.load(Ordering::Relaxed);
        if took > QUICK {
            self.missing.store(QUICK_REQUESTS, Ordering::Relaxed);
        } else if missing > 0 {
            // Two threads may count as one: that only makes the row longer.
            self.missing.store(missing - 1, Ordering::Relaxed);
        }
    }

    fn is_quick(&self) -> bool {
        self.watched.load(Ordering::Relaxed) && self.missing.load(Ordering::Relaxed) == 0
    }

    /// Says whether the keeper looks every millisecond, as far as that is of use. Whether it is.
    pub(crate) fn watch(&self, is_busy: bool) -> bool {
        let watched = is_busy && self.missing.load(Ordering::Relaxed) == 0;
        self.watched.store(watched, Ordering::Relaxed);
        watched
    }

    /// How often the seat was taken so far, and whether it is now.
    pub(crate) fn activity(&self) -> (usize, bool) {
        let taken = lock(&self.state).taken;
        (self.entries.load(Ordering::Relaxed), taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_seat_and_the_next_is_woken_when_it_leaves() {
        let seat = Seat::new();
        assert!(matches!(seat.enter(None, || false), Entry::Taken));
        assert!(matches!(seat.enter(None, || true), Entry::Woken));
        assert!(matches!(seat.enter(Some(Duration::ZERO), || false), Entry::Woken));
        std::thread::scope(|scope| {
            let next = scope.spawn(|| while !matches!(seat.enter(None, || false), Entry::Taken) {});
            seat.leave();
            next.join().unwrap();
        });
        assert_eq!(seat.activity(), (2, true));
    }

    #[test]
    fn nobody_is_woken_only_while_all_are_quick_and_the_keeper_watches() {
        let seat = Seat::new();
        (0..QUICK_REQUESTS).for_each(|_| seat.note(Duration::ZERO));
        assert!(!seat.is_quick());
        assert!(seat.watch(true) && seat.is_quick());
        seat.note(2 * QUICK);
        assert!(!seat.is_quick() && !seat.watch(true));
        (0..QUICK_REQUESTS).for_each(|_| seat.note(Duration::ZERO));
        assert!(seat.watch(true) && !seat.watch(false) && !seat.is_quick());
    }
}
