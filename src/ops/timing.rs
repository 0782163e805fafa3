//! Timer: how long one part of a request takes.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A sum of durations.
#[derive(Debug, Default)]
pub struct Timer(Cell<Option<Duration>>);

impl Timer {
    /// Runs `work`, and adds the time that it takes.
    pub fn measure<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.add(start.elapsed());
        result
    }

    /// Adds a duration.
    pub fn add(&self, duration: Duration) {
        self.0.set(Some(self.elapsed().unwrap_or_default() + duration));
    }

    /// The sum so far; `None` when nothing was measured.
    pub fn elapsed(&self) -> Option<Duration> {
        self.0.get()
    }
}
