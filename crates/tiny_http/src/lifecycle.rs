//! The life cycle of the server: open, draining, ended.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use crate::engine::{Engine, OVERLOADED};
use crate::lock;

/// The stages of the server's life, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    Open = 0,
    /// No new connection is accepted; open ones are served.
    Draining = 1,
    /// `recv` returns no more requests.
    Ended = 2,
}

#[derive(Default)]
pub(crate) struct Lifecycle {
    /// A [`Stage`].
    stage: AtomicU8,
    /// Notified when the last connection closes and when the stage changes.
    changed: (Mutex<()>, Condvar),
}

impl Engine {
    pub(crate) fn stage(&self) -> Stage {
        match self.lifecycle.stage.load(Ordering::SeqCst) {
            0 => Stage::Open,
            1 => Stage::Draining,
            _ => Stage::Ended,
        }
    }

    /// Advances to `stage`, never back.
    pub(crate) fn advance_to(&self, stage: Stage) {
        self.lifecycle.stage.fetch_max(stage as u8, Ordering::SeqCst);
        if stage == Stage::Ended {
            self.reject_pending();
        }
        self.wake_receivers();
        self.notify_changed();
    }

    /// Wakes the threads in `recv` to check the stage. Of several that poll, one gets the event and must wake the
    /// next.
    pub(crate) fn wake_receivers(&self) {
        self.poll_leader.wake_all();
        self.wake_poller();
    }

    /// Rejects all requests in the ready queue.
    pub(crate) fn reject_pending(&self) {
        for request in self.ready_queue.take_requests() {
            request.reject(OVERLOADED);
        }
    }

    pub(crate) fn notify_changed(&self) {
        let _held = lock(&self.lifecycle.changed.0);
        self.lifecycle.changed.1.notify_all();
    }

    /// Waits until no connection is open. Returns whether that came before `deadline`.
    pub(crate) fn wait_until_empty(&self, deadline: Instant) -> bool {
        let mut held = lock(&self.lifecycle.changed.0);
        while self.connections.len() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            held = match self.lifecycle.changed.1.wait_timeout(held, left) {
                Ok((held, _)) => held,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }

    /// Resets every connection whose incomplete response would look complete if the process ended now.
    pub(crate) fn reset_incomplete(&self) {
        let incomplete = self.connections.lock_each().filter(|found| found.would_truncate_silently());
        incomplete.for_each(|found| self.close(found));
    }
}
