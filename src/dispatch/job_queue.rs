//! A blocking job queue: a [`Scheduler`] behind a lock, and a condition variable on which idle workers wait.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::scheduler::{Batch, BatchClass, Owner, Permit, Scheduler};

/// Jobs that wait for workers, and workers that wait for jobs.
pub struct JobQueue<T> {
    state: Mutex<QueueState<T>>,
    available: Condvar,
}

struct QueueState<T> {
    scheduler: Scheduler<T>,
    /// How many workers wait.
    idle: usize,
    /// A notified worker is on its way, and notifies the next one if it leaves jobs behind. Only one at a time, because
    /// a notification costs a system call, and one worker is often done before a second one is awake.
    is_waking: bool,
}

impl<T> JobQueue<T> {
    /// A queue for this many workers.
    pub fn new(workers: usize) -> Self {
        let state = QueueState { scheduler: Scheduler::new(workers), idle: 0, is_waking: false };
        Self { state: Mutex::new(state), available: Condvar::new() }
    }

    /// See [`Scheduler::submit`].
    ///
    /// # Errors
    /// The job, when too many are queued.
    pub fn submit(&self, owner: Owner, class: BatchClass, job: T, deadline: Instant) -> Result<(), T> {
        let mut state = self.lock();
        state.scheduler.submit(owner, class, job, deadline)?;
        self.wake_one(state);
        Ok(())
    }

    /// Returns the permit of the last batch, then waits for the next batch and takes it.
    pub fn take(&self, done: Option<Permit>, batching: impl Fn() -> bool) -> Batch<T> {
        let mut state = self.lock();
        if let Some(permit) = done {
            state.scheduler.finish(permit);
        }
        loop {
            if let Some(batch) = state.scheduler.take(batching()) {
                if state.scheduler.queued() > 0 {
                    self.wake_one(state);
                }
                return batch;
            }
            state.idle += 1;
            state = self.available.wait(state).expect(LOCKED);
            state.idle -= 1;
            state.is_waking = false;
        }
    }

    /// See [`Scheduler::expire`].
    pub fn expire(&self, now: Instant) -> Vec<T> {
        self.lock().scheduler.expire(now)
    }

    /// How many jobs are queued.
    pub fn queued(&self) -> usize {
        self.lock().scheduler.queued()
    }

    /// Notifies an idle worker, unless one is on its way.
    fn wake_one(&self, mut state: MutexGuard<'_, QueueState<T>>) {
        if state.idle > 0 && !std::mem::replace(&mut state.is_waking, true) {
            drop(state);
            self.available.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        self.state.lock().expect(LOCKED)
    }
}

const LOCKED: &str = "nothing panics while it holds this lock";
