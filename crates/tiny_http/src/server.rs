//! The server as the program sees it.
//!
//! A thin door: everything behind it is in `engine.rs`.

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
use crate::engine::{Engine, Stage};
use crate::keeper;
use crate::limits::Limits;
use crate::poll::Next;
use crate::rejection::Rejection;
use crate::request::Request;
use crate::response::ResponseBox;

/// An HTTP server. Any number of threads may receive requests from it at once.
///
/// Dropped, it stops accepting and closes every connection that no request of is being answered; answers to requests that
/// were received already still reach their clients.
pub struct Server {
    engine: Arc<Engine>,
    address: SocketAddr,
    keeper: Thread,
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

/// What a server is doing, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Connections open now.
    pub connections: usize,
    /// Complete requests that wait for a caller of [`Server::recv`] now.
    pub pending_requests: usize,
    /// Bytes of unfinished heads and of bodies in memory now, counted against [`Limits::max_buffered_bytes`].
    pub buffered_bytes: usize,
    /// Bytes of answers that wait for their clients now, counted against [`Limits::max_unsent_bytes`].
    pub unsent_bytes: usize,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Answers of 503 by the engine since the start: there was no room.
    pub shed: u64,
    /// Other answers by the engine since the start: the request was at fault, or not answered by the program.
    pub rejected: u64,
}

impl Server {
    /// Listens on `addr`, with the default [`Limits`].
    ///
    /// # Errors
    /// When no address is found or none can be listened on.
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
        debug_assert!(ssl_config.is_none(), "there is no value that it could be");
        let Listener::Tcp(listener) = listener.into();
        Ok(Server::with_limits(listener, Limits::default(), Rejection::to_response)?)
    }

    /// Serves on a listener, with these limits. `on_reject` makes an answer of what the engine refuses without asking the
    /// program; [`Rejection::to_response`] is one that does. It is called by whatever thread found the fault: it must not
    /// wait, nor call this server.
    ///
    /// # Errors
    /// When the listener cannot be used, or the process is out of descriptors or threads.
    pub fn with_limits<F>(listener: TcpListener, limits: Limits, on_reject: F) -> io::Result<Server>
    where
        F: Fn(&Rejection) -> ResponseBox + Send + Sync + 'static,
    {
        let address = listener.local_addr()?;
        let engine = Arc::new(Engine::new(Acceptor::new(listener)?, limits, Box::new(on_reject))?);
        let kept = Arc::clone(&engine);
        let keeper = thread::Builder::new()
            .name("http-keeper".into())
            .spawn(move || keeper::run(&kept))
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot start the thread `http-keeper`: {error}"))
            })?;
        Ok(Server { engine, address, keeper: keeper.thread().clone() })
    }

    /// The address it listens on.
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

    /// Waits for a request, but not longer than `timeout`; then, and after [`Server::unblock`], gives `None`.
    ///
    /// # Errors
    /// When the server has ended.
    pub fn recv_timeout(&self, timeout: Duration) -> io::Result<Option<Request>> {
        // A time past what the clock can name is no limit.
        match self.engine.next(Instant::now().checked_add(timeout)) {
            Next::Request(request) => Ok(Some(request)),
            Next::Unblocked | Next::TimedOut => Ok(None),
            Next::Ended => Err(ended()),
        }
    }

    /// Gives a request if there is one.
    ///
    /// # Errors
    /// When the server has ended.
    pub fn try_recv(&self) -> io::Result<Option<Request>> {
        self.recv_timeout(Duration::ZERO)
    }

    /// The requests as they come, until [`Server::unblock`] or the server's end.
    pub fn incoming_requests(&self) -> IncomingRequests<'_> {
        IncomingRequests { server: self }
    }

    /// Lets one thread that waits for a request return without one; if none waits, the next that does.
    pub fn unblock(&self) {
        self.engine.queue.push_unblock();
        self.engine.wake_now();
    }

    /// Ends gracefully: accepts no more, serves what is there with `Connection: close`, closes connections without a
    /// request, and then lets every thread in [`Server::recv`] return an error. To be called while they still receive.
    /// Waits for all that, but not longer than `drain`; whether it came to an end. If not, the process may end with answers half sent:
    /// those whose end alone says that they are whole, to HTTP/1.0, are cut off by a reset.
    pub fn shutdown(&self, drain: Duration) -> bool {
        let now = Instant::now();
        let deadline = now.checked_add(drain).unwrap_or(now + Duration::from_secs(u32::MAX.into()));
        self.engine.acceptor.close(&self.engine);
        self.engine.advance_to(Stage::Draining);
        self.keeper.unpark();
        let drained = self.engine.wait_until_empty(deadline);
        self.engine.cut_off();
        self.engine.advance_to(Stage::Ended);
        drained
    }

    /// What it is doing.
    pub fn stats(&self) -> Stats {
        let counters = &self.engine.counters;
        Stats {
            connections: self.engine.slots.used(),
            pending_requests: self.engine.queue.requests(),
            buffered_bytes: self.engine.budget.used(),
            unsent_bytes: self.engine.unsent.used(),
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
        self.keeper.unpark();
    }
}

/// The requests of a [`Server`], as an iterator.
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
    fn a_request_that_comes_into_the_queue_as_the_server_ends_is_answered() {
        let server = Server::http("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(server.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let request = server.recv().unwrap();
        server.engine.advance_to(Stage::Ended);
        // Its thread had looked at the stage before.
        server.engine.queue.push_request(request).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}
