//! An event-driven HTTP/1.1 server with `tiny_http`'s API and a limit on everything a client may use.
//!
//! ```no_run
//! let server = tiny_http::Server::http("127.0.0.1:8000")?;
//! for request in server.incoming_requests() {
//!     request.respond(tiny_http::Response::from_string("hello"))?;
//! }
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! [`Server::recv`] returns only complete, validated requests, and [`Request::respond`] never waits for the client,
//! so no client can block a thread of the application. [`Limits`] has every limit. README.md says why this crate
//! exists and what it leaves out.

#[cfg(not(target_os = "linux"))]
compile_error!("this implementation of tiny_http's API is for Linux (epoll); elsewhere use the published crate");

mod acceptor;
mod body_pump;
mod body_reader;
mod chunked;
mod clock;
mod connection;
mod connection_table;
mod engine;
mod event_loop;
mod eviction;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz_tests;
mod head;
mod head_validation;
mod header;
mod lifecycle;
mod limits;
mod line_scanner;
mod message;
mod poll_leader;
mod quota;
mod ready_queue;
mod rejection;
mod request;
mod response;
mod response_body;
mod response_writer;
mod server;
mod timer_thread;

pub use header::{Header, HeaderField};
pub use limits::Limits;
pub use message::{HTTPVersion, Method, StatusCode};
pub use rejection::Rejection;
pub use request::Request;
pub use response::{Field, Response, ResponseBox};
pub use server::{IncomingRequests, ListenAddr, Listener, Server, Stats};

/// Locks a mutex and ignores poisoning: application code that runs under a lock is wrapped in `catch_unwind`, so a
/// panic leaves no state half updated.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
