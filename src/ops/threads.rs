//! The threads without which the server does not start.

use std::thread;

/// Starts a thread.
///
/// # Errors
/// Why there is none: a machine has only so many, and memory for so many.
pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(|error| format!("cannot start the thread `{name}`: {error}"))
}
