//! Starts the server's threads.

use std::thread;

/// Starts a thread with a name.
///
/// # Errors
/// When the system has no thread left, or no memory for one.
pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(|error| format!("cannot start the thread `{name}`: {error}"))
}
