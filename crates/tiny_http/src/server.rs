//! The public server: a thin layer over `engine.rs`.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::acceptor::Acceptor;
use crate::engine::Engine;
use crate::event_loop::Next;
use crate::lifecycle::Stage;
use crate::limits::Limits;
use crate::rejection::Rejection;
use crate::request::Request;
use crate::response::ResponseBox;
use crate::timer_thread;

/// An HTTP server. Any number of threads may receive requests from it concurrently.
///
/// Dropping it stops accepting and closes every connection without a request in the application. Responses to
/// requests that were received already are still sent.
pub struct Server {
    engine: Arc<Engine>,
    address: SocketAddr,
    timer_thread: Thread,
}

/// What a server listens on.
#[derive(Debug)]
pub enum Listener {
    /// A TCP socket.
    Tcp(TcpListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::Tcp(listener)
    }
}

/// The address a server listens on.
#[derive(Debug, Clone)]
pub enum ListenAddr {
    /// A TCP address.
    IP(SocketAddr),
}

impl ListenAddr {
    /// The TCP address. Always `Some`.
    pub fn to_ip(self) -> Option<SocketAddr> {
        let ListenAddr::IP(address) = self;
        Some(address)
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(address: SocketAddr) -> ListenAddr {
        ListenAddr::IP(address)
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenAddr::IP(address) = self;
        address.fmt(formatter)
    }
}

/// A snapshot of the server's state, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Open connections.
    pub connections: usize,
    /// Complete requests that wait for a caller of [`Server::recv`].
    pub pending_requests: usize,
    /// Bytes of unfinished heads and of bodies in memory, counted against [`Limits::max_buffered_bytes`].
    pub buffered_bytes: usize,
    /// Bytes of responses that wait for their clients, counted against [`Limits::max_unsent_bytes`].
    pub unsent_bytes: usize,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Responses of 503 by the engine since the start.
    pub shed: u64,
    /// Other error responses by the engine since the start: the request was invalid, or the application did not
    /// respond.
    pub rejected: u64,
}

impl Server {
    /// Listens on `addr`, with the default [`Limits`].
    ///
    /// # Errors
    /// When no address is found or none can be bound.
    pub fn http<A: ToSocketAddrs>(addr: A) -> Result<Server, Box<dyn Error + Send + Sync + 'static>> {
        Server::from_listener(TcpListener::bind(addr)?, None)
    }

    /// Serves on a listener, with the default [`Limits`]. There is no TLS here, so `ssl_config` can only be `None`.
    ///
    /// # Errors
    /// As [`Server::with_limits`].
    pub fn from_listener<L: Into<Listener>>(
        listener: L,
        ssl_config: Option<Infallible>,
    ) -> Result<Server, Box<dyn Error + Send + Sync + 'static>> {
        debug_assert!(ssl_config.is_none(), "`Infallible` has no value");
        let Listener::Tcp(listener) = listener.into();
        Ok(Server::with_limits(listener, Limits::default(), Rejection::to_response)?)
    }

    /// Serves on a listener with these limits. `on_reject` makes the response to a request that the engine rejects,
    /// as [`Rejection::to_response`] does. Any thread may call it: it must neither block nor call this server.
    ///
    /// # Errors
    /// When the listener cannot be used, or the process has no descriptors or threads left.
    pub fn with_limits<F>(listener: TcpListener, limits: Limits, on_reject: F) -> io::Result<Server>
    where
        F: Fn(&Rejection) -> ResponseBox + Send + Sync + 'static,
    {
        let address = listener.local_addr()?;
        let engine = Arc::new(Engine::new(Acceptor::new(listener)?, limits, Box::new(on_reject))?);
        let shared = Arc::clone(&engine);
        let timer = thread::Builder::new()
            .name("http-timer".into())
            .spawn(move || timer_thread::run(&shared))
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start the thread `http-timer`: {error}")))?;
        Ok(Server { engine, address, timer_thread: timer.thread().clone() })
    }

    /// The address that the server listens on.
    pub fn server_addr(&self) -> ListenAddr {
        self.address.into()
    }

    /// Waits for a request.
    ///
    /// # Errors
    /// After [`Server::unblock`], and when the server has ended.
    pub fn recv(&self) -> io::Result<Request> {
        match self.engine.next(None) {
            Next::Request(request) => Ok(request),
            Next::Unblocked | Next::TimedOut => Err(io::Error::other("thread unblocked")),
            Next::Ended => Err(ended()),
        }
    }

    /// Waits for a request. Returns `None` after `timeout` and after [`Server::unblock`].
    ///
    /// # Errors
    /// When the server has ended.
    pub fn recv_timeout(&self, timeout: Duration) -> io::Result<Option<Request>> {
        // A deadline that the clock cannot represent is no deadline.
        match self.engine.next(Instant::now().checked_add(timeout)) {
            Next::Request(request) => Ok(Some(request)),
            Next::Unblocked | Next::TimedOut => Ok(None),
            Next::Ended => Err(ended()),
        }
    }

    /// Returns a request if there is one.
    ///
    /// # Errors
    /// When the server has ended.
    pub fn try_recv(&self) -> io::Result<Option<Request>> {
        self.recv_timeout(Duration::ZERO)
    }

    /// An iterator over the requests, until [`Server::unblock`] or the end of the server.
    pub fn incoming_requests(&self) -> IncomingRequests<'_> {
        IncomingRequests { server: self }
    }

    /// Makes one thread that waits for a request return without one: a waiting thread, or else the next to wait.
    pub fn unblock(&self) {
        self.engine.ready_queue.push_unblock();
        self.engine.wake_now();
    }

    /// Shuts down gracefully: stops accepting, serves open requests with `Connection: close`, closes connections
    /// without a request, and then makes every thread in [`Server::recv`] return an error. Call it while these
    /// threads still receive.
    ///
    /// Waits for at most `drain`. Returns whether all connections are closed by then. If not, the process may end
    /// with responses half sent; those that the end of the connection would make look complete (HTTP/1.0) are reset.
    pub fn shutdown(&self, drain: Duration) -> bool {
        let now = Instant::now();
        let deadline = now.checked_add(drain).unwrap_or(now + Duration::from_secs(u32::MAX.into()));
        self.engine.acceptor.close(&self.engine);
        self.engine.advance_to(Stage::Draining);
        self.timer_thread.unpark();
        let drained = self.engine.wait_until_empty(deadline);
        self.engine.reset_incomplete();
        self.engine.advance_to(Stage::Ended);
        drained
    }

    /// A snapshot of the state.
    pub fn stats(&self) -> Stats {
        let counters = &self.engine.counters;
        Stats {
            connections: self.engine.connections.len(),
            pending_requests: self.engine.ready_queue.requests(),
            buffered_bytes: self.engine.request_quota.used(),
            unsent_bytes: self.engine.response_quota.used(),
            accepted: counters.accepted.load(Ordering::Relaxed),
            shed: counters.shed.load(Ordering::Relaxed),
            rejected: counters.rejected.load(Ordering::Relaxed),
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the server has ended")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.engine.acceptor.close(&self.engine);
        self.engine.advance_to(Stage::Ended);
        self.timer_thread.unpark();
    }
}

/// An iterator over the requests of a [`Server`].
pub struct IncomingRequests<'a> {
    server: &'a Server,
}

impl Iterator for IncomingRequests<'_> {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        self.server.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn request_when_queued_after_the_end_is_rejected() {
        let server = Server::http("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(server.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let request = server.recv().unwrap();
        server.engine.advance_to(Stage::Ended);
        // A thread may have checked the stage before.
        server.engine.ready_queue.push_request(request).unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    }
}
