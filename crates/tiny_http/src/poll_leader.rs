//! Leader election among the threads in `recv`: one of them polls, the others are parked (the leader/follower
//! pattern).
//!
//! While the application answers within microseconds, the thread that stepped down is back before a parked one would
//! be awake. Then no thread is woken, which saves a context switch per request. As soon as one request takes longer,
//! every leader that steps down wakes its successor. The timer thread checks every millisecond while no thread is
//! woken, so a wrong guess delays a client by one millisecond, once. After every push into the ready queue, call
//! [`PollLeader::wake_parked`] or [`PollLeader::wake_one`].

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::lock;

/// A request answered within this time is fast.
const FAST: Duration = Duration::from_micros(100);
/// This many fast requests in a row make the application fast.
const FAST_REQUESTS: u32 = 64;

/// The result of [`PollLeader::become_leader`].
pub(crate) enum Election {
    /// The caller is the leader until it calls [`PollLeader::step_down`].
    Leader,
    /// Another thread is the leader. The caller was parked, and there may be work now.
    Woken,
}

struct Threads {
    has_leader: bool,
    parked: usize,
}

pub(crate) struct PollLeader {
    threads: Mutex<Threads>,
    woken: Condvar,
    /// The leader waits for events, or is about to.
    waits: AtomicBool,
    /// How many polls have begun.
    polls: AtomicUsize,
    /// Fast requests still needed until the application counts as fast.
    fast_requests_missing: AtomicU32,
    /// The timer thread checks often enough that no thread needs to be woken.
    is_watched: AtomicBool,
}

impl PollLeader {
    pub(crate) fn new() -> PollLeader {
        PollLeader {
            threads: Mutex::new(Threads { has_leader: false, parked: 0 }),
            woken: Condvar::new(),
            waits: AtomicBool::new(false),
            polls: AtomicUsize::new(0),
            fast_requests_missing: AtomicU32::new(FAST_REQUESTS),
            is_watched: AtomicBool::new(false),
        }
    }

    /// Makes the caller the leader if there is none. Otherwise parks it until woken or until `timeout`, unless
    /// `has_work`.
    pub(crate) fn become_leader(&self, timeout: Option<Duration>, has_work: impl Fn() -> bool) -> Election {
        let mut threads = lock(&self.threads);
        if !threads.has_leader {
            threads.has_leader = true;
            self.count_poll();
            self.begin_wait();
            return Election::Leader;
        }
        // Threads that push work lock `threads` afterwards: either they see this thread parked, or it sees the work
        // here.
        if has_work() {
            return Election::Woken;
        }
        threads.parked += 1;
        let mut threads = match timeout {
            None => self.woken.wait(threads).unwrap_or_else(|poisoned| poisoned.into_inner()),
            Some(timeout) => match self.woken.wait_timeout(threads, timeout) {
                Ok((threads, _)) => threads,
                Err(poisoned) => poisoned.into_inner().0,
            },
        };
        threads.parked -= 1;
        Election::Woken
    }

    /// Counts a poll, also one by a thread that is not the leader.
    pub(crate) fn count_poll(&self) {
        self.polls.fetch_add(1, Ordering::Relaxed);
    }

    /// The leader is about to wait for events.
    pub(crate) fn begin_wait(&self) {
        self.waits.store(true, Ordering::SeqCst);
    }

    /// The leader no longer waits for events.
    pub(crate) fn end_wait(&self) {
        self.waits.store(false, Ordering::SeqCst);
    }

    /// Gives up the leadership, and wakes a successor unless this thread will be back soon enough.
    pub(crate) fn step_down(&self) {
        let mut threads = lock(&self.threads);
        threads.has_leader = false;
        if threads.parked > 0 && !self.is_fast() {
            self.woken.notify_one();
        }
    }

    /// Whether the leader waits for events, so that only an event reaches it.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::SeqCst)
    }

    /// Wakes a parked thread for new work, unless a running one will take it soon enough. Returns whether it did.
    pub(crate) fn wake_parked(&self) -> bool {
        !self.is_fast() && self.wake_one()
    }

    /// Wakes a parked thread. Returns whether there was one.
    pub(crate) fn wake_one(&self) -> bool {
        let threads = lock(&self.threads);
        if threads.parked > 0 {
            self.woken.notify_one();
        }
        threads.parked > 0
    }

    /// Wakes all parked threads.
    pub(crate) fn wake_all(&self) {
        let _held = lock(&self.threads);
        self.woken.notify_all();
    }

    /// Records how long the application took to answer a request.
    pub(crate) fn record_service_time(&self, time: Duration) {
        let missing = self.fast_requests_missing.load(Ordering::Relaxed);
        if time > FAST {
            self.fast_requests_missing.store(FAST_REQUESTS, Ordering::Relaxed);
        } else if missing > 0 {
            // Two threads at once may count as one: that only makes the row longer.
            self.fast_requests_missing.store(missing - 1, Ordering::Relaxed);
        }
    }

    fn is_fast(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed) && self.fast_requests_missing.load(Ordering::Relaxed) == 0
    }

    /// Starts or ends the watch by the timer thread. Returns whether it must check every millisecond.
    pub(crate) fn watch(&self, is_busy: bool) -> bool {
        let is_watched = is_busy && self.fast_requests_missing.load(Ordering::Relaxed) == 0;
        self.is_watched.store(is_watched, Ordering::Relaxed);
        is_watched
    }

    /// How many polls have begun, and whether there is a leader now.
    pub(crate) fn activity(&self) -> (usize, bool) {
        let has_leader = lock(&self.threads).has_leader;
        (self.polls.load(Ordering::Relaxed), has_leader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parked_thread_when_leader_steps_down_becomes_leader() {
        let leader = PollLeader::new();
        assert!(matches!(leader.become_leader(None, || false), Election::Leader));
        assert!(matches!(leader.become_leader(None, || true), Election::Woken));
        assert!(matches!(leader.become_leader(Some(Duration::ZERO), || false), Election::Woken));
        std::thread::scope(|scope| {
            let next = scope.spawn(|| while !matches!(leader.become_leader(None, || false), Election::Leader) {});
            leader.step_down();
            next.join().unwrap();
        });
        assert_eq!(leader.activity(), (2, true));
    }

    #[test]
    fn wakeups_are_skipped_only_while_requests_are_fast_and_timer_thread_watches() {
        let leader = PollLeader::new();
        let record_fast = || (0..FAST_REQUESTS).for_each(|_| leader.record_service_time(Duration::ZERO));
        record_fast();
        assert!(!leader.is_fast());
        assert!(leader.watch(true) && leader.is_fast());
        leader.record_service_time(2 * FAST);
        assert!(!leader.is_fast() && !leader.watch(true));
        record_fast();
        assert!(leader.watch(true) && !leader.watch(false) && !leader.is_fast());
    }
}
