//! Waiting for a condition that other threads make true.

use std::thread;
use std::time::{Duration, Instant};

/// The longest wait in any test.
pub const MAX_WAIT: Duration = Duration::from_secs(10);

/// Waits until the condition is true.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + MAX_WAIT;
    while !condition() {
        assert!(Instant::now() < end, "waited {MAX_WAIT:?} for: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
