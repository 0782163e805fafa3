//! Waiting for what other threads bring about.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until it comes true.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "it does not come true that {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
