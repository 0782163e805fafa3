//! A complete request, and the one chance to answer it.
//!
//! By the time there is a [`Request`] its head and body are in memory and valid: no method of it waits for the client.

use std::cell::OnceCell;
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::answer::Answer;
use crate::budget::Counted;
use crate::connection::Received;
use crate::engine::Engine;
use crate::head::{Fault, Framing, Head};
use crate::header::Header;
use crate::message::{HTTPVersion, Method};
use crate::response::Response;
use crate::slots::Token;

/// A request.
///
/// Dropped without [`Request::respond`], by a panic too, it is answered 500 and its connection closes.
pub struct Request(Box<Parts>);

/// In a box, for they are 270 bytes, and a request is moved several times before it is answered.
struct Parts {
    head: Head,
    headers: OnceCell<Vec<Header>>,
    body: Body,
    peer: SocketAddr,
    /// Since when the program has it.
    handed_out: Option<Instant>,
    /// Taken by the answer.
    reply: Option<(Arc<Engine>, Token)>,
}

struct Body {
    bytes: Counted,
    read: usize,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&self.bytes[self.read..]).read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

impl Request {
    pub(crate) fn new(received: Received, peer: SocketAddr, engine: Arc<Engine>, token: Token) -> Request {
        Request(Box::new(Parts {
            head: received.head,
            headers: OnceCell::new(),
            body: Body { bytes: received.body, read: 0 },
            peer,
            handed_out: None,
            reply: Some((engine, token)),
        }))
    }

    /// The same, from now on the program's.
    pub(crate) fn handed_out(mut self) -> Request {
        self.0.handed_out = Some(Instant::now());
        self
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.0.head.method
    }

    /// The request target as it was sent: a path with its query; from a client that speaks to a proxy the absolute form,
    /// `http://host/path`; or `*` with `OPTIONS`. Visible ASCII.
    pub fn url(&self) -> &str {
        self.0.head.target()
    }

    /// The headers in the order they came. A byte past ASCII in a value reads as `?`.
    pub fn headers(&self) -> &[Header] {
        self.0.headers.get_or_init(|| self.0.head.headers())
    }

    /// The values of the headers with this name, whatever its case, in the order they came: as they were received, where
    /// [`Request::headers`] first makes a copy of all. Not in the published crate.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0.head.values(name)
    }

    /// The version of HTTP: 1.1 or 1.0.
    pub fn http_version(&self) -> &HTTPVersion {
        &self.0.head.version
    }

    /// What `Content-Length` says, in bytes; `None` without one, so also for a chunked body.
    pub fn body_length(&self) -> Option<usize> {
        match self.0.head.framing {
            Framing::Length(length) => usize::try_from(length).ok(),
            Framing::Absent | Framing::Chunked => None,
        }
    }

    /// The client's address, as the socket knows it. Always `Some`.
    pub fn remote_addr(&self) -> Option<&SocketAddr> {
        Some(&self.0.peer)
    }

    /// Reads the body, which is in memory: this neither waits nor fails.
    pub fn as_reader(&mut self) -> &mut dyn Read {
        &mut self.0.body
    }

    /// Sends the answer, as much of it as the socket takes; the engine sends the rest as the client reads. A body of known
    /// length and up to 384 KiB is read here whole. Of any other the first 16 KiB are read here, and the rest in pieces of
    /// 16 KiB by threads of the engine when the client has taken the last one, which is why it must be `Send + 'static`.
    /// There are at most [`Limits::max_body_threads`](crate::Limits::max_body_threads) of those: a read may wait, for a
    /// database for instance, but must have a time limit of its own. When the client goes the body is dropped, by any thread:
    /// that must not wait.
    ///
    /// # Errors
    /// When the client is gone, or the answer cannot be sent (a header with a control character, a body that fails or ends
    /// before its length, a status below 200); the client then gets 500.
    pub fn respond<R>(mut self, response: Response<R>) -> io::Result<()>
    where
        R: Read + Send + 'static,
    {
        let Some((engine, _)) = &self.0.reply else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let exchange = engine.exchange(&self.0.head);
        let answer = Answer::new(response, &exchange, &engine.clock.date())?;
        match self.0.reply.take() {
            Some((engine, token)) => {
                if let Some(since) = self.0.handed_out {
                    engine.seat.note(since.elapsed());
                }
                engine.send(token, answer)
            }
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Answers with an error of the engine's own.
    pub(crate) fn reject(mut self, fault: Fault) {
        self.0.reject_once(fault);
    }
}

impl Parts {
    fn reject_once(&mut self, fault: Fault) {
        if let Some((engine, token)) = self.reply.take() {
            let answer = engine.refuse(fault, Some(&self.head));
            // The client may be gone, and then it needs no answer.
            let _ = engine.send(token, answer);
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.reject_once(Fault::new(500, "The server failed to answer this request"));
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Request({} {} from {})", self.method(), self.url(), self.0.peer)
    }
}
