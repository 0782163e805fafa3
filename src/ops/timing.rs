//! How long one part of a request takes.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A sum of times.
#[derive(Debug, Default)]
pub struct Stopwatch(Cell<Option<Duration>>);

impl Stopwatch {
    /// Adds the time that `work` takes.
    pub fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.add(begun.elapsed());
        done
    }

    /// Adds a time.
    pub fn add(&self, time: Duration) {
        self.0.set(Some(self.total().unwrap_or_default() + time));
    }

    /// The sum so far; `None` when nothing was timed.
    pub fn total(&self) -> Option<Duration> {
        self.0.get()
    }
}
