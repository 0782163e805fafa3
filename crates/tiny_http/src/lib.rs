//! An HTTP/1.1 server with `tiny_http`'s API, on an engine that strangers may connect to.
//!
//! ```no_run
//! let server = tiny_http::Server::http("127.0.0.1:8000")?;
//! for request in server.incoming_requests() {
//!     request.respond(tiny_http::Response::from_string("hello"))?;
//! }
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! [`Server::recv`] only ever yields a complete, validated request, and [`Request::respond`] never waits for the client, so
//! no thread of the program is held by one. Every byte, connection and second that a client may take has a limit, in
//! [`Limits`]. README.md says why this exists and what it leaves out.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "this implementation of tiny_http's API is for Linux (epoll); elsewhere use the published crate"
);

mod acceptor;
mod answer;
mod body;
mod budget;
mod clock;
mod connection;
mod engine;
#[cfg(test)]
mod fuzz_tests;
mod head;
mod header;
mod keeper;
mod limits;
mod message;
mod poll;
mod queue;
mod receiving;
mod rejection;
mod request;
mod response;
mod rules;
mod seat;
mod server;
mod slots;
mod streams;

pub use header::{Header, HeaderField};
pub use limits::Limits;
pub use message::{HTTPVersion, Method, StatusCode};
pub use rejection::Rejection;
pub use request::Request;
pub use response::{Field, Response, ResponseBox};
pub use server::{IncomingRequests, ListenAddr, Listener, Server, Stats};

/// Locks, also after a panic elsewhere: no lock here guards anything that a panic could leave half done, for the program's code
/// that runs under one is caught.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
