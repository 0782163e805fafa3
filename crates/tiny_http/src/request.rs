//! A complete request, and its single response.
//!
//! Head and body of a [`Request`] are in memory and valid, so no method waits for the client.

use std::cell::OnceCell;
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::connection::Received;
use crate::connection_table::ConnectionId;
use crate::engine::Engine;
use crate::head::{Framing, Head, HttpError};
use crate::header::Header;
use crate::message::{HTTPVersion, Method};
use crate::quota::QuotaBuf;
use crate::response::Response;
use crate::response_writer::ResponseWriter;

/// A request.
///
/// If it is dropped without [`Request::respond`], for example by a panic, the response is 500 and the connection
/// closes.
pub struct Request(Box<Parts>);

/// Boxed, because it has 270 bytes and a request is moved several times.
struct Parts {
    head: Head,
    headers: OnceCell<Vec<Header>>,
    body: RequestBody,
    peer: SocketAddr,
    /// When the application received it.
    dispatched_at: Option<Instant>,
    /// `None` once the response is sent.
    responder: Option<(Arc<Engine>, ConnectionId)>,
}

struct RequestBody {
    bytes: QuotaBuf,
    read: usize,
}

impl Read for RequestBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&self.bytes[self.read..]).read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

impl Request {
    pub(crate) fn new(received: Received, peer: SocketAddr, engine: Arc<Engine>, id: ConnectionId) -> Request {
        Request(Box::new(Parts {
            head: received.head,
            headers: OnceCell::new(),
            body: RequestBody { bytes: received.body, read: 0 },
            peer,
            dispatched_at: None,
            responder: Some((engine, id)),
        }))
    }

    /// Records that the application receives the request now.
    pub(crate) fn dispatched(mut self) -> Request {
        self.0.dispatched_at = Some(Instant::now());
        self
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.0.head.method
    }

    /// The request target as received, in visible ASCII: a path with its query, the absolute form `http://host/path`
    /// that clients send to proxies, or `*` with `OPTIONS`.
    pub fn url(&self) -> &str {
        self.0.head.target()
    }

    /// The headers in the order received. A byte above ASCII in a value becomes `?`.
    pub fn headers(&self) -> &[Header] {
        self.0.headers.get_or_init(|| self.0.head.headers())
    }

    /// The values of the headers with this name, ignoring case, in the order received and unchanged. Copies nothing,
    /// unlike [`Request::headers`]. Not in the published crate.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0.head.values(name)
    }

    /// The HTTP version: 1.1 or 1.0.
    pub fn http_version(&self) -> &HTTPVersion {
        &self.0.head.version
    }

    /// The value of `Content-Length` in bytes. `None` without that header, as with a chunked body.
    pub fn body_length(&self) -> Option<usize> {
        match self.0.head.framing {
            Framing::Length(length) => usize::try_from(length).ok(),
            Framing::Absent | Framing::Chunked => None,
        }
    }

    /// The address of the peer of the socket. Always `Some`.
    pub fn remote_addr(&self) -> Option<&SocketAddr> {
        Some(&self.0.peer)
    }

    /// A reader of the body, which is in memory: reading neither blocks nor fails.
    pub fn as_reader(&mut self) -> &mut dyn Read {
        &mut self.0.body
    }

    /// Sends the response as far as the socket accepts it. The engine sends the rest as the client reads.
    ///
    /// A body with a known length of at most 384 KiB is read here completely. Of any other body, the first 16 KiB are
    /// read here, and the rest by threads of the engine, 16 KiB at a time, each piece when the socket has accepted
    /// the last one; therefore the body must be `Send + 'static`. There are at most
    /// [`Limits::max_body_threads`](crate::Limits::max_body_threads) of these threads: a read may block, for example
    /// on a database, but needs a timeout of its own. If the client disconnects, any thread may drop the body,
    /// which must not block.
    ///
    /// # Errors
    /// When the client has disconnected, or the response cannot be sent: a header with a control character, a body
    /// that fails or ends before its length, a status below 200. The client then gets 500.
    pub fn respond<R>(mut self, response: Response<R>) -> io::Result<()>
    where
        R: Read + Send + 'static,
    {
        let Some((engine, _)) = &self.0.responder else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let context = engine.request_context(&self.0.head);
        let response = ResponseWriter::new(response, &context, &engine.clock.date())?;
        match self.0.responder.take() {
            Some((engine, id)) => {
                if let Some(dispatched_at) = self.0.dispatched_at {
                    engine.poll_leader.record_service_time(dispatched_at.elapsed());
                }
                engine.send(id, response)
            }
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Sends an error response.
    pub(crate) fn reject(mut self, error: HttpError) {
        self.0.reject_once(error);
    }
}

impl Parts {
    fn reject_once(&mut self, error: HttpError) {
        if let Some((engine, id)) = self.responder.take() {
            let response = engine.error_response(error, Some(&self.head));
            // Fails if the client has disconnected and needs no response.
            let _ = engine.send(id, response);
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.reject_once(HttpError::new(500, "The server failed to answer this request"));
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Request({} {} from {})", self.method(), self.url(), self.0.peer)
    }
}
